import argparse
import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from dsanet import commands
from dsanet.commands import score
from dsanet.evaluation.comparison import compare, compare_classes, find_disagreements
from dsanet.evaluation.metrics import Accuracy, MeanAveragePrecision, MeanClassAccuracy
from dsanet.evaluation.result_files import read_results, write_results
from dsanet.evaluation.results import FUSIONS, Results, fuse
from tests.commands.conftest import ROOT

RNG = np.random.default_rng(0)
LABELS = RNG.integers(4, size=30)
CLASSES = ['run', 'walk', 'jump', 'sit']
LARGEST = 100 * np.bincount(LABELS).max() / 30  # share of the most frequent class
PATHS = [f'{i}.mp4' for i in range(30)]
ONE, TWO = (RNG.normal(size=(30, 4)).astype(np.float32) + np.eye(4, dtype=np.float32)[LABELS] for _ in range(2))

Command = Callable[..., tuple[str, str, int]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_results(Results('one', PATHS, LABELS, ONE, 'softmax'), tmp_path / 'one.pkl')
    write_results(Results('two', PATHS[::-1], LABELS[::-1], TWO[::-1], 'softmax'), tmp_path / 'two.json')
    multi_hot = np.eye(4, dtype=np.float32)[LABELS]
    multi_hot[:5] = 1
    write_results(Results('multi', PATHS, multi_hot, ONE, 'sigmoid'), tmp_path / 'multi.pkl')
    write_results(Results('trained', PATHS, multi_hot, TWO, 'softmax'), tmp_path / 'trained_with_one.pkl')
    (tmp_path / 'classes.txt').write_text('run\nwalk\njump\nsit\n')
    return tmp_path


@pytest.fixture
def command(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command in the folder; return stdout, stderr and the exit status."""
    monkeypatch.chdir(folder)

    def run(text: str) -> tuple[str, str, int]:
        argv = [str(ROOT / word) if word.startswith('configs/') else word for word in text.split()]
        status = 0
        try:
            commands.main(['score', *argv])
        except SystemExit as end:
            status = end.code
        output = capsys.readouterr()
        return output.out, output.err, status

    return run


def test_metrics_of_one_result(command: Command) -> None:
    output, errors, status = command('one.pkl')
    expected = Accuracy()(ONE, LABELS) | MeanClassAccuracy()(ONE, LABELS)
    assert (errors, status) == ('', 0)
    assert re.search('one.pkl: 30 .* 4 .* softmax\n', output)
    assert re.search(r'result +top1 +top5 +mean_class_accuracy\n', output)
    assert output.splitlines()[-2].split() == ['one.pkl', *(f'{value:.2f}' for value in expected.values())]
    assert output.splitlines()[-1].split() == [*'most frequent class'.split(), f'{LARGEST:.2f}', '-', '25.00']


def test_results_are_averaged_and_written(command: Command, folder: Path) -> None:
    output, _, status = command('one.pkl two.json --weights 1 2 --average score --json all.json --out both.pkl')
    assert status == 0
    fused = fuse([read_results(folder / name) for name in ('one.pkl', 'two.json')], [1, 2], 'score')
    np.testing.assert_allclose(fused.scores, (ONE + 2 * TWO) / 3, rtol=1e-5, atol=1e-6)
    numbers = json.loads((folder / 'all.json').read_text())
    names = ['one.pkl', 'two.json', 'average']
    assert numbers['majority_class'] == {'top1': pytest.approx(LARGEST), 'mean_class_accuracy': 25}
    assert [row['result'] for row in numbers['results']] == names
    for row, scores in zip(numbers['results'], (ONE, TWO, fused.scores), strict=True):
        assert row['top1'] == Accuracy()(scores, LABELS)['top1']
    assert [line.split()[0] for line in output.splitlines() if re.search(r' \d+\.\d\d', line)] == [*names, 'most']
    both = read_results(folder / 'both.pkl')
    assert both.paths == PATHS
    assert np.array_equal(both.scores, fused.scores)
    assert command('both.pkl')[0].splitlines()[-2].split()[1] == f'{numbers["results"][-1]["top1"]:.2f}'


def test_average_is_stated_in_the_first_line(command: Command) -> None:
    output, _, _ = command('one.pkl two.json --weights 1 2.5')
    assert re.match(r'Averaging the probabilities of 2 .* 1, 2\.5; .*--compare\n', output)
    assert re.match('Averaging the scores of 2 ', command('one.pkl two.json --average score')[0])
    assert 'Averaging' not in command('one.pkl')[0]


def test_comparison_of_two_results(command: Command, folder: Path) -> None:
    output, errors, status = command('one.pkl --compare two.json --class-file classes.txt --mistakes 3 --json x.json')
    assert (errors, status) == ('', 0)
    assert 'Averaging' not in output
    one, two = (replace(read_results(folder / name), class_names=CLASSES) for name in ('one.pkl', 'two.json'))
    expected = compare(one, two)
    numbers = json.loads((folder / 'x.json').read_text())
    assert [(row['result'], row['top1']) for row in numbers['results']] == [
        ('one.pkl', Accuracy()(ONE, LABELS)['top1']),
        ('two.json', Accuracy()(TWO, LABELS)['top1']),
    ]
    assert {name: numbers[name] for name in asdict(expected)} == asdict(expected)
    assert (numbers['a'], numbers['b'], numbers['num_videos']) == ('one.pkl', 'two.json', 30)
    assert numbers['disagreements'] == find_disagreements(one, two, 3)
    cells = [line.split() for line in output.splitlines()]
    counts = [expected.both, expected.only_a, expected.only_b, expected.neither]
    start = cells.index(['videos'])
    assert [int(row[-1]) for row in cells[start + 1 : start + 5]] == counts
    assert f'p = {expected.p_value:.3g}' in output
    start = cells.index(['class', 'name', 'videos', 'a', 'b', 'difference'])
    assert [row[1] for row in cells[start + 1 : start + 5]] == [row['name'] for row in expected.classes]
    assert [float(row[-1]) for row in cells[start + 1 : start + 5]] == pytest.approx(
        [row['difference'] for row in expected.classes], abs=0.01
    )
    assert [row[0] for row in cells[-4:-1]] == [row['path'] for row in numbers['disagreements']]


def test_comparison_shows_ten_classes_by_default(command: Command, folder: Path) -> None:
    labels = np.arange(30) % 12
    for name, shift in (('a', 0), ('b', 1)):
        scores = np.eye(12, dtype=np.float32)[(labels + shift) % 12]
        write_results(Results(name, PATHS, labels, scores, 'none'), folder / f'{name}.json')
    pattern = r' 100\.00 +0\.00 +100\.00\n'
    assert len(re.findall(pattern, command('a.json --compare b.json')[0])) == 10
    assert len(re.findall(pattern, command('a.json --compare b.json --per-class --json x.json')[0])) == 12
    assert len(json.loads((folder / 'x.json').read_text())['classes']) == 12


def test_multi_label_comparison_has_no_mcnemar_test(command: Command, folder: Path) -> None:
    output, _, status = command('multi.pkl --compare trained_with_one.pkl --json x.json')
    assert status == 0
    assert 'McNemar' in output
    numbers = json.loads((folder / 'x.json').read_text())
    one, two = (read_results(folder / name) for name in ('multi.pkl', 'trained_with_one.pkl'))
    assert numbers['classes'] == compare_classes(one, two)
    assert 'p_value' not in numbers


def test_equal_results_have_no_disagreement(command: Command, folder: Path) -> None:
    output, _, status = command('one.pkl --compare one.pkl --mistakes 2 --json x.json')
    numbers = json.loads((folder / 'x.json').read_text())
    assert (status, numbers['disagreements'], numbers['p_value']) == (0, [], 1)
    assert 'p = 1,' in output


def test_metrics_from_names_or_config(command: Command, folder: Path) -> None:
    assert command('one.pkl --metrics MeanClassAccuracy')[0].splitlines()[-3].split() == [
        'result',
        'mean_class_accuracy',
    ]
    config = (ROOT / 'configs/demo/i3d_ordered_actions.py').read_text().replace('../_base_', f'{ROOT}/configs/_base_')
    (folder / 'mine.py').write_text(f"{config}\nmetrics = [dict(type='Accuracy', topk=(1, 2))]\n")
    output, _, _ = command('one.pkl --config mine.py')
    assert output.splitlines()[-3].split() == ['result', 'top1', 'top2']
    output, _, _ = command('multi.pkl --config configs/custom/multi_label_videos.py')
    assert output.splitlines()[-2].split() == ['result', 'mAP']


def test_multi_label_results_have_mean_average_precision(command: Command, folder: Path) -> None:
    output, _, status = command('multi.pkl --per-class --class-file classes.txt')
    assert status == 0
    expected = MeanAveragePrecision()(ONE, read_results(folder / 'multi.pkl').labels)['mAP']
    assert 'sigmoid' in output
    assert f'multi.pkl  {expected:.2f}' in output
    values = [float(line.split()[-1]) for line in output.splitlines()[-4:]]
    assert values == sorted(values)
    assert np.mean(values) == pytest.approx(expected, abs=0.01)


def test_each_result_keeps_its_activation(command: Command, folder: Path) -> None:
    output, _, status = command('multi.pkl trained_with_one.pkl --out both.json')
    assert status == 0
    assert re.search('multi.pkl: .* sigmoid\ntrained_with_one.pkl: .* softmax\n', output)
    softmax = np.exp(TWO) / np.exp(TWO).sum(axis=1, keepdims=True)
    both = read_results(folder / 'both.json')
    np.testing.assert_allclose(both.scores, (1 / (1 + np.exp(-ONE)) + softmax) / 2, rtol=1e-5)
    assert both.activation == 'none'


def test_classes_and_mistakes_are_sorted(command: Command) -> None:
    output, _, _ = command('one.pkl --per-class --mistakes 3 --class-file classes.txt')
    lines = output.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith('class '))
    assert lines[start].split() == ['class', 'name', 'videos', 'accuracy', 'confused_with', 'confused']
    rows = [line.split() for line in lines[start + 1 : start + 5]]
    assert sorted(row[1] for row in rows) == ['jump', 'run', 'sit', 'walk']
    assert [float(row[3]) for row in rows] == sorted(float(row[3]) for row in rows)
    assert sum(int(row[2]) for row in rows) == 30
    mistakes = [line.split() for line in lines[-3:]]
    assert [float(m[3]) for m in mistakes] == sorted((float(m[3]) for m in mistakes), reverse=True)
    for path, label, predicted, *_ in mistakes:
        i = PATHS.index(path)
        names = ['run', 'walk', 'jump', 'sit']
        assert (names[LABELS[i]], names[ONE[i].argmax()]) == (label, predicted)


def test_tables_of_several_results_name_the_average(command: Command, folder: Path) -> None:
    options = '--per-class --mistakes 1 --confusion cm.png --out both.json --json all.json'
    for files, of in (('one.pkl', 'one.pkl'), ('one.pkl two.json', 'average')):
        output, _, status = command(f'{files} {options}')
        assert (status, output.count(f'({of})')) == (0, 4)
        assert json.loads((folder / 'all.json').read_text())['classes_of'] == of


def test_results_know_their_class_names(command: Command, folder: Path) -> None:
    names = ['run', 'walk', 'jump', 'sit']
    write_results(Results('named', PATHS, LABELS, ONE, 'softmax', names), folder / 'named.json')
    write_results(Results('other', PATHS, LABELS, ONE, 'softmax', sorted(names)), folder / 'other.json')
    output, _, status = command('named.json two.json --per-class --class-file classes.txt --out both.json')
    assert status == 0
    assert sorted(line.split()[1] for line in output.splitlines()[-5:-1]) == sorted(names)
    assert read_results(folder / 'both.json').class_names == names
    for files in ('named.json other.json', 'other.json --class-file classes.txt'):
        _, errors, status = command(files)
        assert status == 2
        assert re.search(r"class 0 .*'run'.*'jump'.* other\.json", errors)
    assert command('one.pkl --class-file classes.txt --out with_names.pkl')[2] == 0
    assert read_results(folder / 'with_names.pkl').class_names == names


def test_perfect_result_has_no_mistakes(command: Command, folder: Path) -> None:
    write_results(Results('x', PATHS, LABELS, np.eye(4, dtype=np.float32)[LABELS], 'none'), folder / 'perfect.json')
    output, _, status = command('perfect.json --mistakes 3 --json x.json')
    assert (json.loads((folder / 'x.json').read_text())['mistakes'], status) == ([], 0)


def test_confusion_matrix_is_drawn(command: Command, folder: Path) -> None:
    _, _, status = command('one.pkl --confusion cm.png --class-file classes.txt')
    assert status == 0
    assert cv2.imread(str(folder / 'cm.png')).std() > 5


def test_average_choices_match_the_library() -> None:
    parser = argparse.ArgumentParser()
    score.add_arguments(parser)
    for name in FUSIONS:
        assert parser.parse_args(['x.pkl', '--average', name]).average == name


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('nowhere.pkl', 'nowhere.pkl'),
        ('one.pkl --weights 1', '--weights'),
        ('one.pkl --average prob', '--average'),
        ('one.pkl two.json --compare one.pkl', '--compare.* 2 '),
        ('one.pkl --compare two.json --out x.pkl', '--out.* --compare'),
        ('one.pkl --compare two.json --weights 1 1', '--weights.* --compare'),
        ('one.pkl --compare multi.pkl', 'one.pkl .*multi.pkl'),
        ('one.pkl --compare nowhere.pkl', 'nowhere.pkl'),
        ('multi.pkl --compare multi.pkl --mistakes 1', 'multi.pkl'),
        ('one.pkl two.json --weights 1', r'weights.*\[1.0\].* 2 '),
        ('one.pkl --mistakes -1', '--mistakes.* 0.*-1'),
        ('one.pkl --metrics Luck', "metrics.0.type='Luck'"),
        ('one.pkl multi.pkl', 'one.pkl .*multi.pkl'),
        ('multi.pkl --confusion x.png', 'multi.pkl'),
        ('multi.pkl --metrics Accuracy', 'Accuracy'),
        ('one.pkl --confusion x.txt', r"'x.txt' .*.png .*.pdf .*.svg"),
        ('one.pkl --out x.csv', r"'x.csv' .*.pkl .*.json"),
        ('one.pkl --class-file one.pkl', ''),
        ('one.pkl --class-file two_classes.txt', 'two_classes.txt .*2 .* 4'),
        ('one.pkl --config nowhere.py', 'nowhere.py'),
        ('one.pkl --metrics Accuracy --config x.py', '--config.* --metrics'),
    ],
)
def test_errors_are_one_line(command: Command, folder: Path, text: str, message: str) -> None:
    (folder / 'two_classes.txt').write_text('run\nwalk\n')
    _, errors, status = command(text)
    assert status == 2
    assert re.search(f'error: .*{message}', errors), errors
    assert 'Traceback' not in errors


@pytest.mark.parametrize(
    ('options', 'names'),
    [
        ('--out one.pkl', '--out one.pkl'),
        ('--out link.pkl', '--out link.pkl'),
        ('--json two.json', '--json two.json'),
        ('--json x.json --out x.json', '--json x.json and --out'),
        ('--confusion x.png --json y.json --out ./y.json', '--json y.json and --out'),
        ('--class-file classes.json --json classes.json', '--json classes.json'),
    ],
)
def test_outputs_that_replace_files_are_refused(command: Command, folder: Path, options: str, names: str) -> None:
    (folder / 'link.pkl').symlink_to('one.pkl')
    (folder / 'classes.json').write_text('run\nwalk\njump\nsit\n')
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    output, errors, status = command(f'one.pkl two.json {options}')
    assert (output, status) == ('', 2)
    assert names in errors
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
