"""Ends of a run that are no defects of the program: someone stopped it, or it cannot go on for a stated reason."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class RunError(RuntimeError):
    """A run cannot go on, for a reason that its text tells; the program is not at fault."""


class Stopped(Exception):  # noqa: N818 - not an error
    """A signal stopped the run, and what was to be kept is on disk.

    Args:
        number: the signal.
        text: where the run stands.
    """

    def __init__(self, number: int, text: str) -> None:
        super().__init__(f'stopped by {signal.Signals(number).name} {text}')
        self.number = number

    @property
    def exit_status(self) -> int:
        """What shells and schedulers know as the end by this signal: 143 for SIGTERM, 130 for SIGINT (Ctrl-C)."""
        return 128 + self.number


class StopRequest:
    """Notes SIGTERM and SIGINT instead of ending the process in the middle of something, inside of a ``with``.

    A second Ctrl-C ends the process at once, as usual, for people who do not want to wait; SIGTERM may come from the
    scheduler and from the launcher, and twice means the same. A signal that is ignored stays so, as Ctrl-C is in what a
    script starts in the background. Outside of the main thread, where Python allows no handlers, nothing is noted.

    Attributes:
        number: the signal that came, 0 if none.
    """

    def __init__(self) -> None:
        self.number = 0
        self._before: dict[int, Any] = {}
        self._text: str | None = None

    def __enter__(self) -> 'StopRequest':
        try:
            for number in SIGNALS:
                if signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
        except ValueError:  # not the main thread
            pass
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    @contextmanager
    def at_once(self, text: str) -> Iterator[None]:
        """Raise :class:`Stopped` as soon as a signal comes, in work that may be cut off.

        Args:
            text: where the run stands.
        """
        self._text = text
        try:
            if self.number:
                raise Stopped(self.number, text)
            yield
        finally:
            self._text = None

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        if number == signal.SIGINT:
            signal.signal(number, self._before[number])
        if self._text is not None:
            raise Stopped(number, self._text)
