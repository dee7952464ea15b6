"""All frames of a video, one after the other, in constant memory."""

from collections.abc import Iterator

import numpy as np

from dsanet.datasets.video.opening import decode_all, open_video
from dsanet.datasets.video.picture import FrameConverter
from dsanet.datasets.video.readers import Frames


def read_sequentially(path: str) -> Iterator[Frames]:
    """Yield the frames (H, W, 3) of a video file.

    Raises:
        ValueError: the file is not a video.
    """
    container, stream = open_video(path)
    with container:
        convert = FrameConverter()
        for frame in decode_all(container, stream):
            yield np.ascontiguousarray(convert(frame))
