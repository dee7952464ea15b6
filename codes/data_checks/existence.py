"""Look for the files of a split, without opening them.

The order of the search is spread over the whole list, so that a search with a time limit covers all parts of it.
"""

import os
import stat
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dsanet.data_checks.probe import Identity, ProbeResult
from dsanet.data_checks.splits import Split
from dsanet.datasets.records import VideoRecord


@dataclass(frozen=True)
class FileScan:
    """Result of the search for the files of a split.

    Args:
        num_videos: number of videos that were looked for.
        bad: missing and empty ones.
        identities: device and inode of the file, or of a folder's first frame, by index of the video. Paths that are
            symbolic or hard links to the same file have the same identity.
    """

    num_videos: int
    bad: Sequence[ProbeResult]
    identities: Mapping[int, Identity]


def golden_ratio_order(length: int) -> npt.NDArray[np.int64]:
    """Return the numbers 0 to ``length - 1`` in an order whose every prefix is spread over the whole range.

    Uses multiples of the golden ratio modulo 1, so the order is always the same.
    """
    return np.argsort(np.arange(length) * 0.6180339887498949 % 1, kind='stable')


def scan_files(split: Split, seconds: float | None) -> FileScan:
    """Look for the files of a split for some ``seconds``, but for at least 20 files; None for all files."""
    bad = []
    identities: dict[int, Identity] = {}
    num_videos = 0
    started = time.monotonic()
    for index in map(int, golden_ratio_order(len(split.records))):
        if seconds is not None and num_videos >= 20 and time.monotonic() - started > seconds:
            break
        num_videos += 1
        record = split.records[index]
        identity, error = find_file(record, split.filename_tmpl, split.start_index)
        if identity is not None:
            identities[index] = identity
        if error is not None:
            bad.append(ProbeResult(record.key, error=error, kind='missing'))
    return FileScan(num_videos, bad, identities)


def find_file(
    record: VideoRecord, filename_tmpl: str | None = None, start_index: int = 1
) -> tuple[Identity | None, str | None]:
    """Look for the file of a video, or for the first and the last frame of its folder (with ``filename_tmpl``).

    Returns:
        Device and inode of the (first) file, None if it is missing; and an error message, None if there is no error.
    """
    if filename_tmpl is None:
        files = [record.path]
    else:
        last = start_index + (record.num_frames or 1) - 1
        files = [os.path.join(record.path, filename_tmpl.format(number)) for number in (start_index, last)]
    identity = None
    for file in files:
        try:
            found = os.stat(file)
        except OSError as error:
            return identity, f'{file}: {error.strerror}'
        if stat.S_ISDIR(found.st_mode):
            return identity, f'{file}: is a folder, expected a file'
        if identity is None and found.st_ino:  # 0 on some network drives
            identity = found.st_dev, found.st_ino
        if found.st_size == 0:
            return identity, f'{file}: empty file'
    return identity, None
