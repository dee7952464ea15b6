"""Files with the results of a test.

Three formats have the same content. JSON and pickle have one dict per video. NumPy's npz has one array per column; it
is for large tests, with 250,000 videos and 700 classes a hundred times faster to write than JSON.
"""

import json
import pickle
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsanet.evaluation.results import ACTIVATIONS, Results, check_no_duplicates
from dsanet.utils.files import open_atomically

SUFFIXES = ('.json', '.pkl', '.npz')

_MAX_SCORE = float(np.finfo(np.float32).max)


class _PlainUnpickler(pickle.Unpickler):
    """Reads lists, dicts, strings and numbers only, because other pickled types can run code."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f'unpickling {module}.{name} could run code from the file')


def write_results(results: Results, file: Path) -> None:
    """Write one entry per video with ``path``, ``label``, ``scores`` and ``activation``; atomic.

    The first one also has ``class_names``, if they are known. In an .npz file, each is an array of this name.
    """
    with open_atomically(file) as stream:
        if file.suffix == '.npz':
            columns: dict[str, Any] = {
                'path': np.array(results.paths, dtype=np.str_),
                'label': results.labels,
                'scores': results.scores,
                'activation': np.array(results.activation),
            }
            if results.class_names is not None:
                columns['class_names'] = np.array(results.class_names, dtype=np.str_)
            np.savez(stream, **columns)  # without objects, so nothing is pickled
        elif file.suffix == '.json':
            for i, entry in enumerate(_to_entries(results)):  # one at a time, because text takes much memory
                stream.write((', ' if i else '[').encode() + json.dumps(entry).encode())
            stream.write(b']')
        else:
            pickle.dump(list(_to_entries(results)), stream)


def _to_entries(results: Results) -> Iterator[dict[str, Any]]:
    rows = zip(results.paths, results.labels, results.scores, strict=True)
    for i, (path, label, scores) in enumerate(rows):
        entry = {
            'path': path,
            'label': label.tolist(),
            'scores': scores.tolist(),
            'activation': results.activation,
        }
        if i == 0 and results.class_names is not None:
            entry['class_names'] = results.class_names
        yield entry


def read_results(file: Path) -> Results:
    """Read a result file, without running code from it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or its content is not that of a test.
    """
    if not file.is_file():
        raise FileNotFoundError(f'result file {file} not found')
    try:
        with file.open('rb') as stream:
            if file.suffix == '.npz':
                if not zipfile.is_zipfile(stream):  # NumPy would take it for a pickle, and recommend to allow that
                    raise ValueError('it is not an archive of NumPy arrays, or it is truncated')
                stream.seek(0)
                content: Any = dict(np.load(stream, allow_pickle=False))
            else:
                content = json.load(stream) if file.suffix == '.json' else _PlainUnpickler(stream).load()
    except OSError:
        raise
    except Exception as error:  # damaged pickles raise almost any type
        raise ValueError(f'{file} is not a readable result file: {error}') from error
    return _from_columns(content, file) if file.suffix == '.npz' else _to_results(content, file)


def _from_columns(columns: Mapping[str, NDArray[Any]], file: Path) -> Results:
    """Check the arrays of an .npz file."""
    kinds = {'path': ('U', 1), 'scores': ('f', 2), 'activation': ('U', 0)}
    found = {name: (array.dtype.kind, array.ndim) for name, array in columns.items()}
    wrong = [name for name, kind in kinds.items() if found.get(name) != kind]
    if wrong or found.get('label') not in (('i', 1), ('f', 2)):
        raise ValueError(
            f'{file} must contain path (text, n), scores (float, n x K), label (integers, n; or 0 and 1, n x K) and '
            f'activation (text), got {_shorten(found)}'
        )
    paths: list[str] = columns['path'].tolist()
    scores = columns['scores']
    labels = columns['label']
    activation = str(columns['activation'])
    num_videos, num_classes = scores.shape
    if not num_videos or not num_classes or len(paths) != num_videos or len(labels) != num_videos:
        sizes = f'{len(paths)}, {len(labels)} and {num_videos}'
        raise ValueError(f'{file}: path, label and scores must have the same length, at least 1, got {sizes}')
    check_no_duplicates(paths, str(file))
    if not -_MAX_SCORE <= scores.min() <= scores.max() <= _MAX_SCORE:  # NaN is in no range
        raise ValueError(f'{file}: scores must be finite numbers')
    scores = scores.astype(np.float32, copy=False)
    if labels.ndim == 1:
        labels = labels.astype(np.int64, copy=False)
        is_valid = bool(((labels >= 0) & (labels < num_classes)).all())
    else:
        labels = labels.astype(np.float32, copy=False)
        is_valid = labels.shape == scores.shape and bool(((labels == 0) | (labels == 1)).all())
    if not is_valid:
        raise ValueError(f'{file}: label must be integers from 0 to {num_classes - 1}, or {num_classes} values 0 or 1')
    if activation not in ACTIVATIONS:
        raise ValueError(f'{file}: activation must be one of {", ".join(ACTIVATIONS)}, got {_shorten(activation)}')
    names = [{'class_names': columns['class_names'].tolist()}] if 'class_names' in columns else []
    return Results(str(file), paths, labels, scores, activation, _read_class_names(names, num_classes, file))


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


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f'{text[:57]}...'
