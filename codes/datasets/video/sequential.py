"""All frames of a video, one after the other, in constant memory."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from dsanet.datasets.video.opening import decode_all, open_video, turn_upright
from dsanet.datasets.video.pyav_reader import one_thread
from dsanet.datasets.video.readers import Frames


class FrameConverter:
    """Converts decoded frames to upright RGB images, as :class:`PyAVReader` does; all have the size of the first."""

    def __init__(self) -> None:
        from av.video.reformatter import VideoReformatter

        self._reformatter = VideoReformatter()
        self._threads = one_thread()
        self._size: tuple[int, int] | None = None

    def __call__(self, frame: Any) -> Frames:
        """Return the image (H, W, 3) of a PyAV frame."""
        if self._size is None:
            self._size = frame.width, frame.height
        size: dict[str, Any] = {}
        if (frame.width, frame.height) != self._size:
            size = {'width': self._size[0], 'height': self._size[1], 'interpolation': 'BICUBIC'}
        image: Any = self._reformatter.reformat(frame, format='rgb24', **size, **self._threads).to_ndarray()
        return np.ascontiguousarray(turn_upright(image, frame))  # (H, W, 3)


def read_sequentially(path: str) -> Iterator[Frames]:
    """Yield the frames (H, W, 3) of a video file.

    Raises:
        ValueError: the file is not a video.
    """
    container, stream = open_video(path)
    with container:
        convert = FrameConverter()
        for frame in decode_all(container, stream):
            yield convert(frame)
