"""Four decoders behind one interface: frames by number, as RGB, exactly the frames that were asked for.

Only some containers store when each frame is shown: MP4/MOV, Matroska/WebM and FLV. There a decoder can jump
to the key frame before a wanted frame and recognize the wanted one. In the others (AVI, MPEG, ...) a jump
lands somewhere near (decord on AVI with B-frames: 10 frames off and more), so they are decoded from the
beginning.
"""

import importlib
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from typing import Any, ClassVar, NamedTuple, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

LOGGER = logging.getLogger(__name__)
Frames = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]

_NUM_REMEMBERED = 10_000  # videos of which a process remembers what it found in their list of packets


def _new_array(shape: tuple[int, ...]) -> Frames:
    return np.empty(shape, np.uint8)


class VideoReader(ABC):
    """An open video.

    Attributes:
        path: the file.
        num_frames: frames that can be read, counted by the same decoder that reads them.
        lends_frames: whether the memory of frames that it gave is taken back when it is closed.
        package: what must be importable for the class to work, such as 'av'.
        allocate: gives memory for frames of a shape to readers that fill it frame by frame; others use their own.
    """

    path: str
    num_frames: int
    lends_frames: bool = False
    package: ClassVar[str]
    allocate: Callable[[tuple[int, ...]], Frames] = staticmethod(_new_array)

    def read(self, indices: Indices) -> Frames:
        """Decode frames.

        Args:
            indices: (len,), ascending, each once, from 0 to ``num_frames - 1``.

        Returns:
            uint8 RGB (len, H, W, 3).

        Raises:
            ValueError: ``indices`` are not such.
            Exception: the decoder's own error on a damaged file.
        """
        if not len(indices) or indices[0] < 0 or indices[-1] >= self.num_frames or (np.diff(indices) < 1).any():
            raise ValueError(f'frames 0 to {self.num_frames - 1} can be read, ascending and each once; got {indices}')
        return self._read(indices)

    @abstractmethod
    def _read(self, indices: Indices) -> Frames:
        """Decode checked indices."""

    @abstractmethod
    def close(self) -> None:
        """Free the decoder; nothing can be read afterward."""


# By the name that configs give as ``decoder``; 'auto' is the first of them whose package is installed.
READERS: dict[str, Any] = {}  # classes, called with the path of a video

R = TypeVar('R', bound=type[VideoReader])


def register_reader(name: str) -> Callable[[R], R]:
    """Make a class known as the decoder of a name: ``decoder='name'`` in a config then reads with it.

    The class is called with the path of a video, sets ``path`` and ``num_frames``, and says its ``package``.
    """

    def register(cls: R) -> R:
        READERS[name] = cls
        return cls

    return register


@register_reader('decord')
class DecordReader(VideoReader):
    """decord 0.6, or decord2.

    It applies the rotation that a phone stores, but fails where that leaves less than 80 pixels or so of width; PyAV
    reads these.
    """

    package = 'decord'

    def __init__(self, path: str) -> None:
        if _is_transport_stream(path):
            raise ValueError('decord loses the first frames of MPEG transport streams (.ts)')
        # Imported here, after torch: loaded before torch, decord can freeze the worker processes.
        import decord

        self.path = path
        self._reader: Any = decord.VideoReader(path, ctx=decord.cpu(0), num_threads=1)
        # It counts a key frame where it is decoded. If frames that are shown before it come behind it in the file, or
        # others are never shown, a jump ends that many frames off; and the latter are among those that it counts.
        has_times = _stores_frame_times(path)
        packets = _find_oddities(path, *_state(path)) if has_times else _Oddities()
        self._can_jump = has_times and not packets.open_groups and not packets.num_hidden
        self._position = 0
        self.num_frames = len(self._reader) - packets.num_hidden

    def _read(self, indices: Indices) -> Frames:
        if self._can_jump:
            return np.asarray(self._reader.get_batch(indices.tolist()).asnumpy())
        wanted = set(indices.tolist())
        assert self._position <= indices[0], 'a video that is decoded from the beginning can be read once only'
        frames: list[Frames] = []
        while len(frames) < len(wanted):
            # skip_frames() would be faster, but miscounts in these containers.
            frame = self._reader.next()
            if self._position in wanted:
                frames.append(frame.asnumpy())
            self._position += 1
        return np.stack(frames)  # (len, H, W, 3)

    def close(self) -> None:
        self._reader = None


@register_reader('pyav')
class PyAVReader(VideoReader):
    """FFmpeg through PyAV: reads what FFmpeg reads, and applies the rotation that a phone stores.

    The fastest one for MP4 in which every frame is a key frame, such as ``dsanet transcode`` writes: it reads
    no more of the file than the frames that are wanted.
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
        # times[i] is when frame i is shown; None if the container does not know.
        self._times: list[int] | None = None
        if _stores_frame_times(path) and None not in times and len(set(times)) == len(times):
            self._times = sorted(times)
            self._key_times = np.array(sorted(time for time, is_key in packets if is_key))

    def _open(self) -> None:
        import av

        self._container: Any = av.open(self.path)
        if not self._container.streams.video:
            self.close()
            raise ValueError('there is no video stream in it')
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = 'NONE'

    def _list_packets(self) -> list[tuple[Any, bool]]:
        """Return for each frame in the file when it is shown and whether it is a key frame.

        The header's count is a claim; the packets are what is there. Listing them decodes nothing.
        """
        return [
            (packet.pts, packet.is_keyframe)
            for packet in self._container.demux(self._stream)
            if packet.size and not packet.is_discard
        ]

    def _list_key_frames(self) -> list[tuple[Any, bool]]:
        """Return the same from the index of an MP4 in which every frame is a key frame; [] for other files.

        It saves reading the whole file. An index says when frames are decoded, not when they are shown. That is the
        same if no frame waits for a later one, as key frames do not, and if the first is shown when it is decoded.
        """
        if _major_version() < 17 or not _stores_frame_times(self.path):
            return []
        entries = list(self._stream.index_entries)
        # Only MP4 counts its frames in the header and has an entry for each.
        if not entries or len(entries) != self._stream.frames or self._stream.codec_context.has_b_frames:
            return []
        if self._stream.start_time != entries[0].timestamp:
            return []
        if not all(entry.is_keyframe and not entry.is_discard for entry in entries):
            return []
        length = os.path.getsize(self.path)
        return [(entry.timestamp, True) for entry in entries if entry.pos + entry.size <= length]

    def _read(self, indices: Indices) -> Frames:
        frames = self._read_in_order(indices) if self._times is None else self._read_by_time(indices, self._times)
        convert = _RGBConverter()
        rgb: Frames | None = None
        # One by one into their place: a list of them would take as much memory again, and time.
        for position, frame in enumerate(frames):
            image = convert(frame)
            if rgb is None:
                rgb = self.allocate((len(indices), *image.shape))
            rgb[position] = image
        assert rgb is not None, 'there are indices'
        return rgb  # (len, H, W, 3)

    def _read_in_order(self, indices: Indices) -> Iterator[Any]:
        """Yield the wanted frames, decoding from the beginning."""
        self.close()
        self._open()
        decoded = enumerate(self._container.decode(self._stream))
        for index in indices:
            frame = next((frame for position, frame in decoded if position == index), None)
            if frame is None:
                raise ValueError(f'frame {index} cannot be decoded')
            yield frame

    def _read_by_time(self, indices: Indices, times: list[int]) -> Iterator[Any]:
        """Yield the wanted frames, jumping to a key frame wherever that leaves out a frame between two of them."""
        after: int | None = None  # the time of the frame that the decoder gives next
        for index in indices:
            time = times[index]
            key_time = self._key_times[self._key_times <= time].max(initial=times[0])
            if after is None or key_time > after:
                self._container.seek(int(key_time), stream=self._stream)
                decoded = self._container.decode(self._stream)
            frame = next((frame for frame in decoded if frame.pts is not None and frame.pts >= time), None)
            if frame is None or frame.pts != time:
                raise ValueError(f'frame {index} cannot be decoded')
            after = times[min(index + 1, len(times) - 1)]
            yield frame

    def close(self) -> None:
        self._container.close()


@register_reader('opencv')
class OpenCVReader(VideoReader):
    """OpenCV's FFmpeg.

    It decodes every file twice from the beginning: OpenCV's frame counts are estimates, and so are its jumps.
    A damaged video ends for it where the damage begins.
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
            raise ValueError('OpenCV finds no video in it')

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
    """torchcodec, on top of the FFmpeg libraries that the system has. Each of its versions goes with one of torch.

    It applies the rotation that a phone stores. Where the container does not store when frames are shown, it counts
    frames that it cannot read and numbers others wrongly.
    """

    package = 'torchcodec.decoders'

    def __init__(self, path: str) -> None:
        try:
            from torchcodec.decoders import VideoDecoder
        except (OSError, RuntimeError) as error:  # it is there, but FFmpeg is not
            raise ImportError('torchcodec does not find the libraries of FFmpeg') from error

        if not _stores_frame_times(path):
            raise ValueError('torchcodec numbers frames rightly in MP4/MOV, Matroska/WebM and FLV only')
        self.path = path
        self._decoder: Any = VideoDecoder(path, dimension_order='NHWC', num_ffmpeg_threads=1, seek_mode='exact')
        self.num_frames = len(self._decoder)

    def _read(self, indices: Indices) -> Frames:
        return np.asarray(self._decoder.get_frames_at(indices.tolist()).data.numpy())

    def close(self) -> None:
        self._decoder = None


def is_installed(decoder: str) -> bool:
    """Say whether a decoder's package can be imported."""
    try:
        importlib.import_module(READERS[decoder].package)
    except (ImportError, OSError, RuntimeError):  # the latter two: it does not find a library that it needs
        return False
    return True


@cache
def first_installed() -> str:
    """Return the first of ``READERS`` whose package can be imported, and log it; once in a process.

    Raises:
        ImportError: none can.
    """
    for name in READERS:
        if is_installed(name):
            LOGGER.info("decoder='auto' is %r", name)
            return name
    packages = ', '.join(reader.package for reader in READERS.values())
    raise ImportError(f"decoder='auto': none of the packages {packages} can be imported")


def _head(path: str) -> bytes:
    with open(path, 'rb') as file:
        return file.read(189)


def _stores_frame_times(path: str) -> bool:
    """Say whether the container is MP4/MOV, Matroska/WebM or FLV, by its first bytes."""
    head = _head(path)
    return (
        head[4:8] in (b'ftyp', b'moov', b'mdat', b'wide', b'free') or head[:4] == b'\x1aE\xdf\xa3' or head[:3] == b'FLV'
    )


class _Oddities(NamedTuple):
    """What makes jumps in a file end elsewhere than they should.

    Args:
        open_groups: a frame that is shown before a key frame lies behind it: open groups of pictures, frequent in
            H.265.
        num_hidden: frames that are there and never shown: an MP4 that was cut without encoding it again begins with
            those between a key frame and the cut.
    """

    open_groups: bool = False
    num_hidden: int = 0


def _state(path: str) -> tuple[int, int]:
    """Return what changes with a file."""
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns


@lru_cache(_NUM_REMEMBERED)
def _find_oddities(path: str, _size: int, _changed: int) -> _Oddities:
    """Look for oddities in the list of a file's packets; nothing is decoded.

    It opens the file once more and, if frames are stored in another order than they are shown, reads it to its end: so
    what was found is remembered, as long as size and time of the file stay.
    """
    import av

    open_groups, num_hidden = False, 0
    try:
        with av.open(path) as container:
            stream = container.streams.video[0]
            if not stream.codec_context.has_b_frames and _major_version() >= 17:
                # An index tells as much, and is there without reading the file.
                return _Oddities(False, sum(entry.is_discard for entry in stream.index_entries))
            key_time = None
            for packet in container.demux(stream):
                if packet.size and packet.pts is not None:
                    num_hidden += packet.is_discard
                    open_groups |= key_time is not None and packet.pts < key_time
                    key_time = packet.pts if packet.is_keyframe else key_time
    except (av.error.FFmpegError, IndexError):  # damaged; decord shall say what it thinks of it
        return _Oddities()
    return _Oddities(open_groups, num_hidden)


def _is_transport_stream(path: str) -> bool:
    """Say whether the file is an MPEG transport stream: packets of 188 bytes that start with 0x47."""
    head = _head(path)
    return head[:1] == head[188:189] == b'\x47'


def _major_version() -> int:
    """Return PyAV's major version; 17 brought the index of a file, and conversion by several threads."""
    import av

    return int(av.__version__.split('.')[0])


def one_thread() -> dict[str, int]:
    """Return what tells a reformatter of PyAV to use one thread; before PyAV 17 it has but one."""
    return {'threads': 1} if _major_version() >= 17 else {}


class _RGBConverter:
    """Turns PyAV's frames of one video into RGB, upright as their metadata say.

    It keeps what swscale sets up for a size, which takes longer than converting a small frame, and uses one thread: a
    data worker has one core, and threads for every core of the machine would only be in each other's way.
    """

    def __init__(self) -> None:
        from av.video.reformatter import VideoReformatter

        self._reformatter: Any = VideoReformatter()
        self._options = one_thread()

    def __call__(self, frame: Any) -> Frames:
        rgb: Frames = self._reformatter.reformat(frame, format='rgb24', **self._options).to_ndarray()
        return np.rot90(rgb, frame.rotation // 90)
