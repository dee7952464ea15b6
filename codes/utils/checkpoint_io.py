"""Writing and reading a checkpoint file: atomically, and without running code from it.

A checkpoint contains only tensors and plain Python types, so it loads with ``weights_only=True``.
"""

import logging
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch

from dsanet.utils.file_kinds import describe_kind
from dsanet.utils.files import open_atomically
from dsanet.utils.machine_faults import is_machine_fault
from dsanet.utils.safetensors_io import is_safetensors, read_safetensors
from dsanet.utils.text import first_line
from dsanet.utils.zip_check import ZIP_SIGNATURE, check_zip

LOGGER = logging.getLogger(__name__)

_LEGACY_SIGNATURE = b'\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.'  # magic number of torch.save until PyTorch 1.5
_URL = re.compile(r'([a-z][a-z0-9+-]+):/+')  # pathlib merges the two slashes
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
        file: a file of ``torch.save`` or a safetensors file.
        allow_pickle: unpickle a file that contains objects other than tensors and plain types. This may run code from
            the file, so use it only for files that you trust. A module is replaced by its weights.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is damaged, is not a checkpoint, or must be unpickled.
        OSError, MemoryError: an error of the system, independent of the content.
    """
    if _URL.match(str(file)):
        url = _URL.sub(r'\1://', str(file), count=1)
        raise ValueError(f'checkpoint {url} is a URL; download it, and pass the path of the file')
    file = Path(file)
    if not file.is_file():
        reason = 'is a folder' if file.is_dir() else 'does not exist'
        raise FileNotFoundError(f'checkpoint {file.absolute()} {reason}')
    try:
        if is_safetensors(file):
            return read_safetensors(file)
        _check_format(file)
        content = _load(file, allow_pickle)
    except Exception as error:
        if is_machine_fault(error):
            raise _describe_fault(file, error) from error
        raise ValueError(f'cannot read checkpoint {file}: {error}') from error
    if not isinstance(content, dict):
        raise ValueError(f'{file} contains a {type(content).__name__}, not a checkpoint')
    return content


def _describe_fault(file: Path, error: Exception) -> Exception:
    """Return a system error as an error that names the file."""
    if isinstance(error, OSError) and error.errno is not None:
        return type(error)(error.errno, error.strerror, str(file))
    if isinstance(error, MemoryError) or 'memory' in str(error):
        return MemoryError(f'not enough memory to read checkpoint {file}')
    return OSError(f'cannot read checkpoint {file}: {first_line(error)}')


def _check_format(file: Path) -> None:
    """Check that ``torch.save`` wrote a file, and verify the checksums, which torch ignores when loading.

    Raises:
        ValueError: it is damaged, or of another kind.
    """
    with file.open('rb') as stream:
        start = stream.read(512)
    if start.startswith(ZIP_SIGNATURE) or zipfile.is_zipfile(file):
        names = check_zip(file)
        if not any(name.endswith('/data.pkl') for name in names):
            raise ValueError(f'it is a zip archive without PyTorch weights (it contains {", ".join(names[:3])})')
        if any(name.endswith('/constants.pkl') for name in names):
            raise ValueError('it is a TorchScript program; save the state_dict() of its model with torch.save')
    elif _LEGACY_SIGNATURE not in start[:32]:
        raise ValueError(f'it was not written by torch.save; it is {describe_kind(file)}')


def _load(file: Path, allow_pickle: bool) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', 'Detected pickle protocol')  # the error names the remedy
            return torch.load(file, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's message recommends running code from the file, so it is not shown.
        found = re.search(r'GLOBAL ([\w.]+)', str(error))
        foreign = found[1] if found else 'objects other than tensors and plain types'
        if not allow_pickle:
            raise ValueError(
                f'it contains {foreign}, and unpickling it may run code from the file. If you trust the file, convert '
                f'it with `dsanet convert {file} NEW.pth {ALLOW_PICKLE}`'
            ) from error
    except Exception as error:  # for damaged files torch raises errors of many types
        if is_machine_fault(error):
            raise
        raise ValueError(f'it is damaged: {first_line(error)}') from error
    return _unpickle(file, foreign)


def _unpickle(file: Path, foreign: str) -> Any:
    LOGGER.warning('Unpickling %s (%s); this can run code from %s', foreign, ALLOW_PICKLE, file)
    try:
        content = torch.load(file, map_location='cpu', weights_only=False)
    except Exception as error:  # of that code, such as a missing module
        if is_machine_fault(error):
            raise
        raise ValueError(f'even with {ALLOW_PICKLE}: {error!r}') from error
    parts = content.items() if isinstance(content, dict) else [('state_dict', content)]
    is_module = {name: isinstance(value, torch.nn.Module) for name, value in parts}
    if not any(is_module.values()):
        return content
    return {name: value.state_dict() if is_module[name] else value for name, value in parts}
