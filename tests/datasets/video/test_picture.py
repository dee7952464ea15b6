import re
import sys

import av
import numpy as np
import pytest

from dsanet.datasets.video.opening import decode_all, open_video, orientation
from dsanet.datasets.video.picture import FrameConverter
from tests.make_odd_videos import KINDS

# (top, left, height, width): odd and even corners, single pixels, edges, all.
BOXES = ((0, 0, 20, 30), (3, 5, 21, 33), (7, 8, 1, 1), (30, 41, 32, 17), (51, 9, 21, 55), (0, 0, 72, 72))


def first_frame(kind, folder):
    container, stream = open_video(str(KINDS[kind](folder, re.sub(r'\W+', '_', kind)).path))
    with container:
        return next(decode_all(container, stream))


@pytest.mark.parametrize(
    ('kind', 'converts_parts'),
    [
        ('H.264 with B-frames in MP4', True),
        ('Full range', True),
        ('HD colors (BT.709)', True),
        ('Rotated by 90 degrees', True),
        ('Rotated by 180 degrees', True),
        ('Rotated by 270 degrees', True),
        ('Mirrored', True),
        ('Transposed along the other diagonal', True),
        ('4:2:2', False),
        ('10-bit H.264', False),
        ('Odd size, VP9', False),
        ('Interlaced H.264 in MP4', False),
    ],
)
def test_part_equals_part_of_the_whole(tmp_path, kind, converts_parts):
    frame = first_frame(kind, tmp_path)
    whole = FrameConverter()(frame)
    converter = FrameConverter()
    sizes = []
    real = converter._to_rgb
    converter._to_rgb = lambda frame, **target: sizes.append((frame.height, frame.width)) or real(frame, **target)
    assert converter.upright_size(frame) == whole.shape[:2]
    for top, left, height, width in BOXES:
        if top + height > whole.shape[0] or left + width > whole.shape[1]:
            continue
        part = converter(frame, (top, left, height, width))
        np.testing.assert_array_equal(part, whole[top : top + height, left : left + width])
        is_small = sizes[-1][0] * sizes[-1][1] <= (height + 2) * (width + 2)
        assert is_small == converts_parts or (height, width) == whole.shape[:2]
    assert len(sizes) >= 4


@pytest.mark.parametrize('color_range', ['JPEG', 'MPEG'])
def test_part_has_the_colors_of_the_frame(color_range):
    pixels = np.random.default_rng(1).integers(0, 256, (54, 64), np.uint8)
    for colorspace in (1, 5, 9):
        frame = av.VideoFrame.from_ndarray(pixels, format='yuv420p')
        frame.colorspace, frame.color_range = colorspace, {'MPEG': 1, 'JPEG': 2}[color_range]
        whole = FrameConverter()(frame)
        np.testing.assert_array_equal(FrameConverter()(frame, (3, 10, 20, 31)), whole[3:23, 10:41])


def test_orientation_keeps_no_reference_to_the_frame(tmp_path):
    frame = first_frame('Rotated by 90 degrees', tmp_path)
    before = sys.getrefcount(frame)
    assert orientation(frame) == (True, False, True)
    FrameConverter()(frame, (0, 0, 10, 10))
    assert sys.getrefcount(frame) == before
