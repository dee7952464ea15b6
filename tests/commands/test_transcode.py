"""dsanet transcode: the same frames at the same times, in files that every decoder reads exactly."""

import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import PictureType

from dsanet import commands
from dsanet.datasets.video.readers import READERS, is_installed
from tests.data_tools.video.test_constant_rate import write_timed
from tests.make_videos import draw_frame, read_index, rotate_video, write_video


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    (tmp_path / 'videos' / 'walk').mkdir(parents=True)
    return tmp_path / 'videos'


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / 'out'


def run(videos: Path, out: Path, *options: object) -> int:
    return commands.main(['transcode', str(videos), str(out), '--workers', '0', *map(str, options)])


def probe(path: Path) -> dict:
    """Return properties of the packets and frames of a video."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        result = {
            'streams': len(container.streams),
            'codec': stream.codec_context.name,
            'keys': [number for number, packet in enumerate(packets) if packet.is_keyframe],
            'in_order': all(packet.pts == packet.dts for packet in packets),
            'rate': Fraction(stream.average_rate.numerator, stream.average_rate.denominator),
            'seconds': float(stream.duration * stream.time_base),
            'steps': {b.pts - a.pts for a, b in zip(packets, packets[1:], strict=False)},
        }
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        assert all(PictureType(frame.pict_type) != PictureType.B for frame in frames)
        shape = (frames[0].height, frames[0].width)
        return result | {
            'shape': shape,
            'numbers': [read_index(frame.to_ndarray(format='rgb24')) for frame in frames],
        }


@pytest.mark.parametrize(
    ('options', 'codec', 'keys'),
    [
        ([], 'mjpeg', range(30)),
        (['--qscale', '5'], 'mjpeg', range(30)),
        (['--codec', 'h264'], 'h264', range(30)),
        (['--gop', '4'], 'h264', range(0, 30, 4)),
        (['--gop', '12', '--codec', 'h264', '--crf', '25'], 'h264', range(0, 30, 12)),
    ],
)
def test_frames_and_times_are_unchanged(videos, out, options, codec, keys):
    path = write_video(videos / 'walk' / 'a.mkv', 30)
    assert run(videos, out, *options) == 0
    found = probe(out / 'walk/a.mp4')
    assert found['codec'] == codec
    assert found['keys'] == list(keys)
    assert found['in_order']
    assert found['rate'] == 25
    assert found['seconds'] == pytest.approx(30 / 25)
    assert found['numbers'] == list(range(30))
    assert found['shape'] == (72, 128)
    for decoder in filter(is_installed, READERS):
        reader = READERS[decoder](str(out / 'walk/a.mp4'))
        assert reader.num_frames == 30
        indices = [0, 1, 7, 8, 20, 29]
        frames = reader.read(np.array(indices))
        reader.close()
        assert [read_index(frame) for frame in frames] == indices
        original = READERS['pyav'](path)
        assert np.abs(original.read(np.array(indices)) - frames.astype(int)).mean() < 5
        original.close()


def test_index_is_at_the_start(videos, out):
    write_video(videos / 'a.mp4', 5)
    run(videos, out)
    data = (out / 'a.mp4').read_bytes()
    assert data.index(b'moov') < data.index(b'mdat')


@pytest.mark.parametrize('rate', [Fraction(30000, 1001), Fraction(15), Fraction(24)])
def test_durations_are_equal_to_one_frame(videos, out, rate):
    write_timed(videos / 'own.mkv', [i / rate for i in range(40)], rate)
    run(videos, out)
    found = probe(out / 'own.mp4')
    assert found['numbers'] == list(range(40))
    assert found['seconds'] == pytest.approx(40 / rate, abs=1e-3)
    for fps in (10, 25, 30):
        run(videos, out.with_name(f'out{fps}'), '--fps', fps)
        found = probe(out.with_name(f'out{fps}') / 'own.mp4')
        assert abs(found['seconds'] - 40 / rate) < 1 / fps
        assert found['rate'] == fps


def test_audio_is_removed(videos, out):
    with av.open(str(videos / 'talk.mp4'), 'w') as container:
        video = container.add_stream('libx264', rate=25)
        video.width, video.height, video.pix_fmt = 128, 72, 'yuv420p'
        audio = container.add_stream('aac', rate=8000)
        for index in range(25):
            container.mux(video.encode(av.VideoFrame.from_ndarray(draw_frame(index), format='rgb24')))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format='fltp', layout='mono')
        frame.sample_rate = 8000
        for stream, last in ((audio, frame), (audio, None), (video, None)):
            container.mux(stream.encode(last))
    assert run(videos, out) == 0
    found = probe(out / 'talk.mp4')
    assert (found['streams'], found['numbers']) == (1, list(range(25)))


@pytest.mark.parametrize('options', [[], ['--gop', '4']])
def test_odd_sizes_become_even(videos, out, options):
    # Sizes can be odd in formats without chroma subsampling.
    with av.open(str(videos / 'odd.mkv'), 'w') as container:
        stream = container.add_stream('ffv1', rate=25)
        stream.width, stream.height, stream.pix_fmt = 129, 73, 'bgr0'
        for index in range(8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(draw_frame(index, 73, 129), format='rgb24')))
        container.mux(stream.encode(None))
    assert run(videos, out, *options, '--short-side', 0) == 0
    found = probe(out / 'odd.mp4')
    assert found['shape'] == (72, 128)
    assert found['numbers'] == list(range(8))


@pytest.mark.parametrize('options', [[], ['--gop', '4']])
def test_rotation_metadata_is_applied(videos, out, options):
    rotate_video(write_video(videos / 'phone.mp4', 5, 144, 256))
    run(videos, out, *options)
    reader = READERS['decord'](str(out / 'phone.mp4'))
    frames = reader.read(np.arange(5))
    assert frames.shape == (5, 256, 144, 3)
    assert [read_index(np.rot90(frame)) for frame in frames] == list(range(5))


@pytest.mark.parametrize('options', [[], ['--gop', '4']])
@pytest.mark.parametrize('standard', ['ITU709', 'ITU601'])
def test_colors_are_unchanged_for_every_decoder(videos, out, options, standard):
    colors = np.array([[230, 40, 60], [40, 200, 50], [60, 50, 220], [240, 240, 240], [20, 20, 20]], np.uint8)
    image = np.repeat(np.repeat(colors[None], 64, axis=0), 32, axis=1)  # five stripes
    with av.open(str(videos / 'a.mp4'), 'w') as container:
        stream = container.add_stream('libx264', rate=25, options={'crf': '5'})
        stream.width, stream.height, stream.pix_fmt = 160, 64, 'yuv420p'
        frame = av.VideoFrame.from_ndarray(image, format='rgb24')
        frame = frame.reformat(format='yuv420p', dst_colorspace=standard)
        stream.codec_context.colorspace = {'ITU709': 1, 'ITU601': 6}[standard]
        stream.codec_context.color_range = 1
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    run(videos, out, *options, '--crf', 5)
    for decoder in filter(is_installed, READERS):
        reader = READERS[decoder](str(out / 'a.mp4'))
        found = reader.read(np.array([0]))[0, 32, 16::32]
        reader.close()
        assert np.abs(found.astype(int) - colors).max() <= 8, decoder


def test_pixel_aspect_ratio_is_unchanged(videos, out):
    with av.open(str(videos / 'a.mp4'), 'w') as container:
        stream = container.add_stream('libx264', rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 72, 'yuv420p'
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(draw_frame(0), format='rgb24')))
        container.mux(stream.encode(None))
    run(videos, out)
    with av.open(str(out / 'a.mp4')) as container:
        ratio = container.streams.video[0].sample_aspect_ratio
        assert (ratio.numerator, ratio.denominator) == (4, 3)


@pytest.mark.parametrize(
    ('option', 'codec', 'values'), [('--qscale', 'mjpeg', (1, 2, 8)), ('--crf', 'h264', (5, 18, 35))]
)
def test_quality_options_change_the_file_size(videos, tmp_path, option, codec, values):
    write_video(videos / 'a.mp4', 10)
    sizes = []
    for value in values:
        out = tmp_path / f'out{value}'
        run(videos, out, '--codec', codec, option, value)
        sizes.append((out / 'a.mp4').stat().st_size)
    assert sizes[0] > sizes[1] > sizes[2]


def test_workers_write_identical_files(videos, out, tmp_path):
    for name in 'abc':
        write_video(videos / f'{name}.mp4', 10)
    assert run(videos, out, '--workers', '2') == 0
    run(videos, tmp_path / 'other')
    for name in 'abc':
        assert (out / f'{name}.mp4').read_bytes() == (tmp_path / f'other/{name}.mp4').read_bytes()


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        (['--gop', '4', '--codec', 'mjpeg'], '--gop 4 .*mjpeg.*--codec h264.*--gop 1'),
        (['--qscale', '32'], '--qscale.* 1 .*31.*32'),
        (['--crf', '52'], '--crf.* 0 .*51.*52'),
        (['--fps', '0'], "'0'"),
    ],
)
def test_invalid_options_are_reported(videos, out, capsys, options, text):
    write_video(videos / 'a.mp4', 2)
    with pytest.raises(SystemExit, match='^2$'):
        run(videos, out, *options)
    assert re.search(f'error: .*{text}', capsys.readouterr().err)
    assert not out.exists()


def test_other_settings_require_another_folder(videos, out, capsys):
    write_video(videos / 'a.mp4', 2)
    run(videos, out)
    run(videos, out, '--crf', '20')  # not a setting of mjpeg
    with pytest.raises(SystemExit):
        run(videos, out, '--gop', '4', '--fps', '30')
    error = capsys.readouterr().err
    assert re.search('codec .*mjpeg.* h264.* crf .*18.* fps .*30.* gop .*1.* 4', error), error


def test_list_is_not_replaced_by_failures(videos: Path, out: Path, capsys: pytest.CaptureFixture) -> None:
    out.mkdir()
    (out / 'failures.jsonl').write_text('walk/a.mp4 0\n')
    with pytest.raises(SystemExit, match='^2$'):
        run(videos, out, '--list', out / 'failures.jsonl')
    assert f'{out}/failures.jsonl' in capsys.readouterr().err
    assert (out / 'failures.jsonl').read_text() == 'walk/a.mp4 0\n'
