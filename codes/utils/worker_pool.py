"""A pool of processes for jobs that may hang or crash, such as decoding damaged videos.

A process that exceeds the time limit is killed. After a hang or a crash the job has failed, a new process is started,
and the other jobs continue.
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
from dsanet.utils.signals import block_sigint


@dataclass(frozen=True)
class WorkerFailure:
    """The result of a job that failed.

    Args:
        kind: 'hung', 'crashed', or 'error' if the function raised an exception.
        text: the reason.
    """

    kind: str
    text: str


def _serve(
    function: Callable[[Any], Any], connection: Connection, inherited: Sequence[Connection], parent: int | None
) -> None:
    """Run jobs until the connection is closed or the parent ends."""
    die_with_parent(parent)
    for other in inherited:
        other.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent ends this one
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])  # blocked while this process was started
    while True:
        try:
            job = connection.recv()
        except (EOFError, ConnectionError):
            return
        try:
            result = function(job)
        except Exception as error:
            result = WorkerFailure('error', f'{type(error).__name__}: {error}')
        try:
            connection.send(result)
        except ConnectionError:
            return


class _Worker:
    """One process and its current job."""

    def __init__(self, function: Callable[[Any], Any], others: Sequence['_Worker']) -> None:
        self.connection, other = multiprocessing.Pipe()
        # A forked process inherits the connections of this process. If they stayed open, the other workers would wait
        # forever after this process was killed.
        method = multiprocessing.get_start_method()
        inherited = [self.connection, *(worker.connection for worker in others)] if method == 'fork' else []
        parent = None if method == 'forkserver' else os.getpid()  # with forkserver the parent is the server
        self.process = multiprocessing.Process(target=_serve, args=(function, other, inherited, parent), daemon=True)
        with block_sigint():
            self.process.start()
        other.close()  # so that the connection closes when the process dies
        self.number: int | None = None  # of the job
        self.started = 0.0

    def start(self, number: int, job: Any) -> None:
        self.number = number
        self.started = time.monotonic()
        try:
            self.connection.send(job)
        except BrokenPipeError:
            pass  # the process died, which is detected when its result is received

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def _describe_exit(exit_code: int) -> str:
    if exit_code < 0:
        return f'the process was killed by {signal.Signals(-exit_code).name}'
    return f'the process exited with code {exit_code}'


def run_in_processes(
    function: Callable[[Any], Any], jobs: Sequence[Any], num_workers: int, time_limit: float
) -> Generator[tuple[int, Any], None, None]:
    """Run jobs in several processes.

    Args:
        function: called with each job. It must be a module-level function, so that it can be pickled.
        jobs: the arguments.
        num_workers: number of processes.
        time_limit: seconds for one job.

    Yields:
        Index of a job and its result or :class:`WorkerFailure`, in the order in which the jobs end.
    """
    if num_workers < 1 or time_limit <= 0:
        raise ValueError(f'num_workers={num_workers} must be at least 1, and time_limit={time_limit} must be positive')
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
                assert worker.number is not None, 'workers without a job are removed'
                if worker.connection in ready:
                    try:
                        result = worker.connection.recv()
                    except (EOFError, ConnectionError):
                        worker.process.join()
                        result = WorkerFailure('crashed', _describe_exit(worker.process.exitcode or 0))
                elif time.monotonic() - worker.started >= time_limit:
                    result = WorkerFailure('hung', f'not finished after {time_limit:g} s')
                else:
                    continue
                number, dead = worker.number, isinstance(result, WorkerFailure) and result.kind != 'error'
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
