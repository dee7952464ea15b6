"""Captions on the contact sheets; tests/commands/test_check.py covers the sheets."""

from dsanet.datasets.annotation import VideoRecord
from dsanet.reports.class_sheets import name_sample


def test_caption_is_list_line_or_file_name() -> None:
    assert name_sample(VideoRecord('data/wave/a.mp4', (0,), 'data/train.txt', 17)) == 'train.txt:17'
    assert name_sample(VideoRecord('data/wave/a.mp4', (0,), 'data/wave')) == 'a.mp4'
