"""All frames of a video in order, upright, at a constant rate: what tools convert videos with."""

import os
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from dsanet.datasets.video.readers import one_thread

# Above, a jump in the time stamps is taken for an error and not for a picture that stands still.
MAX_GAP_SECONDS = 60
# Missing time that headers may claim by mistake, as those of cut videos often do: so many seconds, or the tenth part of
# so much of the whole, up to a second.
CLAIM_TOLERANCE_SECONDS = 0.5
MAX_CLAIM_TOLERANCE_SECONDS = 1.0
# Above, a header's rate is the resolution of its time stamps.
MAX_OWN_RATE = 240


class ConstantRateReader:
    """A video's frames, as PyAV's, in the order of showing.

    At a constant rate, the frame of each moment is the last one that is due by then, give or take half a frame: of a
    video that has that rate already, every frame comes once, though its time stamps are rounded; of others, frames
    are repeated and left out so that the motion keeps its pace.

    A damaged video gives what can be decoded; a gap shows the frame before it. Afterwards ``damage`` tells. A video is
    whole if it ends up to half a second before its header says, or 5 % of its length up to a second; up to a second
    where only the whole file has a length, which may be the sound's.

    Args:
        path: the video.
        fps: frames a second; None for every frame, once, whatever its time.
        own_rate: take the video's own average for ``fps``.

    Attributes:
        rate: frames a second of what comes; the video's own average if there is no ``fps``, None if it is unknown.
        sample_aspect_ratio: width of a pixel as it is stored by its height; None if not stated.
        damage: after all frames were taken, what is wrong with the video, or None.

    Raises:
        ValueError: the file is empty, or there is no video stream, or it has no rate where one is needed, or, while
            frames are taken, the time stamps jump.
        Exception: of PyAV: the file cannot be opened.
    """

    def __init__(self, path: str, fps: Fraction | None = None, own_rate: bool = False) -> None:
        assert fps is None or not own_rate, 'either a rate or the own rate'
        import av

        if os.path.isfile(path) and not os.path.getsize(path):
            raise ValueError(f'{path} is an empty file')  # FFmpeg says "Invalid data"
        self._errors: tuple[type[Exception], ...] = (av.error.FFmpegError,)
        self._container: Any = av.open(path)
        self.damage: str | None = None
        try:
            if not self._container.streams.video:
                raise ValueError('there is no video stream in it')
            self._stream = self._container.streams.video[0]
            self._stream.thread_type = 'NONE'
            average = _fraction(self._stream.average_rate) or _fraction(self._stream.guessed_rate)
            if average is not None:
                # Containers store rates as small fractions; 1001 keeps 30000/1001 and the like.
                average = average.limit_denominator(1001) if average <= MAX_OWN_RATE else None
            if own_rate and not average:
                raise ValueError('its header gives no frame rate that can be true; choose one with --fps')
        except Exception:
            self.close()
            raise
        self._fps = average if own_rate else fps
        self.rate = self._fps or average
        self._period = 1 / average if average else Fraction(1, 25)
        self.sample_aspect_ratio = _fraction(self._stream.sample_aspect_ratio)

    def __enter__(self) -> 'ConstantRateReader':
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Free the decoder."""
        self._container.close()

    def __iter__(self) -> Iterator[Any]:
        """Yield the frames; the same object again where a frame is repeated."""
        fps = self._fps
        if fps is None:
            for frame, _, _ in self._timed():
                yield frame
            return
        # Time stamps are rounded, by as much as a whole millisecond; half of the shorter period is safe for both.
        tolerance = min(self._period, 1 / fps) / 2
        position = 0
        shown: Any = None
        end = Fraction(0)
        for frame, time, duration in self._timed():
            # Moments before this frame is due belong to the frame before it.
            while shown is not None and position / fps + tolerance <= time:
                yield shown
                position += 1
            shown, end = frame, time + duration
        num_frames = max(1, int(end * fps + Fraction(1, 2)))
        while shown is not None and position < num_frames:
            yield shown
            position += 1

    def _timed(self) -> Iterator[tuple[Any, Fraction, Fraction]]:
        """Yield each frame with its time, from 0 on and rising, and its duration, in seconds."""
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
                # Some containers stamp frames not at all, or wrongly; then they follow at the average rate.
                guess = previous + self._period
                time = stamp - first if stamp is not None and stamp - first > previous else guess
            if time - previous > MAX_GAP_SECONDS and previous >= 0:
                raise ValueError(f'its time stamps jump from {float(previous):.2f} to {float(time):.2f} seconds')
            yield frame, time, duration
        if first is None:
            raise ValueError(f'no frame of it can be decoded{f": {self.damage}" if self.damage else ""}')
        self._compare_with_claim(time + duration)

    def _decode(self) -> Iterator[tuple[Any, Fraction]]:
        """Yield what can be decoded and how long it is shown, noting the first damage."""
        packets = self._container.demux(self._stream)
        durations: dict[int, Fraction] = {}
        position = 0
        while True:
            try:
                packet = next(packets, None)
            except self._errors as error:
                self._note(f'it cannot be read on after frame {position}: {_message(error)}')
                return
            if packet is None:
                return
            if packet.is_corrupt:
                self._note(f'it is damaged behind frame {position}')
            base = _fraction(packet.time_base)
            if base and packet.pts is not None and packet.duration:
                durations[packet.pts] = packet.duration * base
            try:
                frames = packet.decode()
            except self._errors as error:
                self._note(f'something behind frame {position} cannot be decoded: {_message(error)}')
                continue
            for frame in frames:
                position += 1
                yield frame, durations.pop(frame.pts, self._period)

    def _compare_with_claim(self, seconds: Fraction) -> None:
        """Note a damage if the header promised more than there is."""
        base = _fraction(self._stream.time_base)
        tolerance = CLAIM_TOLERANCE_SECONDS
        if self._stream.duration and base:
            claim = float(self._stream.duration * base)
        else:
            claim = (self._container.duration or 0) / 1_000_000
            tolerance *= min(2, len(self._container.streams))  # the claim may be the sound's
        if claim - seconds > max(tolerance, min(claim * tolerance / 10, MAX_CLAIM_TOLERANCE_SECONDS)):
            self._note(f'it ends after {float(seconds):.2f} of {claim:.2f} seconds')

    def _note(self, damage: str) -> None:
        self.damage = self.damage or damage


def scaled_size(height: int, width: int, short_side: int | None, multiple: int = 1) -> tuple[int, int]:
    """Return the size (height, width) of a picture whose short side is made ``short_side``.

    Args:
        height, width: its size.
        short_side: pixels; smaller pictures are not enlarged. None keeps the size.
        multiple: both sides are made multiples of it, by rounding to the nearest.
    """
    scale = 1.0 if short_side is None else min(1.0, short_side / min(height, width))
    rounded = [max(1, round(side * scale / multiple)) * multiple for side in (height, width)]
    return rounded[0], rounded[1]


class Resizer:
    """Makes frames upright and small, in colors that every reader understands alike (ITU-R BT.601; from BT.709, which
    most videos in HD have, since PyAV 17 only).

    Args:
        pixel_format: FFmpeg's name of it.
        short_side: pixels, as of :func:`scaled_size`.
        multiple: of both sides.
    """

    def __init__(self, pixel_format: str, short_side: int | None, multiple: int = 1) -> None:
        from av.video.reformatter import VideoReformatter

        self._pixel_format = pixel_format
        self._short_side = short_side
        self._multiple = multiple
        self._size: tuple[int, int] | None = None
        self._threads = one_thread()
        # One each: a reformatter keeps what it set up for the size and format that it saw last.
        self._resize: Any = VideoReformatter()
        self._recode: Any = VideoReformatter()

    def __call__(self, frame: Any) -> Any:
        """Return a PyAV frame made from one; those of a video that changes its size have the size of the first."""
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
        # What begins with yuvj uses all 256 levels, as JPEG does.
        color_range = 'JPEG' if pixel_format.startswith('yuvj') else 'MPEG'
        return {'dst_colorspace': 'ITU601', 'dst_color_range': color_range} | self._threads


def parse_rate(text: str) -> Fraction:
    """Read frames a second, such as '30', '29.97' or '30000/1001'.

    Raises:
        ValueError: it is no number above 0.
    """
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if rate <= 0:
        raise ValueError(f'{text!r} is no rate; give frames a second, such as 30, 29.97 or 30000/1001')
    return rate


def _fraction(value: Any) -> Fraction | None:
    """Return a rational of PyAV as Fraction; None if unset, which older PyAV says by None and newer by 0/1."""
    if value is None or not value:
        return None
    return Fraction(value.numerator, value.denominator)


def _message(error: Exception) -> str:
    return getattr(error, 'strerror', None) or str(error)
