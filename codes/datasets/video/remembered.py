"""Remember what is expensive to find out about a file, such as its number of frames, until the file changes.

A data worker's decoding process finds it out, but may be replaced at any time: the worker collects its results with
:func:`take_new`, and the next process inherits them.
"""

from collections.abc import Callable
from typing import TypeVar

from dsanet.datasets.video.opening import file_version

T = TypeVar('T', int, bool)
Results = dict[tuple[str, tuple[str, int, int]], int]

_MAX_RESULTS = 100_000
_RESULTS: Results = {}
_NEW: Results = {}  # since the last call of take_new()


def remember(kind: str, path: str, compute: Callable[[], T]) -> T:
    """Return ``compute()``, called once per version of the file.

    Args:
        kind: what is computed.
        path: the file.
        compute: finds it out.
    """
    key = kind, file_version(path)
    if key not in _RESULTS:
        add({key: compute()})
        _NEW[key] = _RESULTS[key]
    return _RESULTS[key]  # type: ignore[return-value]


def add(results: Results) -> None:
    """Add the results of another process; forget all earlier ones if there are too many."""
    if len(_RESULTS) + len(results) > _MAX_RESULTS:
        _RESULTS.clear()
    _RESULTS.update(results)


def take_new() -> Results:
    """Return what this process has found out since the last call."""
    results = dict(_NEW)
    _NEW.clear()
    return results
