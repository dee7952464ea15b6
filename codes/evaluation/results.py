"""Result files: path, label and scores of every video of a test, and what can be told from them afterward."""

import json
import pickle
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsanet.evaluation.metrics import average_precision
from dsanet.utils.files import write_atomically

# How results of several tests become one: the mean of their scores, or of their probabilities.
FUSIONS = ('prob', 'score')

# What makes probabilities of scores: a model's ``activation``; 'none' where they are probabilities.
ACTIVATIONS = ('softmax', 'sigmoid', 'none')


@dataclass(frozen=True)
class Results:
    """The results of one test.

    Args:
        name: where they come from, for messages.
        paths: of the videos, n of them.
        labels: classes (n,) int64; or multi-hot (n, K) float32, where a video may have several.
        scores: (n, K) float32, as the network gave them, or probabilities.
        activation: what makes probabilities of the scores, one of ``ACTIVATIONS``.
    """

    name: str
    paths: list[str]
    labels: NDArray[np.int64] | NDArray[np.float32]
    scores: NDArray[np.float32]
    activation: str

    @property
    def is_multi_hot(self) -> bool:
        """Whether a video may have several labels."""
        return self.labels.ndim > 1

    def probabilities(self) -> NDArray[np.float64]:
        """Return the scores as probabilities (n, K), by ``activation``."""
        scores = self.scores.astype(np.float64)
        if self.activation == 'none':
            return scores
        if self.activation == 'sigmoid':
            return np.exp(-np.logaddexp(0, -scores))
        scores -= scores.max(axis=1, keepdims=True)
        return np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)


class _PlainUnpickler(pickle.Unpickler):
    """Reads lists, dicts, texts and numbers. Anything else would run code of the file's choice."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f'it holds {module}.{name}, and reading that could run code from the file')


def write_results(results: Results, file: Path) -> None:
    """Write one entry a video, ``path``, ``label``, ``scores`` and ``activation``, the same in all.

    The ``file`` is at any moment old or new.
    """
    rows = zip(results.paths, results.labels, results.scores, strict=True)
    entries = [
        {'path': path, 'label': label.tolist(), 'scores': scores.tolist(), 'activation': results.activation}
        for path, label, scores in rows
    ]
    write_atomically(json.dumps(entries).encode() if file.suffix == '.json' else pickle.dumps(entries), file)


def read_results(file: Path) -> Results:
    """Read a result file, without running code from it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or of another form.
    """
    if not file.is_file():
        raise FileNotFoundError(f'there is no result file {file}')
    try:
        with file.open('rb') as stream:
            entries = json.load(stream) if file.suffix == '.json' else _PlainUnpickler(stream).load()
    except Exception as error:  # damaged bytes make pickle raise nearly anything
        raise ValueError(f'{file} cannot be read as results: {error}') from error
    return _to_results(entries, file)


def _to_results(entries: Any, file: Path) -> Results:
    """Check the form of what a file holds."""
    if not isinstance(entries, list) or not entries:
        raise ValueError(f'{file} must hold a list with an entry a video, and holds {_shown(entries)}')
    for i, entry in enumerate(entries):
        is_entry = isinstance(entry, dict) and {'path', 'label', 'scores'} <= entry.keys()
        if not is_entry or not isinstance(entry['path'], str):
            raise ValueError(f'{file}: entry {i} must have path, label and scores, and is {_shown(entry)}')
    paths = [entry['path'] for entry in entries]
    try:
        labels = np.array([entry['label'] for entry in entries])
        scores = np.array([entry['scores'] for entry in entries], dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f'{file}: labels or scores of its entries differ in form: {error}') from error
    if scores.ndim != 2 or not scores.size or not np.isfinite(scores).all():
        raise ValueError(f'{file}: scores must be a list of numbers for each video, as many for each, all finite')
    num_classes = scores.shape[1]
    if labels.ndim == 1:
        if labels.dtype.kind != 'i' or labels.min() < 0 or labels.max() >= num_classes:
            raise ValueError(f'{file}: labels must be classes from 0 to {num_classes - 1}, as there are scores')
        labels = labels.astype(np.int64)
    else:
        if labels.shape != scores.shape or not np.isin(labels, (0, 1)).all():
            raise ValueError(f'{file}: labels must be one class a video, or {num_classes} numbers that are 0 or 1')
        labels = labels.astype(np.float32)
    activations = [entry.get('activation') for entry in entries]
    first = activations[0]
    if first not in (None, *ACTIVATIONS) or activations.count(first) != len(entries):
        different = next((value for value in activations if value != first), first)
        raise ValueError(
            f'{file}: activation must be one of {", ".join(ACTIVATIONS)} and the same in all entries, and is '
            f'{_shown(different)}'
        )
    return Results(str(file), paths, labels, scores, first or likely_activation(labels, scores))


def likely_activation(labels: NDArray[Any], scores: NDArray[np.float32]) -> str:
    """Judge by labels and scores what makes probabilities of the scores, for files that do not tell it.

    What looks like probabilities is taken for them, of one label a video if they sum to 1. Scores are taken for those
    before softmax with one label a video, and before sigmoid with several, though a network may be trained with softmax
    and tested with several labels.
    """
    is_in_range = scores.min() >= 0 and scores.max() <= 1 + 1e-5
    if is_in_range and (labels.ndim > 1 or np.allclose(scores.sum(axis=1), 1, atol=1e-2)):
        return 'none'
    return 'softmax' if labels.ndim == 1 else 'sigmoid'


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f'{text[:57]}...'


def fuse(every: Sequence[Results], weights: Sequence[float], average: str) -> Results:
    """Return the weighted mean of several tests of the same videos (late fusion), matched by path.

    Args:
        every: the results; the videos come in the order of the first.
        weights: one a test, relative to each other.
        average: 'prob', the mean of the probabilities, or 'score', of the scores as the networks gave them.

    Raises:
        ValueError: the videos, labels or numbers of classes differ, a path occurs twice, weights do not fit, or scores
            are asked of results that hold probabilities, or scores of different kinds.
    """
    if average not in FUSIONS:
        raise ValueError(f'average={average!r} must be one of {", ".join(FUSIONS)}')
    if len(weights) != len(every) or min(weights) < 0 or not 0 < sum(weights) < float('inf'):
        raise ValueError(f'weights={list(weights)} must be {len(every)} numbers of at least 0, not all of them 0')
    first = every[0]
    fused = np.zeros(first.scores.shape, dtype=np.float64)
    for results, weight in zip(every, weights, strict=True):
        if average == 'score' and results.activation == 'none':
            raise ValueError(f"{results.name} holds probabilities, not scores: use average='prob'")
        if average == 'score' and results.activation != first.activation:
            kinds = f'{first.activation} and {results.activation}'
            raise ValueError(f"{first.name} and {results.name} hold scores before {kinds}: use average='prob'")
        places = _match(first, results)
        values = results.probabilities() if average == 'prob' else results.scores.astype(np.float64)
        fused += values[places] * (weight / sum(weights))
    activation = 'none' if average == 'prob' else first.activation
    return Results(' + '.join(r.name for r in every), first.paths, first.labels, fused.astype(np.float32), activation)


def _match(first: Results, other: Results) -> list[int]:
    """Return where the videos of ``first`` are in ``other``."""
    both = f'{first.name} and {other.name}'
    if first.scores.shape[1] != other.scores.shape[1]:
        raise ValueError(f'{both} have {first.scores.shape[1]} and {other.scores.shape[1]} classes')
    if first.is_multi_hot != other.is_multi_hot:
        raise ValueError(f'{both} differ in the kind of labels: one a video, and several')
    place_of = {path: place for place, path in enumerate(other.paths)}
    for results in (first, other):
        if twice := sorted(path for path, number in Counter(results.paths).items() if number > 1):
            raise ValueError(f'{results.name} has {_few(twice)} more than once')
    for has, lacks in ((first, other), (other, first)):
        if missing := sorted(set(has.paths) - set(lacks.paths)):
            raise ValueError(f'{len(missing)} videos are in {has.name} but not in {lacks.name}: {_few(missing)}')
    places = [place_of[path] for path in first.paths]
    same = (first.labels == other.labels[places]).reshape(len(places), -1).all(axis=1)  # (n,)
    if not same.all():
        different = [first.paths[i] for i in np.flatnonzero(~same)]
        raise ValueError(f'{both} have different labels for {len(different)} videos: {_few(different)}')
    return places


def _few(names: Sequence[str]) -> str:
    return ', '.join(names[:3]) + (', ...' if len(names) > 3 else '')


def confusion_matrix(results: Results) -> NDArray[np.int64]:
    """Return how many videos of each class (row) were taken for each class (column), (K, K).

    Raises:
        ValueError: a video may have several labels.
    """
    if results.is_multi_hot:
        raise ValueError(f'{results.name} has several labels a video: there is no confusion of one class with another')
    num_classes = results.scores.shape[1]
    matrix = np.zeros((num_classes, num_classes), dtype=np.int64)
    pairs, counts = np.unique(results.labels * num_classes + results.scores.argmax(axis=1), return_counts=True)
    matrix.flat[pairs.astype(np.int64)] = counts
    return matrix


def class_table(results: Results, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return a line a class that has videos.

    Args:
        results: of the test.
        names: of the classes, K of them.

    Returns:
        Dicts of ``class``, ``name``, ``videos`` and, with one label a video, ``accuracy`` in percent,
        ``confused_with`` (the class that its other videos were taken for most often, by name, or None) and
        ``confused`` (how many); with several labels ``average_precision`` in percent.
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
    """Return the videos whose wrong class has the largest probabilities: hard ones, or wrong labels.

    Args:
        results: of the test; one label a video.
        names: of the classes.
        number: how many at most.

    Returns:
        Dicts of ``path``, ``label``, ``predicted`` (both by name), ``probability`` of that class and
        ``label_probability``; the most confident first.

    Raises:
        ValueError: a video may have several labels.
    """
    if results.is_multi_hot:
        raise ValueError(f'{results.name} has several labels a video: it is not one class that is right or wrong')
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
    """Return configs of the metrics that fit the labels."""
    if results.is_multi_hot:
        return [{'type': 'MeanAveragePrecision'}]
    return [{'type': 'Accuracy'}, {'type': 'MeanClassAccuracy'}]
