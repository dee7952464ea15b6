"""Keep the indices of long videos in a folder, for other processes and later runs.

The folder is named by the environment variable ``DSANET_INDEX_DIR``; without it, nothing is written. Files are named
after path, size and modification time of a video, so those of a changed video are not used. They can be deleted at any
time.
"""

import contextlib
import hashlib
import logging
import os
import uuid
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dsanet.datasets.video.opening import file_version

LOGGER = logging.getLogger(__name__)
FOLDER_VARIABLE = 'DSANET_INDEX_DIR'

Arrays = dict[str, npt.NDArray[np.int64]]


def load_arrays(path: str) -> Arrays | None:
    """Return the arrays that were saved for a video; None if there are none, or they are damaged."""
    file = _file_of(path)
    if file is None:
        return None
    try:
        with file.open('rb') as stream, np.load(stream, allow_pickle=False) as arrays:
            return dict(arrays)
    except FileNotFoundError:
        return None
    except Exception as error:  # damaged archives raise many types
        LOGGER.warning('Ignoring %s, which cannot be read: %s', file, error)
        return None


def save_arrays(path: str, arrays: Arrays) -> None:
    """Save arrays for a video; log a warning if that is not possible."""
    file = _file_of(path)
    if file is None:
        return
    # Several processes may save the same file, on a network disk also those of other machines.
    part = file.with_suffix(f'.{uuid.uuid4().hex}.part')
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with part.open('wb') as stream:
            np.savez(stream, **arrays)  # type: ignore[arg-type]
        part.replace(file)
    except OSError as error:
        LOGGER.warning('Cannot write to %s=%s: %s', FOLDER_VARIABLE, file.parent, error)
        with contextlib.suppress(OSError):
            part.unlink()


def _file_of(path: str) -> Path | None:
    folder = os.environ.get(FOLDER_VARIABLE)
    if not folder:
        return None
    version = file_version(os.path.abspath(path))
    return Path(folder, hashlib.sha256(repr(version).encode()).hexdigest()[:32] + '.npz')
