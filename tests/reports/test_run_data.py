from pathlib import Path

import numpy as np
import pytest

from dsanet.evaluation.results import Results
from dsanet.reports.run_data import (
    compare_configs,
    flatten,
    format_spread,
    group_seeds,
    mean_curve,
    median_value,
    metrics_of,
    read_runs,
    scalar_points,
    spread,
)
from tests.reports.run_dirs import write_run


def test_seeds_are_grouped_with_mean_and_deviation(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / f'a_seed{k}', k, scale=scale) for k, scale in enumerate((1, 2, 6))]
    groups = group_seeds(read_runs([*folders, write_run(tmp_path / 'b', 0, rate=0.1)]))
    assert [(group.name, len(group.runs)) for group in groups] == [('a', 3), ('b', 1)]
    iterations, rows = zip(*mean_curve(groups[0], 'train/loss'), strict=True)
    assert iterations == (10, 20, 30)
    assert rows[0].mean == pytest.approx(3)
    assert rows[0].deviation == pytest.approx(7**0.5)  # of 1, 2, 6: (4 + 1 + 9) / 2
    assert rows[0].number == 3
    assert spread([None, None]) is None


def test_settings_that_differ_have_their_paths() -> None:
    one = {'a': {'b': 1, 'c': [{'d': 2}]}, 'e': (1, 2)}
    other = {'a': {'b': 1, 'c': [{'d': 3}, {'d': 4}]}, 'e': (1, 2)}
    assert flatten(one) == {'a.b': '1', 'a.c.0.d': '2', 'e': '(1, 2)'}
    assert compare_configs([one, other]) == {'a.c.0.d': ['2', '3'], 'a.c.1.d': [None, '4']}


def test_one_slow_iteration_keeps_the_median(tmp_path: Path) -> None:
    folder = write_run(tmp_path / 'a', 0)
    with (folder / 'scalars.jsonl').open('a') as stream:
        for i, seconds in enumerate((0.2, 0.1, 9.0), 4):
            stream.write(f'\n{{"epoch": 1, "iteration": {10 * i}, "train/time": {seconds}}}')
    (run,) = read_runs([folder])
    assert median_value(run, 'train/time') == 0.2
    assert median_value(run, 'train/nothing') is None


def test_spread_of_one_value_has_no_deviation() -> None:
    assert format_spread(spread([50.0]), 1) == '50.0'
    assert format_spread(spread([1.0, None, 2.0, 3.0])) == '2.00 ± 1.00'
    assert format_spread(spread([None])) == '–'


@pytest.mark.parametrize(('num_classes', 'names'), [(5, {'top1'}), (6, {'top1', 'top5'})])
def test_top5_needs_more_than_five_classes(num_classes: int, names: set[str]) -> None:
    scores = np.eye(num_classes, dtype=np.float32)
    results = Results('x', ['a'] * num_classes, np.arange(num_classes), scores, 'softmax', list('abcdef')[:num_classes])
    assert metrics_of(results).keys() == {*names, 'mean_class_accuracy'}


def test_folder_without_run_is_an_error(tmp_path: Path) -> None:
    folder = write_run(tmp_path / 'a', 0)
    with pytest.raises(ValueError, match='twice'):
        read_runs([folder, folder / '..' / 'a'])
    (folder / 'config.py').unlink()
    with pytest.raises(FileNotFoundError, match='config.py'):
        read_runs([folder])
    with pytest.raises(FileNotFoundError, match='nowhere'):
        read_runs([tmp_path / 'nowhere'])


def test_values_that_are_no_numbers_are_gaps() -> None:
    lines = [{'iteration': k, 'x': value} for k, value in enumerate((1.5, float('nan'), float('inf'), 'text', None, 2))]
    assert scalar_points(lines, 'x') == [(0, 1.5), (1, None), (2, None), (3, None), (4, None), (5, 2)]
