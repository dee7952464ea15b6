"""Processes that end with their parent."""

import multiprocessing
import os
import signal
import sys
import time
from multiprocessing.connection import Connection

import pytest

from dsanet.utils.processes import die_with_parent, is_alive, start_time

pytestmark = pytest.mark.skipif(sys.platform != 'linux', reason='requires Linux')
CONTEXT = multiprocessing.get_context('fork')


def _wait_forever(parent: int, ready: Connection) -> None:
    die_with_parent(parent)
    ready.send(os.getpid())
    time.sleep(60)


def _start_another(ready: Connection) -> None:
    CONTEXT.Process(target=_wait_forever, args=(os.getpid(), ready)).start()
    time.sleep(60)


def test_process_dies_with_killed_parent() -> None:
    mine, ready = CONTEXT.Pipe()
    parent = CONTEXT.Process(target=_start_another, args=(ready,))
    parent.start()
    child = mine.recv()
    assert is_alive(child)
    parent.kill()
    parent.join()
    deadline = time.monotonic() + 10
    while is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_alive(child)


def test_process_dies_if_parent_is_already_dead() -> None:
    mine, ready = CONTEXT.Pipe()
    process = CONTEXT.Process(target=_wait_forever, args=(2**30, ready))  # not the id of its parent
    process.start()
    process.join(10)
    assert process.exitcode == -signal.SIGKILL
    assert not mine.poll()


def test_zombies_count_as_dead() -> None:
    assert is_alive(os.getpid())
    process = CONTEXT.Process(target=int)
    process.start()
    deadline = time.monotonic() + 10
    while is_alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_alive(process.pid)
    process.join()
    assert not is_alive(process.pid)


def test_start_time_tells_processes_apart() -> None:
    first, second = start_time(os.getppid()), start_time(os.getpid())
    assert first <= second == start_time(os.getpid())
    assert start_time(2**22 + 1) is None  # above the largest id
