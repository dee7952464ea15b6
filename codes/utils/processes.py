"""Processes that end with their parent, and a check whether a process is alive."""

import ctypes
import os
import signal
import sys

MAX_PROCESSES = 1024  # a larger number of processes for one task is a mistake, and can block the machine


def die_with_parent(parent: int | None = None) -> None:
    """Have the kernel kill this process when its parent ends, even if the parent is killed. Linux only.

    An orphan would continue to run and write to the files of a restarted run. The kernel watches the thread that
    started this process, so that thread must live as long as the parent.

    Args:
        parent: id of the parent. If it has already ended, this process ends at once. None if the id is unknown.
    """
    if sys.platform != 'linux':
        return
    set_death_signal = 1  # PR_SET_PDEATHSIG in linux/prctl.h
    ctypes.CDLL(None, use_errno=True).prctl(set_death_signal, signal.SIGKILL)
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def is_alive(process: int) -> bool:
    """Return whether a process of this machine is running; zombies count as dead."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        return True
    return process_state(process) not in ('Z', 'X')


def process_state(process: int) -> str:
    """Return the state of a process as Linux names it, such as 'T' for stopped; '' if it has ended or is unknown."""
    fields = _read_stat(process)
    return fields[0] if fields else ''


def start_time(process: int) -> int | None:
    """Return when a process started, in clock ticks since boot; None if unknown.

    Process ids are reused; id and start time together are unique.
    """
    fields = _read_stat(process)
    return int(fields[19]) if fields else None


def _read_stat(process: int) -> list[str]:
    """Return the fields after the name in Linux's description of a process; [] if it has ended or is unknown."""
    try:
        with open(f'/proc/{process}/stat', 'rb') as file:
            return file.read().decode(errors='replace').rpartition(')')[2].split()
    except OSError:  # not Linux, or it has just ended
        return []
