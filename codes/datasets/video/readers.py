"""Video decoders with one interface: RGB frames by index, exactly the requested ones.

Only some containers store when each frame is shown: MP4/MOV, Matroska/WebM and FLV. There a decoder can seek to the key
frame before a requested frame and recognize the requested one. In others (AVI, MPEG, ...) a seek is inexact (decord on
AVI with B-frames: off by 10 frames and more), so they are decoded from the beginning.
"""

import importlib
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from typing import Any, ClassVar, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

LOGGER = logging.getLogger(__name__)
Frames = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]


def _new_array(shape: tuple[int, ...]) -> Frames:
    return np.empty(shape, np.uint8)


class VideoReader(ABC):
    """An open video.

    Attributes:
        path: the file.
        num_frames: number of frames that can be read, counted by the same decoder.
        reuses_memory: True if the memory of returned frames is reused after the reader is closed.
        package: module that must be importable, such as 'av'.
        allocate: returns memory for frames of a shape, for readers that decode frame by frame.
    """

    path: str
    num_frames: int
    reuses_memory: bool = False
    package: ClassVar[str]
    allocate: Callable[[tuple[int, ...]], Frames] = staticmethod(_new_array)

    def read(self, indices: Indices) -> Frames:
        """Decode frames.

        Args:
            indices: (len,), ascending, without duplicates, from 0 to ``num_frames - 1``.

        Returns:
            uint8 RGB (len, H, W, 3).
        """
        if not len(indices) or indices[0] < 0 or indices[-1] >= self.num_frames or (np.diff(indices) < 1).any():
            last = self.num_frames - 1
            raise ValueError(f'frame indices must be ascending, without duplicates, from 0 to {last}; got {indices}')
        return self._read(indices)

    @abstractmethod
    def _read(self, indices: Indices) -> Frames:
        """Decode valid indices."""

    @abstractmethod
    def close(self) -> None:
        """Free the decoder; no frames can be read afterward."""


# Decoders by the name that configs use. 'auto' is the first one whose ``package`` is installed.
READERS: dict[str, Any] = {}  # classes that are called with the path of a video

R = TypeVar('R', bound=type[VideoReader])


def register_reader(name: str) -> Callable[[R], R]:
    """Register a decoder class, for ``decoder='name'`` in a config.

    The class is called with the path of a video, sets ``path`` and ``num_frames``, and has an attribute ``package``.
    """

    def register(cls: R) -> R:
        READERS[name] = cls
        return cls

    return register


@register_reader('decord')
class DecordReader(VideoReader):
    """decord 0.6, or decord2.

    It applies rotation metadata, but fails if the rotated video is narrower than about 80 pixels; PyAV reads these.
    """

    package = 'decord'

    def __init__(self, path: str) -> None:
        if _is_transport_stream(path):
            raise ValueError('decord loses the first frames of MPEG transport streams (.ts)')
        # Imported here, after torch: if it is loaded before torch, decord can freeze the worker processes.
        import decord

        self.path = path
        self._reader: Any = decord.VideoReader(path, ctx=decord.cpu(0), num_threads=1)
        self._can_seek, num_hidden = False, 0
        if _stores_frame_times(path):
            state = os.stat(path)
            has_open_gops, num_hidden = _scan_packets(path, state.st_size, state.st_mtime_ns)
            # decord seeks to a wrong frame in open GOPs and after hidden frames, and counts hidden frames.
            self._can_seek = not has_open_gops and not num_hidden
        self._position = 0
        self.num_frames = len(self._reader) - num_hidden

    def _read(self, indices: Indices) -> Frames:
        if self._can_seek:
            return np.asarray(self._reader.get_batch(indices.tolist()).asnumpy())
        requested = set(indices.tolist())
        assert self._position <= indices[0], 'a video that is decoded from the beginning can be read only once'
        frames: list[Frames] = []
        while len(frames) < len(requested):
            # skip_frames() would be faster, but miscounts in these containers.
            frame = self._reader.next()
            if self._position in requested:
                frames.append(frame.asnumpy())
            self._position += 1
        return np.stack(frames)  # (len, H, W, 3)

    def close(self) -> None:
        self._reader = None


@register_reader('pyav')
class PyAVReader(VideoReader):
    """FFmpeg through PyAV: reads all formats of FFmpeg, and applies rotation metadata.

    The fastest decoder for an MP4 of key frames only, such as ``dsanet transcode`` writes: it reads only the requested
    frames of the file.
    """

    package = 'av'

    def __init__(self, path: str) -> None:
        self.path = path
        self._open()
        try:
            packets = self._list_key_frames() or self._list_packets()
        except Exception:
            self.close()
            raise
        self.num_frames = len(packets)
        times = [time for time, _ in packets]
        # times[i] is when frame i is shown; None if the container does not store it.
        self._times: list[int] | None = None
        if _stores_frame_times(path) and None not in times and len(set(times)) == len(times):
            self._times = sorted(times)
            self._key_times = np.array(sorted(time for time, is_key in packets if is_key))

    def _open(self) -> None:
        import av

        self._container: Any = av.open(self.path)
        if not self._container.streams.video:
            self.close()
            raise ValueError('the file has no video stream')
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = 'NONE'

    def _list_packets(self) -> list[tuple[Any, bool]]:
        """Return (time shown, is key frame) for each frame in the file, without decoding.

        The number of frames in the header may be wrong; that of the packets is not.
        """
        return [
            (packet.pts, packet.is_keyframe)
            for packet in self._container.demux(self._stream)
            if packet.size and not packet.is_discard
        ]

    def _list_key_frames(self) -> list[tuple[Any, bool]]:
        """Return the same from the index of an MP4 of key frames only, without reading the file; [] for other files.

        The index has decoding times. They equal the presentation times if no frame waits for a later one, as is the
        case for key frames, and if the first frame is shown when it is decoded.
        """
        if _pyav_version() < 17 or not _stores_frame_times(self.path):
            return []
        entries = list(self._stream.index_entries)
        # Only MP4 has the number of frames in the header and an index entry for each.
        if not entries or len(entries) != self._stream.frames or self._stream.codec_context.has_b_frames:
            return []
        if self._stream.start_time != entries[0].timestamp:
            return []
        if not all(entry.is_keyframe and not entry.is_discard for entry in entries):
            return []
        length = os.path.getsize(self.path)
        return [(entry.timestamp, True) for entry in entries if entry.pos + entry.size <= length]

    def _read(self, indices: Indices) -> Frames:
        from av.video.reformatter import VideoReformatter

        frames = self._decode_all(indices) if self._times is None else self._decode_with_seek(indices, self._times)
        # One reformatter for all frames: the setup of a swscale context takes longer than converting a small frame.
        # One thread, because a data worker has one core.
        reformatter, options = VideoReformatter(), one_thread()
        rgb: Frames | None = None
        # Copied one by one: np.stack of a list would need twice the memory.
        for position, frame in enumerate(frames):
            image = reformatter.reformat(frame, format='rgb24', **options).to_ndarray()
            image = np.rot90(image, frame.rotation // 90)
            if rgb is None:
                rgb = self.allocate((len(indices), *image.shape))
            rgb[position] = image
        assert rgb is not None, 'indices is not empty'
        return rgb  # (len, H, W, 3)

    def _decode_all(self, indices: Indices) -> Iterator[Any]:
        """Yield the requested frames, decoding from the beginning."""
        self.close()
        self._open()
        decoded = enumerate(self._container.decode(self._stream))
        for index in indices:
            frame = next((frame for position, frame in decoded if position == index), None)
            if frame is None:
                raise ValueError(f'frame {index} cannot be decoded')
            yield frame

    def _decode_with_seek(self, indices: Indices, times: list[int]) -> Iterator[Any]:
        """Yield the requested frames, with a seek to a key frame where that skips frames."""
        next_time: int | None = None  # time of the frame that the decoder returns next
        for index in indices:
            time = times[index]
            key_time = self._key_times[self._key_times <= time].max(initial=times[0])
            if next_time is None or key_time > next_time:
                self._container.seek(int(key_time), stream=self._stream)
                decoded = self._container.decode(self._stream)
            frame = next((frame for frame in decoded if frame.pts is not None and frame.pts >= time), None)
            if frame is None or frame.pts != time:
                raise ValueError(f'frame {index} cannot be decoded')
            next_time = times[min(index + 1, len(times) - 1)]
            yield frame

    def close(self) -> None:
        self._container.close()


@register_reader('opencv')
class OpenCVReader(VideoReader):
    """FFmpeg through OpenCV.

    It decodes every file twice from the beginning, because OpenCV's frame counts and seeks are inexact. A damaged video
    ends at the first damaged frame.
    """

    package = 'cv2'

    def __init__(self, path: str) -> None:
        self.path = path
        self._open()
        self.num_frames = 0
        while self._capture.grab():
            self.num_frames += 1

    def _open(self) -> None:
        self._capture = cv2.VideoCapture(self.path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
        if not self._capture.isOpened():
            raise ValueError('OpenCV finds no video in the file')

    def _read(self, indices: Indices) -> Frames:
        self.close()
        self._open()
        frames = []
        position = 0
        for index in indices:
            while position <= index and self._capture.grab():
                position += 1
            found, frame = self._capture.retrieve()
            if position != index + 1 or not found:
                raise ValueError(f'frame {index} cannot be decoded')
            frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
        return np.stack(frames).astype(np.uint8, copy=False)  # (len, H, W, 3)

    def close(self) -> None:
        self._capture.release()


@register_reader('torchcodec')
class TorchCodecReader(VideoReader):
    """torchcodec, with the FFmpeg libraries of the system. Each of its versions needs a certain version of torch.

    It applies rotation metadata. In containers without frame times it returns wrong frames, so these are rejected.
    """

    package = 'torchcodec.decoders'

    def __init__(self, path: str) -> None:
        try:
            from torchcodec.decoders import VideoDecoder
        except (OSError, RuntimeError) as error:  # torchcodec is installed, but FFmpeg is not
            raise ImportError('torchcodec cannot find the FFmpeg libraries') from error

        if not _stores_frame_times(path):
            raise ValueError('torchcodec returns correct frames only for MP4/MOV, Matroska/WebM and FLV')
        self.path = path
        self._decoder: Any = VideoDecoder(path, dimension_order='NHWC', num_ffmpeg_threads=1, seek_mode='exact')
        self.num_frames = len(self._decoder)

    def _read(self, indices: Indices) -> Frames:
        return np.asarray(self._decoder.get_frames_at(indices.tolist()).data.numpy())

    def close(self) -> None:
        self._decoder = None


def is_installed(decoder: str) -> bool:
    """Return True if the decoder's package can be imported."""
    try:
        importlib.import_module(READERS[decoder].package)
    except (ImportError, OSError, RuntimeError):  # OSError and RuntimeError: a shared library is missing
        return False
    return True


@cache
def first_installed() -> str:
    """Return the first of ``READERS`` whose package can be imported, and log it once per process."""
    for name in READERS:
        if is_installed(name):
            LOGGER.info("Using decoder %r (decoder='auto')", name)
            return name
    packages = ', '.join(reader.package for reader in READERS.values())
    raise ImportError(f"decoder='auto' needs one of the packages {packages}; none of them can be imported")


def _read_header(path: str) -> bytes:
    with open(path, 'rb') as file:
        return file.read(189)


def _stores_frame_times(path: str) -> bool:
    """Return True for MP4/MOV, Matroska/WebM and FLV, by the first bytes of the file."""
    header = _read_header(path)
    is_mp4 = header[4:8] in (b'ftyp', b'moov', b'mdat', b'wide', b'free')
    return is_mp4 or header[:4] == b'\x1aE\xdf\xa3' or header[:3] == b'FLV'


def _is_transport_stream(path: str) -> bool:
    """Return True for an MPEG transport stream: packets of 188 bytes that start with 0x47."""
    header = _read_header(path)
    return header[:1] == header[188:189] == b'\x47'


@lru_cache(10_000)
def _scan_packets(path: str, _size: int, _mtime: int) -> tuple[bool, int]:
    """Scan the packets of a file for two things that make decord's seeks inexact, without decoding.

    Results are cached, by size and modification time of the file: a scan opens the file once more, and reads the whole
    file if it has B-frames.

    Returns:
        Whether there are open GOPs, that is, frames that are stored after a key frame but shown before it, frequent in
        H.265; and the number of frames that are stored but not shown: those between a key frame and the cut, in an MP4
        that was cut without re-encoding.
    """
    import av

    has_open_gops, num_hidden = False, 0
    try:
        with av.open(path) as container:
            stream = container.streams.video[0]
            if not stream.codec_context.has_b_frames and _pyav_version() >= 17:
                # The index is sufficient, and does not need to read the file.
                return False, sum(entry.is_discard for entry in stream.index_entries)
            key_time = None
            for packet in container.demux(stream):
                if packet.size and packet.pts is not None:
                    num_hidden += packet.is_discard
                    has_open_gops |= key_time is not None and packet.pts < key_time
                    key_time = packet.pts if packet.is_keyframe else key_time
    except (av.error.FFmpegError, IndexError):  # damaged; decord reports the error
        return False, 0
    return has_open_gops, num_hidden


def _pyav_version() -> int:
    """Return PyAV's major version; 17 added the index of a file, and multithreaded color conversion."""
    import av

    return int(av.__version__.split('.')[0])


def one_thread() -> dict[str, int]:
    """Return the arguments for single-threaded color conversion; PyAV before 17 has only one thread."""
    return {'threads': 1} if _pyav_version() >= 17 else {}
