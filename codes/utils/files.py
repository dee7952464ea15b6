"""Atomic writing of files, and checks that a path can be written."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def open_atomically(file: Path) -> Iterator[BinaryIO]:
    """Open ``<name>.part`` for writing, and rename it to ``file`` at the end.

    So the file is always complete, the old or the new one, even after a crash or a power failure. After an error the
    old file stays and the new one is removed.
    """
    part = file.with_name(f'{file.name}.part')
    try:
        with part.open('wb') as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, file)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_atomically(content: bytes, file: Path) -> None:
    """Write a file atomically; see :func:`open_atomically`."""
    with open_atomically(file) as stream:
        stream.write(content)


def check_path(path: object, name: str, others: str = '') -> str:
    """Return a path as text; raise a TypeError if it is anything but text or a Path.

    Args:
        path: the value.
        name: its name for the message.
        others: what is also allowed, such as ' or a dict'.
    """
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(text, str):
        raise TypeError(f'{name} must be a path (str or Path){others}, got {type(path).__name__}')
    if not text:
        raise ValueError(f'{name} is empty; it must be a path')
    return text


def check_writable(folder: Path, name: str) -> None:
    """Fail early if a folder cannot be written to or created.

    Args:
        folder: an existing or new folder; it is not created here.
        name: name of the option, such as '--out'.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not existing.is_dir():
        reason = f'{existing} is not a folder'
    elif not os.access(existing, os.W_OK | os.X_OK):
        reason = f'{existing} is not writable'
    else:
        return
    raise ValueError(f'{name} {folder} must be a writable or new folder: {reason}')
