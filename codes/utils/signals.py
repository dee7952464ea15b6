"""How programs end when their user presses Ctrl-C: with a line and status 130, not with a traceback.

Only the standard library is imported here, so that :func:`run_interruptible` is in place before imports that take
seconds.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STATUS = 130  # what shells make of it, 128 + SIGINT


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt; during an import end on the spot, as an exception would end some imports in a crash."""
    here = frame
    while here is not None:
        if here.f_code.co_filename == '<frozen importlib._bootstrap>':
            os.write(2, b'interrupted\n')
            os._exit(STATUS)
        here = here.f_back
    signal.default_int_handler(number, frame)


@contextmanager
def interruptions_held_back() -> Iterator[None]:
    """Hold Ctrl-C back in processes that are started meanwhile: those just born would answer it with a traceback.

    They stay so until they unblock the signal; the one who started them ends them.
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
    """Run a program, in which Ctrl-C raises KeyboardInterrupt as usual, so that files are tidied up on its way.

    Not so while it imports a module: there is nothing to tidy up, and it ends at once. Where the signal is ignored, as
    in programs that a script starts in the background, it stays so.

    Args:
        main: the program; returns its exit status, None for 0.
        text: the line that is written if it was interrupted, such as how to continue.

    Returns:
        The exit status.
    """
    is_usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_usual:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        return main() or 0
    except KeyboardInterrupt:
        sys.stderr.write(f'{text}\n')
        return STATUS
    finally:
        if is_usual:
            signal.signal(signal.SIGINT, signal.default_int_handler)
