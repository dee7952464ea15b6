"""Read all frames of a video in order, upright and at a constant rate."""

import os
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from dsanet.datasets.video.readers import one_thread

# A longer gap between timestamps is an error, not a still image.
MAX_GAP_SECONDS = 60
# The header of a cut video is often too long. Tolerated: this many seconds, or 5% of the length up to the maximum.
LENGTH_TOLERANCE_SECONDS = 0.5
MAX_LENGTH_TOLERANCE_SECONDS = 1.0
# A higher frame rate in the header is the resolution of its timestamps.
MAX_AVERAGE_RATE = 240


class ConstantRateReader:
    """Iterate over the frames of a video, as PyAV frames in display order.

    At a constant rate, the frame at each time is the last one that is due, within half a frame. A video that has this
    rate already yields every frame once, even if its timestamps are rounded; otherwise frames are repeated or skipped,
    so that the speed of motion stays the same.

    A damaged video yields the frames that can be decoded, and the previous frame in gaps; ``damage`` is set afterward.
    A video is also damaged if its header claims a longer duration: by more than half a second and 5% of the duration
    (at most one second), or by more than one second if the duration is of the file, which may be that of the audio.

    Args:
        path: the video.
        fps: frames per second; None for every frame once, regardless of its time.
        average_rate: use the average rate of the video as ``fps``.

    Attributes:
        rate: ``fps``, or the average rate of the video if it is None; None if that is unknown.
        sample_aspect_ratio: width of a stored pixel divided by its height; None if unknown.
        damage: description of the damage after all frames were read; None if there is none.

    Raises:
        ValueError: the file is empty, has no video stream, or no frame rate although ``average_rate`` is set; during
            iteration: the timestamps jump, or no frame can be decoded.
        Exception: PyAV cannot open the file.
    """

    def __init__(self, path: str, fps: Fraction | None = None, average_rate: bool = False) -> None:
        assert fps is None or not average_rate, 'fps and average_rate are mutually exclusive'
        import av

        if os.path.isfile(path) and not os.path.getsize(path):
            raise ValueError(f'{path} is empty')  # clearer than the message of FFmpeg
        self._errors: tuple[type[Exception], ...] = (av.error.FFmpegError,)
        self._container: Any = av.open(path)
        self.damage: str | None = None
        try:
            if not self._container.streams.video:
                raise ValueError('the file has no video stream')
            self._stream = self._container.streams.video[0]
            self._stream.thread_type = 'NONE'
            average = _fraction(self._stream.average_rate) or _fraction(self._stream.guessed_rate)
            if average is not None:
                # Rates are small fractions; 1001 keeps rates such as 30000/1001.
                average = average.limit_denominator(1001) if average <= MAX_AVERAGE_RATE else None
            if average_rate and not average:
                raise ValueError('the header has no valid frame rate; set one with --fps')
        except Exception:
            self.close()
            raise
        self._fps = average if average_rate else fps
        self.rate = self._fps or average
        self._period = 1 / average if average else Fraction(1, 25)
        self.sample_aspect_ratio = _fraction(self._stream.sample_aspect_ratio)

    def __enter__(self) -> 'ConstantRateReader':
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and free the decoder."""
        self._container.close()

    def __iter__(self) -> Iterator[Any]:
        """Yield the frames; a repeated frame is the same object."""
        fps = self._fps
        if fps is None:
            for frame, _, _ in self._timed():
                yield frame
            return
        # Timestamps may be rounded to milliseconds; half of the shorter period is a safe tolerance.
        tolerance = min(self._period, 1 / fps) / 2
        position = 0
        current: Any = None
        end = Fraction(0)
        for frame, time, duration in self._timed():
            # Repeat the previous frame until this one is due.
            while current is not None and position / fps + tolerance <= time:
                yield current
                position += 1
            current, end = frame, time + duration
        num_frames = max(1, int(end * fps + Fraction(1, 2)))
        while current is not None and position < num_frames:
            yield current
            position += 1

    def _timed(self) -> Iterator[tuple[Any, Fraction, Fraction]]:
        """Yield each frame with its time, increasing from 0, and its duration in seconds."""
        first: Fraction | None = None
        time = Fraction(-1)
        duration = self._period
        for frame, duration in self._decode():
            base = _fraction(frame.time_base) or _fraction(self._stream.time_base)
            stamp = None if frame.pts is None or base is None else frame.pts * base
            previous = time
            if first is None:
                first, time = stamp or Fraction(0), Fraction(0)
            else:
                # Frames with a missing or wrong timestamp follow at the average rate.
                guess = previous + self._period
                time = stamp - first if stamp is not None and stamp - first > previous else guess
            if time - previous > MAX_GAP_SECONDS and previous >= 0:
                raise ValueError(f'timestamps jump from {float(previous):.2f} to {float(time):.2f} seconds')
            yield frame, time, duration
        if first is None:
            raise ValueError(f'no frame can be decoded{f": {self.damage}" if self.damage else ""}')
        self._check_length(time + duration)

    def _decode(self) -> Iterator[tuple[Any, Fraction]]:
        """Yield the frames that can be decoded and their durations; record the first damage."""
        packets = self._container.demux(self._stream)
        durations: dict[int, Fraction] = {}
        position = 0
        while True:
            try:
                packet = next(packets, None)
            except self._errors as error:
                self._add_damage(f'cannot read after frame {position}: {_message(error)}')
                return
            if packet is None:
                return
            if packet.is_corrupt:
                self._add_damage(f'damaged after frame {position}')
            base = _fraction(packet.time_base)
            if base and packet.pts is not None and packet.duration:
                durations[packet.pts] = packet.duration * base
            try:
                frames = packet.decode()
            except self._errors as error:
                self._add_damage(f'cannot decode after frame {position}: {_message(error)}')
                continue
            for frame in frames:
                position += 1
                yield frame, durations.pop(frame.pts, self._period)

    def _check_length(self, seconds: Fraction) -> None:
        """Record damage if the video is shorter than its header says."""
        base = _fraction(self._stream.time_base)
        tolerance = LENGTH_TOLERANCE_SECONDS
        if self._stream.duration and base:
            expected = float(self._stream.duration * base)
        else:
            expected = (self._container.duration or 0) / 1_000_000
            tolerance *= min(2, len(self._container.streams))  # may be the length of the audio
        if expected - seconds > max(tolerance, min(expected * tolerance / 10, MAX_LENGTH_TOLERANCE_SECONDS)):
            self._add_damage(f'ends after {float(seconds):.2f} of {expected:.2f} seconds')

    def _add_damage(self, damage: str) -> None:
        self.damage = self.damage or damage


def scaled_size(height: int, width: int, short_side: int | None, multiple: int = 1) -> tuple[int, int]:
    """Return the size (height, width) after resizing the shorter side to ``short_side``.

    Args:
        height, width: original size.
        short_side: size in pixels; smaller frames keep their size. None keeps the size.
        multiple: both sides are rounded to the nearest multiple.
    """
    scale = 1.0 if short_side is None else min(1.0, short_side / min(height, width))
    rounded = [max(1, round(side * scale / multiple)) * multiple for side in (height, width)]
    return rounded[0], rounded[1]


class Resizer:
    """Rotate frames upright, resize them and convert colors to ITU-R BT.601, which every decoder reads correctly.

    PyAV before 17 does not convert from BT.709, which most HD videos use.

    Args:
        pixel_format: FFmpeg name of the output format.
        short_side, multiple: see :func:`scaled_size`.
    """

    def __init__(self, pixel_format: str, short_side: int | None, multiple: int = 1) -> None:
        from av.video.reformatter import VideoReformatter

        self._pixel_format = pixel_format
        self._short_side = short_side
        self._multiple = multiple
        self._size: tuple[int, int] | None = None
        self._threads = one_thread()
        # Two, because a reformatter caches the setup for one size and format.
        self._resize: Any = VideoReformatter()
        self._recode: Any = VideoReformatter()

    def __call__(self, frame: Any) -> Any:
        """Return the converted PyAV frame; all frames have the size of the first one, even if the video changes it."""
        import av

        if self._size is None:
            self._size = scaled_size(frame.height, frame.width, self._short_side, self._multiple)
        height, width = self._size
        quarter_turns = frame.rotation // 90
        pixel_format = 'rgb24' if quarter_turns else self._pixel_format
        size = {'width': width, 'height': height, 'interpolation': 'BICUBIC'}
        frame = self._resize.reformat(frame, format=pixel_format, **size, **self._colors(pixel_format))
        if quarter_turns:
            upright = np.ascontiguousarray(np.rot90(frame.to_ndarray(), quarter_turns))
            frame = av.VideoFrame.from_ndarray(upright, format='rgb24')
            frame = self._recode.reformat(frame, format=self._pixel_format, **self._colors(self._pixel_format))
        return frame

    def _colors(self, pixel_format: str) -> dict[str, Any]:
        if not pixel_format.startswith('yuv'):
            return self._threads
        # Formats that start with yuvj use all 256 levels, like JPEG.
        color_range = 'JPEG' if pixel_format.startswith('yuvj') else 'MPEG'
        return {'dst_colorspace': 'ITU601', 'dst_color_range': color_range} | self._threads


def parse_rate(text: str) -> Fraction:
    """Parse a frame rate such as '30', '29.97' or '30000/1001'."""
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if rate <= 0:
        raise ValueError(f'invalid frame rate {text!r}; use frames per second, such as 30, 29.97 or 30000/1001')
    return rate


def _fraction(value: Any) -> Fraction | None:
    """Convert a PyAV rational to Fraction; None if unset, which is None in older and 0/1 in newer versions of PyAV."""
    if value is None or not value:
        return None
    return Fraction(value.numerator, value.denominator)


def _message(error: Exception) -> str:
    return getattr(error, 'strerror', None) or str(error)
