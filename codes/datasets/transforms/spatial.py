"""Resize, crop and flip frames.

Legend: V views, U snippets of a view, T frames of a snippet, H and W pixels.

All frames of a video get the same crop box and the same flip. Random crops resize only the cropped part.
"""

import math
from collections.abc import Sequence

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
from dsanet.datasets.transforms.frame_steps import FrameStep, MultiCropStep, flip_frames
from dsanet.datasets.video.frame_store import Crop


def _size_pair(size: int | Sequence[int]) -> tuple[int, int]:
    """Return (height, width)."""
    pair = tuple(size) if isinstance(size, (list, tuple)) else (size, size)
    if len(pair) != 2:
        raise ValueError(f'size must be an integer or (height, width), got {size!r}')
    return check_count('size', pair[0]), check_count('size', pair[1])


def _range_pair(name: str, pair: Sequence[float], high: float = math.inf) -> tuple[float, float]:

    if len(pair) != 2 or not 0 < pair[0] <= pair[1] <= high:
        limit = '' if high == math.inf else f' <= {high:g}'
        raise ValueError(f'{name} must be (low, high) with 0 < low <= high{limit}, got {pair!r}')
    return pair[0], pair[1]


@TRANSFORMS.register_module()
class Resize(FrameStep):
    """Resize the frames to a shorter side of ``short_side`` pixels, with the same aspect ratio."""

    def __init__(self, short_side: int) -> None:
        self.short_side = check_count('short_side', short_side)

    def plan(self, height: int, width: int, record: Record) -> Crop:
        scale = self.short_side / min(height, width)
        return Crop((0, 0, height, width), (round(height * scale), round(width * scale)))


@TRANSFORMS.register_module()
class RandomResizedCrop(FrameStep):
    """Crop a box of random area, aspect ratio and position, and resize it to ``size``.

    Args:
        size: side, or (height, width), of the output.
        area_range: area of the box relative to the frame area.
        aspect_ratio_range: width / height of the box.
    """

    requires: tuple[str, ...] = ('frames', 'rng')

    def __init__(
        self,
        size: int | Sequence[int],
        area_range: Sequence[float] = (0.08, 1.0),
        aspect_ratio_range: Sequence[float] = (3 / 4, 4 / 3),
    ) -> None:
        self.size = _size_pair(size)
        self.area_range = _range_pair('area_range', area_range, high=1)
        self.aspect_ratio_range = _range_pair('aspect_ratio_range', aspect_ratio_range)

    def plan(self, height: int, width: int, record: Record) -> Crop:
        return Crop(random_area_box(height, width, self.area_range, self.aspect_ratio_range, record['rng']), self.size)


@TRANSFORMS.register_module()
class MultiScaleCrop(FrameStep):
    """Crop a box of one of a few sizes at one of 13 fixed positions, and resize it to ``size`` (TSN).

    Args:
        size: side, or (height, width), of the output.
        scales: sides of the box relative to the shorter side of the frame, in descending order.
        max_distort: maximum distance between the positions of height and width in ``scales``; 0 for squares.
    """

    requires: tuple[str, ...] = ('frames', 'rng')

    def __init__(
        self,
        size: int | Sequence[int],
        scales: Sequence[float] = (1, 0.875, 0.75, 0.66),
        max_distort: int = 1,
    ) -> None:
        if not scales or not all(0 < scale <= 1 for scale in scales):
            raise ValueError(f'scales must be one or more numbers above 0 and at most 1, got {scales!r}')
        self.size = _size_pair(size)
        self.scales = tuple(scales)
        self.max_distort = check_count('max_distort', max_distort, low=0)

    def plan(self, height: int, width: int, record: Record) -> Crop:
        boxes = multi_scale_boxes(height, width, self.scales, self.max_distort)
        return Crop(boxes[record['rng'].integers(len(boxes))], self.size)


@TRANSFORMS.register_module()
class Flip(Transform):
    """Flip all frames of a video horizontally with probability ``prob``.

    Args:
        prob: probability.
        swap_labels: pairs of classes that a flip swaps, such as "pushing something from left to right" and "...
            from right to left": ``((93, 94), ...)``. The label of a flipped video is swapped, too. Do not use Flip
            for a dataset with a class that depends on the direction and has no opposite class.
    """

    requires: tuple[str, ...] = ('frames', 'rng')
    provides: tuple[str, ...] = ('frames',)

    def __init__(self, prob: float = 0.5, swap_labels: Sequence[Sequence[int]] = ()) -> None:
        if not 0 <= prob <= 1:
            raise ValueError(f'prob must be from 0 to 1, got {prob}')
        self.prob = prob
        self._opposite = _opposites(swap_labels)
        self.classes = tuple(self._opposite)
        if self._opposite:
            self.requires = (*self.requires, 'label')
            self.provides = (*self.provides, 'label')

    def __call__(self, record: Record) -> Record:
        if record['rng'].random() < self.prob:
            record['frames'] = flip_frames(record['frames'])
            if self._opposite:
                record['label'] = self._swap(record['label'])
        return record

    def _swap(self, label: int | npt.NDArray[np.float32]) -> int | npt.NDArray[np.float32]:
        """Return the class, or the multi-hot classes (K,), of the flipped video."""
        if not isinstance(label, np.ndarray):
            return self._opposite.get(label, label)
        swapped = label.copy()
        swapped[list(self._opposite)] = label[list(self._opposite.values())]
        return swapped


def _opposites(swap_labels: Sequence[Sequence[int]]) -> dict[int, int]:
    """Map each class of the pairs to the other one."""
    opposite: dict[int, int] = {}
    for pair in swap_labels:
        is_pair = isinstance(pair, list | tuple) and len(pair) == 2
        if not is_pair or not all(type(label) is int and label >= 0 for label in pair) or pair[0] == pair[1]:
            raise ValueError(
                f'swap_labels must be pairs of different class numbers, such as ((86, 87), (93, 94)), got {pair!r}'
            )
        for label, other in (pair, pair[::-1]):
            if label in opposite:
                raise ValueError(f'class {label} is in two pairs of swap_labels={swap_labels!r}')
            opposite[label] = other
    return opposite


@TRANSFORMS.register_module()
class CenterCrop(FrameStep):
    """Crop a box of ``size``, a side or (height, width), at the center."""

    def __init__(self, size: int | Sequence[int]) -> None:
        self.size = _size_pair(size)

    def plan(self, height: int, width: int, record: Record) -> Crop:
        return Crop(center_box(height, width, *self.size), self.size)


@TRANSFORMS.register_module()
class ThreeCrop(MultiCropStep):
    """Crop three boxes of ``size`` along the longer side: left, center, right, or top, center, bottom.

    The number of views is multiplied by 3, crop-major: all frames of the first crop, then of the second, ...
    """

    def __init__(self, size: int | Sequence[int]) -> None:
        self.size = _size_pair(size)

    def boxes(self, height: int, width: int) -> list[Box]:
        return three_boxes(height, width, *self.size)


@TRANSFORMS.register_module()
class TenCrop(MultiCropStep):
    """Crop five boxes of ``size``, at the four corners and the center, and add their horizontal flips.

    The number of views is multiplied by 10, crop-major: all frames of the first crop, then of the second, ...
    """

    adds_flips = True

    def __init__(self, size: int | Sequence[int]) -> None:
        self.size = _size_pair(size)

    def boxes(self, height: int, width: int) -> list[Box]:
        return five_boxes(height, width, *self.size)
