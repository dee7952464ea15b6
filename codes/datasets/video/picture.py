"""Convert decoded frames to RGB images."""

from typing import Any

import numpy as np
import numpy.typing as npt

from dsanet.datasets.video.frame_store import Box, Frames, crop_image
from dsanet.datasets.video.opening import orientation, turn_upright

# Pixel formats whose conversion to RGB treats each 2 x 2 pixels alone, if height and width are even: a part of the
# frame has the same RGB values as in the whole frame.
_BLOCK_FORMATS = ('yuv420p', 'yuvj420p')


class FrameConverter:
    """Converts decoded frames to upright RGB images of one size.

    Attributes:
        size: (width, height) of the frames before they are turned; None until the first frame, whose size it becomes.
    """

    def __init__(self) -> None:
        from av.video.reformatter import VideoReformatter

        # One for all frames: the setup of a swscale context takes longer than converting a small frame.
        self._reformatter = VideoReformatter()
        self._part: Any = None  # a frame with the pixels of a box
        self.size: tuple[int, int] | None = None

    def upright_size(self, frame: Any) -> tuple[int, int]:
        """Return (height, width) of the image of a frame."""
        width, height = self.size or (frame.width, frame.height)
        return (width, height) if orientation(frame)[0] else (height, width)

    def __call__(self, frame: Any, box: Box | None = None) -> Frames:
        """Return the image (H, W, 3) of a PyAV frame; it may be a view that is not contiguous.

        Args:
            frame: from the decoder.
            box: (top, left, height, width) of the part of the image to return; None for all of it.
        """
        size = frame.width, frame.height
        self.size = self.size or size
        is_whole = box is None or box == (0, 0, *self.upright_size(frame))
        if not is_whole and size == self.size and _has_blocks(frame):
            assert box is not None, 'it is not the whole frame'
            return self._convert_part(frame, box)
        target: dict[str, Any] = {}
        if size != self.size:
            target = {'width': self.size[0], 'height': self.size[1], 'interpolation': 'BICUBIC'}
        image = turn_upright(self._to_rgb(frame, **target).to_ndarray(), frame)
        return image if box is None else crop_image(image, box)  # (H, W, 3)

    def _to_rgb(self, frame: Any, **target: Any) -> Any:
        return self._reformatter.reformat(frame, format='rgb24', **target, threads=1)  # a data worker has one core

    def _convert_part(self, frame: Any, box: Box) -> Frames:
        """Convert only the blocks that contain a box of the upright image."""
        import av

        top, left, height, width = _before_turning(box, frame)
        first_row, first_column = top // 2 * 2, left // 2 * 2
        num_rows, num_columns = -(-(top + height) // 2) * 2 - first_row, -(-(left + width) // 2) * 2 - first_column
        if self._part is None or (self._part.height, self._part.width) != (num_rows, num_columns):
            self._part = av.VideoFrame(num_columns, num_rows, frame.format.name)
        self._part.colorspace, self._part.color_range = frame.colorspace, frame.color_range
        for scale, source, target in zip((1, 2, 2), frame.planes, self._part.planes, strict=True):
            y, x, rows, columns = (value // scale for value in (first_row, first_column, num_rows, num_columns))
            _as_rows(target)[:rows, :columns] = _as_rows(source)[y : y + rows, x : x + columns]
        rgb = _as_rows(self._to_rgb(self._part).planes[0])[:, : 3 * num_columns]  # without padding
        image = rgb.reshape(num_rows, num_columns, 3)  # (H, W, 3)
        return turn_upright(crop_image(image, (top - first_row, left - first_column, height, width)), frame)


def _has_blocks(frame: Any) -> bool:
    """Return True if the RGB values of 2 x 2 pixels depend only on these pixels."""
    is_even = frame.width % 2 == 0 and frame.height % 2 == 0
    return is_even and frame.format.name in _BLOCK_FORMATS and not frame.interlaced_frame


def _as_rows(plane: Any) -> npt.NDArray[np.uint8]:
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)  # (rows, bytes of a row)


def _before_turning(box: Box, frame: Any) -> Box:
    """Return the box in the frame, given the box in the upright image."""
    top, left, height, width = box
    transposed, flipped, mirrored = orientation(frame)
    upright_height, upright_width = (frame.width, frame.height) if transposed else (frame.height, frame.width)
    top = upright_height - top - height if flipped else top
    left = upright_width - left - width if mirrored else left
    return (left, top, width, height) if transposed else (top, left, height, width)
