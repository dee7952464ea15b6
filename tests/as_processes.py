"""Threads that act as the processes of a group, or the variables of a launcher: fast ways to test distributed code."""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from dsanet.utils import distributed

T = TypeVar('T')


def set_variables(monkeypatch: pytest.MonkeyPatch, **variables: object) -> None:
    """Set the environment variables of a launched process."""
    for name, value in {'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': 0, **variables}.items():
        monkeypatch.setenv(name, str(value))


def as_processes(monkeypatch: pytest.MonkeyPatch, world_size: int, work: Callable[[int], T]) -> list[T]:
    """Call ``work(rank)`` in ``world_size`` threads.

    Returns:
        The return values by rank.

    Raises:
        Exception: the first exception of a thread; the others stop at their next collective operation.
    """
    current = threading.local()
    barrier = threading.Barrier(world_size, timeout=60)
    values: list[Any] = [None] * world_size
    results: list[Any] = [None] * world_size
    errors: list[Exception] = []

    def all_gather_object(value: Any) -> list[Any]:
        values[current.rank] = value
        barrier.wait()
        gathered = list(values)
        barrier.wait()
        return gathered

    def gather_object(value: Any) -> list[Any] | None:
        gathered = all_gather_object(value)
        return gathered if current.rank == 0 else None

    def run(rank: int) -> None:
        current.rank = rank
        try:
            results[rank] = work(rank)
        except threading.BrokenBarrierError:
            pass
        except Exception as error:
            errors.append(error)
            barrier.abort()

    with monkeypatch.context() as patch:
        patch.setattr(distributed, 'rank', lambda: current.rank)
        patch.setattr(distributed, 'world_size', lambda: world_size)
        patch.setattr(distributed, 'all_gather_object', all_gather_object)
        patch.setattr(distributed, 'gather_object', gather_object)
        threads = [threading.Thread(target=run, args=(rank,)) for rank in range(world_size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]
    return results
