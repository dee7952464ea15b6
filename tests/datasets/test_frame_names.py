"""Frame numbers in file names, number of frames, and gaps."""

import re

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
def test_frame_number_needs_exact_file_name(template: str, name: str, number: int | None) -> None:
    assert FrameNames(template).number(name) == number


@pytest.mark.parametrize('template', ['img.jpg', '{:05d}_{:02d}.jpg', 'img_{:zz}.jpg', 'img_{number}.jpg', 'img_{'])
def test_template_needs_exactly_one_field(template: str) -> None:
    with pytest.raises(ValueError, match=rf'filename_tmpl={re.escape(repr(template))} .*img_\{{:05d\}}.jpg'):
        FrameNames(template)


@pytest.mark.parametrize(
    ('numbers', 'in_problem'),
    [
        ([], []),
        ([1, 2, 3], []),
        ([0, 1], ['0', '1']),
        ([3, 4], ['3', '1']),
        ([1, 2, 4], ['1', '4', '3']),
        ([1, 3, 7], ['1', '7', '2', '3']),
    ],
)
def test_frames_are_counted_and_gaps_reported(numbers: list[int], in_problem: list[str]) -> None:
    others = ['img_cover.jpg', 'notes.txt', 'img_1.jpg']
    count, problem = FrameNames('img_{:05d}.jpg').count([f'img_{n:05d}.jpg' for n in numbers] + others)
    assert (count, re.findall(r'\d+', problem or '')) == (len(numbers), in_problem)
