"""Read videos at a constant rate: constant and variable rates, rotation, damage, odd sizes."""

import re
import struct
from fractions import Fraction

import av
import numpy as np
import pytest

from dsanet.data_tools.video.constant_rate import ConstantRateReader, Resizer, parse_rate, scaled_size
from tests.make_odd_videos import write
from tests.make_videos import draw_frame, read_index, rotate_video, write_video


def write_timed(path, times, rate=25, per_second=1000, last=None, **options):
    """Write frame i at times[i] seconds; the last one lasts ``last`` seconds if the container stores durations."""
    with av.open(str(path), 'w', **options) as container:
        stream = container.add_stream('libx264', rate=rate, options={'crf': '15', 'g': '12', 'bf': '0'})
        stream.width, stream.height, stream.pix_fmt = 128, 72, 'yuv420p'
        stream.codec_context.time_base = Fraction(1, per_second)
        packets = []
        for index, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(draw_frame(index), format='rgb24')
            frame.pts, frame.time_base = round(time * per_second), Fraction(1, per_second)
            packets += stream.encode(frame)
        packets += stream.encode(None)
        if last is not None:
            packets[-1].duration = round(last * per_second)
        for packet in packets:
            container.mux(packet)
    return str(path)


def numbers(path, **options):
    """Return the indices of the frames and the damage that was found."""
    with ConstantRateReader(str(path), **options) as frames:
        found = [read_index(frame.to_ndarray(format='rgb24')) for frame in frames]
    return found, frames.damage


def due_at(times, end, fps, tolerance):
    """Return the last frame that is due at each time k / fps, by checking all of them."""
    return [
        max(i for i, time in enumerate(times) if i == 0 or time < k / fps + tolerance) for k in range(round(end * fps))
    ]


@pytest.mark.parametrize(
    ('kind', 'codec'),
    [('mp4', 'libx264'), ('mkv', 'libx264'), ('avi', 'mpeg4'), ('mpg', 'mpeg2video'), ('flv', 'libx264')],
)
def test_constant_rate_yields_every_frame_once(tmp_path, kind, codec):
    path = write_video(tmp_path / f'a.{kind}', 50, codec=codec)
    assert numbers(path) == (list(range(50)), None)
    assert numbers(path, average_rate=True) == (list(range(50)), None)
    assert numbers(path, fps=Fraction(25)) == (list(range(50)), None)
    with ConstantRateReader(path, average_rate=True) as frames:
        assert frames.rate == 25


def test_avi_with_fine_timestamps_keeps_its_rate(tmp_path):
    source, path = write_video(tmp_path / 'a.mp4', 30, codec='mpeg4', bf='0'), tmp_path / 'a.avi'
    with av.open(source) as given, av.open(str(path), 'w') as container:
        stream = container.add_stream_from_template(given.streams.video[0])
        stream.time_base = Fraction(1, 50)
        for packet in given.demux(video=0):
            if packet.size:
                packet.stream = stream
                container.mux(packet)
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == 50
    assert numbers(path, average_rate=True) == (list(range(30)), None)


def test_empty_file_is_an_error(tmp_path):
    (tmp_path / 'a.mp4').touch()
    with pytest.raises(ValueError, match=f'{tmp_path}/a.mp4'):
        ConstantRateReader(str(tmp_path / 'a.mp4'))


@pytest.mark.parametrize('rate', [Fraction(30), Fraction(30000, 1001), Fraction(24000, 1001), Fraction(60)])
def test_rounded_timestamps_do_not_repeat_frames(tmp_path, rate):
    # Matroska stores milliseconds: 0, 33, 67, 100, ...
    path = write_timed(tmp_path / 'a.mkv', [i / rate for i in range(100)], rate)
    assert numbers(path, average_rate=True)[0] == list(range(100))
    assert numbers(path, fps=rate)[0] == list(range(100))


@pytest.mark.parametrize(
    ('fps', 'expected'),
    [
        (Fraction(25, 2), [0, 2, 4, 6, 8]),
        (Fraction(50), [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9]),
        (Fraction(10), [0, 2, 5, 7]),
        (Fraction(25, 100), [0]),
    ],
)
def test_other_rate_keeps_the_speed(tmp_path, fps, expected):
    assert numbers(write_video(tmp_path / 'a.mp4', 10), fps=fps)[0] == expected


def test_variable_rate_becomes_constant(tmp_path):
    # Bursts at 40 ms, one frame shown for a second, and a slow end.
    times = [0, 0.04, 0.08, 0.12, 1.12, 1.16, 1.2, 1.5, 1.8, 2.1]
    path = write_timed(tmp_path / 'a.mp4', times, last=0.3)
    end = 2.4
    for fps in (25, 10, 30):
        average = Fraction(len(times)) / Fraction(24, 10)
        tolerance = min(1 / average, Fraction(1, fps)) / 2
        assert numbers(path, fps=Fraction(fps))[0] == due_at(times, end, fps, float(tolerance))
    assert numbers(path)[0] == list(range(10))
    assert numbers(path, fps=Fraction(25))[0][4:28] == [3] * 24


def test_time_starts_at_the_first_frame(tmp_path):
    path = write_timed(tmp_path / 'a.mkv', [3 + i / 25 for i in range(20)])
    assert numbers(path, average_rate=True)[0] == list(range(20))


def test_missing_timestamps_use_the_average_rate(tmp_path):
    path = write_video(tmp_path / 'a.h264', 20, bf='0')
    assert numbers(path, average_rate=True)[0] == list(range(20))


def test_jumping_timestamps_are_an_error(tmp_path):
    path = write_timed(tmp_path / 'a.mkv', [0, 0.04, 0.08, 100])
    with pytest.raises(ValueError, match=r'0\.08.*100\.00'):
        numbers(path, fps=Fraction(25))


def test_unknown_rate_must_be_given(tmp_path):
    path = write_timed(tmp_path / 'a.mkv', [i / 25 for i in range(20)], rate=1000)
    with pytest.raises(ValueError, match='--fps'):
        ConstantRateReader(path, average_rate=True)
    # The last frame lasts only one millisecond.
    assert numbers(path, fps=Fraction(25))[0] == list(range(19))


def test_file_without_video_is_an_error(tmp_path):
    with av.open(str(tmp_path / 'sound.mka'), 'w') as container:
        stream = container.add_stream('pcm_s16le', rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format='s16', layout='mono')
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(ValueError, match='video stream'):
        ConstantRateReader(str(tmp_path / 'sound.mka'))
    (tmp_path / 'text.mp4').write_text('no video')
    with pytest.raises(ValueError, match='text file'):
        ConstantRateReader(str(tmp_path / 'text.mp4'))


def cut_off(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


@pytest.mark.parametrize(
    ('kind', 'codec', 'message'),
    [
        ('mp4', 'libx264', r'damaged.*\d+'),
        ('avi', 'mpeg4', r'damaged.*\d+'),
        ('mkv', 'libx264', r'\d\.\d\d.*4\.00'),
    ],
)
def test_truncated_video_is_damaged(tmp_path, kind, codec, message):
    path = tmp_path / f'a.{kind}'
    options = {'options': {'movflags': 'faststart'}} if kind == 'mp4' else {}
    with av.open(str(path), 'w', **options) as container:
        stream = container.add_stream(codec, rate=25, options={'g': '12'})
        stream.width, stream.height, stream.pix_fmt = 128, 72, 'yuv420p'
        for index in range(100):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(draw_frame(index), format='rgb24')))
        container.mux(stream.encode(None))
    assert numbers(path)[1] is None
    cut_off(path, 0.6)
    found, damage = numbers(path, average_rate=True)
    assert 20 < len(found) < 80
    # The frames that came last are B-frames whose neighbors are missing.
    assert found[:-4] == list(range(len(found) - 4))
    with pytest.raises(ValueError, match=message):
        raise ValueError(damage)


def write_mjpeg(path, num_frames, rate, **options):
    """Write a video and return the positions of its frames in the file."""
    with av.open(str(path), 'w', options=options) as container:
        stream = container.add_stream('mjpeg', rate=rate)
        stream.width, stream.height, stream.pix_fmt = 128, 72, 'yuvj420p'
        for index in range(num_frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(draw_frame(index), format='rgb24')))
        container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        return [packet.pos for packet in container.demux(video=0) if packet.size]


def write_slow_matroska(path):
    """Write 120 frames in 60 seconds; return the positions of the frames and of the index behind them."""
    positions = write_mjpeg(path, 120, 2)
    return [*positions, path.read_bytes().index(b'\x1c\x53\xbb\x6b', positions[-1])]


@pytest.mark.parametrize('num_missing', [0, 1, 3])
def test_matroska_is_damaged_if_frames_miss(tmp_path, num_missing):
    path = tmp_path / 'a.mkv'
    positions = write_slow_matroska(path)
    path.write_bytes(path.read_bytes()[: positions[120 - num_missing]])
    found, damage = numbers(path, average_rate=True)
    assert found == list(range(120 - num_missing))
    seconds = f'{60 - num_missing / 2:.2f}'
    assert re.findall(r'\d+\.\d+', damage or '') == ([seconds, '60.00'] if num_missing else [])


def test_too_long_duration_is_no_damage(tmp_path):
    path = tmp_path / 'a.mkv'
    write_slow_matroska(path)
    data = bytearray(path.read_bytes())
    start = data.index(b'\x44\x89\x88') + 3  # the duration, in milliseconds
    data[start : start + 8] = struct.pack('>d', 90_000)
    path.write_bytes(data)
    with av.open(str(path)) as container:
        assert container.duration == 90_000_000
    assert numbers(path, average_rate=True) == (list(range(120)), None)


def write_with_sound(path, video_start, sound_start, sound_length, num_frames=20):
    """Write a video and a sound; all times in seconds."""
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('libx264', rate=25, options={'g': '12', 'bf': '0'})
        stream.width, stream.height, stream.pix_fmt = 128, 72, 'yuv420p'
        sound = container.add_stream('pcm_s16le' if str(path).endswith('.mkv') else 'aac', rate=8000)
        for index in range(num_frames):
            frame = av.VideoFrame.from_ndarray(draw_frame(index), format='rgb24')
            frame.pts, frame.time_base = index + 25 * video_start, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        for number in range(int(sound_length * 8)):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1000), np.int16), format='s16', layout='mono')
            frame.sample_rate, frame.time_base = 8000, Fraction(1, 8000)
            frame.pts = 1000 * number + 8000 * sound_start
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    return path


@pytest.mark.parametrize('kind', ['mkv', 'mp4'])
@pytest.mark.parametrize('times', [(1000, 1000, 1), (3, 0, 5), (0, 0, 4), (3, 3, 0)])
def test_late_video_and_longer_sound_are_undamaged(tmp_path, kind, times):
    path = write_with_sound(tmp_path / f'a.{kind}', *times)
    assert numbers(path) == (list(range(20)), None)
    assert numbers(path, fps=Fraction(25)) == (list(range(20)), None)


def test_mp4_cut_between_frames_is_damaged(tmp_path):
    path = tmp_path / 'a.mp4'
    positions = write_mjpeg(path, 20, 25, movflags='faststart')
    path.write_bytes(path.read_bytes()[: positions[15]])
    found, damage = numbers(path)
    assert found == list(range(15))
    assert re.findall(r'\d+', damage) == ['15', '20']


def test_damaged_frames_repeat_the_previous_frame(tmp_path):
    path = tmp_path / 'a.mp4'
    write_video(path, 60, g='1', bf='0')
    with av.open(str(path)) as container:
        entries = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for position, size in entries[20:30]:
        data[position : position + size] = bytes(size)
    path.write_bytes(data)
    found, damage = numbers(path, average_rate=True)
    assert found == [*range(20), *[19] * 10, *range(30, 60)]
    assert damage is not None
    assert re.search(r'\b20\b', damage)


def test_joined_recordings_are_undamaged(tmp_path):
    parts = [write(tmp_path / f'{number}.ts', range(10 * number, 10 * number + 10)) for number in range(3)]
    joined = tmp_path / 'joined.ts'
    joined.write_bytes(b''.join(part.read_bytes() for part in parts))
    with ConstantRateReader(str(joined)) as reader:
        assert [read_index(frame.to_ndarray(format='rgb24')) for frame in reader] == list(range(30))
        assert reader.damage is None


@pytest.mark.parametrize('position', [0.3, 0.6])
def test_lost_packet_is_damage(tmp_path, position):
    path = write(tmp_path / 'a.ts', range(30))
    data = path.read_bytes()
    start = next(  # a packet of the video that begins no frame
        start
        for start in range(188 * int(len(data) / 188 * position), len(data), 188)
        if data[start + 1 : start + 3] == b'\x01\x00'
    )
    path.write_bytes(data[:start] + data[start + 188 :])
    with ConstantRateReader(str(path)) as reader:
        assert len(list(reader)) > 20
        assert reader.damage is not None


def test_video_without_decodable_frames_is_an_error(tmp_path):
    path = tmp_path / 'a.mp4'
    write_video(path, 10, g='1', bf='0')
    with av.open(str(path)) as container:
        entries = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for position, size in entries:
        data[position : position + size] = bytes(size)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r'\b0\b'):
        numbers(path)


def test_video_cut_without_encoding_is_undamaged(tmp_path):
    source_path, path = write_video(tmp_path / 'a.mp4', 100), str(tmp_path / 'cut.mp4')
    with av.open(source_path) as source, av.open(path, 'w') as container:
        video = source.streams.video[0]
        stream = container.add_stream_from_template(video)
        offset = int(Fraction(20, 25) / video.time_base)
        for packet in source.demux(video):
            # From the key frame before frame 20, whose first frames must not be shown, to frame 59.
            if packet.size and 12 <= packet.pts * video.time_base * 25 < 60:
                packet.pts, packet.dts = packet.pts - offset, packet.dts - offset
                packet.stream = stream
                container.mux(packet)
    found, damage = numbers(path, average_rate=True)
    assert found == list(range(20, 60))
    assert damage is None


@pytest.mark.parametrize(
    ('size', 'short_side', 'multiple', 'expected'),
    [
        ((480, 640), 240, 1, (240, 320)),
        ((640, 480), 240, 1, (320, 240)),
        ((256, 341), 128, 1, (128, 170)),
        ((256, 341), 128, 2, (128, 170)),
        ((255, 341), None, 2, (256, 340)),
        ((255, 341), None, 1, (255, 341)),
        ((120, 160), 240, 2, (120, 160)),
        ((1, 3), None, 2, (2, 4)),
        ((1080, 1920), 256, 2, (256, 456)),
    ],
)
def test_short_side_is_scaled_down_only(size, short_side, multiple, expected):
    assert scaled_size(*size, short_side, multiple) == expected


@pytest.mark.parametrize('pixel_format', ['rgb24', 'bgr24', 'yuv420p', 'yuvj420p'])
def test_frames_are_rotated_and_resized(tmp_path, pixel_format):
    path = write_video(tmp_path / 'a.mp4', 5, 144, 256)
    for turned, size in ((False, (72, 128)), (True, (128, 72))):
        if turned:
            rotate_video(path)
        resizer = Resizer(pixel_format, 72, multiple=2)
        with ConstantRateReader(path) as frames:
            small = [resizer(frame) for frame in frames]
        assert [(frame.height, frame.width, frame.format.name) for frame in small] == [(*size, pixel_format)] * 5
        images = [frame.to_ndarray(format='rgb24') for frame in small]
        assert [read_index(np.rot90(image) if turned else image) for image in images] == list(range(5))


def test_changing_frame_size_keeps_the_first(tmp_path):
    resizer = Resizer('rgb24', None)
    for shape in ((72, 128), (144, 256)):
        frame = resizer(av.VideoFrame.from_ndarray(draw_frame(9, *shape), format='rgb24'))
        assert (frame.height, frame.width) == (72, 128)
        assert read_index(frame.to_ndarray()) == 9


def test_rates_are_parsed():
    assert parse_rate('30') == 30
    assert parse_rate('30000/1001') == Fraction(30000, 1001)
    assert parse_rate('29.97') == Fraction(2997, 100)
    for text in ('0', '-5', 'fast', '1/0', 'nan', ''):
        with pytest.raises(ValueError, match=f'{text!r}.*30000/1001'):
            parse_rate(text)
