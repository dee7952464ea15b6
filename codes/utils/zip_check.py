"""A strict check of zip files, the format of ``torch.save``: torch trusts their directory and ignores checksums."""

import struct
import zipfile
from pathlib import Path
from typing import BinaryIO

from dsanet.utils.machine_faults import is_machine_fault

ZIP_SIGNATURE = b'PK\x03\x04'
_LOCAL_HEADER = struct.Struct('<4s5H3I2H')
_STREAMED = 0x08  # flag: checksum and sizes follow the data
_FOLDER = 0x10  # MS-DOS attribute; torch returns uninitialized memory for an entry that has it
_ZIP64 = 0xFFFFFFFF  # instead of a size: the size is in the extra field


def check_zip(file: Path) -> list[str]:
    """Check that a zip file is undamaged, so that every program reads the same data from it.

    The entries must fill the file without gaps, their headers must agree with the directory, and their data with the
    checksums.

    Returns:
        The names of the entries.

    Raises:
        ValueError: the file is damaged.
        OSError, MemoryError: an error of the system, independent of the content.
    """
    try:
        with file.open('rb') as stream, zipfile.ZipFile(stream) as archive:
            entries = sorted(archive.infolist(), key=lambda info: info.header_offset)
            ends = [*(info.header_offset for info in entries), archive.start_dir]
            if ends[0] != 0 or len(set(archive.namelist())) != len(entries):
                raise ValueError('invalid central directory')
            for info, end in zip(entries, ends[1:], strict=True):
                _check_entry(info, end, stream)
                with archive.open(info) as data:  # raises if the name or the checksum is wrong
                    while data.read(1 << 20):
                        pass
    except Exception as error:  # zipfile raises errors of many types
        if is_machine_fault(error):
            raise
        # zipfile says 'File is not a zip file' if there is no directory at the end of the file.
        reason = error if zipfile.is_zipfile(file) else 'its end is missing'
        raise ValueError(f'damaged zip file: {reason}') from error
    return [info.filename for info in entries]


def _check_entry(info: zipfile.ZipInfo, end: int, stream: BinaryIO) -> None:
    """Check the header of an entry and what follows its data, up to the next entry at ``end``."""
    stream.seek(info.header_offset)
    header = _LOCAL_HEADER.unpack(stream.read(_LOCAL_HEADER.size))
    signature, _, flags, method, _, _, crc, stored_size, size, name_length, extra_length = header
    is_streamed = bool(flags & _STREAMED)
    is_folder = info.filename.endswith('/')
    data_end = stream.tell() + name_length + extra_length + info.compress_size
    stream.seek(data_end)
    trailer = stream.read(min(max(end - data_end, 0), 24))
    agree = [
        signature == ZIP_SIGNATURE and flags == info.flag_bits and method == info.compress_type,
        (is_streamed and (crc, stored_size, size) == (0, 0, 0))
        or (crc == info.CRC and stored_size in (info.compress_size, _ZIP64) and size in (info.file_size, _ZIP64)),
        end - data_end == len(trailer) and trailer in (_trailers(info) if is_streamed else (b'',)),
        not info.file_size if is_folder else not info.external_attr & _FOLDER,
    ]
    if not all(agree):
        raise ValueError(f'header and directory differ for {info.filename}')


def _trailers(info: zipfile.ZipInfo) -> list[bytes]:
    """Return the possible forms of checksum and sizes after the data of an entry."""
    numbers = info.CRC, info.compress_size, info.file_size
    forms = [struct.pack(form, *numbers) for form in ('<3I', '<I2Q') if form == '<I2Q' or max(numbers) <= _ZIP64]
    return [signature + form for form in forms for signature in (b'', b'PK\x07\x08')]
