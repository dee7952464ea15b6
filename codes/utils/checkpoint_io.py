"""Writing and reading a checkpoint file: atomically, and without running code from it.

A checkpoint contains only tensors and plain Python types, so it loads with ``weights_only=True``.
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

from dsanet.utils.files import open_atomically

LOGGER = logging.getLogger(__name__)

# Errors of the system or the disk, which say nothing about the content of the file.
_SYSTEM_ERRORS = {getattr(errno, name) for name in ('EACCES', 'EPERM', 'EIO', 'EMFILE', 'ENFILE', 'ENOMEM', 'ESTALE')}

ALLOW_PICKLE = '--allow-pickle'  # option of the commands that allows a file to run code while it is read


def save_atomically(content: Mapping[str, Any], file: Path) -> None:
    """Write a checkpoint atomically: ``file`` is always complete, the old one or the new one.

    Raises:
        OSError: the file cannot be written. The old file stays.
    """
    with open_atomically(file) as stream:
        watched = _Stream(stream)
        try:
            torch.save(dict(content), watched)  # type: ignore[arg-type]
        except RuntimeError as error:
            raise watched.error or error from error


class _Stream:
    """A stream that keeps the OSError of a write, which torch.save hides."""

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


def read_checkpoint(file: str | Path, allow_pickle: bool = False) -> dict[str, Any]:
    """Load a checkpoint to the CPU, without running code from the file.

    Args:
        file: the checkpoint.
        allow_pickle: unpickle a file that contains objects other than tensors and plain types. This may run code from
            the file, so use it only for files that you trust.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is damaged, is not a checkpoint, or must be unpickled.
        OSError, MemoryError: an error of the system, independent of the content.
    """
    file = Path(file)
    if not file.is_file():
        reason = 'is a folder' if file.is_dir() else 'does not exist'
        raise FileNotFoundError(f'checkpoint {file.absolute()} {reason}')
    try:
        _verify_checksums(file)
        content = torch.load(file, map_location='cpu', weights_only=True)
    except Exception as error:  # for damaged files torch raises errors of many types
        if isinstance(error, MemoryError) or getattr(error, 'errno', None) in _SYSTEM_ERRORS:
            raise
        foreign = re.search(r'GLOBAL ([\w.]+)', str(error))
        if foreign is None or not allow_pickle:
            raise ValueError(f'cannot read checkpoint {file}: {_reason(file, error, foreign)}') from error
        content = _unpickle(file, foreign[1])
    if not isinstance(content, dict):
        raise ValueError(f'{file} contains a {type(content).__name__}, not a checkpoint')
    return content


def _verify_checksums(file: Path) -> None:
    """Verify the checksums of a file, which torch writes but ignores when it reads."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            if (damaged := archive.testzip()) is not None:
                raise ValueError(f'{damaged} is damaged (wrong checksum)')


def _reason(file: Path, error: Exception, foreign: re.Match[str] | None) -> str:
    """Return in one line why a file was rejected."""
    if foreign is not None:
        return (
            f'it contains {foreign[1]}, and unpickling it may run code from the file. If you trust the file, convert '
            f'it with `dsanet convert {file} NEW.pth {ALLOW_PICKLE}`'
        )
    if not zipfile.is_zipfile(file) and isinstance(error, pickle.UnpicklingError | EOFError):
        return 'it was not written by torch.save'  # torch's text recommends running code from the file
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _unpickle(file: Path, foreign: str) -> Any:
    LOGGER.warning('Unpickling %s (%s); this can run code from %s', foreign, ALLOW_PICKLE, file)
    try:
        return torch.load(file, map_location='cpu', weights_only=False)
    except Exception as error:  # of that code, such as a missing module
        raise ValueError(f'cannot read checkpoint {file}, even with {ALLOW_PICKLE}: {error!r}') from error
