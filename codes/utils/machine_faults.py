"""Tell faults of the machine, such as too little memory, from damaged files."""

import errno
import os

_NAMES = (
    'EACCES EAGAIN EDQUOT EIO EMFILE ENFILE ENODEV ENOMEM ENOSPC ENOTCONN ENXIO EPERM EREMOTEIO EROFS ESTALE ETIMEDOUT'
)
_ERRNOS = {getattr(errno, name) for name in _NAMES.split() if hasattr(errno, name)}
# torch raises RuntimeError for errors of the system; its text contains that of the system.
_TEXTS = ('allocate memory', 'bad_alloc', 'out of memory', *sorted(os.strerror(number) for number in _ERRNOS))


def is_machine_fault(error: BaseException | None) -> bool:
    """Return whether an error, or an earlier one that it hides, says nothing about the file that was read.

    True if memory, disk space, file descriptors or a permission is missing, or the storage fails. FFmpeg also reports
    EIO for some damaged videos.
    """
    while error is not None:
        is_torch_text = isinstance(error, RuntimeError) and any(text in str(error) for text in _TEXTS)
        if isinstance(error, MemoryError) or getattr(error, 'errno', None) in _ERRNOS or is_torch_text:
            return True
        error = error.__cause__ or error.__context__
    return False
