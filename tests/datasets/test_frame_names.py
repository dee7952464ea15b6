"""Frames are recognized by their names, counted, and missed."""

import pytest

from dsanet.datasets.frame_names import FrameNames


@pytest.mark.parametrize(
    ('template', 'name', 'number'),
    [
        ('img_{:05d}.jpg', 'img_00012.jpg', 12),
        ('img_{:05d}.jpg', 'img_123456.jpg', 123456),
        ('img_{:05d}.jpg', 'img_012345.jpg', None),
        ('{:05}.jpg', '00003.jpg', 3),
        ('{:05}.jpg', '000003.jpg', None),
        ('{:05}.jpg', '.jpg', None),
        ('frame{}_x.png', 'frame7_x.png', 7),
        ('frame{}_x.png', 'frame07_x.png', None),
        ('frame{}_x.png', 'frame7_x.jpg', None),
    ],
)
def test_frames_are_recognized_by_their_exact_name(template: str, name: str, number: int | None) -> None:
    assert FrameNames(template).number(name) == number


@pytest.mark.parametrize('template', ['img.jpg', '{:05d}_{:02d}.jpg', 'img_{:zz}.jpg', 'img_{number}.jpg', 'img_{'])
def test_a_template_needs_one_field_for_a_number(template: str) -> None:
    with pytest.raises(
        ValueError, match=r'filename_tmpl=.* must have one field for the number, as in img_\{:05d\}.jpg'
    ):
        FrameNames(template)


@pytest.mark.parametrize(
    ('numbers', 'expected'),
    [
        ([], (0, None)),
        ([1, 2, 3], (3, None)),
        ([0, 1], (2, 'the first frame is number 0, not 1')),
        ([3, 4], (2, 'the first frame is number 3, not 1')),
        ([1, 2, 4], (3, 'frames 1 to 4 are there but for 3')),
        ([1, 3, 7], (3, 'frames 1 to 7 are there but for 2 and 3 more')),
    ],
)
def test_frames_are_counted_and_gaps_told(numbers: list[int], expected: tuple[int, str | None]) -> None:
    others = ['img_cover.jpg', 'notes.txt', 'img_1.jpg']
    assert FrameNames('img_{:05d}.jpg').count([f'img_{n:05d}.jpg' for n in numbers] + others) == expected
