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
from dsanet.datasets.video.frame_store import Clip, Crop, Frames, resize_image


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


class ClipPlan:
    """Which frames of a video are read, and the steps that are applied to each one, for one or several clips.

    Args:
        steps: any number of FrameSteps, then at most one MultiCropStep.
        records: of the clips, with ``frame_indices``.

    Attributes:
        indices: the frames (len,) that the clips need, each one once, ascending.
        num_results: number of frames that the clips have together, without repetitions.
        error: of a step that does not fit to the size of the frames; not an error of the video.
    """

    def __init__(self, steps: Sequence[Transform], records: Sequence[Record]) -> None:
        self._steps = [step for step in steps if isinstance(step, FrameStep)]
        self._multi = next((step for step in steps if isinstance(step, MultiCropStep)), None)
        self._records = records
        # The distinct indices of each clip, and the position of each of its V*U*T frames among them.
        flat = [record['frame_indices'].reshape(-1) for record in records]  # (V*U*T,) each
        self._distinct, self._places = zip(*(np.unique(one, return_inverse=True) for one in flat), strict=True)
        self.indices = self._distinct[0] if len(records) == 1 else np.unique(np.concatenate(self._distinct))
        self.num_results = sum(map(len, self._distinct))
        self.error: Exception | None = None

    def __call__(self, height: int, width: int) -> list[Clip]:
        try:
            crops = [self._plan_crops(height, width, record) for record in self._records]
        except Exception as error:
            self.error = error
            raise
        if len(crops) == 1:
            return [Clip(crops[0])]
        positions = [np.searchsorted(self.indices, distinct) for distinct in self._distinct]
        return [Clip(*pair) for pair in zip(crops, positions, strict=True)]

    def _plan_crops(self, height: int, width: int, record: Record) -> list[Crop]:
        crops = []
        for step in self._steps:
            crop = step.plan(height, width, record)
            check_box(crop.box, height, width)
            crops.append(crop)
            height, width = crop.size
        for box in self._multi.boxes(height, width) if self._multi is not None else ():
            check_box(box, height, width)
        return crops

    def set_frames(self, frames: Frames, must_copy: bool = False) -> None:
        """Set ``frames`` of the records, given the frames of all clips, without a copy if possible."""
        start = 0
        for record, distinct, places in zip(self._records, self._distinct, self._places, strict=True):
            mine = frames[start : start + len(distinct)]
            start += len(distinct)
            if self._multi is not None:
                record['frames'] = self._multi.crop(mine, places)
            elif must_copy or not np.array_equal(places, np.arange(len(mine))):
                record['frames'] = mine[places]  # (V*U*T, H, W, 3)
            else:
                record['frames'] = mine if len(self._records) > 1 else frames


class DecodingStep(Transform):
    """A step that provides the frames of a video."""

    def __call__(self, record: Record) -> Record:
        return self.decode([record], ())[0]

    @abstractmethod
    def decode(self, records: Sequence[Record], steps: Sequence[Transform]) -> Sequence[Record]:
        """Decode the frames of one or several clips of a video, each frame once.

        Args:
            records: of the clips, which share the open video.
            steps: from :func:`steps_while_decoding`, applied to each frame.
        """


def is_decoding(transform: Transform) -> bool:
    """Return True for a decoding step, unless its class has a call of its own."""
    return type(transform).__call__ is DecodingStep.__call__


def steps_while_decoding(transforms: Sequence[Transform], number: int) -> list[Transform]:
    """Return the transforms after ``transforms[number]`` that it can apply; [] if it is not a decoding step."""
    chosen: list[Transform] = []
    if is_decoding(transforms[number]):
        for step in transforms[number + 1 :]:
            if type(step).__call__ is FrameStep.__call__:
                chosen.append(step)
                continue
            if type(step).__call__ is MultiCropStep.__call__:
                chosen.append(step)
            break
    return chosen
