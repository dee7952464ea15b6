import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dsanet.config.formatting import format_config
from dsanet.evaluation.result_files import read_results, write_results
from dsanet.evaluation.results import Results
from dsanet.experiments.plan import Plan, Variant
from dsanet.experiments.running import ORDER, RESULTS
from dsanet.experiments.tables import format_tables, read_outcomes
from tests.engine.conftest import make_config

I3D = Variant('I3D', 'a', ())
DSA = Variant('DSA|Net', 'b', ())
LABELS = [0, 0, 1, 1, 1, 2]


def write_trial(out: Path, folder: str, predicted: list[int], order: dict[str, float]) -> None:
    work_dir = out / folder
    work_dir.mkdir(parents=True)
    scores = np.eye(3, dtype=np.float32)[predicted]
    paths = [f'{i}.mp4' for i in range(len(LABELS))]
    write_results(Results('x', paths, np.array(LABELS), scores, 'softmax', ['up', 'down', 'left']), work_dir / RESULTS)
    arrangements = {name: {'top1': value} for name, value in order.items()}
    (work_dir / ORDER).write_text(json.dumps({'model': {'arrangements': arrangements}}))
    lines = [{'iteration': i, 'train/time': t} for i, t in enumerate((9.0, 0.02, 0.04))] + [{'iteration': 3}]
    (work_dir / 'scalars.jsonl').write_text('\n'.join(map(json.dumps, lines)))
    (work_dir / 'config.py').write_text(format_config(make_config(Path('unused'))))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Three finished trials of four. Seed 0: I3D has 2 of 6 right, DSA 6; seed 1: I3D 3."""
    write_trial(tmp_path, 'i3d_seed0', [0, 0, 0, 0, 0, 0], {'in order': 33.3, 'reversed': 33.3})
    write_trial(tmp_path, 'i3d_seed1', [0, 0, 0, 0, 0, 2], {'in order': 50.0, 'reversed': 50.0})
    write_trial(tmp_path, 'dsa_net_seed0', LABELS, {'in order': 100.0, 'reversed': 0.0})
    (tmp_path / 'dsa_net_seed1').mkdir()
    return tmp_path


def cells(text: str, start: str) -> list[list[str]]:
    """Return the cells of the rows that start with a name, in all tables."""
    rows = [[cell.strip() for cell in line.strip('|').split(' | ')] for line in text.splitlines() if '|' in line]
    return [row[1:] for row in rows if row[0] == start]


def test_tables_have_means_spreads_and_tests(out: Path) -> None:
    plan = Plan((I3D, DSA), (0, 1))
    text = format_tables(plan, read_outcomes(plan, out))
    result, seeds, order = cells(text, 'I3D')
    # (33.3 + 50) / 2, and |50 - 33.3| / sqrt(2); classes: (100 + 0 + 0) / 3 and (100 + 0 + 100) / 3
    assert result[:3] == ['2', '41.7 ± 11.8', '50.0 ± 23.6']
    assert result[-1] == '40'
    assert seeds == ['33.3', '50.0']
    assert order == ['41.6', '41.6']
    result, seeds, order = cells(text, r'DSA\|Net')
    assert result[:3] == ['1', '100.0', '100.0']
    assert seeds == ['100.0 (p = 0.12)', '-']  # 4 videos of 4: p = 2 / 2**4
    assert order == ['100.0', '0.0']
    # Three of the six videos are of the class down.
    assert cells(text, 'most frequent class') == [['-', '50.0', '33.3', '-', '-', '-']]
    assert cells(text, 'up') == [['2', '100.0', '100.0']]
    assert cells(text, 'left') == [['1', '50.0', '100.0']]


def test_costs_are_unknown_without_an_input_shape(out: Path) -> None:
    config = make_config(Path('unused'))
    for name in ('train', 'val', 'test'):
        config[f'{name}_dataloader']['dataset']['pipeline'] = [{'type': 'PackInputs'}]
    (out / 'i3d_seed0' / 'config.py').write_text(format_config(config))
    plan = Plan((I3D, DSA), (0, 1))
    assert cells(format_tables(plan, read_outcomes(plan, out)), 'I3D')[0][-3:-1] == ['-', '-']


def test_missing_trials_and_other_videos_are_stated(out: Path) -> None:
    plan = Plan((I3D, DSA), (0, 1))
    text = format_tables(plan, read_outcomes(plan, out))
    assert '**: DSA|Net seed 1.' in text
    write_results(read_results(out / 'i3d_seed0' / RESULTS), out / 'dsa_net_seed1' / RESULTS)
    for name in ('config.py', 'scalars.jsonl'):
        (out / 'dsa_net_seed1' / name).write_text((out / 'i3d_seed0' / name).read_text())
    assert '**' not in format_tables(plan, read_outcomes(plan, out))
    results = read_results(out / 'i3d_seed1' / RESULTS)
    fewer = replace(results, paths=results.paths[1:], labels=results.labels[1:], scores=results.scores[1:])
    write_results(fewer, out / 'i3d_seed1' / RESULTS)
    assert 'I3D seed 1 5, DSA|Net' in format_tables(plan, read_outcomes(plan, out))


def test_no_finished_trial_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=tmp_path.name):
        read_outcomes(Plan((I3D,), (0,)), tmp_path)


def test_trial_without_order_test_is_included(out: Path) -> None:
    plan = Plan((I3D, DSA), (0, 1))
    (out / 'dsa_net_seed0' / ORDER).unlink()
    text = format_tables(plan, read_outcomes(plan, out))
    assert cells(text, r'DSA\|Net')[0][:2] == ['1', '100.0']
    assert cells(text, r'DSA\|Net')[2] == ['-', '-']
    for seed in (0, 1):
        (out / f'i3d_seed{seed}' / ORDER).unlink()
    assert len(cells(format_tables(plan, read_outcomes(plan, out)), 'I3D')) == 2


def test_missing_time_of_a_step(out: Path) -> None:
    (out / 'dsa_net_seed0' / 'scalars.jsonl').write_text('{"iteration": 1}\n')
    plan = Plan((I3D, DSA), (0, 1))
    assert [row[-1] for row in cells(format_tables(plan, read_outcomes(plan, out)), r'DSA\|Net')][0] == '-'


def test_variants_may_have_other_test_data(out: Path, caplog: pytest.LogCaptureFixture) -> None:
    labels, scores = np.array([0, 1, 6]), np.eye(7, dtype=np.float32)[[0, 1, 5]]
    names = ['up', 'down', 'right', 'a', 'b', 'c', 'd']
    results = Results('x', ['0.mp4', '7.mp4', '8.mp4'], labels, scores, 'softmax', names)
    write_results(results, out / 'dsa_net_seed0' / RESULTS)
    plan = Plan((I3D, DSA), (0, 1))
    text = format_tables(plan, read_outcomes(plan, out))
    assert cells(text, r'DSA\|Net')[1][0] == '66.7', 'without a p-value'
    assert cells(text, 'left') == [['1', '50.0', '-']]
    assert cells(text, 'd') == [['1', '-', '0.0']]
    assert cells(text, 'I3D')[0][3] == '-', 'no top-5 accuracy for three classes'
    assert '6 test videos' not in text
    assert not cells(text, 'most frequent class'), 'it would be that of one variant'
    assert caplog.records


def test_several_labels_have_no_test(out: Path) -> None:
    labels = np.array([[1, 0, 1], [0, 1, 0]], dtype=np.float32)
    for folder in ('i3d_seed0', 'i3d_seed1', 'dsa_net_seed0'):
        (out / folder / ORDER).unlink()
        write_results(Results('x', ['0.mp4', '1.mp4'], labels, labels, 'sigmoid'), out / folder / RESULTS)
    plan = Plan((I3D, DSA), (0, 1))
    text = format_tables(plan, read_outcomes(plan, out))
    assert cells(text, 'I3D') == [[*cells(text, 'I3D')[0]], ['100.0', '100.0']]
    assert all(name in text for name in ('mAP in', 'Average precision'))
    assert 'McNemar' not in text


def test_results_of_other_checkpoints_are_ignored(out: Path) -> None:
    """dsanet report tells users to write results.json into the work dir, usually those of best.pth."""
    results = read_results(out / 'i3d_seed0' / RESULTS)
    write_results(replace(results, scores=np.eye(3, dtype=np.float32)[LABELS]), out / 'i3d_seed0' / 'results.json')
    plan = Plan((I3D, DSA), (0, 1))
    assert cells(format_tables(plan, read_outcomes(plan, out)), 'I3D')[1][0] == '33.3'
