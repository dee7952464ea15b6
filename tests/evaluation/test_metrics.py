import re
from types import SimpleNamespace

import numpy as np
import pytest

from dsanet.evaluation.metrics import (
    Accuracy,
    MeanAveragePrecision,
    MeanClassAccuracy,
    average_precision,
    check_metrics,
    compute_metrics,
    describe_baseline,
    majority_baseline,
)

SCORES = np.array([[5, 3, 1], [1, 5, 3], [5, 3, 1], [1, 3, 5]], dtype=np.float32)
LABELS = np.array([0, 2, 2, 2])


def test_topk_counts_labels_among_the_k_best() -> None:
    assert Accuracy(topk=(1, 2, 3))(SCORES, LABELS) == {'top1': 50.0, 'top2': 75.0, 'top3': 100.0}


def test_equal_scores_rank_by_class_number() -> None:
    flat = np.zeros((4, 4), dtype=np.float32)
    assert Accuracy(topk=(1,))(flat, np.arange(4)) == {'top1': 25.0}


def test_accuracy_equals_a_stable_sort() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(4, size=(5000, 7)).astype(np.float32)  # more than one block, with many equal scores
    labels = rng.integers(7, size=5000)
    ranking = np.argsort(-scores, axis=1, kind='stable')
    expected = {f'top{k}': (ranking[:, :k] == labels[:, None]).any(axis=1).mean() * 100 for k in (1, 3, 6, 7)}
    assert Accuracy(topk=(1, 3, 6, 7))(scores, labels) == pytest.approx(expected, abs=1e-12)


def test_mean_class_accuracy_skips_absent_classes() -> None:
    # class 0: 1 of 1; class 1: absent; class 2: 1 of 3
    assert MeanClassAccuracy()(SCORES, LABELS)['mean_class_accuracy'] == pytest.approx((1 + 1 / 3) / 2 * 100)


def test_metrics_return_their_names() -> None:
    for metric in (Accuracy(topk=(1, 5)), MeanClassAccuracy(), MeanAveragePrecision()):
        assert set(metric.names) == set(metric(SCORES, LABELS))


def test_majority_baseline_equals_constant_predictions() -> None:
    labels = np.random.default_rng(0).choice(6, size=200, p=[0.1, 0.5, 0.2, 0, 0.15, 0.05])
    constant = np.zeros((200, 6), dtype=np.float32)
    constant[:, 1] = 1
    expected = compute_metrics([Accuracy(topk=(1,)), MeanClassAccuracy()], constant, labels)
    assert majority_baseline(labels) == pytest.approx(expected)
    assert majority_baseline(LABELS) == {'top1': 75, 'mean_class_accuracy': 50}  # class 2 is 3 of 4


def test_baseline_is_for_single_labels_only() -> None:
    assert majority_baseline(np.eye(3, dtype=np.float32)) == {}
    assert describe_baseline(np.eye(3, dtype=np.float32), ['mAP']) is None
    assert describe_baseline(LABELS, ['mAP', 'top5']) is None
    assert describe_baseline(LABELS, ['top1']).endswith(': top1 75.00')
    assert describe_baseline(LABELS, ['mean_class_accuracy', 'top1']).endswith(
        ': top1 75.00  mean_class_accuracy 50.00'
    )


@pytest.mark.parametrize('topk', [(), (0, 1)])
def test_invalid_topk_raises(topk: tuple) -> None:
    with pytest.raises(ValueError, match=rf'topk={re.escape(str(topk))}'):
        Accuracy(topk)


def slow_average_precision(scores, positive) -> float:
    """Lower a threshold from score to score; count again at each."""
    total, recall = 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        chosen = [p for s, p in zip(scores, positive, strict=True) if s >= threshold]
        gained = sum(chosen) / sum(positive)
        total += (gained - recall) * sum(chosen) / len(chosen)
        recall = gained
    return total


def test_average_precision_by_hand() -> None:
    scores = np.array([0.1, 0.9, 0.8, 0.3], dtype=np.float32)
    # ranking: 1 (wrong), 2 (correct, 1/2), 3 (wrong), 0 (correct, 2/4)
    assert average_precision(scores, np.array([True, False, True, False])) == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert average_precision(scores, np.array([False, True, True, False])) == 1
    assert average_precision(scores, np.array([True, False, False, False])) == pytest.approx(1 / 4)


@pytest.mark.parametrize('num_levels', [2, 5, 1000])
def test_average_precision_equals_slow_loop(num_levels: int) -> None:
    rng = np.random.default_rng(num_levels)
    for _ in range(50):
        scores = (rng.integers(num_levels, size=30) - num_levels // 2).astype(np.float32)
        positive = rng.random(30) < 0.3
        positive[rng.integers(30)] = True
        expected = slow_average_precision(scores, positive)
        assert average_precision(scores, positive) == pytest.approx(expected)
        order = rng.permutation(30)
        assert average_precision(scores[order], positive[order]) == average_precision(scores, positive)


def test_map_takes_class_and_multi_hot_labels() -> None:
    # class 0: video 0 shares the best score with video 2, so 1/2; class 1: absent;
    # class 2: video 3 alone, then 1 and 2 with a wrong one: a third of the recall at 1/1, two thirds at 3/4
    scores = np.array([[5, 3, 1], [1, 5, 1], [5, 3, 1], [1, 3, 5]], dtype=np.float32)
    expected = pytest.approx((1 / 2 + (1 / 3 + 2 / 3 * 3 / 4)) / 2 * 100)
    assert MeanAveragePrecision()(scores, LABELS)['mAP'] == expected
    multi_hot = np.eye(3, dtype=np.float32)[LABELS]
    assert MeanAveragePrecision()(scores, multi_hot)['mAP'] == expected


def test_map_equals_slow_loop() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(40, 6)).astype(np.float32)
    labels = (rng.random((40, 6)) < 0.2).astype(np.float32)
    labels[:, 4] = 0
    slow = [slow_average_precision(scores[:, k], labels[:, k] == 1) for k in (0, 1, 2, 3, 5)]
    assert MeanAveragePrecision()(scores, labels)['mAP'] == pytest.approx(np.mean(slow) * 100)


def test_map_rejects_labels_of_wrong_shape() -> None:
    with pytest.raises(ValueError, match=r'\(4, 3\).*\(4, 2\)'):
        MeanAveragePrecision()(SCORES, np.ones((4, 2), dtype=np.float32))
    with pytest.raises(ValueError, match='4 videos'):
        MeanAveragePrecision()(SCORES, np.zeros((4, 3), dtype=np.float32))


@pytest.mark.parametrize('metric', [Accuracy(), MeanClassAccuracy()])
def test_accuracy_of_multi_hot_labels_suggests_map(metric) -> None:
    message = rf'{type(metric).__name__} .*\(4, 3\).*MeanAveragePrecision'
    with pytest.raises(ValueError, match=message):
        metric(SCORES, np.ones((4, 3), dtype=np.float32))


def test_metrics_are_merged() -> None:
    scores, labels = np.float32([[2, 1], [3, 4], [1, 0]]), np.array([0, 0, 1])
    numbers = compute_metrics([Accuracy(topk=(1,)), MeanClassAccuracy()], scores, labels)
    assert numbers == pytest.approx({'top1': 100 / 3, 'mean_class_accuracy': 25})


@pytest.mark.parametrize('metric', [Accuracy(), MeanClassAccuracy()])
def test_single_label_metrics_reject_multi_hot(metric: object) -> None:
    check_metrics([metric], SimpleNamespace(multi_hot=None))
    check_metrics([MeanAveragePrecision()], SimpleNamespace(multi_hot=3))
    with pytest.raises(ValueError, match=r'metrics.1 \(\w+\).*multi_hot=3.*MeanAveragePrecision.*mAP'):
        check_metrics([MeanAveragePrecision(), metric], SimpleNamespace(multi_hot=3))
