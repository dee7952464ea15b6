"""Files that are at any moment either the old or the new one, complete: after a crash, a power cut, on a full disk."""

import os
from collections.abc import Iterator
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
