"""Ctrl-C ends a program with one line and exit status 130, without a traceback.

This module imports only the standard library, so that :func:`run_interruptible` is active before slow imports.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STATUS = 130  # 128 + SIGINT, as in shells


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt; during an import exit at once, because some imports crash on an exception."""
    caller = frame
    while caller is not None:
        if caller.f_code.co_filename == '<frozen importlib._bootstrap>':
            os.write(2, b'interrupted\n')
            os._exit(STATUS)
        caller = caller.f_back
    signal.default_int_handler(number, frame)


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


def run_interruptible(main: Callable[[], int | None], text: str = 'interrupted') -> int:
    """Run a program in which Ctrl-C raises KeyboardInterrupt, or exits at once during an import.

    An ignored SIGINT stays ignored, as in background jobs of scripts.

    Args:
        main: returns the exit status, or None for 0.
        text: printed to stderr after Ctrl-C, for example how to continue.

    Returns:
        The exit status.
    """
    is_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_default:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        return main() or 0
    except KeyboardInterrupt:
        sys.stderr.write(f'{text}\n')
        return STATUS
    finally:
        if is_default:
            signal.signal(signal.SIGINT, signal.default_int_handler)
