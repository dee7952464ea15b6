import errno
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
from dsanet.datasets.video.pyav_reader import PyAVReader
from dsanet.datasets.video.readers import READERS, VideoReader, first_installed, is_installed
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
    """Five frames of one pixel with the frame's number as its value; records the requested indices."""

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


def decode(decoder, path, indices):
    record = OpenVideo(decoder)({'path': str(path)})
    return DecodeVideo()(record | {'frame_indices': np.array([[indices]])})['frames']


@pytest.mark.parametrize('decoder', DECODERS)
def test_video_is_opened_counted_and_decoded(video, decoder):
    record = OpenVideo(decoder)({'path': video})
    assert record['num_frames'] == 40
    record['frame_indices'] = np.array([[[30, 39], [2, 30]]])
    record = DecodeVideo()(record)
    assert [read_index(frame) for frame in record['frames']] == [30, 39, 2, 30]
    assert 'reader' not in record


def test_each_distinct_frame_is_decoded_once():
    reader = FakeReader()
    record = DecodeVideo()({'reader': reader, 'frame_indices': np.array([[[4, 4], [0, 2]], [[2, 4], [0, 0]]])})
    assert reader.asked == [[0, 2, 4]]
    assert record['frames'][:, 0, 0, 0].tolist() == [4, 4, 0, 2, 2, 4, 0, 0]
    assert reader.closed


@pytest.mark.parametrize('is_reused', [False, True])
def test_frames_are_copied_only_if_necessary(is_reused):
    for indices, is_in_order in (([0, 2, 4], True), ([2, 0, 4], False), ([1, 1, 4], False)):
        reader = FakeReader()
        given = []
        real = reader._read
        reader._read = lambda wanted, real=real, given=given: given.append(real(wanted)) or given[-1]
        reader.reuses_memory = is_reused
        frames = DecodeVideo()({'reader': reader, 'frame_indices': np.array(indices).reshape(1, 1, -1)})['frames']
        assert frames[:, 0, 0, 0].tolist() == indices
        assert np.shares_memory(frames, given[0]) == (is_in_order and not is_reused)


def test_decoder_error_names_file_and_closes_reader():
    reader = FakeReader(error=OSError('bad packet'))
    with pytest.raises(BadSample, match=r'fake.mp4: FakeReader .*\b2\b.*\b1\b.*\b3\b.*\b5\b.*bad packet'):
        DecodeVideo()({'reader': reader, 'frame_indices': np.array([[[1, 3]]])})
    assert reader.closed


def test_unknown_decoder_lists_known_names():
    with pytest.raises(ValueError, match="decoder='decrod'.* 'decord'.*pyav, decord, opencv"):
        OpenVideo('decrod')


def test_auto_is_the_first_installed_decoder(video, monkeypatch):
    assert OpenVideo().decoder == 'pyav'
    first_installed.cache_clear()
    assert OpenVideo('auto').decoder == DECODERS[0]
    first_installed.cache_clear()
    monkeypatch.setattr(readers, 'is_installed', lambda name: name == 'opencv')
    assert OpenVideo('auto')({'path': video})['num_frames'] == 40
    assert OpenVideo('auto').decoder == 'opencv'
    first_installed.cache_clear()


@pytest.mark.parametrize('time_limit', [0, -1.5, float('nan'), 1e7])
def test_time_limit_is_checked(time_limit):
    with pytest.raises(ValueError, match=f'time_limit={time_limit!r} .*None'):
        OpenVideo(time_limit=time_limit)


@pytest.mark.parametrize('time_limit', [None, 20])
def test_time_limit_enables_the_isolated_reader(video, monkeypatch, time_limit):
    monkeypatch.setattr(decoding, 'can_isolate', lambda: True)
    record = OpenVideo('pyav', time_limit)({'path': video})
    assert isinstance(record['reader'], PyAVReader if time_limit is None else IsolatedReader)
    record['frame_indices'] = np.array([[[30, 39], [2, 30]]])
    frames = DecodeVideo()(record)['frames']
    other = OpenVideo('pyav', time_limit)({'path': video})
    other['frame_indices'] = np.array([[[8, 9], [10, 11]]])
    DecodeVideo()(other)
    assert [read_index(frame) for frame in frames] == [30, 39, 2, 30], 'the second video must not overwrite them'


def test_missing_video_is_named_by_absolute_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo('pipe')  # opening a pipe would wait forever
    for name in ('none.mp4', 'pipe'):
        with pytest.raises(MissingSample, match=re.escape(str(tmp_path / name))) as caught:
            OpenVideo()({'path': name})
        assert (caught.value.path, bool(caught.value.reason)) == (name, True)


def test_bad_sample_can_be_pickled():
    for kind in (BadSample, MissingSample):
        error = pickle.loads(pickle.dumps(kind('a: b', 'a', 'b', 'l:1')))
        assert type(error) is kind
        assert (str(error), error.path, error.reason, error.source) == ('a: b', 'a', 'b', 'l:1')


def test_too_few_decoded_frames_are_an_error():
    class Short(FakeReader):
        def _read(self, indices):
            return super()._read(indices)[:-1]

    with pytest.raises(BadSample, match=r'Short .*\b2\b.*\b1\b.*\b3\b.*\b5\b.*\b1\b'):
        DecodeVideo()({'reader': Short(), 'frame_indices': np.array([[[1, 3]]])})


def test_missing_decoder_package_names_other_decoders(video, monkeypatch):
    monkeypatch.setitem(sys.modules, 'decord', None)
    with pytest.raises(ImportError, match="decoder='decord' .*'pyav'.*'opencv'"):
        OpenVideo('decord')({'path': video})


def test_folder_as_video_suggests_raw_frames_dataset(tmp_path):
    with pytest.raises(ValueError, match=f'{tmp_path} .*RawFramesDataset'):
        OpenVideo()({'path': str(tmp_path)})


@pytest.mark.parametrize('isolated', [False, True])
@pytest.mark.parametrize('decoder', DECODERS)
@pytest.mark.parametrize('content', [b'', b'this is no video' * 50])
def test_unreadable_video_is_a_bad_sample(tmp_path, monkeypatch, decoder, content, isolated):
    monkeypatch.setattr(decoding, 'can_isolate', lambda: isolated)
    path = tmp_path / 'bad.mp4'
    path.write_bytes(content)
    with pytest.raises(BadSample, match=f"bad.mp4 .*decoder='{decoder}'" if content else 'bad.mp4 .*empty') as caught:
        OpenVideo(decoder)({'path': str(path)})
    assert caught.value.path == str(path)
    assert caught.value.reason == str(caught.value).removeprefix(f'{path} ')


@pytest.mark.parametrize('decoder', ['decord', 'pyav'])
def test_damaged_video_is_named(video, tmp_path, decoder):
    with open(video, 'rb') as file:
        data = bytearray(file.read())
    # Zeros replace all frames but the first few; the index at the end is unchanged.
    start, end = data.index(b'mdat') + 1000, data.index(b'moov') - 4
    data[start:end] = bytes(end - start)
    (tmp_path / 'damaged.mp4').write_bytes(data)
    # decord reads ahead and fails when it opens the file.
    match = r'damaged.mp4: .*\b2\b.*\b0\b.*\b30\b.*\b40\b' if decoder == 'pyav' else 'damaged.mp4'
    with pytest.raises(BadSample, match=match):
        decode(decoder, tmp_path / 'damaged.mp4', [0, 30])


def test_video_without_frames_is_named_and_closed(video, monkeypatch):
    reader = FakeReader()
    reader.num_frames = 0
    monkeypatch.setitem(READERS, 'pyav', lambda path: reader)
    with pytest.raises(ValueError, match="a.mp4 .*decoder='pyav'"):
        OpenVideo('pyav')({'path': video})
    assert reader.closed


def test_raw_frames_are_in_order_of_indices(folder):
    frames = DecodeRawFrames()(folder_record(folder, [[[11, 0], [5, 11]]]))['frames']
    assert frames.shape == (4, 72, 128, 3)
    assert frames.dtype == np.uint8
    assert [read_index(frame) for frame in frames] == [11, 0, 5, 11]


def test_raw_frames_are_rgb(tmp_path):
    cv2.imwrite(str(tmp_path / 'img_00001.jpg'), np.full((8, 8, 3), (0, 0, 255), np.uint8))
    frames = DecodeRawFrames()(folder_record(str(tmp_path), [[[0]]]))['frames']
    assert frames[0].mean(axis=(0, 1)) == pytest.approx([255, 0, 0], abs=3)


def test_older_opencv_reads_the_same_images(folder, monkeypatch):
    new = DecodeRawFrames()(folder_record(folder, [[[0, 5]]]))['frames']
    converted = []
    real = cv2.cvtColor
    monkeypatch.setattr(cv2, 'cvtColor', lambda *arguments: converted.append(1) or real(*arguments))
    DecodeRawFrames()(folder_record(folder, [[[0, 5]]]))
    assert len(converted) == (0 if hasattr(cv2, 'IMREAD_COLOR_RGB') else 2)
    monkeypatch.setattr(decoding, '_IMREAD_RGB', 0)
    np.testing.assert_array_equal(DecodeRawFrames()(folder_record(folder, [[[0, 5]]]))['frames'], new)


def test_each_distinct_image_is_read_once(folder, monkeypatch):
    read = []
    real = cv2.imdecode
    monkeypatch.setattr(cv2, 'imdecode', lambda *arguments: read.append(1) or real(*arguments))
    DecodeRawFrames()(folder_record(folder, [[[1, 1], [0, 1]]]))
    assert len(read) == 2


def test_template_and_start_index_determine_file_names(tmp_path):
    path = write_frames(tmp_path / 'a', 3, filename_tmpl='{:d}.png', start_index=0)
    frames = DecodeRawFrames()(folder_record(path, [[[0, 2]]], filename_tmpl='{:d}.png', start_index=0))['frames']
    assert (frames[0] == draw_frame(0)).all()
    assert (frames[1] == draw_frame(2)).all()


def test_missing_frame_lists_the_files_present(folder, tmp_path):
    options = r"\b12\b.*filename_tmpl='img_\{:05d\}.jpg', start_index=1"
    there = r'\b12\b.*img_00001.jpg, img_00002.jpg, img_00003.jpg, \.\.\.'
    with pytest.raises(FileNotFoundError, match=f'img_00013.jpg.*{options}.*{there}$'):
        DecodeRawFrames()(folder_record(folder, [[[12]]]))
    with pytest.raises(FileNotFoundError, match='nowhere/img_00001.jpg.* folder'):
        DecodeRawFrames()(folder_record(folder + '/nowhere', [[[0]]]))
    with pytest.raises(FileNotFoundError, match='img_00001.jpg.* empty'):
        DecodeRawFrames()(folder_record(str(tmp_path), [[[0]]]))


def test_lost_drive_is_the_cause_of_missing_frames(folder, tmp_path, monkeypatch):
    def fail(path):
        raise OSError(errno.ENOTCONN, 'Transport endpoint is not connected', path)

    record = folder_record(folder, [[[0]]])
    monkeypatch.setattr(decoding.os, 'stat', fail)
    with pytest.raises(MissingSample) as error:
        DecodeRawFrames()(record)
    assert error.value.__cause__.errno == errno.ENOTCONN


def test_missing_frame_suggests_the_start_index(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r'img_00003.jpg, .*start_index=1\b'):
        DecodeRawFrames()(folder_record(folder, [[[0]]], start_index=0))
    path = write_frames(tmp_path / 'a', 3, start_index=0)
    with pytest.raises(FileNotFoundError, match=r'img_00000.jpg, .*start_index=0\b'):
        DecodeRawFrames()(folder_record(path, [[[0, 2]]]))


@pytest.mark.parametrize('share', [0.1, 0.5, 0.99])
def test_truncated_jpeg_is_a_bad_sample(tmp_path, share):
    path = write_frames(tmp_path / 'a', 3)
    file = tmp_path / 'a' / 'img_00002.jpg'
    data = file.read_bytes()
    file.write_bytes(data + b'trailing bytes')
    assert read_index(DecodeRawFrames()(folder_record(path, [[[1]]]))['frames'][0]) == 1
    file.write_bytes(data[: int(share * len(data))])
    with pytest.raises(BadSample, match=rf'img_00002.jpg .*\b{int(share * len(data))} bytes') as caught:
        DecodeRawFrames()(folder_record(path, [[[0, 1]]]))
    assert caught.value.path == path


def test_truncated_jpeg_with_thumbnail_is_a_bad_sample(tmp_path):
    path = write_frames(tmp_path / 'a', 2)
    file = tmp_path / 'a' / 'img_00001.jpg'
    data = file.read_bytes()
    # Cameras store a thumbnail, a JPEG with its own end marker, before the image.
    segment = b'\xff\xe1' + (2 + 200).to_bytes(2, 'big') + b'\xff\xd8' + bytes(194) + b'\xff\xd9' + b'\0\0'
    file.write_bytes(data[:2] + segment + data[2:])
    assert read_index(DecodeRawFrames()(folder_record(path, [[[0]]]))['frames'][0]) == 0
    file.write_bytes(data[:2] + segment + data[2:-20])
    with pytest.raises(BadSample, match='JPEG'):
        DecodeRawFrames()(folder_record(path, [[[0]]]))


def test_damaged_or_resized_image_is_an_error(tmp_path):
    path = write_frames(tmp_path / 'a', 3)
    for content in (b'', b'no image'):
        (tmp_path / 'a' / 'img_00002.jpg').write_bytes(content)
        with pytest.raises(ValueError, match=rf'img_00002.jpg .*\b{len(content)} bytes'):
            DecodeRawFrames()(folder_record(path, [[[0, 1]]]))
    write_frames(tmp_path / 'b', 1, height=36, filename_tmpl='{:d}.jpg')
    (tmp_path / 'b' / '1.jpg').rename(tmp_path / 'a' / 'img_00002.jpg')
    with pytest.raises(ValueError, match=r'img_00002.jpg .*\(36, 128\).*\(72, 128\)'):
        DecodeRawFrames()(folder_record(path, [[[0, 1]]]))
