"""Files that are at any moment either the old or the new one, complete: after a crash, a power cut, on a full disk."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(file: Path) -> Iterator[BinaryIO]:
    """Give an open file to write to, ``<name>.part``, which takes the place of ``file`` if all goes well.

    Args:
        file: where to; its folder exists.

    Raises:
        OSError: it cannot be written. As after any other error, the old file stays and nothing of the new one is left.
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
    """Write all of a file at once; see :func:`replacing`."""
    with replacing(file) as stream:
        stream.write(content)


def check_writable(folder: Path, name: str) -> None:
    """Refuse a folder that cannot be written to; it is not made here.

    Args:
        folder: one that is there, or a new one.
        name: what the user calls it, such as '--out'.

    Raises:
        ValueError: it is, or lies below, a file, or a folder in which nothing may be made, or that is read-only.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        reason = f'{there} is no folder'
    elif not os.access(there, os.W_OK | os.X_OK):
        reason = f'{there} cannot be written to'
    else:
        return
    raise ValueError(f'{name} {folder} must be a folder to write to, or a new name for one: {reason}')


def check_result_file(file: Path, suffixes: Sequence[str]) -> Path:
    """Check before hours of work, not after them, that a file can be written; its folder is made.

    Raises:
        ValueError: it has another suffix, or cannot be written.
    """
    if file.suffix not in suffixes:
        raise ValueError(f'{str(file)!r} must end in {" or ".join(suffixes)}')
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f'{str(file)!r} cannot be written: {error.strerror}') from error
    if file.is_dir() or not os.access(file.parent, os.W_OK):
        raise ValueError(f'{str(file)!r} cannot be written: {"it is a folder" if file.is_dir() else "no permission"}')
    return file
