import re
from pathlib import Path

import numpy as np
import pytest

from dsanet.datasets.video.pyav_reader import PyAVReader
from dsanet.datasets.video.sequential import read_sequentially
from tests.make_odd_videos import KINDS

FEW = (
    'H.264 with B-frames in MP4',
    'Cut without reencoding (edit list, hidden frames)',
    'Begins between key frames, .ts',
    'Frame size changes in .ts',
    'H.265 rotated by 90 degrees',
    'Interlaced H.264 in MP4',
)
REFUSED = {'Two video streams', 'Rotated by 30 degrees'}
KIND_PARAMETERS = [pytest.param(kind, marks=[] if kind in FEW else pytest.mark.sweep) for kind in KINDS]


@pytest.mark.parametrize('kind', KIND_PARAMETERS)
def test_frames_are_those_of_the_reader(tmp_path: Path, kind: str) -> None:
    path = str(KINDS[kind](tmp_path, re.sub(r'\W+', '_', kind)).path)
    if kind in REFUSED:
        with pytest.raises(ValueError, match='stream|rotated'):
            list(read_sequentially(path))
        return
    reader = PyAVReader(path)
    expected = reader.read(np.arange(reader.num_frames))
    reader.close()
    frames = list(read_sequentially(path))
    assert len(frames) == len(expected)
    assert all(np.array_equal(frame, other) for frame, other in zip(frames, expected, strict=True))
