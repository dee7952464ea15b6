"""Atomic writing of files, and checks that a path can be written."""

import errno
import hashlib
import os
import secrets
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import combinations
from pathlib import Path
from typing import BinaryIO

# Errors of writing to an open file, which do not name it: a full disk, or a quota.
_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def open_atomically(file: Path) -> Iterator[BinaryIO]:
    """Open ``<name>.part`` for writing, and rename it to ``file`` at the end.

    So the file is always complete, the old or the new one, even after a crash or a power failure. After an error the
    old file stays and the new one is removed; the error of a full disk names the file.
    """
    part = _part_of(file)
    try:
        with part.open('wb') as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, file)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in _FULL and error.filename is None:
            raise OSError(error.errno, os.strerror(error.errno), str(file)) from error
        raise
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _part_of(file: Path) -> Path:
    return file.with_name(f'{file.name}.part')


def check_creatable(file: Path) -> None:
    """Fail early if :func:`open_atomically` cannot create a file in an existing folder; an existing file stays.

    Raises:
        OSError: it cannot be created, or is a folder.
    """
    if file.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))
    # As long as the name of the part, which another process may be writing now.
    probe = file.with_name(f'{file.name}.{secrets.token_hex(2)}')
    with suppress(FileExistsError):
        probe.open('xb').close()
        probe.unlink()


def hash_file(file: Path) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with file.open('rb') as stream:
        while block := stream.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def write_atomically(content: bytes | bytearray, file: Path) -> None:
    """Write a file atomically; see :func:`open_atomically`."""
    with open_atomically(file) as stream:
        stream.write(content)


def check_path(path: object, name: str, others: str = '') -> str:
    """Return a path as a str; raise a TypeError if it is neither a str nor a Path.

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
    else:
        try:
            tempfile.TemporaryFile(dir=existing).close()
            return
        except OSError as error:
            reason = f'{existing} is not writable ({error.strerror})'
    raise ValueError(f'{name} {folder} must be a writable or new folder: {reason}')


def check_absent(file: Path) -> None:
    """Raise a ValueError if an output exists, so that it is not replaced."""
    if file.exists():
        raise ValueError(f'{file} already exists; delete it or choose another file')


def check_outputs(outputs: Mapping[str, Path | None], inputs: Iterable[str | Path | None]) -> None:
    """Check that no output file is an input or another output, even via a link, another path or another case.

    Args:
        outputs: the files, by the names of their options; None if an option is not given.
        inputs: the files that are read, or None.

    Raises:
        ValueError: a file would be overwritten.
    """
    given = {name: file for name, file in outputs.items() if file is not None}
    sources = [Path(file) for file in inputs if file is not None]
    for name, file in given.items():
        for source in sources:
            if _is_same(file, source):
                raise ValueError(f'{name} {file} would overwrite the input {source}; choose another file')
    for (one, file), (two, other) in combinations(given.items(), 2):
        if _is_same(file, other):
            raise ValueError(f'{one} {file} and {two} {other} are the same file; choose another file for one of them')


def _is_same(one: Path, other: Path) -> bool:
    num_existing = one.exists() + other.exists()
    if num_existing:
        return num_existing == 2 and one.samefile(other)
    # The file system may ignore the case of names.
    return os.path.realpath(one).casefold() == os.path.realpath(other).casefold()
