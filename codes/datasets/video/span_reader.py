"""Read a span of a video file, a sample of a long video, without reading the rest of the file.

The frames of a span are those with ``start <= t < end``, where t is the time in seconds since the first shown frame.
"""

from bisect import bisect_left
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from math import ceil
from typing import Any

from dsanet.datasets.video.frame_index import index_span, read_ticks, timed_frames
from dsanet.datasets.video.frame_store import Frames, PlanClips
from dsanet.datasets.video.opening import file_version, open_video
from dsanet.datasets.video.pyav_reader import PyAVReader
from dsanet.datasets.video.readers import READERS, Indices, VideoReader
from dsanet.datasets.video.remembered import remember

Span = tuple[float | None, float | None]  # start and end in seconds; None for those of the video

# Annotations are rounded: a span may end this many seconds after its video.
MAX_EXCESS = 0.1


class SpanError(ValueError):
    """A span that is outside of its video or has no frames: an error of the list, not of the file."""


def open_reader(decoder: str, path: str, span: Span | None = None) -> VideoReader:
    """Open a video, or a span of it.

    Args:
        decoder: one of ``READERS``; a span requires 'pyav'.
        path: the file.
        span: start and end in seconds; None for the whole video.

    Raises:
        SpanError: the span is outside of the video or has no frames.
    """
    if span is None:
        reader: VideoReader = READERS[decoder](path)
        return reader
    return SpanReader(path, *span)


def format_span(start: float | None, end: float | None) -> str:
    """Return a span as text, such as ``'2.5-10'``; ``'2.5-'`` without an end."""
    return f'{format_seconds(start or 0.0)}-{"" if end is None else format_seconds(end)}'


def format_seconds(seconds: float) -> str:
    """Return seconds as text, with all digits, such as ``'2.5'`` or ``'10'``."""
    return repr(float(seconds)).removesuffix('.0')


class SpanReader(PyAVReader):
    """A span of a video, whose frames are numbered from 0.

    In MP4/MOV, Matroska/WebM and FLV, it seeks to the last key frame before the span and reads to the end of the span.
    Other files are decoded from the beginning.

    Args:
        path: the file.
        start: seconds since the first shown frame; None for the first frame.
        end: the end, excluded; None for the end of the video.

    Raises:
        SpanError: the span is outside of the video, or has no frames.
        ValueError: the file does not say when its frames are shown.
    """

    def __init__(self, path: str, start: float | None, end: float | None) -> None:
        self.path = path
        first = remember('time of the first frame', path, lambda: _first_time(path))
        self._container, self._stream = open_video(path)
        try:
            self._size = (self._stream.width, self._stream.height)
            self.fps = self._find_fps()
            # Times are compared as integers, because sums of floats are not exact.
            self._start = first + _to_ticks(start or 0.0, self._stream)
            self._end = None if end is None else first + _to_ticks(end, self._stream)
            self._offset = 0  # of the first frame of the span in the index
            self.index = index_span(self._container, self._stream, first, self._start, self._end)
            if self.index is not None and self.index.first_reordered is not None and not self._shows_in_order():
                self.index = None
            if self.index is not None:
                self._offset = bisect_left(self.index.times, self._start)
                self.num_frames, last = len(self.index.times) - self._offset, self.index.times[-1]
            else:
                self.num_frames, last = _count_frames(*file_version(path), self._start, self._end)
            self._check_limits(format_span(start, end), end, last - first)
        except BaseException:
            self.close()
            raise

    def _check_limits(self, span: str, end: float | None, last: int) -> None:
        """Raise a SpanError if the span ends after the video, whose last known frame is ``last``, or has no frames."""
        rate = self._stream.average_rate
        length = float(last * self._stream.time_base + (1 / rate if rate else 0))
        length = max(length, length_in_header(self._container, self._stream) or 0.0)
        if end is not None and end > length + MAX_EXCESS:
            raise SpanError(f'the span {span} s ends after the video, which has {length:.2f} s')
        if not self.num_frames:
            raise SpanError(f'the span {span} s has no frames; the video has {length:.2f} s')

    def _collect(self, indices: Indices, plan: PlanClips | None) -> Frames:
        return super()._collect(indices + self._offset, plan)

    def _find_ticks(self) -> list[int]:
        if self.index is not None:
            return self.index.times[self._offset :]
        key = f'times of the frames from {self._start} to {self._end}'
        return remember(key, self.path, lambda: read_ticks(self.path, self._start, self._end)).tolist()

    def _decode_from_start(self, indices: Indices) -> Iterator[Any]:
        self.close()
        self._container, self._stream = open_video(self.path)
        requested = set((indices - self._offset).tolist())
        number = 0
        for time, frame in timed_frames(self._container, self._stream, self._end):
            if time < self._start:
                continue
            if self.index is not None and [time] != self.index.times[number + self._offset :][:1]:
                break
            if number in requested:
                yield frame
            number += 1
        if number != self.num_frames:
            raise ValueError(f'only the first {number} of {self.num_frames} frames can be decoded without gaps')


def length_in_header(container: Any, stream: Any) -> float | None:
    """Return the length of a video in seconds as its file states it; None if it does not."""
    lengths = [container.duration / 1e6] if container.duration else []
    if stream.duration:
        lengths.append(float(stream.duration * stream.time_base))
    return max(lengths, default=None)


def _to_ticks(seconds: float, stream: Any) -> int:
    """Return the first time of the stream that is not before ``seconds``."""
    # The decimal number as written: as a binary number, 0.28 is slightly later than the frame at 7/25 s.
    return ceil(Fraction(repr(float(seconds))) / stream.time_base)


def _first_time(path: str) -> int:
    """Return when the first frame of a video is shown."""
    container, stream = open_video(path)
    with container:
        for time, _ in timed_frames(container, stream):
            return time
    raise ValueError('no frame can be decoded')


@lru_cache(10_000)
def _count_frames(path: str, _size: int, _mtime: int, start: int, end: int | None) -> tuple[int, int]:
    """Return the number of frames from ``start`` to ``end``, and when the last frame before ``end`` is shown."""
    container, stream = open_video(path)
    number, last = 0, 0
    with container:
        stream.codec_context.options = {'skip_loop_filter': 'all'}  # pixel values are not needed
        for last, _ in timed_frames(container, stream, end):
            number += last >= start
    return number, last
