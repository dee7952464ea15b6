"""Metrics over all scores of a dataset at once, in percent."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsanet.config.registry import METRICS


class Metric(ABC):
    """Numbers for the scores of a whole dataset. Computed once, on rank 0, from every video exactly once.

    Attributes:
        names: keys of the result; ``runtime.save_best`` is one of them. Larger is better.
        takes_multi_hot: whether videos may have several labels.
    """

    names: Sequence[str]
    takes_multi_hot: bool = False

    @abstractmethod
    def __call__(self, scores: NDArray[np.float32], labels: NDArray[Any]) -> dict[str, float]:
        """Compute the metric.

        Args:
            scores: (n, K), before softmax or sigmoid, or probabilities with ``average_views='prob'``.
            labels: classes (n,) int64; multi-hot (n, K) only if ``takes_multi_hot``.

        Returns:
            A number for each of ``names``.
        """


@METRICS.register_module()
class Accuracy(Metric):
    """Share of the videos whose class is among the k best scores.

    Args:
        topk: the values of k.

    Attributes:
        names: 'top1', 'top5', ...
    """

    def __init__(self, topk: Sequence[int] = (1, 5)) -> None:
        if not topk or min(topk) < 1:
            raise ValueError(f'topk={topk!r} must be whole numbers of at least 1')
        self.topk = tuple(topk)
        self.names = [f'top{k}' for k in self.topk]

    def __call__(self, scores: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, float]:
        """Return the accuracies of scores (n, K) with labels (n,). Equal scores rank by class number.

        Raises:
            ValueError: multi-hot labels.
        """
        _refuse_multi_hot(self, labels)
        ranking = np.argsort(-scores, axis=1, kind='stable')
        hits = ranking == labels[:, None]
        return {f'top{k}': float(hits[:, :k].any(axis=1).mean() * 100) for k in self.topk}


@METRICS.register_module()
class MeanClassAccuracy(Metric):
    """Mean over the classes of the share of a class's videos that are classified right.

    Unlike top-1 it does not reward guessing the largest class. Classes without videos do not count.
    """

    names = ('mean_class_accuracy',)

    def __call__(self, scores: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, float]:
        """Return the accuracy of scores (n, K) with labels (n,).

        Raises:
            ValueError: multi-hot labels.
        """
        _refuse_multi_hot(self, labels)
        right = scores.argmax(axis=1) == labels
        per_class = [right[labels == label].mean() for label in np.unique(labels)]
        return {'mean_class_accuracy': float(np.mean(per_class) * 100)}


@METRICS.register_module()
class MeanAveragePrecision(Metric):
    """Mean over the classes of the average precision, for one or several labels a video (ActivityNet, Charades).

    The videos are ranked by what they have for a class in ``scores``. Scores before softmax compare the classes of one
    video; what compares videos are the probabilities, so a model with such a loss needs ``average_views='prob'``.
    Scores before sigmoid compare videos, too.

    The average precision is the sum over the ranking of precision times the recall that is gained there. Videos with
    equal scores have one rank together: precision and recall are taken behind the last of them, so the order of the
    list does not matter. Nothing is interpolated. Classes without videos do not count.
    """

    names = ('mAP',)
    takes_multi_hot = True

    def __call__(self, scores: NDArray[np.float32], labels: NDArray[Any]) -> dict[str, float]:
        """Return the metric.

        Args:
            scores: (n, K), finite; compared within a class, between the videos.
            labels: classes (n,) int64, or multi-hot (n, K).

        Raises:
            ValueError: multi-hot labels of another shape than the scores, or no label at all.
        """
        if labels.ndim == 1:
            positives = labels[:, None] == np.arange(scores.shape[1])
        elif labels.shape == scores.shape:
            positives = labels > 0
        else:
            raise ValueError(f'multi-hot labels must have the shape of the scores, {scores.shape}, got {labels.shape}')
        present = np.flatnonzero(positives.any(axis=0))
        if not present.size:
            raise ValueError(f'none of the {len(labels)} videos has a label: there is no average precision')
        per_class = [average_precision(scores[:, k], positives[:, k]) for k in present]
        return {'mAP': float(np.mean(per_class) * 100)}


def average_precision(scores: NDArray[np.float32], positive: NDArray[np.bool_]) -> float:
    """Return the average precision, from 0 to 1, of scores (n,) for the videos that are ``positive`` (n,)."""
    order = np.argsort(-scores, kind='stable')
    is_last_of_its_score = np.append(np.diff(scores[order]) != 0, True)
    hits = np.cumsum(positive[order])[is_last_of_its_score]
    seen = np.flatnonzero(is_last_of_its_score) + 1
    return float(np.sum(np.diff(hits, prepend=0) * hits / seen) / hits[-1])


def _refuse_multi_hot(metric: object, labels: NDArray[Any]) -> None:
    if labels.ndim != 1:
        raise ValueError(
            f'{type(metric).__name__} needs one label a video, (n,), but the labels are multi-hot, {labels.shape}; '
            "use metrics=[dict(type='MeanAveragePrecision')] and runtime.save_best='mAP'"
        )
