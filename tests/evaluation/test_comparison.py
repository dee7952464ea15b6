from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from dsanet.evaluation.comparison import compare, compare_classes, find_disagreements, mcnemar
from dsanet.evaluation.metrics import average_precision
from dsanet.evaluation.results import Results

PATHS = ['a.mp4', 'b.mp4', 'c.mp4', 'd.mp4', 'e.mp4']
LABELS = np.array([0, 0, 0, 1, 1])
# Probabilities. A is right for a, b, d; B for a, c, d, e.
A = np.float32([[0.9, 0.1, 0], [0.8, 0.2, 0], [0.4, 0.6, 0], [0, 1, 0], [0.7, 0.3, 0]])
B = np.float32([[0.6, 0.4, 0], [0.1, 0.2, 0.7], [1, 0, 0], [0.4, 0.6, 0], [0.2, 0.8, 0]])
REVERSED = slice(None, None, -1)
NAMES = ['run', 'walk', 'jump']


def make(scores=A, name='a.pkl', order=slice(None), labels=LABELS, names=None) -> Results:
    return Results(name, PATHS[order], labels[order], scores[order], 'none', names)


def test_mcnemar_by_hand() -> None:
    assert mcnemar(0, 0) == 1
    assert mcnemar(1, 0) == 1  # 2 * 1/2
    assert mcnemar(3, 3) == 1  # both tails contain the split
    assert mcnemar(5, 0) == 2 / 32
    assert mcnemar(1, 7) == 2 * (1 + 8) / 256
    assert mcnemar(2, 8) == pytest.approx(2 * (1 + 10 + 45) / 1024)


@pytest.mark.parametrize('number', range(1, 11))
def test_mcnemar_equals_counting_all_outcomes(number: int) -> None:
    sides = [sum(outcome) for outcome in product((0, 1), repeat=number)]
    for only_a in range(number + 1):
        only_b = number - only_a
        unequal = [side for side in sides if abs(2 * side - number) >= abs(only_a - only_b)]
        assert mcnemar(only_a, only_b) == float(Fraction(len(unequal), len(sides)))
        assert mcnemar(only_b, only_a) == mcnemar(only_a, only_b)


def test_mcnemar_of_many_videos_is_exact() -> None:
    # A normal approximation with continuity correction differs by less than 1% here.
    assert mcnemar(15000, 15300) == pytest.approx(0.0859, rel=0.01)
    assert 0 < mcnemar(500, 1500) < 1e-100
    assert mcnemar(0, 20000) == 0  # less than the smallest float


def test_negative_counts_raise() -> None:
    with pytest.raises(ValueError, match='only_a=-1'):
        mcnemar(-1, 2)


def test_comparison_by_hand() -> None:
    comparison = compare(make(names=NAMES), make(B, 'b.pkl', REVERSED))
    assert (comparison.both, comparison.only_a, comparison.only_b, comparison.neither) == (2, 1, 2, 0)
    assert comparison.p_value == 1
    # Class walk: A is right for one of two videos, B for both; class run: both for two of three.
    two_thirds = pytest.approx(200 / 3)
    assert comparison.classes == [
        {'class': 1, 'name': 'walk', 'videos': 2, 'a': 50, 'b': 100, 'difference': -50},
        {'class': 0, 'name': 'run', 'videos': 3, 'a': two_thirds, 'b': two_thirds, 'difference': 0},
    ]


def test_counts_equal_a_loop() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(4, size=200)
    paths = [f'{i}.mp4' for i in range(200)]
    scores = [rng.normal(size=(200, 4)).astype(np.float32) + 2 * np.eye(4, dtype=np.float32)[labels] for _ in range(2)]
    order = rng.permutation(200)
    one = Results('one', paths, labels, scores[0], 'softmax')
    two = Results('two', [paths[i] for i in order], labels[order], scores[1][order], 'softmax')
    counts = {(True, True): 0, (True, False): 0, (False, True): 0, (False, False): 0}
    for i, label in enumerate(labels):
        counts[tuple(max(range(4), key=lambda k, row=s[i]: row[k]) == label for s in scores)] += 1
    found = compare(one, two)
    assert [found.both, found.only_a, found.only_b, found.neither] == list(counts.values())
    assert found.p_value == mcnemar(found.only_a, found.only_b)
    assert len(find_disagreements(one, two, 200)) == found.only_a + found.only_b


def test_disagreements_by_hand() -> None:
    rows = find_disagreements(make(names=NAMES), make(B, 'b.pkl', REVERSED), 2)
    assert [(row['path'], row['label'], row['right'], row['a'], row['b']) for row in rows] == [
        ('b.mp4', 'run', 'A', 'run', 'jump'),  # B is wrong with 0.7
        ('e.mp4', 'walk', 'B', 'run', 'walk'),  # A is wrong with 0.7
    ]
    assert [(row['probability_a'], row['probability_b']) for row in rows] == [
        pytest.approx((0.8, 0.7)),
        pytest.approx((0.7, 0.8)),
    ]
    rows = find_disagreements(make(), make(B, 'b.pkl'), 9)
    assert [(row['path'], row['label']) for row in rows] == [('b.mp4', '0'), ('e.mp4', '1'), ('c.mp4', '0')]
    assert find_disagreements(make(), make(), 9) == []


def test_multi_label_classes_have_average_precision() -> None:
    labels = np.float32([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 0], [1, 0, 0]])
    rows = compare_classes(make(labels=labels), make(B, 'b.pkl', REVERSED, labels))
    assert sorted(row['class'] for row in rows) == [0, 1]
    assert abs(rows[0]['difference']) >= abs(rows[1]['difference'])
    for row in rows:
        k = row['class']
        expected = [average_precision(scores[:, k], labels[:, k] > 0) * 100 for scores in (A, B)]
        assert [row['a'], row['b'], row['difference']] == pytest.approx([*expected, expected[0] - expected[1]])
        assert row['videos'] == labels[:, k].sum()
    with pytest.raises(ValueError, match=r'a\.pkl'):
        compare(make(labels=labels), make(B, 'b.pkl', labels=labels))


def test_results_of_other_videos_or_classes_raise() -> None:
    with pytest.raises(ValueError, match=r'b\.pkl: e\.mp4'):
        compare(make(), make(order=slice(4), name='b.pkl'))
    with pytest.raises(ValueError, match='labels'):
        compare(make(), make(labels=1 - LABELS, name='b.pkl'))
    with pytest.raises(ValueError, match="class 0 .*'run'"):
        compare(make(names=NAMES), make(names=NAMES[::-1], name='b.pkl'))
