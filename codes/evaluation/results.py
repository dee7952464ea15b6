"""The results of a test, with path, label and scores of every video, and their analysis."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsanet.evaluation.metrics import average_precision
from dsanet.utils.class_names import ClassNames, check_same_class_names
from dsanet.utils.text import count_noun

# Ways to combine the results of several tests: the mean of probabilities or of scores.
FUSIONS = ('prob', 'score')

# Functions from scores to probabilities (a model's ``activation``); 'none' for probabilities.
ACTIVATIONS = ('softmax', 'sigmoid', 'none')

_BLOCK = 4096  # videos whose float64 values are in memory at once


@dataclass(frozen=True)
class Results:
    """The results of one test.

    Args:
        name: source of the results, for messages.
        paths: of the n videos.
        labels: classes (n,) int64; or multi-hot (n, K) float32, if videos can have several labels.
        scores: (n, K) float32, outputs of the network or probabilities.
        activation: function from scores to probabilities, one of ``ACTIVATIONS``.
        class_names: names of the K classes; None if unknown.
    """

    name: str
    paths: list[str]
    labels: NDArray[np.int64] | NDArray[np.float32]
    scores: NDArray[np.float32]
    activation: str
    class_names: list[str] | None = None

    @property
    def classes(self) -> ClassNames:
        """The class names with their source."""
        return ClassNames(self.class_names, self.name)

    @property
    def is_multi_hot(self) -> bool:
        """Whether videos can have several labels."""
        return self.labels.ndim > 1

    def probabilities(self, videos: NDArray[np.int64] | slice = slice(None)) -> NDArray[np.float64]:
        """Return the probabilities (n, K), of all videos or of those with these positions."""
        scores = self.scores[videos].astype(np.float64)
        if self.activation == 'none':
            return scores
        if self.activation == 'sigmoid':
            return np.exp(-np.logaddexp(0, -scores))
        scores -= scores.max(axis=1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=1, keepdims=True)
        return scores


def check_no_duplicates(paths: Sequence[str], name: str) -> None:
    """Raise a ValueError if a path occurs twice: the video would count twice, and results are matched by path.

    ``./a//b.mp4`` is the same path as ``a/b.mp4``.

    Args:
        paths: of the videos.
        name: their source, for the message.
    """
    counts = Counter(str(PurePath(path)) for path in paths)
    if len(counts) < len(paths):
        duplicates = sorted(path for path, number in counts.items() if number > 1)
        number = count_noun(len(duplicates), 'video')
        raise ValueError(f'{name} has {number} more than once: {_few(duplicates)}; keep one entry of each')


def fuse(tests: Sequence[Results], weights: Sequence[float], average: str) -> Results:
    """Return the weighted mean of several tests of the same videos (late fusion), matched by path.

    Args:
        tests: their results; the order of the videos is that of the first.
        weights: one per test, relative to each other.
        average: 'prob' for the mean of the probabilities, 'score' for the mean of the network outputs.
    """
    if average not in FUSIONS:
        raise ValueError(f'average={average!r} must be one of {", ".join(FUSIONS)}')
    if len(weights) != len(tests) or min(weights) < 0 or not 0 < sum(weights) < float('inf'):
        raise ValueError(f'weights={list(weights)} must be {len(tests)} numbers >= 0, not all 0')
    class_names = common_class_names(tests)
    first = tests[0]
    fused = np.zeros(first.scores.shape, dtype=np.float64)
    for results, weight in zip(tests, weights, strict=True):
        if average == 'score' and results.activation == 'none':
            raise ValueError(f"{results.name} has probabilities, not scores; use average='prob'")
        if average == 'score' and results.activation != first.activation:
            kinds = f'{first.activation} and {results.activation}'
            raise ValueError(
                f"{first.name} and {results.name} have scores for {kinds}, which cannot be averaged; use average='prob'"
            )
        positions = match_videos(first, results)
        values = results.probabilities() if average == 'prob' else results.scores.astype(np.float64)
        fused += values[positions] * (weight / sum(weights))
    activation = 'none' if average == 'prob' else first.activation
    return Results(
        ' + '.join(results.name for results in tests),
        first.paths,
        first.labels,
        fused.astype(np.float32),
        activation,
        class_names,
    )


def common_class_names(tests: Sequence[Results]) -> list[str] | None:
    """Return the class names of several results, None if none has any.

    Raises:
        ValueError: two results have different class names.
    """
    named = [results for results in tests if results.class_names is not None]
    for results in named[1:]:
        check_same_class_names(named[0].classes, results.classes)
    return named[0].class_names if named else None


def match_videos(first: Results, other: Results) -> list[int]:
    """Return the positions of the videos of ``first`` in ``other``.

    Raises:
        ValueError: the videos, their labels or the numbers of classes differ, or a video occurs twice.
    """
    both = f'{first.name} and {other.name}'
    if first.scores.shape[1] != other.scores.shape[1]:
        raise ValueError(f'{both} have {first.scores.shape[1]} and {other.scores.shape[1]} classes')
    if first.is_multi_hot != other.is_multi_hot:
        raise ValueError(f'{both} cannot be combined: one has one label per video, the other multi-hot labels')
    position_of = {path: position for position, path in enumerate(other.paths)}
    for results in (first, other):
        check_no_duplicates(results.paths, results.name)
    for has, lacks in ((first, other), (other, first)):
        if missing := sorted(set(has.paths) - set(lacks.paths)):
            raise ValueError(f'{len(missing)} videos are in {has.name} but not in {lacks.name}: {_few(missing)}')
    positions = [position_of[path] for path in first.paths]
    same = (first.labels == other.labels[positions]).reshape(len(positions), -1).all(axis=1)  # (n,)
    if not same.all():
        different = [first.paths[i] for i in np.flatnonzero(~same)]
        raise ValueError(f'{both} have different labels for {len(different)} videos: {_few(different)}')
    return positions


def _few(names: Sequence[str]) -> str:
    return ', '.join(names[:3]) + (', ...' if len(names) > 3 else '')


def check_single_label(results: Results, what: str) -> None:
    """Raise ValueError if videos can have several labels.

    Args:
        results: of the test.
        what: what is to be computed, for the message.
    """
    if results.is_multi_hot:
        raise ValueError(f'{results.name} has multi-hot labels; {what} requires one label per video')


def confusion_matrix(results: Results) -> NDArray[np.int64]:
    """Return the number of videos (K, K) of each class (row) that were predicted as each class (column)."""
    check_single_label(results, 'a confusion matrix')
    num_classes = results.scores.shape[1]
    matrix = np.zeros((num_classes, num_classes), dtype=np.int64)
    pairs, counts = np.unique(results.labels * num_classes + results.scores.argmax(axis=1), return_counts=True)
    matrix.flat[pairs.astype(np.int64)] = counts
    return matrix


def class_table(results: Results, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return one dict for each class that has videos.

    Args:
        results: of the test.
        names: of the K classes.

    Returns:
        Dicts of ``class``, ``name``, ``videos`` and, with one label per video, ``accuracy`` in percent,
        ``confused_with`` (name of the most frequent wrong prediction, or None) and ``confused`` (its number of
        videos); with several labels ``average_precision`` in percent.
    """
    if results.is_multi_hot:
        present = np.flatnonzero(results.labels.any(axis=0)).tolist()
        return [
            {
                'class': k,
                'name': names[k],
                'videos': int(results.labels[:, k].sum()),
                'average_precision': average_precision(results.scores[:, k], results.labels[:, k] > 0) * 100,
            }
            for k in present
        ]
    matrix = confusion_matrix(results)
    table = []
    for k in np.flatnonzero(matrix.sum(axis=1)).tolist():
        others = matrix[k].copy()
        others[k] = 0
        other = int(others.argmax())
        table.append(
            {
                'class': k,
                'name': names[k],
                'videos': int(matrix[k].sum()),
                'accuracy': float(matrix[k, k] / matrix[k].sum() * 100),
                'confused_with': names[other] if others[other] else None,
                'confused': int(others[other]),
            }
        )
    return table


def confident_mistakes(results: Results, names: Sequence[str], number: int) -> list[dict[str, Any]]:
    """Return the wrong predictions with the highest probabilities: difficult videos or wrong labels.

    Args:
        results: of the test; one label per video.
        names: of the classes.
        number: maximum number of videos.

    Returns:
        Dicts of ``path``, ``label`` and ``predicted`` (class names), ``probability`` of the prediction and
        ``label_probability``; the most confident first.
    """
    check_single_label(results, 'a list of mistakes')
    predicted = results.scores.argmax(axis=1)
    wrong = np.flatnonzero(predicted != results.labels)
    pairs = np.empty((len(wrong), 2))  # probabilities of the prediction and of the label
    for start in range(0, len(wrong), _BLOCK):
        videos = wrong[start : start + _BLOCK]
        of_classes = results.probabilities(videos)
        for column, classes in enumerate((predicted, results.labels)):
            pairs[start : start + _BLOCK, column] = of_classes[np.arange(len(videos)), classes[videos]]
    order = np.argsort(-pairs[:, 0], kind='stable')[:number]
    return [
        {
            'path': results.paths[i],
            'label': names[results.labels[i]],
            'predicted': names[predicted[i]],
            'probability': probability,
            'label_probability': label_probability,
        }
        for i, (probability, label_probability) in zip(wrong[order].tolist(), pairs[order].tolist(), strict=True)
    ]


def default_metrics(results: Results) -> list[Mapping[str, Any]]:
    """Return configs of the default metrics for the labels."""
    if results.is_multi_hot:
        return [{'type': 'MeanAveragePrecision'}]
    return [{'type': 'Accuracy'}, {'type': 'MeanClassAccuracy'}]
