"""Reading and writing ``.safetensors`` files: those of other projects, and our own with config and class names.

A safetensors file is a JSON header with names, shapes and types, followed by the data of the tensors. Our files have
two more entries in the header's ``__metadata__``:

- ``dsanet``: JSON of everything in the checkpoint except the weights, such as ``config`` and ``class_names``;
- ``dsanet_sha256``: SHA-256 of the whole file with zeros in place of this value, because the format has no checksum.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch

from dsanet.utils.file_kinds import describe_kind
from dsanet.utils.files import write_atomically

SUFFIX = '.safetensors'
_CONTENT = 'dsanet'
_CHECKSUM = 'dsanet_sha256'
_BEFORE_CHECKSUM = f'"{_CHECKSUM}":"'.encode()  # quotes in other strings of the header are escaped
_ZEROS = b'0' * 64


def is_safetensors(file: Path) -> bool:
    """Return whether a file has the suffix of a safetensors file or starts like one."""
    with file.open('rb') as stream:
        start = stream.read(9)
    return file.suffix == SUFFIX or (start[8:] == b'{' and int.from_bytes(start[:8], 'little') < file.stat().st_size)


def write_safetensors(content: Mapping[str, Any], file: Path) -> None:
    """Write a checkpoint atomically as a safetensors file.

    Args:
        content: ``state_dict`` with the weights; everything else must be plain types, and is stored as JSON.
        file: the file.

    Raises:
        OSError: the file cannot be written. The old file stays.
    """
    # Tensors that share memory cannot be written.
    state = {key: value.detach().cpu().clone().contiguous() for key, value in content['state_dict'].items()}
    others = {key: value for key, value in content.items() if key != 'state_dict'}
    serialized = safetensors.torch.save(state)
    header, end = _read_header(serialized)
    # Written here, because safetensors orders metadata randomly, and equal checkpoints should be equal files.
    metadata = {'format': 'pt', _CONTENT: json.dumps(others), _CHECKSUM: _ZEROS.decode()}
    text = json.dumps({'__metadata__': metadata, **header}, separators=(',', ':')).encode()
    text += b' ' * (-len(text) % 8)  # aligns the values
    data = bytearray(len(text).to_bytes(8, 'little') + text + serialized[end:])
    start, digest = _find_checksum(data)
    data[start : start + len(_ZEROS)] = digest
    write_atomically(data, file)


def read_safetensors(file: Path) -> dict[str, Any]:
    """Read a safetensors file: a checkpoint if it is one of ours, otherwise its tensors by name.

    Raises:
        ValueError: the file is damaged or of another kind.
        OSError, MemoryError: an error of the system, independent of the content.
    """
    data = file.read_bytes()  # at once, because load_file would map the file, which may change while it is used
    if data[8:9] != b'{':
        raise ValueError(f'it is not a safetensors file; it is {describe_kind(file)}')
    try:
        state = dict(sorted(safetensors.torch.load(data).items()))
    except (safetensors.SafetensorError, KeyError) as error:  # KeyError: a type that torch does not have
        raise ValueError(f'it is damaged: {error}') from error
    metadata = _read_header(data)[0].get('__metadata__') or {}
    if not metadata.keys() & {_CONTENT, _CHECKSUM}:
        return state
    start, digest = _find_checksum(data)
    if data[start : start + len(_ZEROS)] != digest:
        raise ValueError('it is damaged: the checksum is wrong')
    return {'state_dict': state, **json.loads(metadata[_CONTENT])}


def _read_header(data: bytes) -> tuple[dict[str, Any], int]:
    """Return the header of a file, and where it ends."""
    end = 8 + int.from_bytes(data[:8], 'little')
    return json.loads(data[8:end]), end


def _find_checksum(data: bytes | bytearray) -> tuple[int, bytes]:
    """Return the position of the checksum of a file, and its correct value."""
    start = data.find(_BEFORE_CHECKSUM) + len(_BEFORE_CHECKSUM)
    digest = hashlib.sha256(memoryview(data)[:start])
    digest.update(_ZEROS)
    digest.update(memoryview(data)[start + len(_ZEROS) :])
    return start, digest.hexdigest().encode()
