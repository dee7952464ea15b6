import os
import signal
import time
from collections.abc import Callable

import pytest

from dsanet.utils.worker_pool import run_in_processes


def work(job: int | str) -> int | str:
    if job == 'crash':
        os.kill(os.getpid(), signal.SIGKILL)  # SIGSEGV would print pytest's traceback
    if job == 'leave':
        os._exit(3)
    if job == 'hang':
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGALRM])  # like a decoder in C
        time.sleep(60)
    if job == 'raise':
        raise KeyError('nothing here')
    return job * 2


def process_of(_job: int) -> int:
    time.sleep(0.1)
    return os.getpid()


def results(function: Callable, jobs: list, num_workers: int, time_limit: float = 30) -> list:
    done = dict(run_in_processes(function, jobs, num_workers, time_limit))
    assert sorted(done) == list(range(len(jobs)))
    return [done[number] for number in range(len(jobs))]


@pytest.mark.parametrize('num_workers', [1, 3])
def test_every_job_has_a_result(num_workers: int) -> None:
    assert results(work, list(range(20)), num_workers) == [2 * job for job in range(20)]


def test_no_jobs() -> None:
    assert results(work, [], 4) == []


def test_jobs_are_distributed_over_processes() -> None:
    assert len(set(results(process_of, list(range(6)), 2))) == 2
    assert os.getpid() not in results(process_of, [0], 1)


@pytest.mark.parametrize('num_workers', [pytest.param(1, marks=pytest.mark.sweep), 2])
def test_crash_hang_and_error_fail_one_job(num_workers: int) -> None:
    jobs = [1, 'crash', 2, 'leave', 3, 'hang', 4, 'raise', 5, 'crash']
    started = time.monotonic()
    done = results(work, jobs, num_workers, time_limit=2)
    assert time.monotonic() - started < 20
    assert [done[i] for i in (0, 2, 4, 6, 8)] == [2, 4, 6, 8, 10]
    assert [done[i].kind for i in (1, 9, 3, 5, 7)] == ['crashed', 'crashed', 'crashed', 'hung', 'error']
    for i, part in {1: 'SIGKILL', 9: 'SIGKILL', 3: ' 3', 5: '2 s', 7: "KeyError: 'nothing here'"}.items():
        assert part in done[i].text


def test_closing_ends_the_processes() -> None:
    pids = []
    running = run_in_processes(process_of, list(range(10)), 2, time_limit=30)
    for _, pid in running:
        pids.append(pid)
        if len(pids) == 2:
            break
    running.close()  # as Ctrl-C does
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def interrupt_itself(_job: int) -> tuple[bool, int]:
    os.kill(os.getpid(), signal.SIGINT)
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []), os.getpid()


def test_workers_ignore_interrupts() -> None:
    (is_blocked, pid), (_, other) = results(interrupt_itself, [0, 1], 1)
    assert pid == other
    assert not is_blocked, 'programs started by a job can be interrupted'
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


@pytest.mark.parametrize(('num_workers', 'time_limit'), [(0, 1), (1, 0)])
def test_invalid_arguments_are_rejected(num_workers: int, time_limit: float) -> None:
    with pytest.raises(ValueError, match=f'num_workers={num_workers}.*time_limit={time_limit}'):
        list(run_in_processes(work, [1], num_workers, time_limit))
