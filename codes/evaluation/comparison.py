"""Comparison of two results of the same videos: videos that only one gets right, classes, McNemar's test."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsanet.evaluation.results import Results, check_single_label, class_table, common_class_names, match_videos


@dataclass(frozen=True)
class Comparison:
    """Two results A and B of the same videos, with one label per video.

    Args:
        both: number of videos for which A and B are right.
        only_a: number of videos for which only A is right.
        only_b: number of videos for which only B is right.
        neither: number of videos for which A and B are wrong.
        p_value: of the exact McNemar test, see :func:`mcnemar`.
        classes: see :func:`compare_classes`.
    """

    both: int
    only_a: int
    only_b: int
    neither: int
    p_value: float
    classes: list[dict[str, Any]]


def mcnemar(only_a: int, only_b: int) -> float:
    """Return the two-sided p-value of the exact (binomial) McNemar test.

    It is the probability of a split at least as unequal if each of the ``only_a + only_b`` videos were equally likely
    to be right in A or in B. The videos must be independent; parts of one recording are not.

    Args:
        only_a: number of videos for which only A is right.
        only_b: number of videos for which only B is right.
    """
    if min(only_a, only_b) < 0:
        raise ValueError(f'only_a={only_a} and only_b={only_b} must be numbers of videos, at least 0')
    number = only_a + only_b
    coefficient = tail = 1  # number over i, and the sum of these; exact integers
    for i in range(min(only_a, only_b)):
        coefficient = coefficient * (number - i) // (i + 1)
        tail += coefficient
    return min(1.0, 2 * tail / 2**number)  # the two tails overlap if the split is equal


def compare(a: Results, b: Results) -> Comparison:
    """Compare two results of the same videos, matched by path.

    Raises:
        ValueError: the videos, labels or classes differ, or videos have several labels: see :func:`compare_classes`.
    """
    right_a, right_b = _find_right(a, b)
    only_a = int((right_a & ~right_b).sum())
    only_b = int((right_b & ~right_a).sum())
    return Comparison(
        both=int((right_a & right_b).sum()),
        only_a=only_a,
        only_b=only_b,
        neither=int((~right_a & ~right_b).sum()),
        p_value=mcnemar(only_a, only_b),
        classes=compare_classes(a, b),
    )


def compare_classes(a: Results, b: Results) -> list[dict[str, Any]]:
    """Return one dict for each class that has videos, the largest difference first.

    Returns:
        Dicts of ``class``, ``name`` (its number if unknown), ``videos``, ``a`` and ``b`` (accuracies in percent; with
        several labels per video, average precisions) and ``difference`` (``a`` - ``b``).
    """
    match_videos(a, b)
    key = 'average_precision' if a.is_multi_hot else 'accuracy'
    names = common_class_names([a, b]) or [str(k) for k in range(a.scores.shape[1])]
    rows = [
        {
            **{name: of_a[name] for name in ('class', 'name', 'videos')},
            'a': of_a[key],
            'b': of_b[key],
            'difference': of_a[key] - of_b[key],
        }
        for of_a, of_b in zip(class_table(a, names), class_table(b, names), strict=True)
    ]
    return sorted(rows, key=lambda row: -abs(row['difference']))


def find_disagreements(a: Results, b: Results, number: int) -> list[dict[str, Any]]:
    """Return videos for which only one result is right, those with the most confident mistake first.

    Args:
        a: one label per video.
        b: of the same videos.
        number: maximum number of videos.

    Returns:
        Dicts of ``path``, ``label`` (class name), ``right`` ('A' or 'B'), ``a`` and ``b`` (names of the predicted
        classes), ``probability_a`` and ``probability_b`` (of these predictions).
    """
    right_a, right_b = _find_right(a, b)
    names = common_class_names([a, b]) or [str(k) for k in range(a.scores.shape[1])]
    videos = np.flatnonzero(right_a != right_b)
    of_b = np.array(match_videos(a, b), dtype=np.int64)[videos]
    classes_a, probabilities_a = _predict(a, videos)
    classes_b, probabilities_b = _predict(b, of_b)
    mistakes = np.where(right_a[videos], probabilities_b, probabilities_a)
    return [
        {
            'path': a.paths[videos[i]],
            'label': names[a.labels[videos[i]]],
            'right': 'A' if right_a[videos[i]] else 'B',
            'a': names[classes_a[i]],
            'b': names[classes_b[i]],
            'probability_a': float(probabilities_a[i]),
            'probability_b': float(probabilities_b[i]),
        }
        for i in np.argsort(-mistakes, kind='stable')[:number].tolist()
    ]


def _find_right(a: Results, b: Results) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return whether A and B are right (n,), in the order of A."""
    positions = match_videos(a, b)
    check_single_label(a, 'counting videos with a right prediction')
    return (a.scores.argmax(axis=1) == a.labels), (b.scores.argmax(axis=1) == b.labels)[positions]


def _predict(results: Results, videos: NDArray[np.int64]) -> tuple[Sequence[int], NDArray[np.float64]]:
    """Return the predicted classes and their probabilities (n,) of the videos at these positions."""
    return results.scores[videos].argmax(axis=1).tolist(), results.probabilities(videos).max(axis=1)
