"""Ctrl-C ends a program with one line and exit status 130, without a traceback; and functions for other signals.

This module imports only the standard library, so that :func:`run_interruptible` is active before slow imports.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STATUS = 130  # 128 + SIGINT, as in shells


class _Interrupt:
    """Handler of SIGINT: raises KeyboardInterrupt, or exits at once where that would not end the program quietly.

    Such cases are a second Ctrl-C, imports, some of which crash on an exception, and functions whose exceptions Python
    prints and ignores, such as ``__del__``.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.is_raised = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        caller = frame
        while caller is not None and caller.f_code.co_filename != '<frozen importlib._bootstrap>':
            caller = caller.f_back
        if self.is_raised or caller is not None:
            self._exit()
        self.is_raised = True
        signal.default_int_handler(number, frame)

    def hook(self, unraisable: 'sys.UnraisableHookArgs') -> None:
        """Replace ``sys.unraisablehook``."""
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            self._exit()
        sys.__unraisablehook__(unraisable)

    def _exit(self) -> None:
        if not _is_launched():
            os.write(2, f'{self.text}\n'.encode())
        os._exit(STATUS)


def _is_launched() -> bool:
    """Return whether a launcher has started this process; the launcher then reports the signal."""
    return 'TORCHELASTIC_ERROR_FILE' in os.environ


@contextmanager
def block_sigint() -> Iterator[None]:
    """Block SIGINT in processes started in this context, which would print a traceback while they start.

    They must unblock the signal themselves, or be ended by this process.
    """
    if not hasattr(signal, 'pthread_sigmask'):  # Windows
        yield
        return
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextmanager
def default_sigint() -> Iterator[None]:
    """Let Ctrl-C end the process at once in this context, in which no Python code runs that could handle it."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before == signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def signals_exit() -> Iterator[None]:
    """Let SIGTERM, and SIGHUP of a closed terminal, raise SystemExit in this context, so that it is left in order.

    Only in the main thread; signals that are ignored stay ignored, such as SIGHUP under nohup.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        # There is no SIGHUP on Windows.
        numbers = [getattr(signal, name) for name in ('SIGTERM', 'SIGHUP') if hasattr(signal, name)]
        before = {number: handler for number in numbers if (handler := signal.getsignal(number)) != signal.SIG_IGN}
    for number in before:
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_interruptible(main: Callable[[], int | None], text: str = 'interrupted') -> int:
    """Run a program in which Ctrl-C raises KeyboardInterrupt, or exits at once during an import.

    An ignored SIGINT stays ignored, as in background jobs of scripts.

    Args:
        main: returns the exit status, or None for 0.
        text: printed to stderr after Ctrl-C, for example how to continue.

    Returns:
        The exit status.
    """
    before = signal.getsignal(signal.SIGINT)
    hook = sys.unraisablehook
    if before is signal.default_int_handler or isinstance(before, _Interrupt):
        interrupt = _Interrupt(text)
        signal.signal(signal.SIGINT, interrupt)
        sys.unraisablehook = interrupt.hook
    try:
        return main() or 0
    except KeyboardInterrupt:
        if not _is_launched():
            sys.stderr.write(f'{text}\n')
        return STATUS
    finally:
        signal.signal(signal.SIGINT, before)
        sys.unraisablehook = hook


def run_program(main: Callable[[], int | None]) -> int:
    """Run the main function of a process like :func:`run_interruptible`; afterward, Ctrl-C ends the process at once.

    Otherwise Python would print a traceback if it is interrupted while it shuts down. SIGTERM keeps its default action,
    which also ends a process that waits for a drive; process 1 of a container has no default action.
    """
    if os.getpid() == 1 and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
    try:
        return run_interruptible(main)
    finally:
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, lambda *_: os._exit(STATUS))


_called_by_alarm: Callable[[], None] | None = None


def _call(number: int, frame: FrameType | None) -> None:
    if _called_by_alarm is not None:
        _called_by_alarm()


@contextmanager
def call_every(seconds: float, function: Callable[[], None]) -> Iterator[None]:
    """Call a function repeatedly in this context, even while the main thread waits for something.

    If the function raises an exception, the wait ends with it. The function is called only in the main thread, between
    two bytecode instructions, and only if the program does not use SIGALRM itself.
    """
    global _called_by_alarm
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, 'setitimer'):
        yield
        return
    if (handler := signal.getsignal(signal.SIGALRM)) is not _call:
        if handler is not signal.SIG_DFL:
            yield
            return
        # Stays installed: a late alarm would end the process otherwise.
        signal.signal(signal.SIGALRM, _call)
    _called_by_alarm = function
    signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    try:
        yield
    finally:
        _called_by_alarm = None
        signal.setitimer(signal.ITIMER_REAL, 0)
