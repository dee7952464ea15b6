"""Ends of a run that are not bugs: it was stopped by a signal, or cannot continue for a known reason."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from dsanet.utils import distributed

SIGNALS = (signal.SIGTERM, signal.SIGINT)
POLL_SECONDS = 0.5  # between exchanges of signals: schedulers wait 30 s and more before they kill
WAIT_SECONDS = 3  # for a batch after a signal; then the run stops without it
GROUP_WAIT_SECONDS = 20  # the same with several processes, where it loses the iterations since the last checkpoint
MAX_POLL_INTERVAL = 20  # calls, in case iterations suddenly become slower


class RunError(RuntimeError):
    """A run cannot continue; the message states the reason, which is not a bug."""


class Stopped(BaseException):
    """A signal stopped the run. Not an Exception, so that loading a video in this process does not treat it as damage.

    Args:
        number: the signal.
        text: position of the run, for the user.
    """

    def __init__(self, number: int, text: str) -> None:
        super().__init__(f'Stopped by {signal.Signals(number).name} {text}')
        self.number = number

    @property
    def exit_status(self) -> int:
        """Exit status that shells and schedulers expect, 143 after SIGTERM and 130 after SIGINT (Ctrl-C)."""
        return 128 + self.number


class StopRequest:
    """Context in which SIGTERM and SIGINT are recorded instead of ending the process at once.

    A second Ctrl-C ends the process at once. SIGTERM may come from both scheduler and launcher, so a second one changes
    nothing. Ignored signals stay ignored, such as Ctrl-C in background jobs of a script. Outside the main thread, where
    Python does not allow handlers, nothing is recorded.

    Attributes:
        number: the received signal, 0 for none.
    """

    def __init__(self) -> None:
        self.number = 0
        self._received_at = 0.0
        self._before: dict[int, Any] = {}
        self._text: str | None = None
        self._pending: Callable[[], list[float]] | None = None
        self._calls = self._interval = 0  # calls of poll since the last exchange, and until the next
        self._last_exchange = time.monotonic()

    def poll(self) -> int:
        """Return the signal that any process has received, 0 for none; the same in all processes.

        For loops that call it once per iteration in every process. The processes exchange their signals about every
        ``POLL_SECONDS``, at least every ``MAX_POLL_INTERVAL`` calls, and read the result at the next call: the
        exchange happens while they compute. A single process has no delay.
        """
        if distributed.world_size() == 1:
            return self.number
        self._calls += 1
        number = self._finish_exchange()
        if not number and self._calls >= self._interval:
            self._start_exchange()
        return number

    def poll_now(self) -> int:
        """Return the signal that any process has received, 0 for none; waits for all processes."""
        earlier = self._finish_exchange()
        self._start_exchange()
        return max(earlier, self._finish_exchange())

    def _start_exchange(self) -> None:
        now = time.monotonic()
        seconds = (now - self._last_exchange) / max(self._calls, 1)
        self._last_exchange, self._calls = now, 0
        self._pending = distributed.start_all_reduce_max([self.number, seconds])

    def _finish_exchange(self) -> int:
        if self._pending is None:
            return 0
        number, seconds = self._pending()
        self._pending = None
        # From the slowest process, so that all of them exchange at the same call.
        self._interval = min(int(POLL_SECONDS / max(seconds, 1e-9)), MAX_POLL_INTERVAL)
        return int(number)

    def end_wait(self) -> None:
        """Raise :class:`Stopped` if a signal was received some time ago; called while the run waits for data."""
        limit = WAIT_SECONDS if distributed.world_size() == 1 else GROUP_WAIT_SECONDS
        if self.number and time.monotonic() - self._received_at > limit:
            raise Stopped(self.number, 'while waiting for data; continue with --resume')

    @contextmanager
    def at_once(self, text: str) -> Iterator[None]:
        """Raise :class:`Stopped` as soon as a signal arrives, in work that can be interrupted.

        Args:
            text: position of the run, for the user.
        """
        self._text = text
        try:
            if self.number:
                raise Stopped(self.number, text)
            yield
        finally:
            self._text = None

    def __enter__(self) -> 'StopRequest':
        try:
            for number in SIGNALS:
                if signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
        except ValueError:  # not the main thread
            pass
        return self

    def __exit__(self, *_error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received_at = self._received_at or time.monotonic()
        self.number = number
        if number == signal.SIGINT:
            signal.signal(number, self._before[number])
        if self._text is not None:
            raise Stopped(number, self._text)
