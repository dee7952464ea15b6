"""Worker processes for jobs that may hang or crash, as decoders of broken videos do.

A process that exceeds the time limit is killed, one that dies is noticed; either way the job is a failure, a fresh
process takes its place, and the other jobs go on.
"""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from dsanet.utils.processes import die_with_parent
from dsanet.utils.signals import interruptions_held_back


@dataclass(frozen=True)
class Failure:
    """A job without a result.

    Args:
        kind: 'hung', 'crashed', or 'error' if the function raised.
        text: what happened.
    """

    kind: str
    text: str


def _serve(
    function: Callable[[Any], Any], connection: Connection, not_mine: Sequence[Connection], parent: int | None
) -> None:
    """Do jobs until the other end is closed, or the parent is gone, even in the middle of a job."""
    die_with_parent(parent)
    for other in not_mine:
        other.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes; the first one ends the others
    if hasattr(signal, 'pthread_sigmask'):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])  # which was held back at the start
    while True:
        try:
            job = connection.recv()
        except (EOFError, ConnectionError):
            return
        try:
            result = function(job)
        except Exception as error:
            result = Failure('error', f'{type(error).__name__}: {error}')
        try:
            connection.send(result)
        except ConnectionError:
            return


class _Worker:
    """One process and the job that it is at."""

    def __init__(self, function: Callable[[Any], Any], others: Sequence['_Worker']) -> None:
        self.connection, other = multiprocessing.Pipe()
        # A forked process gets copies of this process's ends, which would keep the other workers waiting for ever if
        # this process were killed.
        method = multiprocessing.get_start_method()
        not_mine = [self.connection, *(worker.connection for worker in others)] if method == 'fork' else []
        parent = None if method == 'forkserver' else os.getpid()  # a fork server's process is the server's child
        self.process = multiprocessing.Process(target=_serve, args=(function, other, not_mine, parent), daemon=True)
        with interruptions_held_back():
            self.process.start()
        other.close()  # so that this end notices when the process dies
        self.number: int | None = None  # of its job
        self.started = 0.0

    def start(self, number: int, job: Any) -> None:
        self.number = number
        self.started = time.monotonic()
        try:
            self.connection.send(job)
        except BrokenPipeError:
            pass  # it died meanwhile, which the next look at it tells

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def _cause(exit_code: int) -> str:
    return signal.Signals(-exit_code).name if exit_code < 0 else f'exit code {exit_code}'


def run_guarded(
    function: Callable[[Any], Any], jobs: Sequence[Any], num_workers: int, time_limit: float
) -> Generator[tuple[int, Any], None, None]:
    """Do jobs in several processes.

    Args:
        function: does a job; a function of a module, since it must reach the processes.
        jobs: what to call it with.
        num_workers: number of processes.
        time_limit: seconds that one job may take.

    Yields:
        The number of a job and its result, or a :class:`Failure`, in the order in which they end.

    Raises:
        ValueError: ``num_workers`` is below 1, or ``time_limit`` not above 0.
    """
    if num_workers < 1 or time_limit <= 0:
        raise ValueError(f'num_workers={num_workers} must be at least 1 and time_limit={time_limit} above 0')
    waiting = iter(enumerate(jobs))
    workers: list[_Worker] = []
    try:
        for _ in range(min(num_workers, len(jobs))):
            workers.append(_Worker(function, workers))
            workers[-1].start(*next(waiting))
        while workers:
            soonest = min(worker.started for worker in workers) + time_limit
            ready = wait([worker.connection for worker in workers], max(0.0, soonest - time.monotonic()))
            for place, worker in reversed(list(enumerate(workers))):
                assert worker.number is not None, 'a worker without a job is taken off the list'
                if worker.connection in ready:
                    try:
                        result = worker.connection.recv()
                    except (EOFError, ConnectionError):
                        worker.process.join()
                        result = Failure('crashed', f'the process died of {_cause(worker.process.exitcode or 0)}')
                elif time.monotonic() - worker.started >= time_limit:
                    result = Failure('hung', f'not done after {time_limit:g} s')
                else:
                    continue
                number, dead = worker.number, isinstance(result, Failure) and result.kind != 'error'
                following = next(waiting, None)
                if dead or following is None:
                    worker.end()
                    del workers[place]
                if following is not None:
                    if dead:
                        worker = _Worker(function, workers)
                        workers.append(worker)
                    worker.start(*following)
                yield number, result
    finally:
        for worker in workers:
            worker.end()
