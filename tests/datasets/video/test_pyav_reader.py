import re
import shutil
from pathlib import Path

import av
import numpy as np
import pytest

from dsanet.datasets.video import pyav_reader
from dsanet.datasets.video.opening import decode_all, open_video
from dsanet.datasets.video.pyav_reader import PyAVReader
from tests.make_odd_videos import KINDS, NUM_FRAMES, SIZE, draw_colors, write
from tests.make_videos import read_index, write_video


def make(kind, folder):
    return KINDS[kind](folder, re.sub(r'\W+', '_', kind))


def read(path, indices):
    reader = PyAVReader(str(path))
    try:
        return reader.read(np.array(indices))
    finally:
        reader.close()


@pytest.mark.parametrize('kind', ['Key frames not listed in MP4', 'Intra refresh instead of key frames'])
def test_false_key_frames_are_decoded_from_start(tmp_path, kind):
    reader = PyAVReader(make(kind, tmp_path).path)
    assert reader.index is not None
    assert reader.confirms(np.array([0, 5])) == (kind != 'Key frames not listed in MP4')
    assert not reader.confirms(np.array([25]))
    assert [read_index(frame) for frame in reader.read(np.array([25]))] == [25]
    assert [read_index(frame) for frame in reader.read(np.array([3, 14]))] == [3, 14]
    reader.close()


def test_missing_frame_is_an_error(tmp_path):
    path = Path(write_video(tmp_path / 'a.mp4', 60, g='1', bf='0'))
    with av.open(str(path)) as container:
        entries = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    position, size = entries[20]
    data[position : position + size] = bytes(size)
    path.write_bytes(data)
    assert [read_index(frame) for frame in read(path, [3, 19, 21, 59])] == [3, 19, 21, 59]
    with pytest.raises(ValueError, match=r'\b20\b.*\b60\b'):
        read(path, [3, 20, 30])


@pytest.mark.parametrize('kind', ['Frame size changes in Matroska', 'Frame size changes in .ts'])
@pytest.mark.parametrize('indices', [[0, 5], [20, 25], [5, 20]])
def test_all_frames_have_the_first_size(tmp_path, kind, indices):
    frames = read(make(kind, tmp_path).path, indices)
    assert frames.shape == (2, 72, 128, 3)
    assert [read_index(frame) for frame in frames] == indices


def test_false_order_is_confirmed_once_per_file(tmp_path, monkeypatch):
    path = tmp_path / 'a.mp4'
    shutil.copy(make('Swapped timestamps in MP4', tmp_path).path, path)
    confirmed = []
    real = PyAVReader.confirms
    monkeypatch.setattr(PyAVReader, 'confirms', lambda self, indices: confirmed.append(1) or real(self, indices))
    for _ in range(3):
        assert [read_index(frame) for frame in read(path, [0, 7, 12])] == [0, 7, 12]
    assert len(confirmed) == 1
    shutil.copy(write(tmp_path / 'b.mp4'), path)
    reader = PyAVReader(str(path))
    assert (len(confirmed), reader.num_frames, reader.index is None) == (2, NUM_FRAMES, False)
    reader.close()


def test_left_side_is_cropped_exactly(tmp_path):
    path = write(tmp_path / 'a.mp4', **{'x264-params': 'crop-rect=6,4,10,8'})  # left, top, right, bottom
    first = read(str(path), [0])[0]
    assert first.shape == (60, 112, 3)
    assert np.abs(first.astype(int) - draw_colors(0, *SIZE)[4:-8, 6:-10]).mean() < 8


def test_angle_between_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r'\b30\b.*\b90\b'):
        read(make('Rotated by 30 degrees', tmp_path).path, [0])


@pytest.mark.sweep
@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('kind', [kind for kind in KINDS if kind not in ('Two video streams', 'Rotated by 30 degrees')])
def test_random_access_equals_sequential_decoding(tmp_path, kind, seed):
    video = make(kind, tmp_path)
    rng = np.random.default_rng(seed)
    container, stream = open_video(video.path)
    with container:
        num_frames = sum(1 for _ in decode_all(container, stream))
    sequential = PyAVReader(video.path)
    assert sequential.num_frames == num_frames
    sequential.index = None  # decode from the beginning
    expected = sequential.read(np.arange(num_frames))
    sequential.close()
    for _ in range(6):
        reader = PyAVReader(video.path)
        for _ in range(2):
            indices = np.flatnonzero(rng.random(num_frames) < rng.choice([0.1, 0.3, 0.8]))
            indices = indices if len(indices) else np.array([num_frames - 1])
            np.testing.assert_array_equal(reader.read(indices), expected[indices])
        reader.close()


@pytest.mark.parametrize(
    'kind',
    [
        'H.264 with B-frames in MP4',
        'Cut without reencoding (edit list, hidden frames)',
        'Key frames not listed in MP4',
        'Intra refresh instead of key frames',
        'Frame size changes in .ts',
    ],
)
@pytest.mark.parametrize('step', [1, 7])
def test_frames_one_by_one_equal_all_at_once(tmp_path, kind, step):
    path = make(kind, tmp_path).path
    reader = PyAVReader(str(path))
    indices = np.arange(0, reader.num_frames, step)
    images = list(reader.read_one_by_one(indices))
    reader.close()
    assert np.array_equal(np.stack(images), read(path, indices))


def test_one_by_one_continues_after_an_inexact_seek(tmp_path, monkeypatch):
    reader = PyAVReader(write_video(tmp_path / 'a.mp4', 40))
    original = PyAVReader._decode_with_seek

    def failing(self, indices):
        for number, frame in enumerate(original(self, indices)):
            if number == 5:
                raise pyav_reader._InexactSeekError('for the test')
            yield frame

    monkeypatch.setattr(PyAVReader, '_decode_with_seek', failing)
    indices = np.arange(0, 40, 3)
    assert [read_index(image) for image in reader.read_one_by_one(indices)] == indices.tolist()
    reader.close()


def count_decoded(monkeypatch):
    """Count the frames that the decoder returns, with and without skipping."""
    counts = {True: 0, False: 0}
    real = pyav_reader.decode_all

    def counting(container, stream, strict=False, needed=None):
        for frame in real(container, stream, strict, needed):
            counts[needed is not None] += 1
            yield frame

    monkeypatch.setattr(pyav_reader, 'decode_all', counting)
    return counts


def test_frames_that_no_frame_needs_are_skipped(tmp_path, monkeypatch):
    path = write_video(
        tmp_path / 'a.mp4', 60, g='60', **{'x264-params': 'bframes=3:b-adapt=0:b-pyramid=none:scenecut=0'}
    )
    indices = np.arange(0, 57, 4)
    whole = read(path, np.arange(60))[indices]
    counts = count_decoded(monkeypatch)
    np.testing.assert_array_equal(read(path, indices), whole)
    # Frames 0, 4, 8, ... are I and P frames, between which are three B-frames.
    assert counts[True] == len(indices)


def test_no_frame_is_skipped_without_b_frames(tmp_path, monkeypatch):
    path = write_video(tmp_path / 'a.mp4', 30, bf='0', **{'x264-params': 'scenecut=0'})
    counts = count_decoded(monkeypatch)
    assert [read_index(frame) for frame in read(path, [5, 20])] == [5, 20]
    assert (counts[True], counts[False]) == (0, 6 + 9)  # from the key frames 0 and 12


def test_frames_are_read_again_if_skipping_fails(tmp_path, monkeypatch):
    path = write_video(tmp_path / 'a.mp4', 40)
    real = pyav_reader.decode_all

    def losing(container, stream, strict=False, needed=None):
        for number, frame in enumerate(real(container, stream, strict, needed)):
            if needed is None or number < 2:
                yield frame

    monkeypatch.setattr(pyav_reader, 'decode_all', losing)
    assert [read_index(frame) for frame in read(path, [1, 7, 10, 23])] == [1, 7, 10, 23]
