from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from dsanet.datasets.video.opening import decode_all, open_video
from dsanet.datasets.video.pyav_reader import PyAVReader
from dsanet.datasets.video.span_reader import (
    SpanError,
    SpanReader,
    format_seconds,
    format_span,
    length_in_header,
    open_reader,
)
from tests.make_odd_videos import KINDS, remux, write
from tests.make_videos import read_index, write_video

# What these files say about times is wrong or missing.
REFUSED = (
    'H.264 with B-frames in AVI',
    'MPEG-4 with B-frames in AVI',
    'H.264 without a container (no timestamps)',
    'B-frames with increasing timestamps in Matroska',
    'Decreasing timestamps in MP4',
    'Decreasing timestamps in Matroska',
    'Swapped timestamps in MP4',
    'Variable rate in MP4',
    'Variable rate in Matroska',
    'Negative start in Matroska',
    'Frame size changes in .ts',
    'Joined recordings, .ts',
)
SEEKING = ('H.264 with B-frames in MP4', 'Open GOPs, H.265 in MP4', 'Open GOPs, H.264 in Matroska', 'H.264 in FLV')
COMMON = (*SEEKING, 'Start at 3 seconds in MP4 (edit list)', 'Cut without reencoding (edit list, hidden frames)')


def numbers(path, start, end):
    reader = SpanReader(str(path), start, end)
    frames = reader.read(np.arange(reader.num_frames))
    reader.close()
    return [read_index(frame) for frame in frames]


def check_spans(path, rng, num_spans):
    """Compare the frames of random spans with those of the whole video; return how many were compared."""
    container, stream = open_video(path)
    with container:
        times = [frame.pts for frame in decode_all(container, stream)]
        length = length_in_header(container, stream) or 1
        base = stream.time_base
    whole = PyAVReader(path)
    whole.index = None  # decode from the beginning
    expected = whole.read(np.arange(len(times)))
    whole.close()
    num_compared = 0
    for _ in range(num_spans):
        start = round(float(rng.uniform(0, length)), int(rng.integers(1, 4)))
        end = None if rng.random() < 0.2 else round(start + float(rng.uniform(0, length / 2)), 2)
        inside = [
            position
            for position, time in enumerate(times)
            if time is not None
            and (time - times[0]) * base >= Fraction(str(start))
            and (end is None or (time - times[0]) * base < Fraction(str(end)))
        ]
        try:
            reader = SpanReader(path, start, end)
        except SpanError:
            assert not inside or end > length
            continue
        assert reader.num_frames == len(inside)
        for _ in range(2):
            chosen = np.flatnonzero(rng.random(len(inside)) < rng.choice([0.2, 1]))
            chosen = chosen if len(chosen) else np.array([0])
            np.testing.assert_array_equal(reader.read(chosen), expected[np.array(inside)[chosen]])
        reader.close()
        num_compared += 1
    return num_compared


@pytest.mark.parametrize('kind', COMMON)
def test_span_has_frames_of_whole_video(tmp_path, kind):
    assert check_spans(KINDS[kind](tmp_path, 'a').path, np.random.default_rng(0), 6)


@pytest.mark.sweep
@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize(
    'kind', [kind for kind in KINDS if kind not in (*REFUSED, 'Two video streams', 'Rotated by 30 degrees')]
)
def test_spans_of_odd_videos_are_exact(tmp_path, kind, seed):
    check_spans(KINDS[kind](tmp_path, 'a').path, np.random.default_rng(seed), 10)


@pytest.mark.parametrize('kind', REFUSED[:3])
def test_videos_without_times_are_refused(tmp_path, kind):
    path = KINDS[kind](tmp_path, 'a').path
    with pytest.raises(ValueError, match='dsanet transcode'):
        SpanReader(path, 0.2, 0.6)


@pytest.mark.sweep
@pytest.mark.parametrize('kind', [kind for kind in REFUSED if 'Decreasing' not in kind])
def test_wrong_times_are_refused(tmp_path, kind):
    path = KINDS[kind](tmp_path, 'a').path
    with pytest.raises(ValueError, match=r'dsanet transcode|no frames'):
        SpanReader(path, 0, 1)


@pytest.mark.parametrize('kind', SEEKING)
def test_reader_seeks_and_starts_at_key_frame(tmp_path, kind):
    path = KINDS[kind](tmp_path, 'a').path
    reader = SpanReader(path, 0.88, 1.0)
    assert (reader.num_frames, reader.index is not None) == (3, True)
    assert len(reader.index.times) <= 5  # from key frame 20
    reader.close()
    assert numbers(path, 0.88, 1.0) == [22, 23, 24]
    assert numbers(path, 0.96, None) == [24, 25, 26, 27, 28, 29]
    assert numbers(path, None, 0.08) == [0, 1]


def test_limits_are_exact_decimal_numbers(tmp_path):
    path = write_video(tmp_path / 'a.mkv', 30)
    for n in range(1, 29):
        assert numbers(path, n / 25, (n + 1) / 25) == [n]  # 7 / 25 > Fraction(7, 25) as a binary number
        assert numbers(path, n / 25 - 0.001, n / 25 + 0.001) == [n]
    with pytest.raises(SpanError, match='no frames'):
        SpanReader(path, 0.041, 0.079)


@pytest.mark.parametrize('name', ['a.mp4', 'a.mkv', 'a.ts'])
def test_spans_outside_of_video_are_errors(tmp_path, name):
    path = str(write(tmp_path / name))
    assert numbers(path, 1.1, 1.25) == [28, 29]  # rounded annotations
    for start, end in ((0.5, 2), (2, 3), (1.5, None)):
        with pytest.raises(SpanError, match=r'1\.2\d s'):
            SpanReader(path, start, end)


@pytest.mark.skipif(not Path('/proc/self/io').exists(), reason='only Linux counts the bytes')
def test_bytes_read_do_not_grow_with_length(tmp_path):
    """Open the same span in a file and in one that is 40 times as long."""
    short = write(tmp_path / 'short.mkv', [n % 256 for n in range(500)], bf='0', g='25')
    long = tmp_path / 'long.mkv'
    with av.open(str(long), 'w') as container:
        stream = None
        for part in range(40):
            with av.open(str(short)) as given:
                stream = stream or container.add_stream_from_template(given.streams.video[0])
                for packet in given.demux(video=0):
                    if packet.size:
                        packet.pts, packet.dts = packet.pts + 20_000 * part, packet.dts + 20_000 * part
                        packet.stream = stream
                        container.mux(packet)

    def num_bytes(path, start):
        before = bytes_read()
        assert numbers(path, start, start + 0.2) == [(25 * start + n) % 500 % 256 for n in range(5)]
        return bytes_read() - before

    few = num_bytes(short, 10)
    assert long.stat().st_size > 30 * short.stat().st_size
    for start in (10, 410, 790):
        assert num_bytes(long, start) < 1.5 * few + 300_000


def bytes_read():
    return int(Path('/proc/self/io').read_text().split()[1])


def test_damaged_span_is_not_read_wrongly(tmp_path):
    path = write(tmp_path / 'a.mp4', range(60), bf='0')
    with av.open(str(path)) as container:
        entries = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    position, size = entries[25]
    data[position : position + size] = bytes(size)
    path.write_bytes(data)
    assert numbers(path, 1.2, 1.6) == list(range(30, 40))
    with pytest.raises(ValueError, match=r'\d'):
        numbers(path, 0.8, 1.2)


@pytest.mark.parametrize('name', ['a.flv', 'b.mp4'])
def test_key_frame_shown_later_is_not_used(tmp_path, name):
    """Key frames are decoded before they are shown: a seek to a time between the two must go further back."""
    if name == 'a.flv':
        path = write(tmp_path / name)
    else:

        def delay(packet, _):
            packet.pts += 5 * round(Fraction(1, 25) / packet.time_base)

        path = remux(write(tmp_path / 'a.mp4', bf='0'), tmp_path / name, delay)
    for start in range(29):
        assert numbers(path, start / 25, (start + 2) / 25) == [start, start + 1]


def test_open_reader_chooses_by_span(tmp_path):
    path = write_video(tmp_path / 'a.mp4', 30)
    for span, kind, num_frames in ((None, PyAVReader, 30), ((0.4, 0.8), SpanReader, 10)):
        reader = open_reader('pyav', path, span)
        assert (type(reader), reader.num_frames, reader.path) == (kind, num_frames, path)
        reader.close()


def test_spans_are_written_with_all_digits():
    assert format_span(2.0, 10.25) == '2-10.25'
    assert format_span(None, 3) == '0-3'
    assert format_span(7.5, None) == '7.5-'
    assert format_seconds(3723.125) == '3723.125'
