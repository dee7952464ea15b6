"""The frames of a film with their times, each decoded once and only if a window needs it, in constant memory."""

import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from dsanet.data_tools.visualization import fit_into
from dsanet.datasets.video.frame_index import FrameIndex
from dsanet.datasets.video.opening import decode_all, frame_rate, open_video, stores_frame_times
from dsanet.datasets.video.picture import FrameConverter
from dsanet.datasets.video.pyav_reader import PyAVReader
from dsanet.datasets.video.readers import Frames, Indices
from dsanet.inference.long.windows import TimedFrame, Window, WindowSpec, slide

_DEFAULT_FPS = 25
_STRIP_SIZE = 128  # pixels of a frame in a strip
_ROUNDING_S = 1e-6


class FrameClock:
    """Seconds since the first frame, for frames that are decoded one after another.

    A time that is missing or not later than the previous one, as after a restart of a camera, is replaced by that of
    the next frame at the nominal rate, and later times continue from there.

    Args:
        rate: nominal frames per second; None if unknown.
    """

    def __init__(self, rate: Fraction | None) -> None:
        self._distance = 1 / Fraction(rate or _DEFAULT_FPS)
        self._offset = Fraction(0)  # difference between our times and those of the frames
        self._previous: Fraction | None = None

    def __call__(self, frame: Any) -> Fraction:
        """Return the time of a PyAV frame."""
        stored = None if frame.pts is None else frame.pts * Fraction(frame.time_base)
        if self._previous is None:
            result = Fraction(0)
        elif stored is not None and stored + self._offset > self._previous:
            result = stored + self._offset
        else:
            result = self._previous + self._distance
        if stored is not None:
            self._offset = result - stored
        self._previous = result
        return result


class Film:
    """A video file that is read once, from its first to its last frame.

    Args:
        path: the file.

    Attributes:
        fps: average number of frames per second; None if unknown.

    Raises:
        ValueError: the file is not a video, or has no frames.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        container, stream = open_video(path)
        with container:
            has_times = stores_frame_times(container)
            self._rate, self._time_base = frame_rate(container, stream), Fraction(stream.time_base or 1)
        # Other formats have no index, and PyAVReader would decode them completely to count their frames.
        self._reader = PyAVReader(path) if has_times else None
        self.fps = float(self._rate) if self._rate else None
        if self._reader is not None and self._reader.num_frames < 1:
            raise ValueError(f'{path} has no frames')

    def frames(
        self, spec: WindowSpec, sample: Callable[[Window], Indices], prepare: Callable[[Frames], Frames]
    ) -> Iterator[TimedFrame]:
        """Yield all frames; only those that a window needs are certain to have an image.

        Args:
            spec: the windows.
            sample: returns the frames that are needed of a window, without their images.
            prepare: applied to each decoded frame.
        """
        if self._reader is None or self._reader.index is None:
            yield from self._decode_all(prepare)
            return
        times = self._times(self._reader.index)
        needed = np.zeros(len(times), bool)
        for window in slide(map(TimedFrame, times), spec):
            needed[window.first_frame + sample(window)] = True
        images = self._reader.read_one_by_one(np.flatnonzero(needed))
        for frame_time, is_needed in zip(times, needed.tolist(), strict=True):
            image = prepare(np.ascontiguousarray(next(images))) if is_needed else None
            yield TimedFrame(frame_time, image, time.monotonic())

    def all_frames(self) -> Iterator[TimedFrame]:
        """Yield all frames with their images."""
        if self._reader is None or self._reader.index is None:
            yield from self._decode_all(lambda image: image)
            return
        times = self._times(self._reader.index)
        images = self._reader.read_one_by_one(np.arange(len(times)))
        yield from map(TimedFrame, times, images)

    def _times(self, index: FrameIndex) -> list[Fraction]:
        """Return the seconds from the first frame to each frame."""
        return [(pts - index.times[0]) * self._time_base for pts in index.times]

    def _decode_all(self, prepare: Callable[[Frames], Frames]) -> Iterator[TimedFrame]:
        container, stream = open_video(self.path)
        with container:
            clock, convert = FrameClock(self._rate), FrameConverter()
            for frame in decode_all(container, stream):
                yield TimedFrame(clock(frame), prepare(np.ascontiguousarray(convert(frame))), time.monotonic())

    def close(self) -> None:
        """Close the file."""
        if self._reader is not None:
            self._reader.close()


def read_strip(path: str, number: int = 12) -> Frames | None:
    """Return small frames (at most ``number``, S, S, 3) of a film, each from the middle of a part of its time.

    The parts have equal length. White borders make the frames square without distorting them. None for a format without
    an index, which would have to be decoded completely.
    """
    container, _ = open_video(path)
    with container:
        if not stores_frame_times(container):
            return None
    reader = PyAVReader(path)
    try:
        fps = reader.fps or _DEFAULT_FPS
        times = reader.frame_times
        number = min(number, len(times))
        moments = (np.arange(number) + 0.5) * (times[-1] + 1 / fps) / number
        shown = np.searchsorted(times, moments + _ROUNDING_S, side='right') - 1
        indices, places = np.unique(shown, return_inverse=True)
        images = [fit_into(image, _STRIP_SIZE, _STRIP_SIZE, 255) for image in reader.read_one_by_one(indices)]
        return np.stack(images)[places]  # (number, S, S, 3)
    finally:
        reader.close()
