"""Whether the files of a split are there, and which of them are one file, without opening any.

They are looked for in an order that spreads over the whole list: whoever stops early has seen something of all of it.
"""

import os
import stat
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dsanet.data_checks.probe import FileFacts, Identity
from dsanet.data_checks.splits import Split
from dsanet.datasets.annotation import VideoRecord


@dataclass(frozen=True)
class FileScan:
    """What the file system says of a split's files, without opening any.

    Args:
        num_videos: how many were looked for.
        bad: what is missing or empty.
        identities: by place in the list, device and number of the file, or of a folder's first frame. Paths that links,
            symbolic or hard, lead to the same file have the same.
    """

    num_videos: int
    bad: Sequence[FileFacts]
    identities: Mapping[int, Identity]


def spread_order(length: int) -> npt.NDArray[np.int64]:
    """Return the numbers 0 to ``length - 1`` in an order of which each beginning is spread over all of them.

    Steps of the golden ratio, around and around: no seed, and the same for everyone.
    """
    return np.argsort(np.arange(length) * 0.6180339887498949 % 1, kind='stable')


def look_for_files(split: Split, seconds: float | None) -> FileScan:
    """Ask the file system for the files of a split, without opening any.

    Of a folder of frames the first and the last frame are looked for.

    Args:
        split: whose files.
        seconds: stop after so long; at least 20 files are looked for. None to look for all.
    """
    bad = []
    identities: dict[int, Identity] = {}
    num_videos = 0
    started = time.monotonic()
    for place in spread_order(len(split.records)).tolist():
        if seconds is not None and num_videos >= 20 and time.monotonic() - started > seconds:
            break
        num_videos += 1
        record = split.records[place]
        identity, error = find_file(record, split.filename_tmpl, split.start_index)
        if identity is not None:
            identities[place] = identity
        if error is not None:
            bad.append(FileFacts(record.path, error=error, kind='missing'))
    return FileScan(num_videos, bad, identities)


def find_file(
    record: VideoRecord, filename_tmpl: str | None = None, start_index: int = 1
) -> tuple[Identity | None, str | None]:
    """Look for a video's file, or for the first and the last frame of its folder.

    Args:
        record: the video.
        filename_tmpl: how frames are called; None for a video file.
        start_index: number of the first frame.

    Returns:
        Device and number of the (first) file, None if it is not there; and why the video cannot be read, as far as the
        file system knows, None if nothing speaks against it.
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
            return identity, f'{file}: a folder, where a file was expected'
        if identity is None and found.st_ino:  # some network drives do not number their files
            identity = found.st_dev, found.st_ino
        if found.st_size == 0:
            return identity, f'{file}: empty file'
    return identity, None
