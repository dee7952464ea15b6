import re
import shutil
from pathlib import Path

import av
import numpy as np
import pytest

from dsanet.datasets.video import frame_index, remembered, subprocess_reader
from dsanet.datasets.video.frame_index import count_frames, index_frames
from dsanet.datasets.video.opening import decode_all, open_video
from dsanet.datasets.video.pyav_reader import PyAVReader
from dsanet.datasets.video.subprocess_reader import IsolatedReader
from tests.make_odd_videos import GOP, KINDS, NUM_FRAMES, write
from tests.make_videos import read_index as read_number
from tests.make_videos import write_video

# Only decoding shows the frames of these: no times, false times, hidden or incomplete frames, or two fields.
UNCERTAIN = (
    'H.264 in .ts',
    'H.264 with B-frames in AVI',
    'MPEG-2 in .mpg',
    'GIF',
    'Equal timestamps in MP4',
    'Pairs of equal timestamps in Matroska',
    'Decreasing timestamps in Matroska',
    'Begins between key frames, Matroska',
    'Begins between key frames, VP8',
    'Interlaced H.264 in MP4',
    'Truncated MP4, MJPEG',
)
CERTAIN = (
    'H.264 with B-frames in MP4',
    'H.264 in MP4, fragmented',
    'H.264 in FLV',
    'H.265 in MP4',
    'MPEG-4 in MP4',
    'VP8 with a hidden frame in WebM',
    'VP9 in WebM',
    'AV1 in MP4',
    'MJPEG in MP4 (dsanet transcode)',
    'Start at 1000 seconds in Matroska',
    '10-bit 4:2:2 ProRes',
)


def read_index(path):
    container, stream = open_video(str(path))
    with container:
        return index_frames(container, stream, str(path))


def decoded_times(path):
    container, stream = open_video(str(path))
    with container:
        return [frame.pts for frame in decode_all(container, stream)]


def make(kind, folder):
    return KINDS[kind](folder, re.sub(r'\W+', '_', kind)).path


@pytest.mark.parametrize('kind', CERTAIN)
def test_index_has_the_times_of_decoded_frames(tmp_path, kind):
    path = make(kind, tmp_path)
    index = read_index(path)
    assert index is not None
    assert index.times == decoded_times(path)
    assert set(index.key_times) <= set(index.times)


@pytest.mark.parametrize('kind', UNCERTAIN)
def test_uncertain_videos_have_no_index(tmp_path, kind):
    if kind.startswith('Interlaced') and not hasattr(av.VideoCodecContext, 'field_order'):
        pytest.skip('PyAV before 18 does not report it')
    path = make(kind, tmp_path)
    assert read_index(path) is None
    assert count_frames(path) == len(decoded_times(path))


def test_open_gops_and_hidden_frames_are_found(tmp_path):
    plain = read_index(make('H.264 with B-frames in MP4', tmp_path))
    assert (plain.has_open_gops, plain.has_hidden, plain.first_reordered) == (False, False, 1)
    assert np.diff(plain.key_times).tolist() == [GOP * 512] * 2
    assert read_index(make('Open GOPs, H.265 in MP4', tmp_path)).has_open_gops
    cut = read_index(make('Cut without reencoding (edit list, hidden frames)', tmp_path))
    assert (len(cut.times), cut.has_hidden) == (NUM_FRAMES - 4, True)
    assert read_index(make('VP8 with a hidden frame in WebM', tmp_path)).has_hidden
    assert read_index(write(tmp_path / 'no_b.mp4', bf='0')).first_reordered is None
    assert read_index(make('B-frames with increasing timestamps in Matroska', tmp_path)).first_reordered == 0


def test_files_are_counted_once(tmp_path, monkeypatch):
    path = make('H.264 in .ts', tmp_path)
    counted = []
    real = frame_index.decode_all
    monkeypatch.setattr(frame_index, 'decode_all', lambda *args: counted.append(1) or real(*args))
    assert [count_frames(path) for _ in range(3)] == [NUM_FRAMES] * 3
    assert len(counted) == 1
    write(Path(path), range(12))
    assert count_frames(path) == 12
    assert len(counted) == 2


@pytest.fixture
def long_videos(monkeypatch):
    """Treat all videos as long ones, whose index is remembered, and record whose packets are read."""
    monkeypatch.setattr(frame_index, '_LONG_US', 0)
    monkeypatch.setattr(remembered, '_RESULTS', {})
    monkeypatch.setattr(remembered, '_NEW', {})
    opened = []
    real = frame_index._find_index
    monkeypatch.setattr(frame_index, '_find_index', lambda *args: opened.append(args[2]) or real(*args))
    return opened


@pytest.mark.parametrize('kind', CERTAIN)
def test_remembered_index_is_the_same(tmp_path, monkeypatch, kind):
    path = make(kind, tmp_path)
    plain = read_index(path)
    monkeypatch.setattr(frame_index, '_LONG_US', 0)
    for _ in range(2):
        again = read_index(path)
        assert (again.times, again.key_times.tolist()) == (plain.times, plain.key_times.tolist())
        assert again[2:] == plain[2:]


def test_packets_of_long_videos_are_read_once(tmp_path, long_videos):
    path = write_video(tmp_path / 'a.mp4', 40)
    for indices in ([3], [17, 30], [39]):
        reader = PyAVReader(path)
        assert [read_number(frame) for frame in reader.read(np.array(indices))] == indices
        reader.close()
    assert long_videos == [path]
    shutil.copy(write_video(tmp_path / 'b.mp4', 20), path)
    reader = PyAVReader(path)
    reader.close()
    assert (reader.num_frames, long_videos) == (20, [path, path])


def test_packets_of_short_videos_are_not_remembered(tmp_path):
    before = len(remembered._RESULTS)
    PyAVReader(write_video(tmp_path / 'a.mp4', 20, bf='0')).close()
    assert len(remembered._RESULTS) == before


def test_next_process_knows_the_index(tmp_path, long_videos, monkeypatch):
    path = write_video(tmp_path / 'a.mp4', 40)
    while subprocess_reader._IDLE:
        subprocess_reader._IDLE.pop().end()
    IsolatedReader('pyav', path, 60)._end_process()
    monkeypatch.setattr(frame_index, '_find_index', None)  # in the next process, reading packets is an error
    reader = IsolatedReader('pyav', path, 60)
    assert [read_number(frame) for frame in reader.read(np.array([7, 30]))] == [7, 30]
    reader._end_process()


def test_index_takes_four_bytes_per_frame():
    times = np.cumsum(np.random.default_rng(0).integers(400, 600, 10_000))
    for large in (0, 2**40):
        index = frame_index.FrameIndex([*times.tolist(), int(times[-1]) + 512 + large], times[::250], True, False, 1)
        packed = frame_index._PackedIndex.pack(index)
        assert packed.nbytes == (8 if large else 4) * 10_000 + 8 * 40 + 8 + 3 * 8
        again = packed.unpack()
        assert again.times == index.times
        assert again[2:] == index[2:]
