"""Small videos of many odd kinds, with numbered frames, to compare what readers return with what FFmpeg shows."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np

from tests.make_videos import Image, draw_frame

NUM_FRAMES = 30
GOP = 10
SIZE = (72, 128)  # height, width
_ONE = 1 << 16
_FFMPEG = av.library_versions['libavcodec'][0]
_ISO_MATRICES = {  # rows 0 and 1, columns 0 and 1 of the display matrix, and what it does to the image
    'rotated by 90 degrees': ((0, _ONE, -_ONE, 0), lambda image: np.rot90(image, -1)),
    'rotated by 180 degrees': ((-_ONE, 0, 0, -_ONE), lambda image: np.rot90(image, 2)),
    'rotated by 270 degrees': ((0, -_ONE, _ONE, 0), np.rot90),
    'mirrored': ((-_ONE, 0, 0, _ONE), lambda image: image[:, ::-1]),
    'flipped': ((_ONE, 0, 0, -_ONE), lambda image: image[::-1]),
    'transposed': ((0, _ONE, _ONE, 0), lambda image: image.swapaxes(0, 1)),
    'transposed along the other diagonal': ((0, -_ONE, -_ONE, 0), lambda image: np.rot90(image, 2).swapaxes(0, 1)),
    'rotated by 30 degrees': ((56756, 32768, -32768, 56756), None),
}


@dataclass
class OddVideo:
    """A video and what FFmpeg shows.

    Attributes:
        path: the file.
        numbers: the number drawn into each frame; None for a frame whose picture is incomplete.
        turn: what the display matrix does to an image.
        size: (height, width) as stored.
        is_gray: whether there are no colors.
        constant_rate: False if a transcoded video has other frames, because their times are not those of a constant
            rate.
    """

    path: str
    numbers: Sequence[int | None]
    turn: Callable[[Image], Image] = lambda image: image
    size: tuple[int, int] = SIZE
    is_gray: bool = False
    constant_rate: bool = True

    def draw(self, number: int) -> Image:
        """Return a frame as it is shown."""
        image = draw_colors(number, *self.size)
        if self.is_gray:
            image = np.repeat((image @ [0.299, 0.587, 0.114]).astype(np.uint8)[..., None], 3, axis=2)
        return self.turn(image)


def draw_colors(number: int, height: int, width: int) -> Image:
    """Return :func:`draw_frame` with colors in its first stripe."""
    image = draw_frame(number, height, width)
    stripe = height // 9
    image[:stripe, :, 1] = 128
    image[:stripe, :, 2] = 255 - image[:stripe, :, 0]
    return image


def write(
    path: Path,
    numbers: Iterable[int] = range(NUM_FRAMES),
    codec: str = 'libx264',
    pixels: str = 'yuv420p',
    size: tuple[int, int] = SIZE,
    container_options: dict[str, str] | None = None,
    rate: int = 25,
    metadata: dict[str, str] | None = None,
    interlaced: bool = False,
    colorspace: int = 0,
    **options: str,
) -> Path:
    """Encode numbered frames; ``options`` are of the encoder."""
    if codec in ('libx264', 'libx265'):
        options = {'crf': '12', 'g': str(GOP), 'bf': '2', 'preset': 'ultrafast'} | options
    with av.open(str(path), 'w', options=container_options or {}) as container:
        container.metadata.update(metadata or {})
        stream: Any = container.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width, stream.pix_fmt = *size, pixels
        stream.codec_context.thread_count = 1
        if pixels.startswith('yuvj'):
            stream.codec_context.color_range = 2
        if colorspace:
            stream.codec_context.colorspace = colorspace
        if interlaced:
            stream.codec_context.flags |= av.codec.context.Flags.interlaced_dct
        for number in numbers:
            frame = av.VideoFrame.from_ndarray(draw_colors(number, *size), format='rgb24')
            if colorspace:
                frame = frame.reformat(format=pixels, dst_colorspace=colorspace)
                frame.colorspace = colorspace
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def remux(
    source: Path,
    target: Path,
    change: Callable[[Any, int], bool | None],
    container_options: dict[str, str] | None = None,
    container_format: str | None = None,
) -> Path:
    """Copy packets without encoding; ``change`` edits each one, and returns False to leave it out."""
    options = container_options or {}
    with (
        av.open(str(source)) as given,
        av.open(str(target), 'w', format=container_format, options=options) as container,
    ):
        stream = container.add_stream_from_template(given.streams.video[0])
        for number, packet in enumerate(given.demux(video=0)):
            if packet.size and change(packet, number) is not False:
                packet.stream = stream
                container.mux(packet)
    return target


def patch(path: Path, old: bytes, new: bytes) -> Path:
    """Replace the first occurrence in a file."""
    data = path.read_bytes()
    assert old in data, f'{path} has no {old!r}'
    path.write_bytes(data.replace(old, new, 1))
    return path


def set_matrix(path: Path, matrix: Sequence[int]) -> Path:
    """Set the display matrix of an MP4 file."""
    data = bytearray(path.read_bytes())
    start = data.index(b'tkhd') + 4 + 40  # behind version, times, ids, duration, layer, group and volume
    a, b, c, d = matrix
    for place, value in enumerate([a, b, 0, c, d, 0, 0, 0, 1 << 30]):
        data[start + 4 * place : start + 4 * place + 4] = value.to_bytes(4, 'big', signed=True)
    path.write_bytes(data)
    return path


def _ticks(packet: Any, frames: float) -> int:
    """Return a duration in frames of 1/25 second in the units of a packet."""
    return round(Fraction(frames) / 25 / packet.time_base)


def _plain(folder: Path) -> Path:
    """Return an H.264 video without B-frames."""
    path = folder / 'source.mp4'
    return path if path.exists() else write(path, bf='0')


def _retimed(suffix: str, time: Callable[[int], float], folder: Path, name: str) -> OddVideo:
    def change(packet: Any, number: int) -> None:
        packet.dts, packet.pts = _ticks(packet, number), _ticks(packet, time(number))

    # Without an edit list, which would hide frames.
    path = remux(_plain(folder), folder / f'{name}.{suffix}', change, {'use_editlist': '0'} if suffix == 'mp4' else {})
    return OddVideo(str(path), range(NUM_FRAMES), constant_rate=False)


def _encoded(
    suffix: str, folder: Path, name: str, is_gray: bool = False, size: tuple[int, int] = SIZE, **options: Any
) -> OddVideo:
    path = write(folder / f'{name}.{suffix}', size=size, **options)
    return OddVideo(str(path), range(NUM_FRAMES), size=size, is_gray=is_gray)


def _turned(
    matrix: tuple[int, ...], turn: Callable[[Image], Image], folder: Path, name: str, **options: Any
) -> OddVideo:
    size = (144, 256)
    path = set_matrix(write(folder / f'{name}.mp4', size=size, **options), matrix)
    return OddVideo(str(path), range(NUM_FRAMES), turn, size)


def _begun_late(suffix: str, folder: Path, name: str, shows_all: bool = False, **options: Any) -> OddVideo:
    source = write(folder / f'{name} source.{suffix}', **options) if options else _plain(folder)
    path = remux(source, folder / f'{name}.{suffix}', lambda packet, number: number >= 5)
    incomplete = [None] * 5 if shows_all else []  # some decoders show frames before the first key frame
    return OddVideo(str(path), [*incomplete, *range(GOP, NUM_FRAMES)])


def _cut(folder: Path, name: str) -> OddVideo:
    source = write(folder / f'{name} source.mp4')

    def change(packet: Any, _: int) -> bool:
        packet.pts, packet.dts = packet.pts - _ticks(packet, 4), packet.dts - _ticks(packet, 4)
        return True

    return OddVideo(str(remux(source, folder / f'{name}.mp4', change)), range(4, NUM_FRAMES))


def _shifted(suffix: str, frames: int, folder: Path, name: str, **options: str) -> OddVideo:
    def change(packet: Any, _: int) -> None:
        packet.pts, packet.dts = packet.pts + _ticks(packet, frames), packet.dts + _ticks(packet, frames)

    path = remux(_plain(folder), folder / f'{name}.{suffix}', change, options)
    return OddVideo(str(path), range(NUM_FRAMES))


def _truncated(suffix: str, folder: Path, name: str, **options: Any) -> OddVideo:
    path = write(folder / f'{name}.{suffix}', **options)
    data = path.read_bytes()
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    position, size = packets[20]
    path.write_bytes(data[: position + size // 2])
    return OddVideo(str(path), range(20))


def _streams(kind: str, folder: Path, name: str) -> OddVideo:
    """Write a film and another video stream."""
    film = _plain(folder)
    other = folder / f'{name} other.mp4'
    if kind == 'two films':
        write(other, range(100, 140), size=(60, 80))
    elif kind == 'default second':
        write(other, range(100, 140), size=(90, 160))
    else:
        write(other, [100], 'mjpeg', 'yuvj420p', (90, 160))
    path = folder / f'{name}.{"mkv" if kind == "default second" else "mp4"}'
    disposition = av.stream.Disposition
    with av.open(str(other)) as first, av.open(str(film)) as second, av.open(str(path), 'w') as container:
        streams = [container.add_stream_from_template(given.streams.video[0]) for given in (first, second)]
        if kind == 'cover':
            streams[0].disposition = disposition.attached_pic.value
        elif kind != 'two films':
            streams[0].disposition = 0
        else:
            streams[0].disposition = disposition.default.value
        streams[1].disposition = disposition.default.value
        for given, stream in ((first, streams[0]), (second, streams[1])):
            for packet in given.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    container.mux(packet)
    return OddVideo(str(path), range(NUM_FRAMES))


def _resized(folder: Path, name: str) -> OddVideo:
    parts = []
    for number, size in enumerate((SIZE, (144, 256))):
        numbers = range(15 * number, 15 * (number + 1))
        parts.append(write(folder / f'{name} {number}.ts', numbers, size=size, bf='0'))
    path = folder / f'{name}.ts'
    path.write_bytes(b''.join(part.read_bytes() for part in parts))
    return OddVideo(str(path), range(NUM_FRAMES), constant_rate=False)


def _joined(folder: Path, name: str) -> OddVideo:
    parts = [write(folder / f'{name} {start}.ts', range(start, start + 15)) for start in (0, 15)]
    path = folder / f'{name}.ts'
    path.write_bytes(b''.join(part.read_bytes() for part in parts))
    return OddVideo(str(path), range(NUM_FRAMES))


def _resized_matroska(folder: Path, name: str) -> OddVideo:
    def change(packet: Any, number: int) -> None:
        packet.pts = packet.dts = _ticks(packet, number)

    path = remux(Path(_resized(folder, name).path), folder / f'{name}.mkv', change)
    return OddVideo(str(path), range(NUM_FRAMES))


def _hidden(folder: Path, name: str) -> OddVideo:
    """Write a VP8 video whose frame 7 is not shown, as encoders do with frames that only others refer to."""
    source = write(folder / f'{name} source.webm', codec='libvpx', crf='4', b='2M', g='10')
    path = folder / f'{name}.webm'
    with av.open(str(source)) as given, av.open(str(path), 'w') as container:
        stream = container.add_stream_from_template(given.streams.video[0])
        for number, packet in enumerate(given.demux(video=0)):
            if packet.size:
                data = bytearray(bytes(packet))
                data[0] &= 0xFF if number != 7 else 0xEF
                copy = av.Packet(bytes(data))
                copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
                copy.is_keyframe, copy.stream = packet.is_keyframe, stream
                container.mux(copy)
    return OddVideo(str(path), [number for number in range(NUM_FRAMES) if number != 7], constant_rate=False)


def _packed(folder: Path, name: str) -> OddVideo:
    """Write MPEG-4 with B-frames whose times are those in which they are stored."""

    def change(packet: Any, number: int) -> None:
        packet.pts = packet.dts = _ticks(packet, number)

    source = write(folder / f'{name} source.mp4', codec='mpeg4', bf='2', **_GOOD)
    return OddVideo(str(remux(source, folder / f'{name}.mkv', change)), range(NUM_FRAMES), constant_rate=False)


def _without_key_list(folder: Path, name: str) -> OddVideo:
    """Write an MP4 without the list of its key frames, which then says that each frame is one."""
    path = patch(write(folder / f'{name}.mp4', bf='0', **{'x264-params': 'aud=0'}), b'stss', b'free')
    return OddVideo(str(path), range(NUM_FRAMES))


def _with_latin_title(folder: Path, name: str) -> OddVideo:
    path = patch(write(folder / f'{name}.mp4', metadata={'title': 'TITLE'}), b'TITLE', b'\xe9\xff\xfeLE')
    return OddVideo(str(path), range(NUM_FRAMES))


def _renamed(folder: Path, name: str) -> OddVideo:
    path = write(folder / f'{name}.mkv')
    return OddVideo(str(path.rename(folder / f'{name}.mp4')), range(NUM_FRAMES))


def _short(folder: Path, name: str) -> OddVideo:
    return OddVideo(str(write(folder / f'{name}.mp4', [7])), [7])


def _key_frames(folder: Path, name: str) -> OddVideo:
    path = write(folder / f'{name}.mp4', codec='mjpeg', pixels='yuvj420p', qmin='2', qmax='2')
    return OddVideo(str(path), range(NUM_FRAMES))


_OPEN_GOP = {'x264-params': 'open-gop=1:b-adapt=0:scenecut=0:bframes=2'}
_HEVC = {'x265-params': 'log-level=none:pools=1'}
_GOOD = {'qscale': '2', 'g': str(GOP)}


def _irregular(number: int) -> float:
    return number + number % 7 * 0.5 + number // 10 * 20


def _swapped(number: int) -> float:
    """Return 1, 3, 2, 5, 4, ..."""
    return number + 1 if number == 0 else number + 1 + (1 if number % 2 else -1)


# How to write each kind, by its name in the table. A maker is called with a folder and a file name.
KINDS: dict[str, Callable[[Path, str], OddVideo]] = {
    'H.264 with B-frames in MP4': partial(_encoded, 'mp4'),
    'H.264 in MP4, fragmented': partial(
        _encoded, 'mp4', container_options={'movflags': 'frag_keyframe+empty_moov+default_base_moof'}
    ),
    'H.264 in MP4, one fragment per frame': partial(
        _encoded, 'mp4', container_options={'movflags': 'dash+frag_every_frame'}
    ),
    'H.264 in Matroska': partial(_encoded, 'mkv'),
    'H.264 in Matroska named .mp4': _renamed,
    'H.264 in FLV': partial(_encoded, 'flv'),
    'H.264 with B-frames in AVI': partial(_encoded, 'avi'),
    'H.264 in .ts': partial(_encoded, 'ts'),
    'H.264 in .m2ts': partial(_encoded, 'm2ts', container_options={'mpegts_m2ts_mode': '1'}),
    'H.264 without a container (no timestamps)': partial(_encoded, 'h264'),
    'H.265 in MP4': partial(_encoded, 'mp4', codec='libx265', **_HEVC),
    'MPEG-4 in MP4': partial(_encoded, 'mp4', codec='mpeg4', bf='2', **_GOOD),
    'MPEG-4 with B-frames in AVI': partial(_encoded, 'avi', codec='mpeg4', bf='2', **_GOOD),
    'MPEG-2 in .mpg': partial(_encoded, 'mpg', codec='mpeg2video', bf='2', **_GOOD),
    'WMV': partial(_encoded, 'wmv', codec='wmv2', **_GOOD),
    'H.263 in .3gp': partial(_encoded, '3gp', codec='h263', size=(144, 176), **_GOOD),
    'VP8 in WebM': partial(_encoded, 'webm', codec='libvpx', crf='4', b='2M', g='10'),
    'VP8 with a hidden frame in WebM': _hidden,
    'VP9 in WebM': partial(_encoded, 'webm', codec='libvpx-vp9', crf='10', g='10', **{'cpu-used': '8'}),
    'AV1 in MP4': partial(
        _encoded, 'mp4', codec='libsvtav1', **{'preset': '8', 'crf': '5', 'svtav1-params': 'keyint=10'}
    ),
    'MJPEG in MP4 (dsanet transcode)': _key_frames,
    'GIF': partial(_encoded, 'gif', codec='gif', pixels='rgb8'),
    'B-frames with increasing timestamps in Matroska': _packed,
    'Equal timestamps in MP4': partial(_retimed, 'mp4', lambda number: NUM_FRAMES),
    'Equal timestamps in Matroska': partial(_retimed, 'mkv', lambda number: NUM_FRAMES),
    'Pairs of equal timestamps in Matroska': partial(_retimed, 'mkv', lambda number: (number + 1) // 2 * 2),
    'Decreasing timestamps in MP4': partial(_retimed, 'mp4', lambda number: 2 * NUM_FRAMES - number),
    'Decreasing timestamps in Matroska': partial(_retimed, 'mkv', lambda number: 2 * NUM_FRAMES - number),
    'Swapped timestamps in MP4': partial(_retimed, 'mp4', _swapped),
    'Variable rate in MP4': partial(_retimed, 'mp4', _irregular),
    'Variable rate in Matroska': partial(_retimed, 'mkv', _irregular),
    'Start at 1000 seconds in Matroska': partial(_shifted, 'mkv', 25_000),
    'Start at 3 seconds in MP4 (edit list)': partial(_shifted, 'mp4', 75),
    'Negative start in Matroska': partial(_shifted, 'mkv', -5, avoid_negative_ts='disabled'),
    'Negative start in .ts': partial(_shifted, 'ts', -5),
    'Cut without reencoding (edit list, hidden frames)': _cut,
    'Open GOPs, H.264 in MP4': partial(_encoded, 'mp4', **_OPEN_GOP),
    'Open GOPs, H.264 in Matroska': partial(_encoded, 'mkv', **_OPEN_GOP),
    'Open GOPs, H.265 in MP4': partial(
        _encoded, 'mp4', codec='libx265', **{'x265-params': 'log-level=none:pools=1:open-gop=1:keyint=10:bframes=3'}
    ),
    'Intra refresh instead of key frames': partial(
        _encoded, 'mp4', bf='0', **{'x264-params': 'intra-refresh=1:keyint=10'}
    ),
    'Key frames not listed in MP4': _without_key_list,
    'Begins between key frames, .ts': partial(_begun_late, 'ts'),
    'Begins between key frames, Matroska': partial(_begun_late, 'mkv'),
    'Begins between key frames, MP4': partial(_begun_late, 'mp4'),
    'Begins between key frames, H.265': partial(
        _begun_late, 'ts', shows_all=_FFMPEG < 62, codec='libx265', bf='0', **_HEVC
    ),
    'Begins between key frames, MPEG-2': partial(_begun_late, 'ts', codec='mpeg2video', **_GOOD),
    'Begins between key frames, MPEG-4': partial(_begun_late, 'mkv', shows_all=True, codec='mpeg4', **_GOOD),
    'Begins between key frames, VP8': partial(_begun_late, 'webm', codec='libvpx', crf='4', b='2M', g='10'),
    'Still image before the video stream': partial(_streams, 'still'),
    'Cover image before the video stream': partial(_streams, 'cover'),
    'Default stream is the second one': partial(_streams, 'default second'),
    'Two video streams': partial(_streams, 'two films'),
    'Joined recordings, .ts': _joined,
    'Frame size changes in .ts': _resized,
    'Frame size changes in Matroska': _resized_matroska,
    'Interlaced H.264 in MP4': partial(_encoded, 'mp4', interlaced=True, **{'x264-params': 'tff=1'}),
    'Interlaced MPEG-2 in .mpg': partial(_encoded, 'mpg', codec='mpeg2video', interlaced=True, **_GOOD),
    'DV without a container': partial(_encoded, 'dv', codec='dvvideo', pixels='yuv420p', size=(576, 720)),
    'DV in AVI': partial(_encoded, 'avi', codec='dvvideo', pixels='yuv420p', size=(576, 720)),
    **{
        name[0].upper() + name[1:]: partial(_turned, matrix, turn or (lambda image: image))
        for name, (matrix, turn) in _ISO_MATRICES.items()
    },
    'H.265 rotated by 90 degrees': partial(_turned, *_ISO_MATRICES['rotated by 90 degrees'], codec='libx265', **_HEVC),
    '4:2:2': partial(_encoded, 'mp4', pixels='yuv422p'),
    '4:4:4': partial(_encoded, 'mp4', pixels='yuv444p'),
    'Gray': partial(_encoded, 'mp4', pixels='gray', is_gray=True),
    'Alpha (VP9)': partial(_encoded, 'webm', codec='libvpx-vp9', pixels='yuva420p', crf='10', **{'cpu-used': '8'}),
    'Alpha (PNG in MOV)': partial(_encoded, 'mov', codec='png', pixels='rgba'),
    'Alpha (ProRes 4444)': partial(_encoded, 'mov', codec='prores_ks', pixels='yuva444p10le', profile='4444'),
    '10-bit H.264': partial(_encoded, 'mp4', pixels='yuv420p10le'),
    '10-bit H.265': partial(_encoded, 'mp4', codec='libx265', pixels='yuv420p10le', **_HEVC),
    '10-bit 4:2:2 ProRes': partial(_encoded, 'mov', codec='prores_ks', pixels='yuv422p10le'),
    '12-bit H.265': partial(_encoded, 'mp4', codec='libx265', pixels='yuv420p12le', **_HEVC),
    'HDR colors (BT.2020)': partial(_encoded, 'mp4', codec='libx265', pixels='yuv420p10le', colorspace=9, **_HEVC),
    'HD colors (BT.709)': partial(_encoded, 'mp4', colorspace=1),
    'Full range': partial(_encoded, 'mp4', pixels='yuvj420p'),
    'Odd size, 4:4:4': partial(_encoded, 'mp4', pixels='yuv444p', size=(73, 129)),
    'Odd size, MJPEG': partial(_encoded, 'avi', codec='mjpeg', pixels='yuvj420p', size=(73, 129), qscale='2'),
    'Odd size, VP9': partial(_encoded, 'webm', codec='libvpx-vp9', size=(73, 129), crf='10', **{'cpu-used': '8'}),
    'One frame': _short,
    'Metadata that is not UTF-8': _with_latin_title,
    'Truncated MP4, MJPEG': partial(
        _truncated, 'mp4', codec='mjpeg', pixels='yuvj420p', container_options={'movflags': 'faststart'}
    ),
    'Truncated MP4, H.264': partial(_truncated, 'mp4', bf='0', container_options={'movflags': 'faststart'}),
    'Truncated Matroska': partial(_truncated, 'mkv', bf='0'),
    'Truncated AVI': partial(_truncated, 'avi', codec='mjpeg', pixels='yuvj420p'),
}
