"""One checkpoint file: written so that it survives a power cut, and read without running code from it.

A checkpoint holds tensors and plain Python types only, so it loads with ``weights_only=True``.
"""

import errno
import logging
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch

from dsanet.utils.files import replacing

LOGGER = logging.getLogger(__name__)

# The system or the disk is at fault, not what is in the file.
_NOT_THE_FILES_FAULT = {
    getattr(errno, name) for name in ('EACCES', 'EPERM', 'EIO', 'EMFILE', 'ENFILE', 'ENOMEM', 'ESTALE')
}


# The flag of the tools that lets a file run code while it is read.
ALLOW_PICKLE = '--allow-pickle'


def save_atomically(content: Mapping[str, Any], file: Path) -> None:
    """Write a checkpoint so that ``file`` is at any moment either the old one or the new one, complete.

    Args:
        content: tensors and plain types.
        file: where to; its folder exists.

    Raises:
        OSError: it cannot be written; nothing of it is left.
    """
    with replacing(file) as stream:
        _write(content, stream)


class _Stream:
    """A file for torch.save, which hides why its file could not be written."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self._stream.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._stream.flush()


def _write(content: Mapping[str, Any], stream: BinaryIO) -> None:
    watched = _Stream(stream)
    try:
        torch.save(dict(content), watched)  # type: ignore[arg-type]
    except RuntimeError as error:
        raise watched.error or error from error


def read_checkpoint(file: str | Path, allow_pickle: bool = False) -> dict[str, Any]:
    """Read a checkpoint onto the CPU, without running code from it unless that is needed and allowed.

    Args:
        file: the checkpoint.
        allow_pickle: let a file run code that cannot be read otherwise, as old ones that hold more than tensors and
            plain types; said in a warning. For files whose origin is trusted.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, is no checkpoint, or needs code to be read.
        OSError, MemoryError: it cannot be read now, whatever is in it.
    """
    file = Path(file)
    if not file.is_file():
        is_folder = f'; {file} is a folder' if file.is_dir() else ''
        raise FileNotFoundError(f'there is no checkpoint {file.absolute()}{is_folder}')
    try:
        _compare_checksums(file)
        content = torch.load(file, map_location='cpu', weights_only=True)
    except Exception as error:  # damaged bytes make torch raise nearly anything
        if isinstance(error, MemoryError) or getattr(error, 'errno', None) in _NOT_THE_FILES_FAULT:
            raise
        foreign = re.search(r'GLOBAL ([\w.]+)', str(error))
        if foreign is None or not allow_pickle:
            text = f'{file} cannot be read as a checkpoint of tensors and plain types: {_why(file, error, foreign)}'
            raise ValueError(text) from error
        content = _read_with_code(file, foreign[1])
    if not isinstance(content, dict):
        raise ValueError(f'{file} holds a {type(content).__name__}, not a checkpoint')
    return content


def _compare_checksums(file: Path) -> None:
    """Compare what is in a file with its checksums, which torch writes and does not look at when it reads.

    Raises:
        ValueError, zipfile.BadZipFile: a bit is not as it was.
    """
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            if (damaged := archive.testzip()) is not None:
                raise ValueError(f'{damaged} in it is damaged')


def _why(file: Path, error: Exception, foreign: re.Match[str] | None) -> str:
    """Say in one line why a file was refused, and what helps if it only needs code."""
    if foreign is not None:
        return (
            f'it holds {foreign[1]}, and reading that runs code from the file. Only if you trust whom it is from: '
            f'`dsanet convert {file} NEW.pth {ALLOW_PICKLE}` makes a plain file of it'
        )
    if not zipfile.is_zipfile(file) and isinstance(error, pickle.UnpicklingError | EOFError):
        return 'it is not a file that torch.save wrote'  # torch's own text advises to run code from it
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _read_with_code(file: Path, foreign: str) -> Any:
    LOGGER.warning('%s holds %s; because of %s it is read all the same, and its code runs', file, foreign, ALLOW_PICKLE)
    try:
        return torch.load(file, map_location='cpu', weights_only=False)
    except Exception as error:  # whatever that code raises, such as for want of a module
        raise ValueError(f'{file} cannot be read even with {ALLOW_PICKLE}: {error!r}') from error
