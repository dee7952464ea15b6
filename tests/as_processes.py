"""Several processes as threads of one: a quick way to test what processes do together."""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from dsanet.utils import distributed

T = TypeVar('T')


def as_processes(monkeypatch: pytest.MonkeyPatch, world_size: int, work: Callable[[int], T]) -> list[T]:
    """Call ``work(rank)`` in as many threads as there shall be processes.

    Returns:
        What each returned, by rank.

    Raises:
        Exception: the first that a thread raised; the others stop where they wait for it next.
    """
    here = threading.local()
    meeting = threading.Barrier(world_size, timeout=60)
    values: list[Any] = [None] * world_size
    results: list[Any] = [None] * world_size
    errors: list[Exception] = []

    def gather(value: Any) -> list[Any]:
        values[here.rank] = value
        meeting.wait()
        every = list(values)
        meeting.wait()
        return every

    def run(rank: int) -> None:
        here.rank = rank
        try:
            results[rank] = work(rank)
        except threading.BrokenBarrierError:
            pass
        except Exception as error:
            errors.append(error)
            meeting.abort()

    with monkeypatch.context() as patch:
        patch.setattr(distributed, 'rank', lambda: here.rank)
        patch.setattr(distributed, 'world_size', lambda: world_size)
        patch.setattr(distributed, 'all_gather_object', gather)
        threads = [threading.Thread(target=run, args=(rank,)) for rank in range(world_size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]
    return results
