import os
import re

import numpy as np
import pytest

from dsanet.datasets.video import other_readers
from dsanet.datasets.video.other_readers import OpenCVReader
from dsanet.datasets.video.readers import READERS, is_installed
from tests.make_odd_videos import KINDS, patch, remux, write
from tests.make_videos import read_index

OTHERS = tuple(name for name in READERS if is_installed(name) and name != 'pyav')
needs_decord = pytest.mark.skipif('decord' not in OTHERS, reason='decord is not installed')


def make(kind, folder):
    return KINDS[kind](folder, re.sub(r'\W+', '_', kind)).path


@pytest.mark.parametrize('decoder', OTHERS)
@pytest.mark.parametrize(
    ('kind', 'reason'),
    [
        ('Still image before the video stream', 'several video streams'),
        ('Mirrored', 'mirrored'),
    ],
)
def test_unusual_files_are_refused(tmp_path, decoder, kind, reason):
    with pytest.raises(ValueError, match=f"{reason}.*decoder='pyav'"):
        READERS[decoder](make(kind, tmp_path))


@pytest.mark.parametrize('decoder', OTHERS)
def test_other_first_frame_is_refused(tmp_path, monkeypatch, decoder):
    path = str(write(tmp_path / 'a.mp4'))
    READERS[decoder](path).close()
    other_readers._examine_file.cache_clear()
    values = iter((0, 99))
    monkeypatch.setattr(other_readers, '_reduce', lambda _: np.full((8, 8, 3), next(values)))
    with pytest.raises(ValueError, match="first frame.*decoder='pyav'"):
        READERS[decoder](path)
    other_readers._examine_file.cache_clear()


@pytest.mark.parametrize('decoder', OTHERS)
def test_other_count_is_refused(tmp_path, monkeypatch, decoder):
    path = str(write(tmp_path / 'a.mp4'))
    monkeypatch.setattr(other_readers.PyAVReader, 'num_frames', 29, raising=False)
    monkeypatch.setattr(other_readers.PyAVReader, '__setattr__', keep_num_frames)
    with pytest.raises(ValueError, match=r'\b30 .*\b29\b'):
        READERS[decoder](path)
    other_readers._examine_file.cache_clear()


def keep_num_frames(self, name, value):
    object.__setattr__(self, name, 29 if name == 'num_frames' else value)


@needs_decord
@pytest.mark.parametrize('kind', ['AV1 in MP4', 'GIF', 'H.264 in MP4, one fragment per frame'])
def test_decord_errors_are_readable(tmp_path, kind):
    with pytest.raises(ValueError, match=r"^decord .*decoder='pyav'$") as error:
        READERS['decord'](make(kind, tmp_path))
    assert '.cc:' not in str(error.value)


@needs_decord
def test_early_end_of_decord_is_an_error(tmp_path, monkeypatch):
    reader = READERS['decord'](make('MPEG-4 with B-frames in AVI', tmp_path))
    monkeypatch.setattr(reader, '_reader', iter(()))
    monkeypatch.setattr(reader, '_decode_from_start', lambda indices: next(reader._reader))
    with pytest.raises(ValueError, match="decoder='pyav'"):
        reader.read(np.array([3]))


@pytest.mark.parametrize('decoder', OTHERS)
def test_video_without_decodable_frames_is_refused(tmp_path, decoder):
    source = write(tmp_path / 'source.ts', range(9), bf='0')
    path = remux(source, tmp_path / 'a.ts', lambda packet, number: number > 0)  # without the only key frame
    with pytest.raises(ValueError, match='^no frame can be decoded$'):
        READERS[decoder](str(path))


@needs_decord
@pytest.mark.parametrize(
    'kind', ['Key frames not listed in MP4', 'Open GOPs, H.265 in MP4', 'Swapped timestamps in MP4']
)
def test_decord_does_not_seek_if_inexact(tmp_path, kind):
    path = make(kind, tmp_path)
    for index in (0, 13, 29):
        reader = READERS['decord'](path)
        assert not reader._can_seek
        assert read_index(reader.read(np.array([index]))[0]) == index
        reader.close()


@needs_decord
def test_decord_does_not_seek_without_key_list(tmp_path):
    path = patch(write(tmp_path / 'a.mp4'), b'stss', b'free')  # with B-frames
    reader = READERS['decord'](str(path))
    assert not reader._can_seek
    assert [read_index(frame) for frame in reader.read(np.array([14, 25]))] == [14, 25]
    reader.close()


@needs_decord
def test_decord_seeks_in_usual_videos(tmp_path):
    reader = READERS['decord'](str(write(tmp_path / 'a.mp4')))
    assert reader._can_seek
    assert [read_index(frame) for frame in reader.read(np.array([25, 29]))] == [25, 29]
    assert [read_index(frame) for frame in reader.read(np.array([3]))] == [3]
    reader.close()


@pytest.mark.parametrize('decoder', OTHERS)
def test_name_that_is_not_utf8_is_refused(tmp_path, decoder):
    path = os.fsdecode(os.fsencode(tmp_path) + b'/\xff.mp4')
    write(tmp_path / 'a.mp4').rename(path)
    with pytest.raises(ValueError, match="UTF-8.*decoder='pyav'"):
        READERS[decoder](path)


@needs_decord
@pytest.mark.filterwarnings('error')
def test_equal_times_of_decord_are_refused(tmp_path, monkeypatch):
    def no_times(_reader, indices):  # as for two frames in Matroska
        return np.full((len(indices), 2), 9e15)

    monkeypatch.setattr('decord.VideoReader.get_frame_timestamp', no_times)
    with pytest.raises(ValueError, match="times.*decoder='pyav'"):
        READERS['decord'](str(write(tmp_path / 'a.mp4')))


@pytest.mark.parametrize('kind', ['Interlaced H.264 in MP4', 'DV in AVI'])
def test_opencv_refuses_interlaced_videos(tmp_path, kind):
    with pytest.raises(ValueError, match="interlaced.*decoder='pyav'"):
        OpenCVReader(make(kind, tmp_path))


def test_black_pictures_of_opencv_are_compared(tmp_path, monkeypatch):
    reader = OpenCVReader(str(write(tmp_path / 'a.mp4')))
    monkeypatch.setattr(OpenCVReader, '_retrieve', lambda self: np.zeros((72, 128, 3), np.uint8))
    with pytest.raises(ValueError, match="black.*decoder='pyav'"):
        reader.read(np.array([3, 5]))
    monkeypatch.setattr(OpenCVReader, '_read_with_pyav', lambda self, indices: np.ones((len(indices), 72, 128, 3)))
    assert not reader.read(np.array([3, 5])).any()
    reader.close()
