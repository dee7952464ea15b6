import collections
import json
import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dsanet.evaluation.results import (
    ACTIVATIONS,
    Results,
    class_table,
    confident_mistakes,
    confusion_matrix,
    fuse,
    read_results,
    write_results,
)

PATHS = ['a.mp4', 'b.mp4', 'c.mp4', 'd.mp4']
SCORES = np.float32([[3, 1, 0.1], [0, 2, 1], [5, 1, 1], [1, 0, 4]])
LABELS = np.array([0, 1, 2, 2])
MULTI_HOT = np.float32([[1, 0, 0], [0, 1, 1], [0, 0, 1], [1, 0, 1]])


def make(scores=SCORES, labels=LABELS, paths=PATHS, name='x.pkl', activation='softmax') -> Results:
    return Results(name, list(paths), labels, scores, activation)


@pytest.mark.parametrize('suffix', ['.pkl', '.json'])
@pytest.mark.parametrize('labels', [LABELS, MULTI_HOT])
@pytest.mark.parametrize('activation', ACTIVATIONS)
def test_results_survive_saving(tmp_path: Path, suffix: str, labels: np.ndarray, activation: str) -> None:
    scores = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    write_results(make(scores, labels, activation=activation), tmp_path / f'x{suffix}')
    read = read_results(tmp_path / f'x{suffix}')
    assert (read.paths, read.activation) == (PATHS, activation)
    for one, other in ((read.scores, scores), (read.labels, labels)):
        assert one.dtype == other.dtype
        assert np.array_equal(one, other)
    assert read.is_multi_hot == (labels is MULTI_HOT)
    assert os.listdir(tmp_path) == [f'x{suffix}']


def test_file_has_one_dict_per_video(tmp_path: Path) -> None:
    write_results(make(), tmp_path / 'x.json')
    write_results(make(), tmp_path / 'x.pkl')
    entries = json.loads((tmp_path / 'x.json').read_text())
    assert entries[1] == {'path': 'b.mp4', 'label': 1, 'scores': [0, 2, 1], 'activation': 'softmax'}
    assert pickle.loads((tmp_path / 'x.pkl').read_bytes()) == entries
    assert 'class_names' not in entries[0]


@pytest.mark.parametrize('suffix', ['.pkl', '.json'])
def test_first_entry_has_class_names(tmp_path: Path, suffix: str) -> None:
    results = replace(make(), class_names=['run', 'walk', 'j\xf6mp'])
    write_results(results, tmp_path / f'x{suffix}')
    assert read_results(tmp_path / f'x{suffix}').class_names == results.class_names
    if suffix == '.json':
        entries = json.loads((tmp_path / 'x.json').read_text())
        assert ['class_names' in entry for entry in entries] == [True, False, False, False]


def test_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results, file = make(), tmp_path / 'x.json'
    file.write_text('old')

    def fail(*_: object) -> None:
        raise OSError('disk full')

    with monkeypatch.context() as patch:
        patch.setattr(os, 'fsync', fail)
        with pytest.raises(OSError, match='disk full'):
            write_results(results, file)
    assert file.read_text() == 'old'
    write_results(results, file)
    assert [entry['path'] for entry in json.loads(file.read_text())] == PATHS
    assert os.listdir(tmp_path) == ['x.json']


class _Malicious:
    def __reduce__(self) -> tuple:
        return os.mkdir, ('it_ran',)


@pytest.mark.parametrize('value', [_Malicious(), np.float32(1), collections.OrderedDict()])
def test_pickle_with_code_raises_before_running_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: object
) -> None:
    monkeypatch.chdir(tmp_path)
    Path('x.pkl').write_bytes(pickle.dumps([{'path': 'a', 'label': 0, 'scores': [value]}]))
    name = {_Malicious: 'mkdir', np.float32: 'numpy', collections.OrderedDict: 'OrderedDict'}[type(value)]
    with pytest.raises(ValueError, match=rf'x\.pkl.*{name}'):
        read_results(Path('x.pkl'))
    assert not Path('it_ran').exists()


GOOD = {'path': 'a', 'label': 0, 'scores': [0.5, 1], 'activation': 'softmax'}
OTHER = {**GOOD, 'path': 'b'}


@pytest.mark.parametrize(
    ('entries', 'message'),
    [
        ({}, 'list.*{}'),
        ([], r'list.*\[\]'),
        ([GOOD, 3], r'entry 1\b.*path.*3'),
        ([{'path': 'a', 'label': 0}], r'entry 0\b.*scores'),
        ([{**GOOD, 'path': 7}], r'entry 0\b.*path.*7'),
        ([GOOD, GOOD], ' 1 .*more than once.* a;'),
        ([GOOD, {**GOOD, 'path': './a'}], ' 1 .*more than once.* a;'),
        ([GOOD, {**OTHER, 'scores': [1]}], r'entry 1\b.*scores.* 2 '),
        ([GOOD, {**OTHER, 'label': [0, 1]}], r'entry 1\b.*label.*\[0, 1\]'),
        ([{**OTHER, 'label': [0, 1]}, GOOD], r'entry 1\b.*label.* 0$'),
        ([{**GOOD, 'scores': 'high'}], 'scores.*high'),
        ([{**GOOD, 'scores': []}], 'scores'),
        ([{**GOOD, 'scores': [[1, 2]]}], 'scores'),
        ([{**GOOD, 'scores': [1, float('nan')]}], 'scores.*finite'),
        ([{**GOOD, 'scores': [1, float('-inf')]}], 'scores.*finite'),
        ([{**GOOD, 'scores': [1, 10**400]}], 'scores.*finite'),
        ([{**GOOD, 'scores': [1, 1e39]}], 'scores.*finite'),  # infinite in float32
        ([{**GOOD, 'scores': [1, True]}], 'scores.*True'),
        ([{**GOOD, 'scores': ['1.5', 1]}], "scores.*'1.5'"),
        ([{**GOOD, 'scores': [None, 1]}], 'scores.*None'),
        ([{**GOOD, 'scores': {'0': 1}}], "scores.*{'0': 1}"),
        ([{**GOOD, 'label': 2}], 'label .* 0 to 1'),
        ([{**GOOD, 'label': -1}], 'label .* 0 to 1'),
        ([{**GOOD, 'label': 0.5}], 'label .* 0 to 1'),
        ([{**GOOD, 'label': True}], 'label .*True'),
        ([{**GOOD, 'label': '1'}], "label .*'1'"),
        ([{**GOOD, 'label': None}], 'label .*None'),
        ([{**GOOD, 'label': 10**400}], 'label .* 0 to 1'),
        ([{**GOOD, 'label': [1, 0, 1]}], 'label .* 2 '),
        ([{**GOOD, 'label': [2, 0]}], 'label .* 2 '),
        ([{**GOOD, 'label': [True, 0]}], 'label .*True'),
        ([{**GOOD, 'activation': 'relu'}], 'activation.*softmax, sigmoid, none'),
        ([GOOD, {**OTHER, 'activation': 'none'}], 'activation'),
        ([{**GOOD, 'class_names': ['run']}], 'class_names.* 2 '),
        ([{**GOOD, 'class_names': 'ab'}], 'class_names.* 2 '),
        ([{**GOOD, 'class_names': ['a', 'a']}], 'class_names.* 2 '),
        ([{**GOOD, 'class_names': ['a', 'b']}, {**OTHER, 'class_names': ['b', 'a']}], 'class_names'),
    ],
)
@pytest.mark.parametrize('suffix', ['.pkl', '.json'])
def test_invalid_entries_raise(tmp_path: Path, entries: object, message: str, suffix: str) -> None:
    file = tmp_path / f'x{suffix}'
    file.write_bytes(pickle.dumps(entries) if suffix == '.pkl' else json.dumps(entries).encode())
    with pytest.raises(ValueError, match=rf'x\{suffix}.*{message}'):
        read_results(file)


def test_damaged_and_missing_files_raise(tmp_path: Path) -> None:
    write_results(make(), tmp_path / 'x.pkl')
    content = (tmp_path / 'x.pkl').read_bytes()
    for length in range(0, len(content) - 1, 5):
        (tmp_path / 'x.pkl').write_bytes(content[:length])
        with pytest.raises(ValueError, match=r'x\.pkl'):
            read_results(tmp_path / 'x.pkl')
    with pytest.raises(FileNotFoundError, match=r'nowhere\.json'):
        read_results(tmp_path / 'nowhere.json')


def test_probabilities_by_hand() -> None:
    e = np.exp(1)
    scores = np.float32([[0, 1, 0], [1000, 0, 0], [-1000, 0, -1000], [0, 0, 0]])
    expected = [[1 / (2 + e), e / (2 + e), 1 / (2 + e)], [1, 0, 0], [0, 1, 0], [1 / 3] * 3]
    for labels in (LABELS, MULTI_HOT):  # labels do not show how the network was trained
        np.testing.assert_allclose(make(scores, labels).probabilities(), expected, atol=1e-12)
    expected = [[0.5, e / (1 + e), 0.5], [1, 0.5, 0.5], [0, 0.5, 0], [0.5] * 3]
    for labels in (LABELS, MULTI_HOT):
        np.testing.assert_allclose(make(scores, labels, activation='sigmoid').probabilities(), expected, atol=1e-12)
    assert np.array_equal(make(activation='none').probabilities(), SCORES)


def test_fusion_is_the_weighted_mean_matched_by_path() -> None:
    other_scores = np.float32([[1, 0, 0], [0, 0, 3], [2, 2, 0], [0, 1, 0]])
    order = [2, 0, 3, 1]
    other = make(other_scores[order], LABELS[order], [PATHS[i] for i in order])
    fused = fuse([make(), other], [1, 3], 'score')
    np.testing.assert_allclose(fused.scores, (SCORES + 3 * other_scores) / 4, rtol=1e-6)
    assert fused.activation == 'softmax'
    assert (fused.paths, fused.labels.tolist()) == (PATHS, LABELS.tolist())

    def softmax(x: np.ndarray) -> np.ndarray:
        return np.array([[np.exp(v) / sum(np.exp(w) for w in row) for v in row] for row in x.astype(float)])

    fused = fuse([make(), other], [2, 1], 'prob')
    np.testing.assert_allclose(fused.scores, (2 * softmax(SCORES) + softmax(other_scores)) / 3, rtol=1e-6)
    assert fused.activation == 'none'
    again = fuse([make(softmax(SCORES).astype(np.float32), activation='none'), other], [2, 1], 'prob')
    np.testing.assert_allclose(again.scores, fused.scores, rtol=1e-6)


@pytest.mark.parametrize(
    ('other', 'message'),
    [
        (make(SCORES[:, :2], LABELS % 2, name='y'), r'x\.pkl.* y .*3.*2'),
        (make(labels=MULTI_HOT, name='y'), r'x\.pkl.* y .*labels'),
        (make(paths=['a.mp4', *'efg'], name='y'), r'3 .*x\.pkl.* y: b\.mp4, c\.mp4, d\.mp4'),
        (make(SCORES[:3], LABELS[:3], PATHS[:3], 'y'), r'1 .*x\.pkl.* y: d\.mp4'),
        (
            make(np.vstack([SCORES, SCORES[:1]]), np.append(LABELS, 0), [*PATHS, 'e'], 'y'),
            r'1 .* y .*x\.pkl: e',
        ),
        (make(labels=np.array([0, 2, 2, 1]), name='y'), r'labels.* 2 .*b\.mp4, d\.mp4'),
        (make(paths=['a.mp4', 'b.mp4', 'b.mp4', 'd.mp4'], name='y'), r'y .*b\.mp4'),
    ],
)
def test_fusing_different_tests_raises(other: Results, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fuse([make(), other], [1, 1], 'prob')


def test_fusing_results_of_other_classes_raises() -> None:
    one, two, three = (
        replace(make(name=name), class_names=list(names))
        for name, names in zip('xyz', ('abc', 'acb', 'abc'), strict=True)
    )
    unknown = make(name='u')
    for tests in ([one, two], [unknown, one, two], [one, unknown, three, two]):
        with pytest.raises(ValueError, match=r"class 1 .*'b'.* x, .*'c'.* y"):
            fuse(tests, [1] * len(tests), 'prob')
    for tests in ([one, unknown], [unknown, one, three]):
        assert fuse(tests, [1] * len(tests), 'prob').class_names == ['a', 'b', 'c']
    assert fuse([unknown, unknown], [1, 1], 'prob').class_names is None


def test_fusion_compares_multi_hot_labels() -> None:
    changed = MULTI_HOT.copy()
    changed[2, 0] = 1
    fuse([make(labels=MULTI_HOT), make(labels=MULTI_HOT)], [1, 1], 'prob')
    with pytest.raises(ValueError, match=r'labels.* 1 .*c\.mp4'):
        fuse([make(labels=MULTI_HOT), make(labels=changed)], [1, 1], 'prob')


@pytest.mark.parametrize('weights', [[1], [1, -1], [0, 0], [1, float('nan')], [1, float('inf')]])
def test_invalid_fusion_weights_raise(weights: list[float]) -> None:
    with pytest.raises(ValueError, match='weights=.* 2 '):
        fuse([make(), make()], weights, 'prob')


def test_score_fusion_of_probabilities_raises() -> None:
    prob = make(np.full((4, 3), 1 / 3, np.float32), name='y', activation='none')
    with pytest.raises(ValueError, match="y .*average='prob'"):
        fuse([make(), prob], [1, 1], 'score')
    with pytest.raises(ValueError, match="average='mean'.* prob, score"):
        fuse([make()], [1], 'mean')


def test_softmax_and_sigmoid_results_fuse_as_probabilities() -> None:
    one, other = make(), make(name='y', activation='sigmoid')
    expected = (one.probabilities() + 1 / (1 + np.exp(-SCORES.astype(float)))) / 2
    np.testing.assert_allclose(fuse([one, other], [1, 1], 'prob').scores, expected, rtol=1e-6)
    with pytest.raises(ValueError, match=r"x\.pkl.* y .*softmax.*sigmoid.*average='prob'"):
        fuse([one, other], [1, 1], 'score')


def test_confusion_has_labels_in_rows() -> None:
    assert confusion_matrix(make()).tolist() == [[1, 0, 0], [0, 1, 0], [1, 0, 1]]
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(50, 4)).astype(np.float32), rng.integers(4, size=50)
    slow = np.zeros((4, 4), dtype=int)
    for row, label in zip(scores, labels, strict=True):
        slow[label, list(row).index(max(row))] += 1
    assert np.array_equal(confusion_matrix(make(scores, labels, map(str, range(50)))), slow)
    with pytest.raises(ValueError, match=r'x\.pkl'):
        confusion_matrix(make(labels=MULTI_HOT))


def test_class_table_by_hand() -> None:
    names = ['run', 'walk', 'jump', 'sit']
    scores = np.hstack([SCORES, np.zeros((4, 1), np.float32)])
    expected = [
        {'class': 0, 'name': 'run', 'videos': 1, 'accuracy': 100, 'confused_with': None, 'confused': 0},
        {'class': 1, 'name': 'walk', 'videos': 1, 'accuracy': 100, 'confused_with': None, 'confused': 0},
        {'class': 2, 'name': 'jump', 'videos': 2, 'accuracy': 50, 'confused_with': 'run', 'confused': 1},
    ]
    assert class_table(make(scores), names) == expected


def test_class_table_of_multi_hot_labels() -> None:
    table = class_table(make(labels=MULTI_HOT), ['run', 'walk', 'jump'])
    assert [(row['name'], row['videos']) for row in table] == [('run', 2), ('walk', 1), ('jump', 3)]
    # run: ranks c, a (correct, 1/2), d (correct, 2/3), b
    assert table[0]['average_precision'] == pytest.approx((1 / 2 + 2 / 3) / 2 * 100)
    assert table[1]['average_precision'] == 100


def test_confident_mistakes_come_first() -> None:
    scores = np.float32([[1, 2, 0], [0, 2, 1], [5, 1, 1], [9, 0, 4]])
    found = confident_mistakes(make(scores), ['run', 'walk', 'jump'], 10)
    assert [(m['path'], m['label'], m['predicted']) for m in found] == [
        ('d.mp4', 'jump', 'run'),
        ('c.mp4', 'jump', 'run'),
        ('a.mp4', 'run', 'walk'),
    ]
    total = np.exp(9) + 1 + np.exp(4)
    assert found[0]['probability'] == pytest.approx(np.exp(9) / total)
    assert found[0]['label_probability'] == pytest.approx(np.exp(4) / total)
    assert confident_mistakes(make(scores), ['run', 'walk', 'jump'], 1) == found[:1]
    with pytest.raises(ValueError, match=r'x\.pkl'):
        confident_mistakes(make(labels=MULTI_HOT), ['run', 'walk', 'jump'], 1)
