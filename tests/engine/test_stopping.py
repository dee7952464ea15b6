import os
import signal
import threading

import pytest

from dsanet.engine.stopping import Stopped, StopRequest


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_signal_is_noted_and_the_old_handler_comes_back(number: int) -> None:
    before = signal.getsignal(number)
    with StopRequest() as stop:
        assert stop.number == 0
        send(number)
        assert stop.number == number
    assert signal.getsignal(number) == before


def test_second_ctrl_c_ends_at_once() -> None:
    with StopRequest():
        send(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_a_signal_that_is_ignored_stays_so() -> None:
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


def test_second_sigterm_means_the_same() -> None:
    with StopRequest() as stop:
        send(signal.SIGTERM)
        send(signal.SIGTERM)
        assert stop.number == signal.SIGTERM


def test_work_that_may_be_cut_off_is() -> None:
    with StopRequest() as stop:
        with (
            pytest.raises(Stopped, match='stopped by SIGTERM behind epoch 3') as stopped,
            stop.at_once('behind epoch 3'),
        ):
            send(signal.SIGTERM)
        assert stopped.value.exit_status == 143
        with pytest.raises(Stopped, match='SIGTERM in vain'), stop.at_once('in vain'):
            raise AssertionError('the signal has come before')


def test_other_threads_train_without_handlers() -> None:
    def enter() -> None:
        with StopRequest() as stop:
            numbers.append(stop.number)

    numbers: list[int] = []
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert numbers == [0]
