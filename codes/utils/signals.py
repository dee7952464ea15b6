"""How programs end when their user presses Ctrl-C: with a line and status 130, not with a traceback.

Only the standard library is imported here, so that a tool can ask for it before its other imports, which take seconds:
first :func:`end_at_once_if_interrupted`, then the imports, and last ``sys.exit(run_interruptible(main))``.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STATUS = 130  # what shells make of it, 128 + SIGINT


def end_at_once_if_interrupted() -> None:
    """Make Ctrl-C end the program on the spot, until :func:`run_interruptible`.

    For imports, where there is nothing to tidy up: an exception in the middle of them would end some in a crash. Where
    the signal is ignored, as in programs that a script starts in the background, it stays so.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def _end(_number: int, _frame: FrameType | None) -> None:
    os.write(2, b'interrupted\n')
    os._exit(STATUS)


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

    Args:
        main: the program; returns its exit status, None for 0.
        text: the line that is written if it was interrupted, such as how to go on.

    Returns:
        The exit status.
    """
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return main() or 0
    except KeyboardInterrupt:
        sys.stderr.write(f'{text}\n')
        return STATUS
