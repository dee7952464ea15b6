"""Distinguish system errors, such as too little memory, from damaged files."""

import errno
import mmap
import os
import re
import signal
from collections.abc import Iterator, Sequence

from dsanet.utils.text import strip_worker_traceback

# Errors of the machine. They never say that a file is damaged, and any one of them ends a run.
_SHORTAGES = {
    getattr(errno, name): hint
    for name, hint in {
        'EMFILE': 'too many open files in one process; raise the limit with `ulimit -n`, or use fewer workers',
        'ENFILE': 'too many open files on this machine; end other programs, or use fewer workers',
        'ENOMEM': 'not enough memory; use fewer workers or a smaller batch_size',
        'ENOSPC': 'no space left on the device',
        'EDQUOT': 'the disk quota is exceeded',
        'ESTALE': 'the network drive does not respond correctly (stale file handle)',
        'ENOTCONN': 'the network drive is disconnected',
        'ETIMEDOUT': 'the network drive does not respond',
        'EHOSTDOWN': 'the network drive does not respond',
        'EREMOTEIO': 'the network drive does not respond correctly',
    }.items()
    if hasattr(errno, name)
}
# Errors of the storage that can also concern a single file. Then a run can replace it, but not a checkpoint.
_STORAGE_NAMES = 'EACCES EAGAIN ECONNABORTED ECONNRESET EHOSTUNREACH EIO ENETUNREACH ENODEV ENXIO EPERM EROFS ESHUTDOWN'
_STORAGE = {getattr(errno, name) for name in _STORAGE_NAMES.split() if hasattr(errno, name)}
_ERRNOS = _STORAGE | set(_SHORTAGES)
# torch raises RuntimeError for system errors; its message contains the system's.
_TEXTS = ('allocate memory', 'bad_alloc', 'out of memory', *sorted(os.strerror(number) for number in _ERRNOS))


def are_storage_faults(reasons: Sequence[str]) -> bool:
    """Return whether all texts of errors, of several files, are those of storage that cannot be read."""
    texts = [os.strerror(number) for number in _STORAGE]
    return all(any(text in reason for text in texts) for reason in reasons)


def is_machine_fault(error: BaseException | None) -> bool:
    """Return whether an error, or an earlier one that it hides, is a system error, independent of the file.

    True if memory, disk space, file descriptors or a permission is missing, or the storage fails. FFmpeg also reports
    EIO for some damaged videos.
    """
    while error is not None:
        is_torch_text = isinstance(error, RuntimeError) and any(text in str(error) for text in _TEXTS)
        if isinstance(error, MachineError | MemoryError) or getattr(error, 'errno', None) in _ERRNOS or is_torch_text:
            return True
        error = error.__cause__ or error.__context__
    return False


class MachineError(OSError):
    """The machine lacks something that reading data requires; the message states what, and what to do."""


_SHORTAGE_TEXTS = {
    os.strerror(errno.EMFILE): errno.EMFILE,
    os.strerror(errno.ENFILE): errno.ENFILE,
    'Too many open files': errno.EMFILE,
    'items of ancdata': errno.EMFILE,  # Python and torch: a descriptor that was sent could not be received
    'unable to allocate shared memory': errno.ENOSPC,
    os.strerror(errno.ENOSPC): errno.ENOSPC,
    os.strerror(errno.ENOMEM): errno.ENOMEM,
    'Insufficient memory': errno.ENOMEM,  # OpenCV
    'out of memory': errno.ENOMEM,
}
_SHARED_MEMORY = '/dev/shm'
_RESERVE = 2**26  # bytes: with this much memory free, an allocation failed because a damaged file asked for too much
_SPARE_FILES = 4


def explain_shortage(error: BaseException) -> str | None:
    """Explain an error that is caused by a lack of memory, descriptors or disk space, or by a lost network drive.

    Decoders hide the reasons for their errors, or report impossible sizes in a damaged file as a lack of memory. So
    this also tries whether the process can open files and allocate memory.

    Args:
        error: raised while data was read, in this process or in a data worker.

    Returns:
        One sentence with what to do; None for other errors, such as those of a damaged file.
    """
    causes = list(reversed(list(_causes(error))))
    if (explained := next((cause for cause in causes if isinstance(cause, MachineError)), None)) is not None:
        return strip_worker_traceback(explained)  # says more than the error of the system that it explains
    for cause in causes:
        if (text := _explain_dead_worker(str(cause))) is not None:
            return text
        number = _find_errno(cause)
        if number is None or (number == errno.ENOMEM and not _is_own(cause) and _can_allocate()):
            continue
        if number == errno.ENOSPC and 'shared memory' in str(cause):
            return explain_shared_memory()
        return f'{_SHORTAGES[number]} ({_one_line(cause)})'
    return None if _can_open_files() else f'{_SHORTAGES[errno.EMFILE]} ({_one_line(error)})'


def explain_shared_memory(num_bytes: int | None = None) -> str:
    """Explain that shared memory is full.

    Args:
        num_bytes: size of the batch that did not fit; None if unknown.
    """
    free = free_shared_memory()
    known = [] if free is None else [f'{format_size(free)} free']
    known += [] if num_bytes is None else [f'a batch needs {format_size(num_bytes)}']
    return (
        f'data workers send batches through shared memory, and {_SHARED_MEMORY} is full ({", ".join(known)}); '
        f'{SHARED_MEMORY_ADVICE}'
    )


SHARED_MEMORY_ADVICE = (
    'in Docker, start the container with --shm-size=8g or --ipc=host; elsewhere, mount -o remount,size=8g /dev/shm; or '
    'use a smaller batch_size or num_workers'
)


def free_shared_memory() -> int | None:
    """Return the free bytes of the shared memory of this machine; None if unknown."""
    try:
        found = os.statvfs(_SHARED_MEMORY)
    except (AttributeError, OSError):  # not Linux
        return None
    return found.f_bavail * found.f_frsize


def format_size(num_bytes: float) -> str:
    """Return a size in bytes as text, such as '12.3 MB'."""
    for unit in ('bytes', 'kB', 'MB'):
        if num_bytes < 1000:
            return f'{num_bytes:.3g} {unit}'
        num_bytes /= 1000
    return f'{num_bytes:.3g} GB'


def explain_dead_worker(process: int | str, signal_name: str | None) -> str:
    """Explain that a data worker has ended: its process, and the signal that killed it as text, if any."""
    if signal_name == signal.strsignal(signal.SIGBUS):
        return explain_shared_memory()
    how = f'was killed by a signal ({signal_name})' if signal_name else 'ended unexpectedly'
    return f'data worker process {process} {how}; the system kills processes when it is out of memory'


def check_spare_files(count: int) -> None:
    """Raise a MachineError unless this process can open ``count`` more files."""
    if not _can_open_files(count):
        raise MachineError(_SHORTAGES[errno.EMFILE])


def _causes(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__


def _find_errno(error: BaseException) -> int | None:
    """Return the error number of a shortage; None for other errors."""
    if isinstance(error, MemoryError) or type(error).__name__ == 'OutOfMemoryError':  # the latter is torch's, for GPUs
        return errno.ENOMEM
    found: int | None = getattr(error, 'errno', None)
    if found in _SHORTAGES:
        return found
    if isinstance(error, OSError):
        return None
    return next((number for text, number in _SHORTAGE_TEXTS.items() if text in str(error)), None)


def _is_own(error: BaseException) -> bool:
    """Return whether Python, NumPy or torch raised an error, and not a decoder."""
    if type(error).__module__.startswith('av.'):
        return False
    return isinstance(error, MemoryError | OSError) or 'Allocator' in str(error) or 'CUDA out of memory' in str(error)


def _can_allocate() -> bool:
    try:
        mmap.mmap(-1, _RESERVE).close()
    except (OSError, MemoryError):
        return False
    return True


def _can_open_files(count: int = _SPARE_FILES) -> bool:
    opened = []
    try:
        for _ in range(count):
            opened.append(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.errno not in (errno.EMFILE, errno.ENFILE)
    finally:
        for descriptor in opened:
            os.close(descriptor)
    return True


def _explain_dead_worker(text: str) -> str | None:
    """Explain torch's report of a data worker that ended unexpectedly."""
    found = re.search(r'DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (?:is killed by signal: (.*?)\.|exited)', text)
    if found is None:
        return None
    return explain_dead_worker(*found.groups())


def _one_line(error: BaseException) -> str:
    return ' '.join(str(error).split()) or type(error).__name__
