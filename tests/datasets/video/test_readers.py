import logging
import re
import shutil
import sys
from fractions import Fraction

import av
import numpy as np
import pytest

from dsanet.datasets.video import frame_index, readers
from dsanet.datasets.video.other_readers import OpenCVReader
from dsanet.datasets.video.pyav_reader import PyAVReader
from dsanet.datasets.video.readers import READERS, first_installed, is_installed
from tests.make_videos import draw_frames, read_index, rotate_video, write_video

NUM_FRAMES = 60
DECODERS = tuple(name for name in READERS if is_installed(name))
needs_torchcodec = pytest.mark.skipif('torchcodec' not in DECODERS, reason='torchcodec is not installed')
# Key frames are 12 apart: single frames, neighbors, frames across key frames, the first and the last.
INDICES = (
    [0],
    [59],
    [13],
    [11, 12, 13],
    [5, 30, 31, 58],
    [0, 8, 16, 24, 32, 40, 48, 56, 59],
    list(range(60)),
)


@pytest.fixture(scope='module')
def videos(tmp_path_factory):
    """Return a path for each kind of container; all have B-frames."""
    folder = tmp_path_factory.mktemp('videos')
    codecs = {
        'mp4': 'libx264',
        'mkv': 'libx264',
        'avi': 'mpeg4',
        'mpg': 'mpeg2video',
        'ts': 'libx264',
        'flv': 'libx264',
    }
    paths = {kind: write_video(folder / f'a.{kind}', NUM_FRAMES, codec=codec) for kind, codec in codecs.items()}
    # Open GOPs: frames are stored after a key frame but shown before it; always in MPEG-4, with an option in H.264.
    paths['open mpeg4'] = write_video(folder / 'mpeg4.mp4', NUM_FRAMES, codec='mpeg4')
    paths['open h264'] = write_video(
        folder / 'h264.mp4', NUM_FRAMES, **{'x264-params': 'open-gop=1:b-adapt=0:scenecut=0'}
    )
    return paths


def read(decoder, path, indices):
    reader = READERS[decoder](path)
    try:
        return reader.read(np.array(indices))
    finally:
        reader.close()


@pytest.mark.parametrize('kind', ['mp4', 'mkv', 'flv', 'avi', 'mpg', 'open mpeg4', 'open h264'])
@pytest.mark.parametrize('decoder', DECODERS)
def test_num_frames_and_requested_frames_are_exact(videos, decoder, kind):
    if decoder == 'torchcodec' and kind in ('avi', 'mpg'):
        pytest.skip('torchcodec refuses these')
    reader = READERS[decoder](videos[kind])
    assert (reader.num_frames, reader.fps) == (NUM_FRAMES, 25)
    reader.close()
    for indices in INDICES:
        frames = read(decoder, videos[kind], indices)
        assert frames.shape == (len(indices), 72, 128, 3)
        assert frames.dtype == np.uint8
        assert [read_index(frame) for frame in frames] == indices


@pytest.fixture(scope='module')
def cut_videos(tmp_path_factory):
    """Return videos of frames 20 to 79, cut without re-encoding: the 4 frames from key frame 16 to 19 are hidden."""
    folder = tmp_path_factory.mktemp('cut')
    paths = {}
    for kind, options in (('B-frames', {'bf': '2'}), ('no B-frames', {'bf': '0'})):
        whole = write_video(folder / f'{kind}.mp4', 100, g='16', **options, **{'x264-params': 'scenecut=0'})
        paths[kind] = str(folder / f'{kind} cut.mp4')
        with av.open(whole) as source, av.open(paths[kind], 'w') as container:
            video = source.streams.video[0]
            stream = container.add_stream_from_template(video)
            offset = int(Fraction(20, 25) / video.time_base)
            for packet in source.demux(video):
                if packet.size and 16 <= packet.pts * video.time_base * 25 < 80:
                    packet.pts, packet.dts = packet.pts - offset, packet.dts - offset
                    packet.stream = stream
                    container.mux(packet)
    return paths


@pytest.mark.parametrize('kind', ['B-frames', 'no B-frames'])
@pytest.mark.parametrize('decoder', DECODERS)
def test_frames_hidden_by_a_cut_are_excluded(cut_videos, decoder, kind):
    reader = READERS[decoder](cut_videos[kind])
    assert reader.num_frames == 60
    reader.close()
    for indices in INDICES:
        frames = read(decoder, cut_videos[kind], indices)
        assert [read_index(frame) for frame in frames] == [index + 20 for index in indices]


def test_files_are_examined_once(videos, tmp_path, monkeypatch):
    path = tmp_path / 'a.mp4'
    shutil.copy(videos['open h264'], path)
    opened = []
    real = av.open
    monkeypatch.setattr(av, 'open', lambda *args, **options: opened.append(args) or real(*args, **options))
    for decoder in ('decord', 'opencv', 'decord'):
        assert read_index(read(decoder, str(path), [13])[0]) == 13
        number = len(opened)
    assert len(opened) == number
    shutil.copy(videos['mp4'], path)
    assert read_index(read('decord', str(path), [13])[0]) == 13
    assert len(opened) > number


def test_decord_refuses_transport_streams(videos):
    for decoder in ('pyav', 'opencv'):
        assert [read_index(frame) for frame in read(decoder, videos['ts'], [0, 7, 25, 59])] == [0, 7, 25, 59]
    with pytest.raises(ValueError, match=r'decord.*\.ts'):
        READERS['decord'](videos['ts'])


@needs_torchcodec
@pytest.mark.parametrize('kind', ['ts', 'avi', 'mpg'])
def test_torchcodec_refuses_containers_without_frame_times(videos, kind):
    with pytest.raises(ValueError, match='torchcodec.*MP4/MOV, Matroska/WebM and FLV'):
        READERS['torchcodec'](videos[kind])


def test_torchcodec_without_ffmpeg_is_not_installed(videos, monkeypatch):
    class Broken:
        def __getattr__(self, name):
            raise RuntimeError('Could not load libtorchcodec')

    monkeypatch.setitem(sys.modules, 'torchcodec', Broken())
    monkeypatch.setitem(sys.modules, 'torchcodec.decoders', Broken())
    with pytest.raises(ImportError, match='torchcodec.*FFmpeg'):
        READERS['torchcodec'](videos['mp4'])


def test_auto_picks_first_installed_decoder_logged_once(monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger('dsanet'), 'propagate', True)
    caplog.set_level(logging.INFO)
    installed = ['opencv', 'pyav']
    monkeypatch.setattr(readers, 'is_installed', lambda name: name in installed)
    first_installed.cache_clear()
    assert [first_installed(), first_installed()] == ['pyav', 'pyav']
    assert [sorted(re.findall(r"'(\w+)'", message)) for message in caplog.messages] == [['auto', 'pyav']]
    first_installed.cache_clear()
    installed.clear()
    with pytest.raises(ImportError, match=r"decoder='auto'.*av, decord, cv2, torchcodec\.decoders"):
        first_installed()


def test_decoder_is_installed_if_package_imports(monkeypatch):
    assert is_installed('opencv')
    monkeypatch.setitem(sys.modules, 'av', None)
    assert not is_installed('pyav')


def test_decoders_agree_up_to_rounding(videos):
    everything = list(range(NUM_FRAMES))
    frames = {decoder: read(decoder, videos['mp4'], everything).astype(int) for decoder in DECODERS}
    for decoder in DECODERS:
        assert np.abs(frames[decoder] - frames['decord']).max() <= 3
        assert np.abs(frames[decoder] - draw_frames(NUM_FRAMES)).mean() < 4


@pytest.mark.parametrize('decoder', DECODERS)
def test_frames_are_rgb(tmp_path, decoder):
    red = np.zeros((64, 64, 3), np.uint8)
    red[..., 0] = 255
    with av.open(str(tmp_path / 'red.mp4'), 'w') as container:
        stream = container.add_stream('libx264', rate=25, options={'crf': '5'})
        stream.width = stream.height = 64
        container.mux(stream.encode(av.VideoFrame.from_ndarray(red, format='rgb24')))
        container.mux(stream.encode(None))
    frame = read(decoder, str(tmp_path / 'red.mp4'), [0])[0]
    assert frame.mean(axis=(0, 1)) == pytest.approx([255, 0, 0], abs=8)


@pytest.mark.parametrize('decoder', DECODERS)
def test_stored_rotation_is_applied(tmp_path, decoder):
    path = write_video(tmp_path / 'phone.mp4', 15, 144, 256)
    rotate_video(path)
    frames = read(decoder, path, [3, 14])
    assert frames.shape == (2, 256, 144, 3)
    # The stored rotation is clockwise: rotating counterclockwise restores the drawn frame.
    assert [read_index(np.rot90(frame)) for frame in frames] == [3, 14]


def test_pyav_decodes_into_allocated_memory(videos):
    reader = PyAVReader(videos['mp4'])
    memory = np.zeros((2, 72, 128, 3), np.uint8)
    asked = []
    reader.allocate = lambda shape: asked.append(shape) or memory
    assert reader.read(np.array([7, 30])) is memory
    reader.close()
    assert asked == [memory.shape]
    assert [read_index(frame) for frame in memory] == [7, 30]


@pytest.mark.parametrize('reader_class', [PyAVReader, OpenCVReader])
@pytest.mark.parametrize('kind', ['mp4', 'avi'])
def test_reader_can_seek_backward(videos, reader_class, kind):
    reader = reader_class(videos[kind])
    assert read_index(reader.read(np.array([40]))[0]) == 40
    assert read_index(reader.read(np.array([3]))[0]) == 3
    reader.close()


def watch_packets(reader):
    """Return lists of the times to which the reader will seek, and of the packets that it will read."""
    seeks, packets = [], []
    real = reader._container

    class Watched:
        close = staticmethod(real.close)

        @staticmethod
        def seek(time, stream):
            seeks.append(time)
            real.seek(time, stream=stream)

        @staticmethod
        def demux(stream):
            for packet in real.demux(stream):
                packets.append(packet)
                yield packet

    reader._container = Watched
    return seeks, packets


def test_pyav_skips_unwanted_frames(videos):
    reader = PyAVReader(videos['mp4'])
    _, packets = watch_packets(reader)
    reader.read(np.array([2, 50]))
    reader.close()
    # Frames 0 to 2, and 48 (a key frame) to 50, each with up to three packets that the decoder waits for.
    assert 6 <= len(packets) <= 12


@pytest.fixture(scope='module')
def key_frames(tmp_path_factory):
    """Return MP4s of key frames only, by codec; the index is at the beginning, so a truncated file still has it."""
    folder = tmp_path_factory.mktemp('key_frames')
    paths = {}
    for codec, pixels in (('libx264', 'yuv420p'), ('mjpeg', 'yuvj420p')):
        paths[codec] = str(folder / f'{codec}.mp4')
        with av.open(paths[codec], 'w', options={'movflags': 'faststart'}) as container:
            options = {'g': '1'} if codec == 'libx264' else {'qmin': '2', 'qmax': '2'}
            stream = container.add_stream(codec, rate=25, options=options)
            stream.width, stream.height, stream.pix_fmt = 128, 72, pixels
            for frame in draw_frames(NUM_FRAMES):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format='rgb24')))
            container.mux(stream.encode(None))
    return paths


@pytest.mark.parametrize('codec', ['libx264', 'mjpeg'])
def test_pyav_reads_key_frame_index_only(key_frames, monkeypatch, codec):
    monkeypatch.setattr(frame_index, '_read_packets', lambda *_: pytest.fail('read the whole file'))
    for indices in INDICES:
        assert [read_index(frame) for frame in read('pyav', key_frames[codec], indices)] == indices


@pytest.mark.parametrize('codec', ['libx264', 'mjpeg'])
@pytest.mark.parametrize('decoder', DECODERS)
def test_videos_of_key_frames_are_read_exactly(key_frames, decoder, codec):
    for indices in INDICES:
        assert [read_index(frame) for frame in read(decoder, key_frames[codec], indices)] == indices


@pytest.mark.parametrize('codec', ['libx264', 'mjpeg'])
def test_key_frames_beyond_end_are_excluded(key_frames, tmp_path, codec):
    with open(key_frames[codec], 'rb') as file:
        data = file.read()
    (tmp_path / 'half.mp4').write_bytes(data[: len(data) // 2])
    reader = PyAVReader(str(tmp_path / 'half.mp4'))
    assert 10 < reader.num_frames < 50
    # As in FFmpeg, the frame at the end of the file may be incomplete.
    intact = list(range(reader.num_frames - 1))
    assert [read_index(frame) for frame in reader.read(np.array(intact))] == intact
    reader.close()


def test_key_frames_with_delayed_timestamps_are_read_exactly(key_frames, tmp_path):
    path = str(tmp_path / 'late.mp4')
    with av.open(key_frames['mjpeg']) as source, av.open(path, 'w') as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = stream
                packet.pts += 2 * packet.duration
                container.mux(packet)
    assert [read_index(frame) for frame in read('pyav', path, [0, 1, 30, 59])] == [0, 1, 30, 59]


@pytest.mark.parametrize(('indices', 'jumps'), [([3, 4, 5], 1), ([3, 5, 7], 3), ([0, 1, 40, 41], 2)])
def test_pyav_does_not_seek_to_next_frame(key_frames, indices, jumps):
    reader = PyAVReader(key_frames['libx264'])
    seeks, _ = watch_packets(reader)
    assert [read_index(frame) for frame in reader.read(np.array(indices))] == indices
    reader.close()
    assert len(seeks) == jumps


@pytest.mark.parametrize('decoder', DECODERS)
@pytest.mark.parametrize('indices', [[], [-1], [60], [3, 3], [4, 3]])
def test_indices_must_be_ascending_and_in_range(videos, decoder, indices):
    with pytest.raises(ValueError, match=rf'\b59\b.*{re.escape(str(np.array(indices)))}'):
        read(decoder, videos['mp4'], indices)


@pytest.mark.parametrize('decoder', DECODERS)
def test_truncated_video_has_its_remaining_frames(videos, tmp_path, decoder):
    with open(videos['mkv'], 'rb') as file:
        data = file.read()
    (tmp_path / 'half').write_bytes(data[: len(data) // 2])
    reader = READERS[decoder](str(tmp_path / 'half'))
    last = reader.num_frames - 1
    assert 5 < last < 55
    # The last packet is incomplete, so an earlier frame is compared.
    assert read_index(reader.read(np.array([last - 4]))[0]) == last - 4
    reader.close()


def test_pyav_closes_file_without_video_stream(tmp_path):
    with av.open(str(tmp_path / 'sound.mka'), 'w') as container:
        stream = container.add_stream('pcm_s16le', rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format='s16', layout='mono')
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(ValueError, match='video stream'):
        PyAVReader(str(tmp_path / 'sound.mka'))
