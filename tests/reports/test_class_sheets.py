"""Captions on the contact sheets; tests/commands/test_check.py covers the sheets."""

import numpy as np

from dsanet.data_checks.probe import ProbeResult
from dsanet.datasets.records import VideoRecord
from dsanet.reports.class_sheets import ClassBlock, describe_length, draw_classes, name_sample, shown_indices

COLORS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))  # first, middle and last frame


def test_caption_is_list_line_or_file_name() -> None:
    assert name_sample(VideoRecord('data/wave/a.mp4', (0,), 'data/train.txt', 17)) == 'train.txt:17'
    assert name_sample(VideoRecord('data/wave/a.mp4', (0,), 'data/wave')) == 'a.mp4'


def test_each_class_has_a_row() -> None:
    frames = [np.full((30, 40, 3), color, np.uint8) for color in COLORS]
    for number in (1, 4):
        blocks = [ClassBlock(f'class {i}', [(frames, 'list.txt:1')] * 2 if i != 2 else []) for i in range(number)]
        sheet = draw_classes(blocks, 'title', 'what is shown', 2, 3, (40, 30))
        shown = 2 * sum(bool(block.samples) for block in blocks)
        lefts = [np.nonzero((sheet == color).all(axis=2))[1].min() for color in COLORS]
        assert lefts == [12, 12 + 42, 12 + 2 * 42], 'the frames are in the order of time'
        for color in COLORS:
            assert (sheet == color).all(axis=2).sum() == shown * 30 * 40


def test_long_names_stay_inside_the_sheet() -> None:
    frames = [np.zeros((30, 40, 3), np.uint8)] * 3
    sheet = draw_classes([ClassBlock('W' * 200, [(frames, 'M' * 99)])], 'W' * 200, 'word ' * 99, 1, 3, (40, 30))
    assert (sheet[:, -11:] == 255).all()


def test_first_middle_and_last_frame_are_shown() -> None:
    assert shown_indices(9) == [0, 4, 8]
    assert shown_indices(1) == [0, 0, 0]
    assert describe_length(ProbeResult('a.mp4', num_frames=9, fps=30)) == 'frames 0, 4, 8 (0.3 s)'
    assert describe_length(ProbeResult('folder', num_frames=9)) == 'frames 0, 4, 8'
