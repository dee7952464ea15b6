from dataclasses import replace

import numpy as np
import pytest

from dsanet.evaluation.results import (
    Results,
    class_table,
    confident_mistakes,
    confusion_matrix,
    fuse,
)

PATHS = ['a.mp4', 'b.mp4', 'c.mp4', 'd.mp4']
SCORES = np.float32([[3, 1, 0.1], [0, 2, 1], [5, 1, 1], [1, 0, 4]])
LABELS = np.array([0, 1, 2, 2])
MULTI_HOT = np.float32([[1, 0, 0], [0, 1, 1], [0, 0, 1], [1, 0, 1]])


def make(scores=SCORES, labels=LABELS, paths=PATHS, name='x.pkl', activation='softmax') -> Results:
    return Results(name, list(paths), labels, scores, activation)


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
