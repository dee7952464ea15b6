"""Whether a process lives, and that it shall not outlive the one that started it."""

import ctypes
import os
import signal
import sys


def die_with_parent(parent: int | None = None) -> None:
    """Let the kernel kill this process when the one that started it is gone, even without a word, as of SIGKILL.

    A process that is left alone would work on, and write to the files of the run that is started in its place. On Linux
    only; elsewhere nothing happens. The thread that started it must last as long as its process: the kernel goes by it.

    Args:
        parent: id of the process that started this one, which may be dead already; then this one ends at once. None
            where that process is not known.
    """
    if sys.platform != 'linux':
        return
    set_death_signal = 1  # PR_SET_PDEATHSIG in linux/prctl.h
    ctypes.CDLL(None, use_errno=True).prctl(set_death_signal, signal.SIGKILL)
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def is_alive(process: int) -> bool:
    """Say whether a process of this machine, given by its id, still runs; one that nobody buries does not."""
    if sys.platform == 'win32':  # where it would be asked by a signal that ends it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    try:
        with open(f'/proc/{process}/stat', 'rb') as file:
            return file.read().rpartition(b')')[2].split()[0] not in (b'Z', b'X')
    except FileNotFoundError:  # not on Linux, or it has ended just now; the next look tells
        return True
