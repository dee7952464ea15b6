"""Metrics of all scores of a dataset, in percent."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsanet.config.registry import METRICS, build

_BLOCK = 4096  # videos that are ranked at once, and
_COLUMNS = 64  # classes that are sorted at once, to limit memory


class Metric(ABC):
    """A metric of the scores of a whole dataset, computed on rank 0 with every video exactly once.

    Attributes:
        names: keys of the result, of which ``runtime.save_best`` is one. Larger is better.
        supports_multi_label: whether the metric accepts several labels per video.
    """

    names: Sequence[str]
    supports_multi_label: bool = False

    @abstractmethod
    def __call__(self, scores: NDArray[np.float32], labels: NDArray[Any]) -> dict[str, float]:
        """Compute the metric.

        Args:
            scores: (n, K), logits, or probabilities with ``average_views='prob'``.
            labels: classes (n,) int64; multi-hot (n, K) only if ``supports_multi_label``.

        Returns:
            One number for each of ``names``.
        """


@METRICS.register_module()
class Accuracy(Metric):
    """Share of videos whose class is among the k highest scores.

    Args:
        topk: the values of k.

    Attributes:
        names: 'top1', 'top5', ...
    """

    def __init__(self, topk: Sequence[int] = (1, 5)) -> None:
        if not topk or min(topk) < 1:
            raise ValueError(f'topk={topk!r} must be integers >= 1')
        self.topk = tuple(topk)
        self.names = [f'top{k}' for k in self.topk]

    def __call__(self, scores: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, float]:
        """Return the accuracies of scores (n, K) with labels (n,). Equal scores rank by class number."""
        _require_one_label(self, labels)
        ranks = np.concatenate(
            [_rank(scores[i : i + _BLOCK], labels[i : i + _BLOCK]) for i in range(0, len(labels), _BLOCK)]
        )
        return {f'top{k}': float((ranks < k).mean() * 100) for k in self.topk}


def _rank(scores: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many classes of (n, K) are before the label of (n,): higher, or equal with a smaller number."""
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    is_smaller = np.arange(scores.shape[1]) < labels[:, None]
    above: NDArray[np.int64] = np.count_nonzero(np.where(is_smaller, scores >= own, scores > own), axis=1)
    return above


@METRICS.register_module()
class MeanClassAccuracy(Metric):
    """Mean over the classes of the accuracy within a class.

    Unlike top-1 accuracy it does not reward predicting the largest class. Classes without videos are ignored.
    """

    names = ('mean_class_accuracy',)

    def __call__(self, scores: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, float]:
        """Return the accuracy of scores (n, K) with labels (n,)."""
        _require_one_label(self, labels)
        correct = np.bincount(labels, weights=scores.argmax(axis=1) == labels)
        videos = np.bincount(labels)
        return {'mean_class_accuracy': float(np.mean(correct[videos > 0] / videos[videos > 0]) * 100)}


@METRICS.register_module()
class MeanAveragePrecision(Metric):
    """Mean over the classes of the average precision, for one or several labels per video (ActivityNet, Charades).

    For each class, the videos are ranked by their score. Scores before softmax can be compared between the classes of
    one video, but not between videos, so a model with a softmax loss needs ``average_views='prob'``. Scores before
    sigmoid can be compared between videos.

    The average precision is the sum over the ranking of precision times increase in recall, without interpolation.
    Videos with equal scores share one rank: precision and recall are computed after the last of them, so the order of
    the list does not matter. Classes without videos are ignored.
    """

    names = ('mAP',)
    supports_multi_label = True

    def __call__(self, scores: NDArray[np.float32], labels: NDArray[Any]) -> dict[str, float]:
        """Return the metric.

        Args:
            scores: (n, K), finite; compared between the videos for each class.
            labels: classes (n,) int64, or multi-hot (n, K).
        """
        if labels.ndim > 1 and labels.shape != scores.shape:
            raise ValueError(f'multi-hot labels must have the shape of the scores {scores.shape}, got {labels.shape}')
        present = np.unique(labels) if labels.ndim == 1 else np.flatnonzero((labels > 0).any(axis=0))
        if not present.size:
            raise ValueError(f'average precision needs labels, but none of the {len(labels)} videos has one')
        per_class = []
        for start in range(0, len(present), _COLUMNS):
            classes = present[start : start + _COLUMNS]
            columns = np.ascontiguousarray(scores[:, classes].T)  # sorting a column of a matrix is slow
            for k, column in zip(classes, columns, strict=True):
                per_class.append(average_precision(column, labels == k if labels.ndim == 1 else labels[:, k] > 0))
        return {'mAP': float(np.mean(per_class) * 100)}


def average_precision(scores: NDArray[np.float32], positive: NDArray[np.bool_]) -> float:
    """Return the average precision, from 0 to 1, of scores (n,) with ``positive`` (n,) videos."""
    found = np.sort(scores[positive])
    values, before = np.unique(found, return_index=True)
    hits = len(found) - before  # positive videos with at least this score
    seen = len(scores) - np.searchsorted(np.sort(scores), values)  # all videos with at least this score
    return float(np.sum(np.diff(before, append=len(found)) * hits / seen) / len(found))


def _require_one_label(metric: object, labels: NDArray[Any]) -> None:
    if labels.ndim != 1:
        raise ValueError(
            f'{type(metric).__name__} requires one label per video, but the labels are multi-hot {labels.shape}; '
            "use metrics=[dict(type='MeanAveragePrecision')] and runtime.save_best='mAP'"
        )


def build_metrics(configs: Sequence[Mapping[str, Any]]) -> list[Metric]:
    """Build the section ``metrics`` of a config."""
    return [build(cfg, METRICS, f'metrics.{i}') for i, cfg in enumerate(configs)]


def check_metrics(metrics: Sequence[Metric], dataset: Any) -> None:
    """Check that the metrics support the labels of a dataset."""
    for i, metric in enumerate(metrics):
        if dataset.multi_hot is not None and not metric.supports_multi_label:
            raise ValueError(
                f'metrics.{i} ({type(metric).__name__}) requires one label per video, but the dataset has multi_hot='
                f"{dataset.multi_hot}; use metrics=[dict(type='MeanAveragePrecision')] and runtime.save_best='mAP'"
            )


def compute_metrics(metrics: Sequence[Metric], scores: NDArray[np.float32], labels: NDArray[Any]) -> dict[str, float]:
    """Return the values of all metrics by name."""
    return {name: value for metric in metrics for name, value in metric(scores, labels).items()}


def majority_baseline(labels: NDArray[Any]) -> dict[str, float]:
    """Return the metrics of always predicting the most frequent class, which every accuracy should be compared with.

    Args:
        labels: classes (n,); multi-hot labels (n, K) have no baseline.

    Returns:
        ``top1``, the share of the most frequent class, and ``mean_class_accuracy``, in percent; empty if multi-hot.
    """
    if labels.ndim != 1:
        return {}
    videos = np.bincount(labels)
    return {'top1': float(videos.max() / len(labels) * 100), 'mean_class_accuracy': 100 / np.count_nonzero(videos)}


def describe_baseline(labels: NDArray[Any], names: Collection[str]) -> str | None:
    """Return the baseline for the metrics with these names as text for a log; None if it has none of them."""
    numbers = [f'{name} {value:.2f}' for name, value in majority_baseline(labels).items() if name in names]
    return f'Always predicting the most frequent class: {"  ".join(numbers)}' if numbers else None
