"""Metrics over all scores of a data set at once, in percent."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from codes.registry import METRICS


@METRICS.register_module()
class Accuracy:
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
        """Return the accuracies of scores (n, K) with labels (n,). Equal scores rank by class number."""
        ranking = np.argsort(-scores, axis=1, kind='stable')
        hits = ranking == labels[:, None]
        return {f'top{k}': float(hits[:, :k].any(axis=1).mean() * 100) for k in self.topk}


@METRICS.register_module()
class MeanClassAccuracy:
    """Mean over the classes of the share of a class's videos that are classified right.

    Unlike top-1 it does not reward guessing the largest class. Classes without videos do not count.
    """

    names = ('mean_class_accuracy',)

    def __call__(self, scores: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, float]:
        """Return the accuracy of scores (n, K) with labels (n,)."""
        right = scores.argmax(axis=1) == labels
        per_class = [right[labels == label].mean() for label in np.unique(labels)]
        return {'mean_class_accuracy': float(np.mean(per_class) * 100)}
