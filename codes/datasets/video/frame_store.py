"""Crop and resize frames one by one while a video is decoded, so that no more than one whole frame is kept.

The results equal those of cropping and resizing all whole frames.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

Frames = npt.NDArray[np.uint8]
Box = tuple[int, int, int, int]  # top, left, height, width in pixels


class Crop(NamedTuple):
    """A part of a frame, resized.

    Attributes:
        box: (top, left, height, width) in pixels, inside the frame.
        size: (height, width) of the result.
    """

    box: Box
    size: tuple[int, int]


# Returns the crops, each applied to the result of the one before, for frames of (height, width).
PlanCrops = Callable[[int, int], Sequence[Crop]]


def new_array(shape: tuple[int, ...]) -> Frames:
    """Return memory for frames."""
    return np.empty(shape, np.uint8)


def crop_image(image: Frames, box: Box) -> Frames:
    """Crop an image (H, W, 3), without a copy."""
    top, left, height, width = box
    return image[top : top + height, left : left + width]  # (height, width, 3)


def resize_image(image: Frames, size: tuple[int, int], target: Frames | None = None) -> Frames:
    """Resize an image (H, W, 3) to (height, width) bilinearly; return one of the right size unchanged.

    Args:
        image, size: see above.
        target: memory for the result.
    """
    if image.shape[:2] == size:
        return image
    return cv2.resize(image, size[::-1], dst=target, interpolation=cv2.INTER_LINEAR)  # type: ignore[return-value]


class FrameStore:
    """Frames of one video, cropped and resized when they are added.

    Args:
        num_frames: number of frames.
        allocate: returns memory for an array of a shape.
        plan: returns the crops, called once with the size of the first frame; None for whole frames.
    """

    def __init__(
        self, num_frames: int, allocate: Callable[[tuple[int, ...]], Frames], plan: PlanCrops | None = None
    ) -> None:
        self._num_frames = num_frames
        self._allocate = allocate
        self._plan = plan
        self._crops: Sequence[Crop] = ()
        self._size: tuple[int, int] | None = None
        self._frames: Frames | None = None

    @property
    def frames(self) -> Frames:
        """All frames, (num_frames, H, W, 3)."""
        assert self._frames is not None, 'there is at least one frame'
        return self._frames

    def region(self, height: int, width: int) -> Box:
        """Return the box that is needed of a whole frame.

        Raises:
            ValueError: the frame has another size than the first one.
            Exception: the plan does not fit to the size.
        """
        if self._size is None:
            crops = self._plan(height, width) if self._plan is not None else ()
            self._crops = crops or (Crop((0, 0, height, width), (height, width)),)
            self._frames = self._allocate((self._num_frames, *self._crops[-1].size, 3))
            self._size = height, width
        if self._size != (height, width):
            raise ValueError(f'size (height, width) {(height, width)} differs from the first frame, {self._size}')
        return self._crops[0].box

    def put(self, position: int, image: Frames) -> None:
        """Store frame number ``position``, given its region (H, W, 3)."""
        target = self.frames[position]
        last = len(self._crops) - 1
        for number, crop in enumerate(self._crops):
            part = image if number == 0 else crop_image(image, crop.box)
            image = resize_image(part, crop.size, target if number == last else None)
        if image is not target:
            target[:] = image

    def put_whole(self, position: int, image: Frames) -> None:
        """Store frame number ``position``, given the whole frame (H, W, 3)."""
        self.put(position, crop_image(image, self.region(*image.shape[:2])))
