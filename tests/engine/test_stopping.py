import os
import signal
import threading
from pathlib import Path

import pytest

from dsanet.engine.stopping import Stopped, StopRequest
from dsanet.utils import distributed
from tests.models.test_sync_batch_norm import run_processes


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_signal_is_noted_and_handler_restored(number: int) -> None:
    before = signal.getsignal(number)
    with StopRequest() as stop:
        assert (stop.number, stop.poll(), stop.poll_now()) == (0, 0, 0)
        send(number)
        assert (stop.number, stop.poll(), stop.poll_now()) == (number, number, number)
    assert signal.getsignal(number) == before


def poll_in_one_of_two() -> list[int]:
    """Send SIGTERM to process 1 only; return what calls of ``poll`` and ``poll_now`` return."""
    with StopRequest() as stop:
        found = [stop.poll(), stop.poll()]
        if distributed.rank() == 1:
            send(signal.SIGTERM)
        return [*found, stop.poll(), stop.poll(), stop.poll_now()]


@pytest.mark.sweep
def test_two_processes_poll_the_same_signal(tmp_path: Path) -> None:
    # The call after the signal exchanges it; the next one returns it.
    expected = [0, 0, 0, signal.SIGTERM, signal.SIGTERM]
    assert run_processes(2, tmp_path / 'run', poll_in_one_of_two) == [expected, expected]


def test_second_ctrl_c_ends_at_once() -> None:
    with StopRequest():
        send(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            send(signal.SIGINT)
            assert stop.number == 0
            send(signal.SIGTERM)
            assert stop.number == signal.SIGTERM
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_second_sigterm_changes_nothing() -> None:
    with StopRequest() as stop:
        send(signal.SIGTERM)
        send(signal.SIGTERM)
        assert stop.number == signal.SIGTERM


def test_signal_interrupts_work_at_once() -> None:
    with StopRequest() as stop:
        with pytest.raises(Stopped, match='SIGTERM .*epoch 3') as stopped, stop.at_once('after epoch 3'):
            send(signal.SIGTERM)
        assert stopped.value.exit_status == 143
        with pytest.raises(Stopped, match='SIGTERM .*epoch 4'), stop.at_once('after epoch 4'):
            raise AssertionError('the signal came before')


def test_threads_run_without_handlers() -> None:
    def enter() -> None:
        with StopRequest() as stop:
            numbers.append(stop.number)

    numbers: list[int] = []
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert numbers == [0]
