"""Extract the frames of one video; tests/commands/test_extract_frames.py covers the options."""

from fractions import Fraction
from pathlib import Path

import cv2

from dsanet.data_tools.video.batch import VideoJob
from dsanet.data_tools.video.extract import extract_frames
from tests.make_videos import read_index, write_video


def test_frames_are_resampled_and_numbered_from_1(tmp_path: Path) -> None:
    job = VideoJob('b.avi', Path(write_video(tmp_path / 'b.avi', 20, codec='mpeg4')), tmp_path / 'b')
    assert extract_frames(job, short_side=None, fps=Fraction(5), quality=50) is None
    files = sorted(job.target.iterdir())
    assert [file.name for file in files] == [f'img_{number:05d}.jpg' for number in range(1, 5)]
    assert [read_index(cv2.imread(str(file))[..., ::-1]) for file in files] == [0, 5, 10, 15]
