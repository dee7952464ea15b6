"""Where in the frames the model looks: resizing, crops, flips.

Legend: V views, U snippets of a view, T frames of a snippet, H and W pixels.

All frames of a video get the same box and the same flip. Random crops cut first and resize only what was cut.
Where the boxes lie is worked out in ``boxes.py``.
"""

import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from dsanet.config.registry import TRANSFORMS
from dsanet.datasets.transforms.base import Record, Transform, check_count
from dsanet.datasets.transforms.boxes import (
    Box,
    center_box,
    five_boxes,
    multi_scale_boxes,
    random_area_box,
    three_boxes,
)

Frames = npt.NDArray[np.uint8]


def crop_frames(frames: Frames, box: Box) -> Frames:
    """Cut a box out of all frames, without copying.

    Raises:
        ValueError: the box is larger than the frames; states both sizes.
    """
    top, left, height, width = box
    _, frame_height, frame_width, _ = frames.shape
    if height > frame_height or width > frame_width:
        raise ValueError(
            f'a crop of {height}x{width} (height x width) is larger than the frames, '
            f'{frame_height}x{frame_width}; put Resize with a larger short_side before it'
        )
    inside = 0 <= top <= frame_height - height and 0 <= left <= frame_width - width
    assert inside, f'{box=} leaves the frames, {frame_height}x{frame_width}'
    return frames[:, top : top + height, left : left + width]


def resize_frames(frames: Frames, height: int, width: int) -> Frames:
    """Resize all frames bilinearly; frames that have the size already are handed back as they are."""
    if frames.shape[1:3] == (height, width):
        return frames
    resized = np.empty((len(frames), height, width, 3), np.uint8)
    for frame, target in zip(frames, resized, strict=True):
        cv2.resize(frame, (width, height), dst=target, interpolation=cv2.INTER_LINEAR)
    return resized


def mirror_frames(frames: Frames) -> Frames:
    """Mirror all frames left to right; OpenCV does it many times faster than NumPy copies a reversed view."""
    mirrored = np.empty(frames.shape, np.uint8)
    for frame, target in zip(frames, mirrored, strict=True):
        cv2.flip(frame, 1, dst=target)
    return mirrored


def _size_pair(size: int | Sequence[int]) -> tuple[int, int]:
    """Return (height, width) of a side or of such a pair."""
    pair = tuple(size) if isinstance(size, (list, tuple)) else (size, size)
    if len(pair) != 2:
        raise ValueError(f'size must be one side or (height, width), got {size!r}')
    return check_count('size', pair[0]), check_count('size', pair[1])


def _range_pair(name: str, pair: Sequence[float], high: float = math.inf) -> tuple[float, float]:
    """Return (low, high) if 0 < low <= high and neither is above ``high``."""
    if len(pair) != 2 or not 0 < pair[0] <= pair[1] <= high:
        limit = '' if high == math.inf else f' <= {high:g}'
        raise ValueError(f'{name} must be (low, high) with 0 < low <= high{limit}, got {pair!r}')
    return pair[0], pair[1]


class _FramesTransform(Transform):
    """A step that changes the frames and draws nothing."""

    requires: tuple[str, ...] = ('frames',)
    provides: tuple[str, ...] = ('frames',)


class _RandomFramesTransform(Transform):
    """A step that changes the frames by chance."""

    requires: tuple[str, ...] = ('frames', 'rng')
    provides: tuple[str, ...] = ('frames',)


@TRANSFORMS.register_module()
class Resize(_FramesTransform):
    """Resize the frames so that their shorter side has ``short_side`` pixels; the aspect ratio stays.

    Raises:
        ValueError: ``short_side`` is below 1.
    """

    def __init__(self, short_side: int) -> None:
        self.short_side = check_count('short_side', short_side)

    def __call__(self, record: Record) -> Record:
        _, height, width, _ = record['frames'].shape
        scale = self.short_side / min(height, width)
        record['frames'] = resize_frames(record['frames'], round(height * scale), round(width * scale))
        return record


@TRANSFORMS.register_module()
class RandomResizedCrop(_RandomFramesTransform):
    """Cut a box of random area, aspect ratio and place, and resize it to ``size``.

    Args:
        size: side, or (height, width), of the result.
        area_range: area of the box as a part of the frame's.
        aspect_ratio_range: width / height of the box.

    Raises:
        ValueError: a size below 1, or a range that is empty or out of bounds.
    """

    def __init__(
        self,
        size: int | Sequence[int],
        area_range: Sequence[float] = (0.08, 1.0),
        aspect_ratio_range: Sequence[float] = (3 / 4, 4 / 3),
    ) -> None:
        self.size = _size_pair(size)
        self.area_range = _range_pair('area_range', area_range, high=1)
        self.aspect_ratio_range = _range_pair('aspect_ratio_range', aspect_ratio_range)

    def __call__(self, record: Record) -> Record:
        _, height, width, _ = record['frames'].shape
        box = random_area_box(height, width, self.area_range, self.aspect_ratio_range, record['rng'])
        record['frames'] = resize_frames(crop_frames(record['frames'], box), *self.size)
        return record


@TRANSFORMS.register_module()
class MultiScaleCrop(_RandomFramesTransform):
    """Cut a box of a few sizes at one of 13 fixed positions, and resize it to ``size`` (TSN).

    Args:
        size: side, or (height, width), of the result.
        scales: sides of the box as parts of the frame's shorter side, from large to small.
        max_distort: how many places of ``scales`` height and width may be apart; 0 cuts squares.

    Raises:
        ValueError: a size below 1, no scale, a scale outside (0, 1], or a negative ``max_distort``.
    """

    def __init__(
        self,
        size: int | Sequence[int],
        scales: Sequence[float] = (1, 0.875, 0.75, 0.66),
        max_distort: int = 1,
    ) -> None:
        if not scales or not all(0 < scale <= 1 for scale in scales):
            raise ValueError(f'scales must be numbers above 0 and up to 1, at least one, got {scales!r}')
        self.size = _size_pair(size)
        self.scales = tuple(scales)
        self.max_distort = check_count('max_distort', max_distort, low=0)

    def __call__(self, record: Record) -> Record:
        _, height, width, _ = record['frames'].shape
        boxes = multi_scale_boxes(height, width, self.scales, self.max_distort)
        box = boxes[record['rng'].integers(len(boxes))]
        record['frames'] = resize_frames(crop_frames(record['frames'], box), *self.size)
        return record


@TRANSFORMS.register_module()
class Flip(_RandomFramesTransform):
    """Mirror all frames left to right with probability ``prob``.

    Args:
        prob: probability.
        swap_labels: pairs of classes that a mirror turns into each other, such as "pushing something from left to
            right" and "... from right to left": ``((93, 94), ...)``. The label of a mirrored video changes with it.
            Classes that tell left from right and have no such partner must not be mirrored at all.

    Raises:
        ValueError: ``prob`` is not from 0 to 1, or ``swap_labels`` are no pairs, or a class is in two of them.
    """

    def __init__(self, prob: float = 0.5, swap_labels: Sequence[Sequence[int]] = ()) -> None:
        if not 0 <= prob <= 1:
            raise ValueError(f'prob must be from 0 to 1, got {prob}')
        self.prob = prob
        self._partner = _partners(swap_labels)
        self.classes = tuple(self._partner)
        if self._partner:
            self.requires = (*self.requires, 'label')
            self.provides = (*self.provides, 'label')

    def __call__(self, record: Record) -> Record:
        if record['rng'].random() < self.prob:
            record['frames'] = mirror_frames(record['frames'])
            if self._partner:
                record['label'] = self._mirrored(record['label'])
        return record

    def _mirrored(self, label: int | npt.NDArray[np.float32]) -> int | npt.NDArray[np.float32]:
        """Return the class, or the multi-hot classes (K,), of the mirrored video."""
        if not isinstance(label, np.ndarray):
            return self._partner.get(label, label)
        mirrored = label.copy()
        mirrored[list(self._partner)] = label[list(self._partner.values())]
        return mirrored


def _partners(swap_labels: Sequence[Sequence[int]]) -> dict[int, int]:
    """Return for each class of the pairs the other one."""
    partner: dict[int, int] = {}
    for pair in swap_labels:
        is_pair = isinstance(pair, list | tuple) and len(pair) == 2
        if not is_pair or not all(type(label) is int and label >= 0 for label in pair) or pair[0] == pair[1]:
            raise ValueError(
                f'swap_labels must be pairs of two different class numbers, such as ((86, 87), (93, 94)), got {pair!r}'
            )
        for label, other in (pair, pair[::-1]):
            if label in partner:
                raise ValueError(f'class {label} stands in two pairs of swap_labels={swap_labels!r}')
            partner[label] = other
    return partner


class _FixedCrop(_FramesTransform):
    """A step that cuts boxes of ``size``, a side or (height, width), at fixed places."""

    def __init__(self, size: int | Sequence[int]) -> None:
        self.size = _size_pair(size)

    def _cut(self, frames: Frames, boxes: Callable[[int, int, int, int], list[Box]]) -> list[Frames]:
        _, height, width, _ = frames.shape
        return [crop_frames(frames, box) for box in boxes(height, width, *self.size)]


@TRANSFORMS.register_module()
class CenterCrop(_FixedCrop):
    """Cut a box of ``size``, a side or (height, width), out of the middle.

    Raises:
        ValueError: a size below 1; when called, frames that are smaller.
    """

    def __call__(self, record: Record) -> Record:
        _, height, width, _ = record['frames'].shape
        record['frames'] = crop_frames(record['frames'], center_box(height, width, *self.size))
        return record


@TRANSFORMS.register_module()
class ThreeCrop(_FixedCrop):
    """Cut three boxes of ``size`` along the longer side: left, center, right, or top, center, bottom.

    They become three times as many views, crop-major: all frames of the first crop, then of the second, ...

    Raises:
        ValueError: a size below 1; when called, frames that are smaller.
    """

    def __call__(self, record: Record) -> Record:
        crops = self._cut(record['frames'], three_boxes)
        record['frames'] = np.concatenate(crops)  # (3*V*U*T, H, W, 3)
        return record


@TRANSFORMS.register_module()
class TenCrop(_FixedCrop):
    """Cut five boxes of ``size``, the four corners and the center, and add their mirror images.

    They become ten times as many views, crop-major: all frames of the first crop, then of the second, ...

    Raises:
        ValueError: a size below 1; when called, frames that are smaller.
    """

    def __call__(self, record: Record) -> Record:
        crops = self._cut(record['frames'], five_boxes)
        record['frames'] = np.concatenate([*crops, *map(mirror_frames, crops)])  # (10*V*U*T, H, W, 3)
        return record
