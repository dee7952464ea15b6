"""Result files with path, label and scores of every video of a test, and their analysis."""

import json
import pickle
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsanet.evaluation.metrics import average_precision
from dsanet.utils.class_names import ClassNames, check_same_class_names
from dsanet.utils.files import write_atomically

# Ways to combine the results of several tests: the mean of probabilities or of scores.
FUSIONS = ('prob', 'score')

# Functions from scores to probabilities (a model's ``activation``); 'none' for probabilities.
ACTIVATIONS = ('softmax', 'sigmoid', 'none')

_MAX_SCORE = float(np.finfo(np.float32).max)


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

    def probabilities(self) -> NDArray[np.float64]:
        """Return the probabilities (n, K)."""
        scores = self.scores.astype(np.float64)
        if self.activation == 'none':
            return scores
        if self.activation == 'sigmoid':
            return np.exp(-np.logaddexp(0, -scores))
        scores -= scores.max(axis=1, keepdims=True)
        return np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)


class _PlainUnpickler(pickle.Unpickler):
    """Reads lists, dicts, strings and numbers only, because other pickled types can run code."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f'unpickling {module}.{name} could run code from the file')


def write_results(results: Results, file: Path) -> None:
    """Write one dict per video with ``path``, ``label``, ``scores`` and ``activation``; atomic.

    The first one also has ``class_names``, if they are known.
    """
    rows = zip(results.paths, results.labels, results.scores, strict=True)
    entries: list[dict[str, Any]] = [
        {'path': path, 'label': label.tolist(), 'scores': scores.tolist(), 'activation': results.activation}
        for path, label, scores in rows
    ]
    if results.class_names is not None:
        entries[0]['class_names'] = results.class_names
    write_atomically(json.dumps(entries).encode() if file.suffix == '.json' else pickle.dumps(entries), file)


def read_results(file: Path) -> Results:
    """Read a result file, without running code from it."""
    if not file.is_file():
        raise FileNotFoundError(f'result file {file} not found')
    try:
        with file.open('rb') as stream:
            entries = json.load(stream) if file.suffix == '.json' else _PlainUnpickler(stream).load()
    except OSError:
        raise
    except Exception as error:  # damaged pickles raise almost any type
        raise ValueError(f'{file} is not a readable result file: {error}') from error
    return _to_results(entries, file)


def _to_results(entries: Any, file: Path) -> Results:
    if not isinstance(entries, list) or not entries:
        raise ValueError(f'{file} must contain a list with one entry per video, got {_shorten(entries)}')
    for i, entry in enumerate(entries):
        is_entry = isinstance(entry, dict) and {'path', 'label', 'scores', 'activation'} <= entry.keys()
        if not is_entry or not isinstance(entry['path'], str):
            raise ValueError(f'{file}: entry {i} must have path, label, scores and activation, got {_shorten(entry)}')
    paths = [entry['path'] for entry in entries]
    check_no_duplicates(paths, str(file))
    scores = _read_scores(entries, file)
    labels = _read_labels(entries, scores.shape[1], file)
    activations = [entry['activation'] for entry in entries]
    if activations[0] not in ACTIVATIONS or activations.count(activations[0]) != len(entries):
        raise ValueError(f'{file}: activation must be one of {", ".join(ACTIVATIONS)} and equal in all entries')
    return Results(str(file), paths, labels, scores, activations[0], _read_class_names(entries, scores.shape[1], file))


def _read_scores(entries: Sequence[Mapping[str, Any]], file: Path) -> NDArray[np.float32]:
    """Return the scores (n, K). Types are checked, because NumPy would turn true and '1.5' into numbers."""
    length = len(entries[0]['scores']) if isinstance(entries[0]['scores'], list) else 0
    for i, entry in enumerate(entries):
        row = entry['scores']
        is_row = isinstance(row, list) and len(row) == length > 0 and set(map(type, row)) <= {int, float}
        if not is_row or not all(-_MAX_SCORE <= value <= _MAX_SCORE for value in row):  # NaN is in no range
            raise ValueError(
                f'{file}: entry {i}: scores must be {length or "at least 1"} finite numbers, the same number in '
                f'all entries, got {_shorten(row)}'
            )
    return np.array([entry['scores'] for entry in entries], dtype=np.float32)


def _read_labels(
    entries: Sequence[Mapping[str, Any]], num_classes: int, file: Path
) -> NDArray[np.int64] | NDArray[np.float32]:
    """Return the labels, (n,) int64 or multi-hot (n, K) float32."""
    is_multi_hot = isinstance(entries[0]['label'], list)
    for i, entry in enumerate(entries):
        label = entry['label']
        if is_multi_hot:
            is_valid = isinstance(label, list) and len(label) == num_classes and set(map(type, label)) <= {int, float}
            is_valid = is_valid and set(label) <= {0, 1}
        else:
            is_valid = type(label) is int and 0 <= label < num_classes
        if not is_valid:
            expected = f'{num_classes} values of 0 or 1' if is_multi_hot else f'an integer from 0 to {num_classes - 1}'
            raise ValueError(
                f'{file}: entry {i}: label must be {expected} for {num_classes} scores, and of the same kind in all '
                f'entries, got {_shorten(label)}'
            )
    labels = [entry['label'] for entry in entries]
    return np.array(labels, dtype=np.float32) if is_multi_hot else np.array(labels, dtype=np.int64)


def _read_class_names(entries: Sequence[Mapping[str, Any]], num_classes: int, file: Path) -> list[str] | None:
    """Return the class names, None if no entry has any."""
    found = [entry['class_names'] for entry in entries if 'class_names' in entry]
    for names in found:
        is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
        if not is_list or len(names) != num_classes or len(set(names)) < num_classes or names != found[0]:
            raise ValueError(f'{file}: class_names must be {num_classes} different names, got {_shorten(names)}')
    return found[0] if found else None


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
        raise ValueError(
            f'{name} has {len(duplicates)} videos more than once: {_few(duplicates)}; keep one entry of each'
        )


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f'{text[:57]}...'


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
    named = [results for results in tests if results.class_names is not None]
    for results in named[1:]:
        check_same_class_names(named[0].classes, results.classes)
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
        positions = _match(first, results)
        values = results.probabilities() if average == 'prob' else results.scores.astype(np.float64)
        fused += values[positions] * (weight / sum(weights))
    activation = 'none' if average == 'prob' else first.activation
    return Results(
        ' + '.join(results.name for results in tests),
        first.paths,
        first.labels,
        fused.astype(np.float32),
        activation,
        named[0].class_names if named else None,
    )


def _match(first: Results, other: Results) -> list[int]:
    """Return the positions of the videos of ``first`` in ``other``."""
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


def confusion_matrix(results: Results) -> NDArray[np.int64]:
    """Return the number of videos (K, K) of each class (row) that were predicted as each class (column)."""
    if results.is_multi_hot:
        raise ValueError(f'{results.name} has multi-hot labels; a confusion matrix requires one label per video')
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
    if results.is_multi_hot:
        raise ValueError(f'{results.name} has multi-hot labels; confident mistakes require one label per video')
    prob = results.probabilities()
    predicted = results.scores.argmax(axis=1)
    wrong = np.flatnonzero(predicted != results.labels)
    order = wrong[np.argsort(-prob[wrong, predicted[wrong]], kind='stable')][:number].tolist()
    return [
        {
            'path': results.paths[i],
            'label': names[results.labels[i]],
            'predicted': names[predicted[i]],
            'probability': float(prob[i, predicted[i]]),
            'label_probability': float(prob[i, results.labels[i]]),
        }
        for i in order
    ]


def default_metrics(results: Results) -> list[Mapping[str, Any]]:
    """Return configs of the default metrics for the labels."""
    if results.is_multi_hot:
        return [{'type': 'MeanAveragePrecision'}]
    return [{'type': 'Accuracy'}, {'type': 'MeanClassAccuracy'}]
