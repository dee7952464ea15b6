"""Open video files with FFmpeg: only videos, and no other files or URLs that they refer to.

FFmpeg treats some file names as URLs (``12:30:05.mp4``), and opens whatever a playlist, a concat script or a session
description names, even if it is called ``x.mp4``. Here, a path is the name of one file.
"""

import math
import os
from collections.abc import Container, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from dsanet.utils.file_kinds import ARCHIVES

# FFmpeg's video containers, without playlists, scripts, single images, subtitles, audio and devices.
FORMATS = (
    'mov,mp4,matroska,webm,avi,flv,live_flv,kux,mpegts,mpeg,mpegvideo,asf,asf_o,ogg,rm,gif,apng,dv,mxf,gxf,nut,nuv,wtv,'
    'nsv,swf,ivf,av1,obu,h261,h263,h264,hevc,vvc,evc,m4v,vc1,vc1test,cavsvideo,avs,avs2,avs3,dirac,dnxhd,mjpeg,'
    'mjpeg_2000,smjpeg,ingenient,yuv4mpegpipe,pva,pmp,ty,dhav,lmlm4,mtv,mlv,cine,r3d,vivo,viv,ipu,cdxl,film_cpk,'
    'smk,bink,roq,flic,4xm,ea,idcin,psxstr,rl2,rpl,thp,tmv,vmd,wc3movie,xmv,yop,moflex,mods,usm,dxa,filmstrip,ifv'
)
# Formats that store when each frame is shown; in others, a seek is inexact.
FORMATS_WITH_TIMES = {'mov', 'matroska', 'flv'}
# A higher frame rate in the header is the resolution of its timestamps.
_MAX_FRAME_RATE = 240
_STILL_BRANDS = (b'heic', b'heix', b'heim', b'heis', b'mif1', b'avif', b'mif2', b'crx ')
_SIGNATURES = (
    (0, b'\xff\xd8\xff', 'a JPEG image'),
    (0, b'\x89PNG', 'a PNG image'),
    (0, b'BM', 'a BMP image'),
    (0, b'II*\0', 'a TIFF image'),
    (0, b'MM\0*', 'a TIFF image'),
    (0, b'8BPS', 'a Photoshop image'),
    (8, b'WEBP', 'a WebP image'),
    (0, b'PK\x03\x04', 'a ZIP archive'),
    *ARCHIVES,
    (0, b'%PDF', 'a PDF file'),
    (0, b'\x7fELF', 'an executable'),
    (0, b'ID3', 'an audio file'),
    (0, b'fLaC', 'an audio file'),
    (8, b'WAVE', 'an audio file'),
)


def file_url(path: str) -> str:
    """Return the URL of a file for FFmpeg, which would treat ``12:30:05.mp4`` and ``file:x.mp4`` as URLs."""
    return 'file:' + os.path.abspath(path)


def file_version(path: str) -> tuple[str, int, int]:
    """Return path, size and modification time of a file, the key of caches."""
    state = os.stat(path)
    return path, state.st_size, state.st_mtime_ns


def open_video(path: str) -> tuple[Any, Any]:
    """Open a video file.

    Returns:
        A PyAV container, which the caller closes, and its video stream, the one that FFmpeg takes by default.

    Raises:
        ValueError: the file is not a video, or it is unclear which of its video streams is meant.
        Exception: an error of the system, such as a missing permission.
    """
    import av
    from av.codec.context import Flags

    try:
        container = _open_container(path)
    except av.error.FFmpegError as error:
        if not isinstance(error, ValueError | EOFError):  # an error of the system; the classes' own names vary
            raise
        kind = _describe_file(path)
        if kind is None:
            raise ValueError(f'FFmpeg finds no video in it; it may be truncated ({error.strerror})') from error
        raise ValueError(f'it is {kind}, not a video') from error
    try:
        if _is_still_image(path):
            raise ValueError('it is an image, not a video')
        stream = _choose_stream(path, container)
        stream.thread_type = 'NONE'
        # Otherwise, recent versions of FFmpeg drop frames of H.264 that earlier ones return, see decode_all().
        stream.codec_context.flags |= Flags.output_corrupt
        # Otherwise, FFmpeg crops the left side only to a multiple of 16 or 32 pixels.
        stream.codec_context.flags |= Flags.unaligned
    except BaseException:
        container.close()
        raise
    return container, stream


def decode_all(
    container: Any, stream: Any, strict: bool = False, needed: Container[int] | None = None
) -> Iterator[Any]:
    """Yield all frames that can be decoded, in FFmpeg's order; like FFmpeg, skip damaged packets.

    In a recording that begins between key frames, FFmpeg shows nothing before the first intact frame.

    Args:
        container, stream: from :func:`open_video`.
        strict: raise FFmpeg's error at a damaged packet.
        needed: times of the frames that must be decoded; the decoder skips others if no frame depends on them. None
            for all frames.
    """
    import av

    context = stream.codec_context
    context.skip_frame = 'DEFAULT'
    has_begun = False
    for packet in container.demux(stream):
        if needed is not None:
            context.skip_frame = 'DEFAULT' if packet.pts is None or packet.pts in needed else 'NONREF'
        try:
            frames = packet.decode()
        except MemoryError:
            raise
        except av.error.FFmpegError:
            if strict:
                raise
            continue
        for frame in frames:
            has_begun |= not frame.is_corrupt
            if has_begun:
                yield frame


def stores_frame_times(container: Any) -> bool:
    """Return True for MP4/MOV, Matroska/WebM and FLV."""
    return not FORMATS_WITH_TIMES.isdisjoint(container.format.name.split(','))


def frame_rate(container: Any, stream: Any) -> Fraction | None:
    """Return the average frame rate in the header, in frames per second; None if it has none."""
    rates = [stream.average_rate, stream.guessed_rate]
    if container.format.name == 'avi':  # its average rate is the resolution of its timestamps
        rates.reverse()
    for rate in rates:
        if rate and rate <= _MAX_FRAME_RATE:
            # Rates are small fractions; 1001 keeps rates such as 30000/1001.
            return Fraction(rate.numerator, rate.denominator).limit_denominator(1001)
    return None


def turn_upright(image: npt.NDArray[np.uint8], frame: Any) -> npt.NDArray[np.uint8]:
    """Rotate and mirror the image (H, W, C) of a PyAV frame as its display matrix says.

    Raises:
        ValueError: the matrix rotates by an angle that is not a multiple of 90 degrees.
    """
    transposed, flipped, mirrored = orientation(frame)
    if transposed:
        image = image.swapaxes(0, 1)  # (W, H, C)
    return image[:: -1 if flipped else 1, :: -1 if mirrored else 1]


def orientation(frame: Any) -> tuple[bool, bool, bool]:
    """Return whether a frame must be transposed, then flipped vertically, then mirrored horizontally.

    These are the rules of the ffmpeg command: angles within one degree of a multiple of 90 are rounded.
    """
    from av.sidedata.sidedata import SideDataContainer, Type

    # frame.side_data would refer to the frame and the frame to it, so that frames are not freed before the next garbage
    # collection: 12 MB each at 4K.
    side_data: Any = SideDataContainer(frame)  # type: ignore[call-arg]
    data = next((data for data in side_data.keys() if data.type == Type.DISPLAYMATRIX), None)
    if data is None:
        return False, False, False
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
    scales = math.hypot(a, c), math.hypot(b, d)
    if 0 in scales:  # invalid; FFmpeg ignores it
        return False, False, False
    angle = math.degrees(math.atan2(b / scales[1], a / scales[0])) % 360
    quarter = round(angle / 90) % 4
    if abs(angle - 90 * round(angle / 90)) >= 1:
        raise ValueError(f'its frames must be rotated by {angle:.0f} degrees; only multiples of 90 are supported')
    if quarter == 0:
        return False, d < 0, False
    if quarter == 2:
        return False, d < 0, a < 0
    if quarter == 1:
        return True, False, c <= 0
    return True, True, c < 0


def _open_container(path: str) -> Any:
    import av

    # The limits also apply to files that this one refers to. Metadata may have any encoding.
    options = {'protocol_whitelist': 'file', 'format_whitelist': FORMATS}
    return av.open(file_url(path), metadata_errors='replace', container_options=options)


def _choose_stream(path: str, container: Any) -> Any:
    """Return the only video stream, ignoring covers; of several, the only moving one that is marked as the default.

    Otherwise the choice is unclear: the ffmpeg command takes the largest, and FFmpeg's library the highest bit rate.
    """
    from av.stream import Disposition

    no_film = Disposition.attached_pic | Disposition.timed_thumbnails
    videos = [stream for stream in container.streams.video if not stream.disposition & no_film]
    if not videos:
        raise ValueError('it has only a cover image' if container.streams.video else 'the file has no video stream')
    if len(videos) > 1:
        moving = _find_moving(path)
        marked = [stream for stream in videos if stream.disposition & Disposition.default] or videos
        films = [stream for stream in marked if stream.index in moving]
        if len(films) != 1:
            names = ', '.join(f'{stream.index} ({stream.width} x {stream.height})' for stream in videos)
            raise ValueError(
                f'the file has {len(videos)} video streams: {names}. Keep one, for example with '
                f'ffmpeg -i IN -map 0:{videos[0].index} -c copy OUT'
            )
        videos = films
    if videos[0].codec_context is None:
        raise ValueError('FFmpeg has no decoder for its video')
    return videos[0]


def _find_moving(path: str) -> set[int]:
    """Return the indices of the video streams with more than one packet."""
    once: set[int] = set()
    moving: set[int] = set()
    with _open_container(path) as container:
        num_videos = len(container.streams.video)
        for packet in container.demux(list(container.streams.video)):
            if packet.size:
                (moving if packet.stream_index in once else once).add(packet.stream_index)
                if len(moving) == num_videos:
                    break
    return moving


def _is_still_image(path: str) -> bool:
    """Return True for HEIC, AVIF and CR3, which are MP4 files with one image."""
    with open(path, 'rb') as file:
        header = file.read(12)
    return header[4:8] == b'ftyp' and header[8:] in _STILL_BRANDS


def _describe_file(path: str) -> str | None:
    """Return the kind of a file that FFmpeg cannot read as a video, from its first bytes; None if unknown."""
    with open(path, 'rb') as file:
        header = file.read(512)
    if not header:
        return 'an empty file'
    for start, signature, name in _SIGNATURES:
        if header[start : start + len(signature)] == signature:
            return name
    if header[:2] in (b'\xff\xfe', b'\xfe\xff') or not set(header) & {*range(9), *range(14, 32)}:
        return 'a text file'
    return None
