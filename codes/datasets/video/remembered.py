"""Remember what is expensive to find out about a file, such as its number of frames, until the file changes.

A data worker's decoding process finds it out, but may be replaced at any time: the worker collects its results with
:func:`take_new`, and the next process inherits them.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from dsanet.datasets.video.opening import file_version

T = TypeVar('T')
Results = dict[tuple[str, tuple[str, int, int]], Any]

_MAX_RESULTS = 100_000
_MAX_BYTES = 2**25  # of arrays, in one process
_RESULTS: Results = {}
_NEW: Results = {}  # since the last call of take_new()


def remember(kind: str, path: str, compute: Callable[[], T]) -> T:
    """Return ``compute()``, called once per version of the file.

    Args:
        kind: what is computed.
        path: the file.
        compute: finds it out; returns a number, or an object that states its size as ``nbytes``.
    """
    key = kind, file_version(path)
    if key not in _RESULTS:
        add({key: compute()})
        _NEW[key] = _RESULTS[key]
    result: T = _RESULTS[key]
    return result


def add(results: Results) -> None:
    """Add the results of another process; forget all earlier ones if there are too many, and the first large ones."""
    if len(_RESULTS) + len(results) > _MAX_RESULTS:
        _RESULTS.clear()
        _NEW.clear()
    _RESULTS.update(results)
    if not any(map(_num_bytes, results.values())):
        return
    large = {key: size for key, result in _RESULTS.items() if (size := _num_bytes(result))}
    excess = sum(large.values()) - _MAX_BYTES
    for key, size in large.items():
        if excess <= 0 or key in results:
            return
        del _RESULTS[key]
        _NEW.pop(key, None)
        excess -= size


def _num_bytes(result: Any) -> int:
    return int(getattr(result, 'nbytes', 0))


def take_new() -> Results:
    """Return what this process has found out since the last call."""
    results = dict(_NEW)
    _NEW.clear()
    return results
