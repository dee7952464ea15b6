"""Blocking of Ctrl-C while processes start."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def block_sigint() -> Iterator[None]:
    """Block SIGINT in processes started in this context, which would print a traceback while they start.

    They must unblock the signal themselves, or be ended by this process.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
