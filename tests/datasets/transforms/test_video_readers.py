import av
import numpy as np
import pytest

from codes.datasets.transforms.video_readers import READERS, OpenCVReader, PyAVReader, VideoReader
from tests.make_videos import draw_frames, read_index, rotate_video, write_video

NUM_FRAMES = 60
DECODERS = tuple(READERS)
# Key frames are 12 apart: alone, neighbours, across key frames, the first and the last.
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
    return {kind: write_video(folder / f'a.{kind}', NUM_FRAMES, codec=codec) for kind, codec in codecs.items()}


def read(decoder, path, indices):
    reader = READERS[decoder](path)
    try:
        return reader.read(np.array(indices))
    finally:
        reader.close()


@pytest.mark.parametrize('kind', ['mp4', 'mkv', 'flv', 'avi', 'mpg'])
@pytest.mark.parametrize('decoder', DECODERS)
def test_frames_are_counted_and_exactly_those_asked_for(videos, decoder, kind):
    reader = READERS[decoder](videos[kind])
    assert reader.num_frames == NUM_FRAMES
    reader.close()
    for indices in INDICES:
        frames = read(decoder, videos[kind], indices)
        assert frames.shape == (len(indices), 72, 128, 3)
        assert frames.dtype == np.uint8
        assert [read_index(frame) for frame in frames] == indices


@pytest.mark.parametrize('decoder', ['pyav', 'opencv'])
def test_transport_streams_are_read_exactly(videos, decoder):
    assert [read_index(frame) for frame in read(decoder, videos['ts'], [0, 7, 25, 59])] == [0, 7, 25, 59]


def test_decord_refuses_transport_streams(videos):
    with pytest.raises(ValueError, match='decord loses the first frames of MPEG transport streams'):
        READERS['decord'](videos['ts'])


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


@pytest.mark.parametrize('decoder', ['pyav', 'opencv'])
def test_stored_rotation_is_applied(tmp_path, decoder):
    path = write_video(tmp_path / 'phone.mp4', 15)
    rotate_video(path)
    frames = read(decoder, path, [3, 14])
    assert frames.shape == (2, 128, 72, 3)
    # The player turns clockwise, so turning back counter-clockwise gives the frame as it was drawn.
    assert [read_index(np.rot90(frame)) for frame in frames] == [3, 14]


@pytest.mark.parametrize('reader_class', [PyAVReader, OpenCVReader])
@pytest.mark.parametrize('kind', ['mp4', 'avi'])
def test_a_reader_can_go_back(videos, reader_class, kind):
    reader = reader_class(videos[kind])
    assert read_index(reader.read(np.array([40]))[0]) == 40
    assert read_index(reader.read(np.array([3]))[0]) == 3
    reader.close()


def test_pyav_jumps_over_what_is_not_wanted(videos):
    reader = PyAVReader(videos['mp4'])
    decoded = []
    real = reader._container.decode

    class Watched:
        seek = staticmethod(reader._container.seek)
        close = staticmethod(reader._container.close)

        @staticmethod
        def decode(stream):
            for frame in real(stream):
                decoded.append(frame)
                yield frame

    reader._container = Watched
    reader.read(np.array([2, 50]))
    reader.close()
    # 0 to 2, and from the key frame 48, or the one or two shown just before it, to 50.
    assert 6 <= len(decoded) <= 8


@pytest.mark.parametrize('decoder', DECODERS)
@pytest.mark.parametrize('indices', [[], [-1], [60], [3, 3], [4, 3]])
def test_only_ascending_frames_of_the_video_can_be_read(videos, decoder, indices):
    with pytest.raises(ValueError, match='frames 0 to 59 can be read, ascending and each once'):
        read(decoder, videos['mp4'], indices)


@pytest.mark.parametrize('decoder', DECODERS)
def test_a_video_that_breaks_off_has_the_frames_that_are_there(videos, tmp_path, decoder):
    with open(videos['mkv'], 'rb') as file:
        data = file.read()
    (tmp_path / 'half').write_bytes(data[: len(data) // 2])
    reader = READERS[decoder](str(tmp_path / 'half'))
    last = reader.num_frames - 1
    assert 5 < last < 55
    # The very last packet is cut in the middle, so only the frame before it must be right.
    assert read_index(reader.read(np.array([last - 4]))[0]) == last - 4
    reader.close()


def test_pyav_closes_a_file_without_video(tmp_path):
    with av.open(str(tmp_path / 'sound.mka'), 'w') as container:
        stream = container.add_stream('pcm_s16le', rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format='s16', layout='mono')
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(ValueError, match='there is no video stream in it'):
        PyAVReader(str(tmp_path / 'sound.mka'))


def test_the_interface_is_abstract():
    with pytest.raises(TypeError, match='abstract'):
        VideoReader()
