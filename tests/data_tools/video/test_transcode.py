"""Transcode one video; tests/commands/test_transcode.py covers the options."""

from pathlib import Path

import pytest

from dsanet.data_tools.video.batch import VideoJob
from dsanet.data_tools.video.transcode import transcode
from dsanet.datasets.video.pyav_reader import PyAVReader
from tests.make_videos import write_video


def test_damaged_videos_are_kept_only_on_request(tmp_path: Path) -> None:
    source = Path(write_video(tmp_path / 'a.avi', 20, codec='mpeg4'))
    source.write_bytes(source.read_bytes()[: source.stat().st_size * 9 // 10])
    job = VideoJob('a.avi', source, tmp_path / 'out.mp4')
    with pytest.raises(ValueError, match='damaged'):
        transcode(job)
    assert not job.target.exists()
    assert 'damaged' in transcode(job, keep_damaged=True)
    reader = PyAVReader(str(job.target))
    assert 4 < reader.num_frames < 20
    reader.close()
