import numpy as np
import pytest

from codes.evaluation.metrics import Accuracy, MeanClassAccuracy

SCORES = np.array([[5, 3, 1], [1, 5, 3], [5, 3, 1], [1, 3, 5]], dtype=np.float32)
LABELS = np.array([0, 2, 2, 2])


def test_topk_counts_labels_among_the_k_best() -> None:
    assert Accuracy(topk=(1, 2, 3))(SCORES, LABELS) == {'top1': 50.0, 'top2': 75.0, 'top3': 100.0}


def test_equal_scores_rank_by_class_number_and_are_no_hit_for_all() -> None:
    flat = np.zeros((4, 4), dtype=np.float32)
    assert Accuracy(topk=(1,))(flat, np.arange(4)) == {'top1': 25.0}


def test_mean_class_accuracy_weighs_classes_equally_and_skips_absent_ones() -> None:
    # class 0: 1 of 1; class 1: absent; class 2: 1 of 3
    assert MeanClassAccuracy()(SCORES, LABELS)['mean_class_accuracy'] == pytest.approx((1 + 1 / 3) / 2 * 100)


def test_metrics_say_which_numbers_they_give() -> None:
    for metric in (Accuracy(topk=(1, 5)), MeanClassAccuracy()):
        assert set(metric.names) == set(metric(SCORES, LABELS))


@pytest.mark.parametrize('topk', [(), (0, 1)])
def test_wrong_topk_is_refused(topk: tuple) -> None:
    with pytest.raises(ValueError, match=r'topk=.* must be whole numbers of at least 1'):
        Accuracy(topk)
