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


class Clip(NamedTuple):
    """What is made of the frames of a video; several clips may use the same frame.

    Attributes:
        crops: each one is applied to the result of the one before; none for whole frames.
        positions: the frames, as positions among those that are read; None for all.
    """

    crops: Sequence[Crop] = ()
    positions: npt.NDArray[np.int64] | None = None


# Returns the clips, all of the same size, for frames of (height, width).
PlanClips = Callable[[int, int], Sequence[Clip]]


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
        num_frames: number of frames that are added.
        allocate: returns memory for an array of a shape.
        plan: returns the clips, called once with the size of the first frame; None for whole frames.
    """

    def __init__(
        self, num_frames: int, allocate: Callable[[tuple[int, ...]], Frames], plan: PlanClips | None = None
    ) -> None:
        self._num_frames = num_frames
        self._allocate = allocate
        self._plan = plan
        self._targets: list[list[tuple[int, Sequence[Crop]]]] = []  # of each added frame: position and crops
        self._box: Box = (0, 0, 0, 0)
        self._size: tuple[int, int] | None = None
        self._frames: Frames | None = None

    @property
    def frames(self) -> Frames:
        """All frames (len, H, W, 3) of the first clip, then of the second, ..."""
        assert self._frames is not None, 'there is at least one frame'
        return self._frames

    def region(self, height: int, width: int) -> Box:
        """Return the box that is needed of a whole frame.

        Raises:
            ValueError: the frame has another size than the first one.
            Exception: the plan does not fit to the size.
        """
        if self._size is None:
            self._prepare(height, width)
            self._size = height, width
        if self._size != (height, width):
            raise ValueError(f'size (height, width) {(height, width)} differs from the first frame, {self._size}')
        return self._box

    def _prepare(self, height: int, width: int) -> None:
        clips = self._plan(height, width) if self._plan is not None else (Clip(),)
        whole = Crop((0, 0, height, width), (height, width))
        self._targets = [[] for _ in range(self._num_frames)]
        number = 0
        firsts, sizes = [], set()
        for clip in clips:
            crops = clip.crops or (whole,)
            firsts.append(crops[0].box)
            sizes.add(crops[-1].size)
            for position in range(self._num_frames) if clip.positions is None else clip.positions.tolist():
                self._targets[position].append((number, crops))
                number += 1
        assert len(sizes) == 1, f'all clips of a video must have one size, got {sizes}'
        self._box = _bounding_box(firsts)
        self._frames = self._allocate((number, *sizes.pop(), 3))

    def put(self, position: int, image: Frames) -> None:
        """Store frame number ``position``, given its region (H, W, 3)."""
        for number, (first, *others) in self._targets[position]:
            target = self.frames[number]
            (top, left, height, width), size = first
            part = crop_image(image, (top - self._box[0], left - self._box[1], height, width))
            result = resize_image(part, size, None if others else target)
            for crop in others:
                result = resize_image(crop_image(result, crop.box), crop.size, target if crop is others[-1] else None)
            if result is not target:
                target[:] = result

    def put_whole(self, position: int, image: Frames) -> None:
        """Store frame number ``position``, given the whole frame (H, W, 3)."""
        self.put(position, crop_image(image, self.region(*image.shape[:2])))


def _bounding_box(boxes: Sequence[Box]) -> Box:
    """Return the smallest box that contains all boxes."""
    top, left = min(box[0] for box in boxes), min(box[1] for box in boxes)
    bottom, right = max(box[0] + box[2] for box in boxes), max(box[1] + box[3] for box in boxes)
    return top, left, bottom - top, right - left
