import os
import signal
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from dsanet.engine.stopping import GROUP_WAIT_SECONDS, WAIT_SECONDS, Stopped, StopRequest
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


def poll_until_signal(seconds: float) -> list[int]:
    """Poll until a signal is found, with pauses in process 1, which receives SIGTERM before its third call."""
    found: list[int] = []
    with StopRequest() as stop:
        while not any(found):
            if len(found) == 2 and distributed.rank() == 1:
                send(signal.SIGTERM)
            time.sleep(seconds * distributed.rank())
            found.append(stop.poll())
        return [*found, stop.poll_now()]


@pytest.mark.sweep
@pytest.mark.parametrize(
    ('seconds', 'num_calls'),
    [
        (0, 22),  # the first call exchanges and the second one reads; then the same after MAX_POLL_INTERVAL calls
        (0.11, 6),  # POLL_SECONDS are four calls
        (0.6, 4),  # each call exchanges: the third one the signal
    ],
)
def test_two_processes_poll_the_same_signal(tmp_path: Path, seconds: float, num_calls: int) -> None:
    expected = [0] * (num_calls - 1) + [signal.SIGTERM, signal.SIGTERM]
    assert run_processes(2, tmp_path / 'run', partial(poll_until_signal, seconds)) == [expected, expected]


def test_second_ctrl_c_ends_at_once() -> None:
    with StopRequest():
        send(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


@pytest.mark.parametrize(('world_size', 'limit'), [(1, WAIT_SECONDS), (2, GROUP_WAIT_SECONDS)])
def test_wait_ends_some_time_after_signal(world_size: int, limit: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, 'world_size', lambda: world_size)
    now = time.monotonic()
    monkeypatch.setattr(time, 'monotonic', lambda: now)
    with StopRequest() as stop:
        stop.end_wait()
        signal.raise_signal(signal.SIGTERM)
        now += limit - 0.1
        signal.raise_signal(signal.SIGTERM)
        stop.end_wait()
        now += 0.2
        with pytest.raises(Stopped) as error:
            stop.end_wait()
    assert error.value.exit_status == 143
    assert not isinstance(error.value, Exception)  # or loading a video would take it for damage


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
