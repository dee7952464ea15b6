"""Steps that are applied while a video is decoded, if they follow its decoding step.

Cropping and resizing treat every frame alone. So they need not wait until all frames are decoded: :class:`Compose`
passes them to the decoding step, which keeps only their results. These are the same as one step after another, because
the random numbers are drawn in the same order.
"""

from abc import abstractmethod
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from dsanet.datasets.transforms.base import Record, Transform
from dsanet.datasets.transforms.boxes import Box
from dsanet.datasets.video.frame_store import Crop, Frames, resize_image


def check_box(box: Box, height: int, width: int) -> Box:
    """Return a box if it is inside of frames of a size."""
    top, left, box_height, box_width = box
    if box_height > height or box_width > width:
        raise ValueError(
            f'crop {box_height}x{box_width} (height x width) is larger than the frames {height}x{width}; '
            'add a Resize step with a larger short_side before it'
        )
    inside = 0 <= top <= height - box_height and 0 <= left <= width - box_width
    assert inside, f'{box=} is not inside the frames {height}x{width}'
    return box


def crop_frames(frames: Frames, box: Box) -> Frames:
    """Crop all frames, without a copy."""
    top, left, height, width = check_box(box, *frames.shape[1:3])
    if (height, width) == frames.shape[1:3]:
        return frames
    return frames[:, top : top + height, left : left + width]


def resize_frames(frames: Frames, height: int, width: int) -> Frames:
    """Resize all frames bilinearly; return frames of the right size unchanged."""
    if frames.shape[1:3] == (height, width):
        return frames
    resized = np.empty((len(frames), height, width, 3), np.uint8)
    for frame, target in zip(frames, resized, strict=True):
        resize_image(frame, (height, width), target)
    return resized


def flip_frames(frames: Frames, target: Frames | None = None) -> Frames:
    """Flip all frames horizontally; OpenCV is many times faster than a copy of a reversed NumPy view."""
    flipped = np.empty(frames.shape, np.uint8) if target is None else target
    for frame, mirrored in zip(frames, flipped, strict=True):
        cv2.flip(frame, 1, dst=mirrored)
    return flipped


class FrameStep(Transform):
    """A step that crops and resizes every frame alone, and all in the same way."""

    requires: tuple[str, ...] = ('frames',)
    provides: tuple[str, ...] = ('frames',)

    @abstractmethod
    def plan(self, height: int, width: int, record: Record) -> Crop:
        """Return how to crop the frames of a video, given their size."""

    def __call__(self, record: Record) -> Record:
        _, height, width, _ = record['frames'].shape
        crop = self.plan(height, width, record)
        record['frames'] = resize_frames(crop_frames(record['frames'], crop.box), *crop.size)
        return record


class MultiCropStep(Transform):
    """A step that crops several boxes of the same size from every frame, crop-major."""

    requires: tuple[str, ...] = ('frames',)
    provides: tuple[str, ...] = ('frames',)
    adds_flips: bool = False  # whether the mirrored crops follow

    @abstractmethod
    def boxes(self, height: int, width: int) -> list[Box]:
        """Return the boxes, given the size of the frames."""

    def crop(self, frames: Frames, positions: npt.NDArray[np.int64]) -> Frames:
        """Return the crops (crops * len, H, W, 3) of the frames at ``positions`` (len,)."""
        boxes = self.boxes(*frames.shape[1:3])
        number = len(boxes) * (2 if self.adds_flips else 1)
        crops = np.empty((number, len(positions), *boxes[0][2:], 3), np.uint8)
        for box, views in zip(boxes, crops, strict=False):
            cropped = crop_frames(frames, box)
            for view, position in zip(views, positions, strict=True):
                view[:] = cropped[position]
        if self.adds_flips:
            for views, flipped in zip(crops[: len(boxes)], crops[len(boxes) :], strict=True):
                flip_frames(views, flipped)
        return crops.reshape(-1, *crops.shape[2:])  # (crops*len, H, W, 3)

    def __call__(self, record: Record) -> Record:
        record['frames'] = self.crop(record['frames'], np.arange(len(record['frames'])))
        return record


class CropPlan:
    """Steps that are applied while frames are decoded, for one video.

    Args:
        steps: any number of FrameSteps, then at most one MultiCropStep.
        record: the record.

    Attributes:
        error: of a step that does not fit to the size of the frames; not an error of the video.
    """

    def __init__(self, steps: Sequence[Transform], record: Record) -> None:
        self._steps = [step for step in steps if isinstance(step, FrameStep)]
        self._multi = next((step for step in steps if isinstance(step, MultiCropStep)), None)
        self._record = record
        self.error: Exception | None = None

    def __call__(self, height: int, width: int) -> list[Crop]:
        crops = []
        try:
            for step in self._steps:
                crop = step.plan(height, width, self._record)
                check_box(crop.box, height, width)
                crops.append(crop)
                height, width = crop.size
            for box in self._multi.boxes(height, width) if self._multi is not None else ():
                check_box(box, height, width)
        except Exception as error:
            self.error = error
            raise
        return crops

    def arrange(self, frames: Frames, positions: npt.NDArray[np.int64], must_copy: bool = False) -> Frames:
        """Return the frames, or crops of them, at ``positions`` (V*U*T,), without a copy if possible."""
        if self._multi is not None:
            return self._multi.crop(frames, positions)
        if not must_copy and np.array_equal(positions, np.arange(len(frames))):
            return frames
        return frames[positions]


class DecodingStep(Transform):
    """A step that provides the frames of a video."""

    def __call__(self, record: Record) -> Record:
        return self.decode(record, ())

    @abstractmethod
    def decode(self, record: Record, steps: Sequence[Transform]) -> Record:
        """Decode, and apply the steps that :func:`steps_while_decoding` has chosen."""


def steps_while_decoding(transforms: Sequence[Transform], number: int) -> list[Transform]:
    """Return the transforms after ``transforms[number]`` that it can apply; [] if it is not a decoding step."""
    chosen: list[Transform] = []
    if type(transforms[number]).__call__ is DecodingStep.__call__:
        for step in transforms[number + 1 :]:
            if type(step).__call__ is FrameStep.__call__:
                chosen.append(step)
                continue
            if type(step).__call__ is MultiCropStep.__call__:
                chosen.append(step)
            break
    return chosen
