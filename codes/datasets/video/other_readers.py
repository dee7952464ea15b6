"""Read videos with decord, OpenCV or torchcodec.

Each of them returns wrong frames for some kinds of files without an error: it takes another video stream, counts frames
that cannot be shown, ignores mirroring, or seeks to a neighbor of the requested frame. PyAV therefore examines each
file first, once per process, and files of these kinds are refused.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar

import cv2
import numpy as np
import numpy.typing as npt

from dsanet.datasets.video.opening import (
    FORMATS_WITH_TIMES,
    decode_all,
    file_url,
    file_version,
    open_video,
    orientation,
)
from dsanet.datasets.video.pyav_reader import PyAVReader
from dsanet.datasets.video.readers import Frames, FrameTimes, Indices, VideoReader, register_reader

# Display matrices that only rotate, see orientation(): 0, 90, 180 and 270 degrees.
_ROTATIONS = ((False, False, False), (True, False, True), (False, True, True), (True, True, False))
_BT2020 = (9, 10)  # FFmpeg's color spaces
# Largest mean difference between the first frames of two decoders, in gray levels of a small version.
_MAX_DIFFERENCE = 10
# Where an error of decord occurred, which it writes before the text: a time, and a file and line of its source.
_SOURCE_LINE = re.compile(r'\[[\d:]+\] \S+:\d+: ')


@dataclass
class _Facts:
    """What PyAV finds in a file.

    Attributes:
        num_frames: number of frames.
        fps: frames per second; None if unknown.
        shape: (height, width, 3) of the first frame.
        small: the first frame, reduced to a few pixels.
        formats: names of the container in FFmpeg.
        can_seek: whether the packets determine when each frame is shown, with true key frames and closed GOPs.
        key_indices: the key frames, if the packets determine the frames.
        is_interlaced: whether the first frame consists of two fields.
        is_bt2020: whether the colors are those of HDR video.
        problem: why only PyAV reads the file correctly; None for an ordinary file.
        verified: the decoders whose first frame is the same.
    """

    num_frames: int
    fps: float | None
    shape: tuple[int, ...]
    small: npt.NDArray[np.int16]
    formats: frozenset[str]
    can_seek: bool
    key_indices: list[int]
    is_interlaced: bool
    is_bt2020: bool
    problem: str | None
    verified: set[str] = field(default_factory=set)


@lru_cache(10_000)
def _examine_file(path: str, _size: int, _mtime: int) -> _Facts:
    reader = PyAVReader(path)
    try:
        index, num_frames, fps = reader.index, reader.num_frames, reader.fps
        if not num_frames:
            raise ValueError('no frame can be decoded')
        can_seek = index is not None and not index.has_open_gops and not index.has_hidden
        if can_seek and index is not None and len(index.key_times) > 1:
            # The second key frame shows whether the key frames in the file are key frames for the decoder.
            can_seek = reader.confirms(np.array([index.times.index(index.key_times[1])]))
        first = reader.read(np.array([0]))[0]
    finally:
        reader.close()
    container, stream = open_video(path)
    with container:
        frame = next(decode_all(container, stream))
        problem = None
        if len(container.streams.video) > 1:
            problem = 'the file has several video streams'
        elif orientation(frame) not in _ROTATIONS:
            problem = 'the file is marked as mirrored'
        formats = frozenset(container.format.name.split(','))
        is_interlaced, is_bt2020 = bool(frame.interlaced_frame), int(frame.colorspace) in _BT2020
    keys = [] if index is None else np.searchsorted(index.times, index.key_times).tolist()
    small = _reduce(first)
    return _Facts(num_frames, fps, first.shape, small, formats, can_seek, keys, is_interlaced, is_bt2020, problem)


def _reduce(image: Frames) -> npt.NDArray[np.int16]:
    return cv2.resize(image, (8, 8), interpolation=cv2.INTER_AREA).astype(np.int16)


class _CheckedReader(VideoReader):
    """A reader whose results are compared with PyAV's.

    Attributes:
        name: of the decoder, for errors.

    Raises:
        ValueError: the file is not a video, or the decoder would return wrong frames.
    """

    name: ClassVar[str]

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            path.encode()
        except UnicodeEncodeError:  # OpenCV crashes
            raise self._refuse('the name of the file is not UTF-8') from None
        self._facts = _examine_file(*file_version(path))
        if self._facts.problem is not None:
            raise self._refuse(self._facts.problem)
        self.num_frames, self.fps = self._facts.num_frames, self._facts.fps

    def _find_times(self) -> FrameTimes:
        reader = PyAVReader(self.path)
        try:
            return reader.frame_times
        finally:
            reader.close()

    def _refuse(self, reason: str) -> ValueError:
        return ValueError(f"{self.name} would read the file incorrectly: {reason}; use decoder='pyav'")

    def _check_count(self, num_frames: int) -> None:
        if num_frames != self.num_frames:
            raise self._refuse(f'{num_frames} frames instead of {self.num_frames}')

    def _check_first(self, image: Frames) -> None:
        """Compare the first frame with PyAV's, once per file."""
        if self.name not in self._facts.verified:
            self._check_shape(image)
            if np.abs(_reduce(image) - self._facts.small).mean() > _MAX_DIFFERENCE:
                raise self._refuse('the first frame looks different')
            self._facts.verified.add(self.name)

    def _check_shape(self, image: Frames) -> Frames:
        if image.shape != self._facts.shape:
            raise self._refuse(f'a frame has the size {image.shape[:2]} instead of {self._facts.shape[:2]}')
        return image


@register_reader('decord')
class DecordReader(_CheckedReader):
    """decord 0.6, or decord2.

    It applies rotation metadata, but fails if the rotated video is narrower than about 80 pixels; PyAV reads these.
    """

    package = 'decord'
    name = 'decord'

    def __init__(self, path: str) -> None:
        # Imported here, after torch: if it is loaded before torch, decord can freeze the worker processes.
        import decord

        super().__init__(path)
        if 'mpegts' in self._facts.formats:
            raise self._refuse('it loses the first frames of MPEG transport streams (.ts)')
        with self._explained():
            self._reader: Any = decord.VideoReader(file_url(path), ctx=decord.cpu(0), num_threads=1)
        self._position = 0
        # An MP4 without a list of key frames declares every frame a key frame, and decord trusts it.
        self._can_seek = self._facts.can_seek and list(self._reader.get_key_indices()) == self._facts.key_indices
        if self._can_seek:
            self._check_count(len(self._reader))
            if self.name not in self._facts.verified:
                self._check_times()
                with self._explained():
                    first = self._reader[0].asnumpy()
                self._check_first(first)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn decord's errors, which name its source files or have no text, into readable ones."""
        from decord import DECORDError

        try:
            yield
        except (DECORDError, StopIteration) as error:
            text = _SOURCE_LINE.sub('', str(error).split('Stack trace')[0]).strip() or 'the video ends early'
            raise ValueError(f"decord cannot read the file: {text}; use decoder='pyav'") from error

    def _check_times(self) -> None:
        """Compare the times of all frames with PyAV's: decord finds frames by its own, wrong in some fragmented MP4."""
        if self.num_frames < 2:
            return
        reader = PyAVReader(self.path)
        reader.close()
        assert reader.index is not None, 'a reader that seeks has an index'
        expected = np.array(reader.index.times, np.float64)
        times = self._reader.get_frame_timestamp(range(self.num_frames))[:, 0].astype(np.float64)
        # Relative to the first and last frame, because the units and the start differ.
        expected = (expected - expected[0]) / np.ptp(expected)
        times = (times - times[0]) / (np.ptp(times) or 1)  # all equal if decord does not know the end of a frame
        if np.abs(times - expected).max() > np.diff(expected).min() / 2:
            raise self._refuse('its times of the frames are different')

    def _read(self, indices: Indices) -> Frames:
        with self._explained():
            if not self._can_seek:
                return self._decode_from_start(indices)
            frames: Frames = self._reader.get_batch(indices.tolist()).asnumpy()  # (len, H, W, 3)
        self._check_shape(frames[0])
        return frames

    def _decode_from_start(self, indices: Indices) -> Frames:
        requested = set(indices.tolist())
        assert self._position <= indices[0], 'a video that is decoded from the beginning can be read only once'
        frames: list[Frames] = []
        while len(frames) < len(requested):
            # skip_frames() would be faster, but miscounts in these containers.
            frame = self._reader.next()
            if self._position == 0:
                self._check_first(frame.asnumpy())
            if self._position in requested:
                frames.append(self._check_shape(frame.asnumpy()))
            self._position += 1
        return np.stack(frames)  # (len, H, W, 3)

    def close(self) -> None:
        self._reader = None


@register_reader('opencv')
class OpenCVReader(_CheckedReader):
    """FFmpeg through OpenCV.

    It decodes every file twice from the beginning, because OpenCV's frame counts and seeks are inexact. A damaged video
    ends at the first damaged frame.
    """

    package = 'cv2'
    name = 'OpenCV'

    def __init__(self, path: str) -> None:
        super().__init__(path)
        if self._facts.is_interlaced:
            raise self._refuse('it returns black frames for interlaced videos')
        if self._facts.is_bt2020:
            raise self._refuse('it converts the colors of HDR videos (BT.2020) incorrectly')
        self._open()
        num_frames = 0
        while self._capture.grab():
            num_frames += 1
            if num_frames == 1 and self.name not in self._facts.verified:
                self._check_first(self._retrieve())
        self._check_count(num_frames)

    def _open(self) -> None:
        self._capture = cv2.VideoCapture(file_url(self.path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
        if not self._capture.isOpened():
            raise ValueError('OpenCV finds no video in the file')

    def _retrieve(self) -> Frames:
        found, image = self._capture.retrieve()
        if not found:
            raise ValueError('a frame cannot be decoded')
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)  # (H, W, 3)

    def _read(self, indices: Indices) -> Frames:
        self.close()
        self._open()
        rgb = np.empty((len(indices), *self._facts.shape), np.uint8)
        position = 0
        for number, index in enumerate(indices):
            while position <= index and self._capture.grab():
                position += 1
            if position != index + 1:
                raise ValueError(f'frame {index} cannot be decoded')
            rgb[number] = self._check_shape(self._retrieve())
        black = ~rgb.any(axis=(1, 2, 3))  # (len,)
        if black.any() and self._read_with_pyav(indices[black]).mean() > _MAX_DIFFERENCE:
            raise self._refuse('it returns black frames')
        return rgb  # (len, H, W, 3)

    def _read_with_pyav(self, indices: Indices) -> Frames:
        reader = PyAVReader(self.path)
        try:
            return reader.read(indices)
        finally:
            reader.close()

    def close(self) -> None:
        self._capture.release()


@register_reader('torchcodec')
class TorchCodecReader(_CheckedReader):
    """torchcodec, with the FFmpeg libraries of the system. Each version requires a specific version of torch.

    It applies rotation metadata. In containers without frame times it returns wrong frames, so these are rejected.
    """

    package = 'torchcodec.decoders'
    name = 'torchcodec'

    def __init__(self, path: str) -> None:
        try:
            from torchcodec.decoders import VideoDecoder
        except (OSError, RuntimeError) as error:  # torchcodec is installed, but FFmpeg is not
            raise ImportError('torchcodec cannot find the FFmpeg libraries') from error

        super().__init__(path)
        if self._facts.formats.isdisjoint(FORMATS_WITH_TIMES):
            raise self._refuse('its frames are correct only in MP4/MOV, Matroska/WebM and FLV')
        url = file_url(path)
        self._decoder: Any = VideoDecoder(url, dimension_order='NHWC', num_ffmpeg_threads=1, seek_mode='exact')
        self._check_count(len(self._decoder))
        if self.name not in self._facts.verified:
            self._check_first(np.asarray(self._decoder.get_frame_at(0).data.numpy()))

    def _read(self, indices: Indices) -> Frames:
        frames = np.asarray(self._decoder.get_frames_at(indices.tolist()).data.numpy())
        self._check_shape(frames[0])
        return frames  # (len, H, W, 3)

    def close(self) -> None:
        self._decoder = None
