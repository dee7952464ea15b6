"""Compute crop boxes.

A box is ``(top, left, height, width)`` in pixels. A box that is not larger than the frame is inside it.
"""

import math
from collections.abc import Sequence

import numpy as np

from dsanet.datasets.video.frame_store import Box

# Corners, center, middles of the sides and centers of the quadrants, in quarters of the free space around a crop.
_FIXED_POSITIONS = (
    *((0, 0), (0, 4), (4, 0), (4, 4), (2, 2)),
    *((0, 2), (2, 0), (2, 4), (4, 2)),
    *((1, 1), (1, 3), (3, 1), (3, 3)),
)


def random_area_box(
    height: int,
    width: int,
    area_range: tuple[float, float],
    aspect_ratio_range: tuple[float, float],
    rng: np.random.Generator,
) -> Box:
    """Draw a box by its share of the frame area and its aspect ratio (width / height), then its position.

    If ten boxes do not fit, return the largest center box with an allowed aspect ratio.
    """
    box = draw_area_box(height, width, area_range, aspect_ratio_range, rng)
    if box is not None:
        return box
    low, high = aspect_ratio_range
    box_height = max(1, min(height, round(width / low)))
    box_width = max(1, min(width, round(height * high)))
    return center_box(height, width, box_height, box_width)


def draw_area_box(
    height: int,
    width: int,
    area_range: tuple[float, float],
    aspect_ratio_range: tuple[float, float],
    rng: np.random.Generator,
) -> Box | None:
    """Draw a box as :func:`random_area_box`; return None if ten boxes do not fit."""
    low, high = aspect_ratio_range
    for _ in range(10):
        area = height * width * rng.uniform(*area_range)
        # Logarithmic: twice as wide is as likely as twice as high.
        ratio = math.exp(rng.uniform(math.log(low), math.log(high)))
        box_height, box_width = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        if 0 < box_height <= height and 0 < box_width <= width:
            top, left = rng.integers(height - box_height + 1), rng.integers(width - box_width + 1)
            return int(top), int(left), box_height, box_width
    return None


def multi_scale_boxes(height: int, width: int, scales: Sequence[float], max_distort: int) -> list[Box]:
    """Return all boxes that MultiScaleCrop draws from: each allowed size at each of 13 positions."""
    sides = [max(1, int(min(height, width) * scale)) for scale in scales]
    sizes = [
        (box_height, box_width)
        for i, box_height in enumerate(sides)
        for j, box_width in enumerate(sides)
        if abs(i - j) <= max_distort
    ]
    return [
        ((height - box_height) * down // 4, (width - box_width) * right // 4, box_height, box_width)
        for box_height, box_width in sizes
        for down, right in _FIXED_POSITIONS
    ]


def center_box(height: int, width: int, box_height: int, box_width: int) -> Box:
    """Return the box at the center of a frame."""
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width


def three_boxes(height: int, width: int, box_height: int, box_width: int) -> list[Box]:
    """Return the boxes at the start, center and end of the longer side, centered along the other."""
    top, left, _, _ = center_box(height, width, box_height, box_width)
    if width >= height:
        return [(top, x, box_height, box_width) for x in (0, left, width - box_width)]
    return [(y, left, box_height, box_width) for y in (0, top, height - box_height)]


def five_boxes(height: int, width: int, box_height: int, box_width: int) -> list[Box]:
    """Return the boxes at the corners (top left, top right, bottom left, bottom right) and at the center."""
    corners = [(y, x, box_height, box_width) for y in (0, height - box_height) for x in (0, width - box_width)]
    return [*corners, center_box(height, width, box_height, box_width)]
