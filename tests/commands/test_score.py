import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from dsanet import commands
from dsanet.commands import score
from dsanet.evaluation.metrics import Accuracy, MeanAveragePrecision, MeanClassAccuracy
from dsanet.evaluation.results import FUSIONS, Results, fuse, read_results, write_results
from tests.commands.conftest import ROOT

RNG = np.random.default_rng(0)
LABELS = RNG.integers(4, size=30)
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
    """Run the tool in the folder; returns what it wrote to both streams, and the exit status."""
    monkeypatch.chdir(folder)

    def run(text: str) -> tuple[str, str, int]:
        words = [str(ROOT / word) if word.startswith('configs/') else word for word in text.split()]
        status = 0
        try:
            commands.main(['score', *words])
        except SystemExit as end:
            status = end.code
        output = capsys.readouterr()
        return output.out, output.err, status

    return run


def test_one_result_has_the_metrics_of_the_test(command: Command) -> None:
    output, errors, status = command('one.pkl')
    expected = Accuracy()(ONE, LABELS) | MeanClassAccuracy()(ONE, LABELS)
    assert (errors, status) == ('', 0)
    assert 'one.pkl: 30 videos, 4 classes, scores before softmax' in output
    assert re.search(r'result +top1 +top5 +mean_class_accuracy\n', output)
    assert output.splitlines()[-1].split() == ['one.pkl', *(f'{value:.2f}' for value in expected.values())]


def test_several_results_are_averaged_and_written(command: Command, folder: Path) -> None:
    output, _, status = command('one.pkl two.json --weights 1 2 --average score --json all.json --out both.pkl')
    assert status == 0
    fused = fuse([read_results(folder / name) for name in ('one.pkl', 'two.json')], [1, 2], 'score')
    np.testing.assert_allclose(fused.scores, (ONE + 2 * TWO) / 3, rtol=1e-5, atol=1e-6)
    numbers = json.loads((folder / 'all.json').read_text())
    names = ['one.pkl', 'two.json', 'average']
    assert [row['result'] for row in numbers['results']] == names
    for row, scores in zip(numbers['results'], (ONE, TWO, fused.scores), strict=True):
        assert row['top1'] == Accuracy()(scores, LABELS)['top1']
    assert [line.split()[0] for line in output.splitlines() if re.search(r' \d+\.\d\d', line)] == names
    both = read_results(folder / 'both.pkl')
    assert both.paths == PATHS
    assert np.array_equal(both.scores, fused.scores)
    assert command('both.pkl')[0].splitlines()[-1].split()[1] == f'{numbers["results"][-1]["top1"]:.2f}'


def test_metrics_are_chosen_by_name_or_by_config(command: Command, folder: Path) -> None:
    assert command('one.pkl --metrics MeanClassAccuracy')[0].splitlines()[-2].split() == [
        'result',
        'mean_class_accuracy',
    ]
    config = (ROOT / 'configs/demo/i3d_ordered_actions.py').read_text().replace('../_base_', f'{ROOT}/configs/_base_')
    (folder / 'mine.py').write_text(f"{config}\nmetrics = [dict(type='Accuracy', topk=(1, 2))]\n")
    output, _, _ = command('one.pkl --config mine.py')
    assert output.splitlines()[-2].split() == ['result', 'top1', 'top2']
    output, _, _ = command('multi.pkl --config configs/custom/multi_label_videos.py')
    assert output.splitlines()[-2].split() == ['result', 'mAP']


def test_several_labels_have_mean_average_precision(command: Command, folder: Path) -> None:
    output, _, status = command('multi.pkl --per-class --class-file classes.txt')
    assert status == 0
    expected = MeanAveragePrecision()(ONE, read_results(folder / 'multi.pkl').labels)['mAP']
    assert 'scores before sigmoid' in output
    assert f'multi.pkl  {expected:.2f}' in output
    values = [float(line.split()[-1]) for line in output.splitlines()[-4:]]
    assert values == sorted(values)
    assert np.mean(values) == pytest.approx(expected, abs=0.01)


def test_a_network_trained_with_softmax_is_not_taken_for_one_with_sigmoid(command: Command, folder: Path) -> None:
    output, _, status = command('multi.pkl trained_with_one.pkl --out both.json')
    assert status == 0
    assert 'multi.pkl: 30 videos, 4 classes, scores before sigmoid' in output
    assert 'trained_with_one.pkl: 30 videos, 4 classes, scores before softmax' in output
    softmax = np.exp(TWO) / np.exp(TWO).sum(axis=1, keepdims=True)
    both = read_results(folder / 'both.json')
    np.testing.assert_allclose(both.scores, (1 / (1 + np.exp(-ONE)) + softmax) / 2, rtol=1e-5)
    assert both.activation == 'none'


def test_table_of_classes_has_the_worst_first_and_mistakes_are_listed(command: Command) -> None:
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


def test_a_perfect_result_has_no_mistakes(command: Command, folder: Path) -> None:
    write_results(Results('x', PATHS, LABELS, np.eye(4, dtype=np.float32)[LABELS], 'none'), folder / 'perfect.json')
    output, _, status = command('perfect.json --mistakes 3')
    assert (output.splitlines()[-1], status) == ('no mistakes', 0)


def test_the_confusion_matrix_is_drawn(command: Command, folder: Path) -> None:
    _, _, status = command('one.pkl --confusion cm.png --class-file classes.txt')
    assert status == 0
    assert cv2.imread(str(folder / 'cm.png')).std() > 5


def test_averages_are_those_of_results() -> None:
    parser = argparse.ArgumentParser()
    score.add_arguments(parser)
    for name in FUSIONS:
        assert parser.parse_args(['x.pkl', '--average', name]).average == name


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('nowhere.pkl', 'error: there is no result file nowhere.pkl'),
        ('one.pkl --weights 1', '--weights are for averaging several results'),
        ('one.pkl two.json --weights 1', r'error: weights=\[1.0\] must be 2 numbers'),
        ('one.pkl --mistakes -1', '--mistakes -1 must be at least 0'),
        ('one.pkl --metrics Luck', "error: metrics.0.type='Luck'"),
        ('one.pkl --cfg-options a=1', '--cfg-options has no effect without a config'),
        ('one.pkl multi.pkl', 'error: one.pkl and multi.pkl differ in the kind of labels'),
        ('multi.pkl --confusion x.png', 'error: multi.pkl has several labels a video'),
        ('multi.pkl --metrics Accuracy', 'error: Accuracy needs one label a video'),
        ('one.pkl --confusion x.txt', r"error: 'x.txt' must end in .png or .pdf or .svg"),
        ('one.pkl --out x.csv', r"error: 'x.csv' must end in .pkl or .json"),
        ('one.pkl --class-file one.pkl', 'error: '),
        ('one.pkl --config nowhere.py', 'error: there is no config .*nowhere.py'),
        ('one.pkl --metrics Accuracy --config x.py', 'not allowed with argument'),
    ],
)
def test_wrong_calls_end_with_one_line_and_status_2(command: Command, text: str, message: str) -> None:
    _, errors, status = command(text)
    assert status == 2
    assert re.search(message, errors), errors
    assert 'Traceback' not in errors


def test_another_number_of_class_names_is_refused(command: Command, folder: Path) -> None:
    (folder / 'classes.txt').write_text('run\nwalk\n')
    _, errors, status = command('one.pkl --class-file classes.txt')
    assert (errors, status) == ('error: classes.txt has 2 classes, but the results have 4\n', 2)
