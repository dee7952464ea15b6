"""Small contact sheets of videos that a model takes for another class."""

import logging
from pathlib import Path

import numpy as np

from dsanet.data_tools.visualization import Image, fit_into
from dsanet.datasets.video.span_reader import open_reader
from dsanet.utils.text import printable

NUM_FRAMES = 4
CELL = (160, 120)  # largest width and height of a frame in pixels

_logger = logging.getLogger(__name__)


def read_sheet(path: str) -> Image | None:
    """Return frames of a video, evenly spaced from the first to the last, side by side.

    Args:
        path: the video file, relative to the current folder.

    Returns:
        RGB image; None if there is no such file or it cannot be read.
    """
    if not Path(path).is_file():
        return None
    try:
        reader = open_reader('pyav', path)
        try:
            indices = np.linspace(0, reader.num_frames - 1, NUM_FRAMES).round().astype(np.int64)
            frames = reader.read(np.unique(indices))
        finally:
            reader.close()
    except (OSError, ValueError, RuntimeError) as error:
        _logger.warning('%s cannot be read: %s', printable(path), printable(str(error)))
        return None
    height, width = frames[0].shape[:2]
    scale = min(CELL[0] / width, CELL[1] / height)
    size = max(1, round(scale * width)), max(1, round(scale * height))  # without bars, which glare in dark mode
    return np.concatenate([fit_into(frame, *size) for frame in frames], axis=1)  # (H, 4 * W, 3)
