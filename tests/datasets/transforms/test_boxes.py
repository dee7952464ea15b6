import numpy as np
import pytest

from dsanet.datasets.transforms.boxes import center_box, five_boxes, multi_scale_boxes, random_area_box, three_boxes

AREA, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)


def is_inside(box, height, width):
    top, left, box_height, box_width = box
    return top >= 0 and left >= 0 and 0 < box_height <= height - top and 0 < box_width <= width - left


@pytest.mark.parametrize(('height', 'width'), [(256, 340), (340, 256), (240, 240)])
def test_random_boxes_respect_frame_area_and_ratio(height, width):
    for seed in range(2000):
        box = random_area_box(height, width, AREA, RATIO, np.random.default_rng(seed))
        assert is_inside(box, height, width)
        _, _, h, w = box
        # Sides are rounded to whole pixels, so the exact ones differ by at most half a pixel.
        assert (w - 0.5) / (h + 0.5) <= RATIO[1]
        assert (w + 0.5) / (h - 0.5) >= RATIO[0]
        assert (w + 0.5) * (h + 0.5) >= AREA[0] * height * width
        assert (w - 0.5) * (h - 0.5) <= AREA[1] * height * width


@pytest.mark.parametrize(('height', 'width'), [(256, 340), (340, 256)])
def test_random_boxes_reach_edges_and_ratio_limits(height, width):
    boxes = np.array(
        [random_area_box(height, width, (0.08, 0.3), RATIO, np.random.default_rng(s)) for s in range(2000)]
    )
    top, left, h, w = boxes.T
    assert top.min() == 0
    assert left.min() == 0
    assert (top + h).max() == height
    assert (left + w).max() == width
    assert np.log(w / h).mean() == pytest.approx(0, abs=0.02)
    assert (w / h).max() > 1.3
    assert (w / h).min() < 0.77


def test_fallback_is_the_largest_center_box():
    # A square of the whole area does not fit into a wide frame.
    box = random_area_box(100, 400, (1, 1), (1, 1), np.random.default_rng(0))
    assert box == (0, 150, 100, 100)
    assert random_area_box(400, 100, (1, 1), (0.5, 1), np.random.default_rng(0)) == (100, 0, 200, 100)


def test_multi_scale_boxes_combine_sizes_and_positions():
    boxes = multi_scale_boxes(240, 320, scales=(1, 0.5), max_distort=1)
    sizes = [(240, 240), (240, 120), (120, 240), (120, 120)]
    assert len(boxes) == 4 * 13
    for h, w in sizes:
        room_down, room_right = 240 - h, 320 - w
        for down in (0, room_down // 2, room_down):
            for right in (0, room_right // 2, room_right):
                assert (down, right, h, w) in boxes
        assert (room_down // 4, room_right * 3 // 4, h, w) in boxes
    assert all(is_inside(box, 240, 320) for box in boxes)


def test_max_distort_limits_the_aspect_ratio():
    def sizes(max_distort):
        return {box[2:] for box in multi_scale_boxes(100, 200, (1, 0.8, 0.6), max_distort)}

    assert sizes(0) == {(100, 100), (80, 80), (60, 60)}
    assert (100, 60) not in sizes(1)
    assert {(100, 80), (80, 60), (60, 80)} <= sizes(1)
    assert {(100, 60), (60, 100)} <= sizes(2)


def test_fixed_boxes_by_hand():
    assert center_box(10, 21, 4, 6) == (3, 7, 4, 6)
    assert three_boxes(10, 20, 10, 8) == [(0, 0, 10, 8), (0, 6, 10, 8), (0, 12, 10, 8)]
    assert three_boxes(20, 10, 8, 6) == [(0, 2, 8, 6), (6, 2, 8, 6), (12, 2, 8, 6)]
    assert three_boxes(10, 10, 8, 8) == [(1, 0, 8, 8), (1, 1, 8, 8), (1, 2, 8, 8)]
    assert five_boxes(10, 20, 4, 6) == [
        (0, 0, 4, 6),
        (0, 14, 4, 6),
        (6, 0, 4, 6),
        (6, 14, 4, 6),
        (3, 7, 4, 6),
    ]
