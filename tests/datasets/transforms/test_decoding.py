import os
import pickle
import re
import sys

import cv2
import numpy as np
import pytest

from dsanet.datasets.transforms import DecodeRawFrames, DecodeVideo, OpenVideo, decoding
from dsanet.datasets.transforms.base import BadSample, MissingSample
from dsanet.datasets.video import readers
from dsanet.datasets.video.readers import READERS, PyAVReader, VideoReader, first_installed, is_installed
from dsanet.datasets.video.subprocess_reader import IsolatedReader
from tests.make_videos import draw_frame, read_index, write_frames, write_video

DECODERS = tuple(name for name in READERS if is_installed(name))


@pytest.fixture(scope='module')
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp('video') / 'a.mp4', 40)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return write_frames(tmp_path_factory.mktemp('frames') / 'a', 12)


class FakeReader(VideoReader):
    """Five frames of one pixel that is the frame's number; remembers what it was asked for."""

    path = 'fake.mp4'
    num_frames = 5

    def __init__(self, error=None):
        self.error = error
        self.asked = []
        self.closed = False

    def _read(self, indices):
        if self.error:
            raise self.error
        self.asked.append(indices.tolist())
        return np.broadcast_to(indices.astype(np.uint8)[:, None, None, None], (len(indices), 1, 1, 3))

    def close(self):
        self.closed = True


def folder_record(path, indices, filename_tmpl='img_{:05d}.jpg', start_index=1):
    return {
        'path': path,
        'frame_indices': np.array(indices),
        'filename_tmpl': filename_tmpl,
        'start_index': start_index,
    }


@pytest.mark.parametrize('decoder', DECODERS)
def test_video_is_opened_counted_and_decoded(video, decoder):
    record = OpenVideo(decoder)({'path': video})
    assert record['num_frames'] == 40
    record['frame_indices'] = np.array([[[30, 39], [2, 30]]])
    record = DecodeVideo()(record)
    assert [read_index(frame) for frame in record['frames']] == [30, 39, 2, 30]
    assert 'reader' not in record


def test_decord_is_the_default():
    assert OpenVideo().decoder == 'decord'


def test_each_distinct_frame_is_decoded_once_and_the_reader_closed():
    reader = FakeReader()
    record = DecodeVideo()({'reader': reader, 'frame_indices': np.array([[[4, 4], [0, 2]], [[2, 4], [0, 0]]])})
    assert reader.asked == [[0, 2, 4]]
    assert record['frames'][:, 0, 0, 0].tolist() == [4, 4, 0, 2, 2, 4, 0, 0]
    assert reader.closed


@pytest.mark.parametrize('is_lent', [False, True])
def test_frames_are_copied_only_if_they_are_lent_or_not_at_their_places(is_lent):
    for indices, is_in_order in (([0, 2, 4], True), ([2, 0, 4], False), ([1, 1, 4], False)):
        reader = FakeReader()
        given = []
        real = reader._read
        reader._read = lambda wanted, real=real, given=given: given.append(real(wanted)) or given[-1]
        reader.lends_frames = is_lent
        frames = DecodeVideo()({'reader': reader, 'frame_indices': np.array(indices).reshape(1, 1, -1)})['frames']
        assert frames[:, 0, 0, 0].tolist() == indices
        assert np.shares_memory(frames, given[0]) == (is_in_order and not is_lent)


def test_failing_decoder_names_the_file_and_is_closed():
    reader = FakeReader(error=OSError('bad packet'))
    message = 'fake.mp4: FakeReader cannot decode 2 frames from 1 to 3 of 5: bad packet'
    with pytest.raises(BadSample, match=message):
        DecodeVideo()({'reader': reader, 'frame_indices': np.array([[[1, 3]]])})
    assert reader.closed


def test_unknown_decoder_lists_the_known_ones_and_the_nearest():
    with pytest.raises(ValueError, match="unknown decoder='decrod'. Did you mean 'decord'.*decord, pyav, opencv"):
        OpenVideo('decrod')


def test_auto_is_the_first_installed_decoder(video, monkeypatch):
    first_installed.cache_clear()
    assert OpenVideo('auto').decoder == DECODERS[0]
    first_installed.cache_clear()
    monkeypatch.setattr(readers, 'is_installed', lambda name: name == 'opencv')
    assert OpenVideo('auto')({'path': video})['num_frames'] == 40
    assert OpenVideo('auto').decoder == 'opencv'
    first_installed.cache_clear()


@pytest.mark.parametrize('time_limit', [0, -1.5, float('nan')])
def test_time_limit_is_checked(time_limit):
    with pytest.raises(ValueError, match=f'time_limit={time_limit!r} must be a number of seconds above 0, or None'):
        OpenVideo(time_limit=time_limit)


@pytest.mark.parametrize('time_limit', [None, 20])
def test_video_is_decoded_in_a_process_of_its_own_where_that_is_possible(video, monkeypatch, time_limit):
    monkeypatch.setattr(decoding, 'can_isolate', lambda: True)
    record = OpenVideo('pyav', time_limit)({'path': video})
    assert isinstance(record['reader'], PyAVReader if time_limit is None else IsolatedReader)
    record['frame_indices'] = np.array([[[30, 39], [2, 30]]])
    frames = DecodeVideo()(record)['frames']
    other = OpenVideo('pyav', time_limit)({'path': video})
    other['frame_indices'] = np.array([[[8, 9], [10, 11]]])
    DecodeVideo()(other)
    assert [read_index(frame) for frame in frames] == [30, 39, 2, 30]  # the second video has not overwritten them


@pytest.mark.parametrize('isolated', [False, True])
def test_what_is_wrong_with_a_file_is_a_bad_sample(video, tmp_path, monkeypatch, isolated):
    monkeypatch.setattr(decoding, 'can_isolate', lambda: isolated)
    (tmp_path / 'bad.mp4').write_bytes(b'no video' * 50)
    with pytest.raises(BadSample) as caught:
        OpenVideo('pyav')({'path': str(tmp_path / 'bad.mp4')})
    assert caught.value.path == str(tmp_path / 'bad.mp4')
    assert caught.value.reason.startswith("cannot be opened with decoder='pyav': ")
    for name, reason in (('none.mp4', 'is missing'), ('pipe', 'is no file')):
        if name == 'pipe':
            os.mkfifo(tmp_path / name)  # opening one waits for ever
        with pytest.raises(MissingSample) as caught:
            OpenVideo('pyav')({'path': str(tmp_path / name)})
        assert (caught.value.path, caught.value.reason) == (str(tmp_path / name), reason)


def test_bad_samples_survive_the_way_from_a_worker():
    for kind in (BadSample, MissingSample):
        error = pickle.loads(pickle.dumps(kind('a: b', 'a', 'b', 'l:1')))
        assert type(error) is kind
        assert (str(error), error.path, error.reason, error.source) == ('a: b', 'a', 'b', 'l:1')


def test_a_decoder_that_gives_too_few_frames_is_found_out():
    class Short(FakeReader):
        def _read(self, indices):
            return super()._read(indices)[:-1]

    with pytest.raises(BadSample, match='Short cannot decode 2 frames from 1 to 3 of 5: it gave 1'):
        DecodeVideo()({'reader': Short(), 'frame_indices': np.array([[[1, 3]]])})


def test_missing_decoder_package_names_the_others(video, monkeypatch):
    monkeypatch.setitem(sys.modules, 'decord', None)
    with pytest.raises(ImportError, match="decoder='decord' cannot be imported .*; try 'pyav' or 'opencv'"):
        OpenVideo()({'path': video})


def test_missing_video_is_named_by_its_absolute_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=re.escape(f'no video {tmp_path / "no.mp4"}')):
        OpenVideo()({'path': 'no.mp4'})


def test_folder_instead_of_a_video_points_to_the_other_data_set(tmp_path):
    with pytest.raises(ValueError, match='is a folder; RawFramesDataset reads folders of frames'):
        OpenVideo()({'path': str(tmp_path)})


@pytest.mark.parametrize('decoder', DECODERS)
@pytest.mark.parametrize('content', [b'', b'this is no video' * 50])
def test_unreadable_video_is_named(tmp_path, decoder, content):
    (tmp_path / 'bad.mp4').write_bytes(content)
    said = f"cannot be opened with decoder='{decoder}'" if content else 'is an empty file$'
    with pytest.raises(BadSample, match=f'bad.mp4 {said}'):
        OpenVideo(decoder)({'path': str(tmp_path / 'bad.mp4')})


@pytest.mark.parametrize('decoder', ['decord', 'pyav'])
def test_damaged_video_is_named(video, tmp_path, decoder):
    with open(video, 'rb') as file:
        data = bytearray(file.read())
    # Everything after the first few frames is wiped out; the index at the end stays.
    start, end = data.index(b'mdat') + 1000, data.index(b'moov') - 4
    data[start:end] = bytes(end - start)
    (tmp_path / 'damaged.mp4').write_bytes(data)
    record = OpenVideo(decoder)({'path': str(tmp_path / 'damaged.mp4')})
    record['frame_indices'] = np.array([[[0, 30]]])
    with pytest.raises(BadSample, match='damaged.mp4: .* cannot decode 2 frames from 0 to 30 of 40'):
        DecodeVideo()(record)


def test_video_without_frames_is_named_and_closed(video, monkeypatch):
    reader = FakeReader()
    reader.num_frames = 0
    monkeypatch.setitem(READERS, 'pyav', lambda path: reader)
    with pytest.raises(ValueError, match="a.mp4 has no frames, says decoder='pyav'"):
        OpenVideo('pyav')({'path': video})
    assert reader.closed


def test_folder_frames_are_read_as_rgb_in_the_order_of_the_indices(folder):
    frames = DecodeRawFrames()(folder_record(folder, [[[11, 0], [5, 11]]]))['frames']
    assert frames.shape == (4, 72, 128, 3)
    assert frames.dtype == np.uint8
    assert [read_index(frame) for frame in frames] == [11, 0, 5, 11]


def test_folder_frames_are_rgb(tmp_path):
    cv2.imwrite(str(tmp_path / 'img_00001.jpg'), np.full((8, 8, 3), (0, 0, 255), np.uint8))
    frames = DecodeRawFrames()(folder_record(str(tmp_path), [[[0]]]))['frames']
    assert frames[0].mean(axis=(0, 1)) == pytest.approx([255, 0, 0], abs=3)


def test_each_distinct_image_is_read_once(folder, monkeypatch):
    read = []
    real = cv2.imdecode
    monkeypatch.setattr(cv2, 'imdecode', lambda *arguments: read.append(1) or real(*arguments))
    DecodeRawFrames()(folder_record(folder, [[[1, 1], [0, 1]]]))
    assert len(read) == 2


def test_template_and_start_index_name_the_files(tmp_path):
    path = write_frames(tmp_path / 'a', 3, filename_tmpl='{:d}.png', start_index=0)
    frames = DecodeRawFrames()(folder_record(path, [[[0, 2]]], filename_tmpl='{:d}.png', start_index=0))['frames']
    assert (frames[0] == draw_frame(0)).all()
    assert (frames[1] == draw_frame(2)).all()


def test_missing_frame_says_what_was_looked_for_and_what_is_there(folder, tmp_path):
    message = re.escape(
        "img_00013.jpg (frame 12, filename_tmpl='img_{:05d}.jpg', start_index=1): "
        'the folder has 12 files: img_00001.jpg, img_00002.jpg, img_00003.jpg, ...'
    )
    with pytest.raises(FileNotFoundError, match=message + '$'):
        DecodeRawFrames()(folder_record(folder, [[[12]]]))
    with pytest.raises(FileNotFoundError, match='there is no such folder'):
        DecodeRawFrames()(folder_record(folder + '/nowhere', [[[0]]]))
    with pytest.raises(FileNotFoundError, match='the folder is empty'):
        DecodeRawFrames()(folder_record(str(tmp_path), [[[0]]]))


def test_missing_frame_suggests_the_start_index(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r'img_00003.jpg, .*Is start_index=1\?'):
        DecodeRawFrames()(folder_record(folder, [[[0]]], start_index=0))
    path = write_frames(tmp_path / 'a', 3, start_index=0)
    with pytest.raises(FileNotFoundError, match=r'img_00000.jpg, .*Is start_index=0\?'):
        DecodeRawFrames()(folder_record(path, [[[0, 2]]]))


@pytest.mark.parametrize('share', [0.1, 0.5, 0.99])
def test_jpeg_that_breaks_off_is_named(tmp_path, share):
    path = write_frames(tmp_path / 'a', 3)
    file = tmp_path / 'a' / 'img_00002.jpg'
    data = file.read_bytes()
    file.write_bytes(data + b'trailing bytes')
    assert read_index(DecodeRawFrames()(folder_record(path, [[[1]]]))['frames'][0]) == 1
    file.write_bytes(data[: int(share * len(data))])
    with pytest.raises(BadSample, match=r'img_00002.jpg is (a JPEG of \d+ bytes that breaks off|no image)') as caught:
        DecodeRawFrames()(folder_record(path, [[[0, 1]]]))
    assert caught.value.path == path
    file.write_bytes(b'')
    with pytest.raises(BadSample, match=r'img_00002.jpg is no image that OpenCV can read \(0 bytes\)'):
        DecodeRawFrames()(folder_record(path, [[[0, 1]]]))


def test_a_picture_inside_a_jpeg_does_not_hide_that_it_breaks_off(tmp_path):
    path = write_frames(tmp_path / 'a', 2)
    file = tmp_path / 'a' / 'img_00001.jpg'
    data = file.read_bytes()
    # Cameras put a small JPEG, with an end of its own, into a segment before the picture.
    segment = b'\xff\xe1' + (2 + 200).to_bytes(2, 'big') + b'\xff\xd8' + bytes(194) + b'\xff\xd9' + b'\0\0'
    file.write_bytes(data[:2] + segment + data[2:])
    assert read_index(DecodeRawFrames()(folder_record(path, [[[0]]]))['frames'][0]) == 0
    file.write_bytes(data[:2] + segment + data[2:-20])
    with pytest.raises(BadSample, match='breaks off'):
        DecodeRawFrames()(folder_record(path, [[[0]]]))


def test_damaged_or_odd_image_is_named(tmp_path):
    path = write_frames(tmp_path / 'a', 3)
    (tmp_path / 'a' / 'img_00002.jpg').write_bytes(b'no image')
    with pytest.raises(ValueError, match='img_00002.jpg is no image that OpenCV can read'):
        DecodeRawFrames()(folder_record(path, [[[0, 1]]]))
    write_frames(tmp_path / 'b', 1, height=36, filename_tmpl='{:d}.jpg')
    (tmp_path / 'b' / '1.jpg').rename(tmp_path / 'a' / 'img_00002.jpg')
    with pytest.raises(ValueError, match=r'img_00002.jpg is \(36, 128\) .*frames before \(72, 128\)'):
        DecodeRawFrames()(folder_record(path, [[[0, 1]]]))
