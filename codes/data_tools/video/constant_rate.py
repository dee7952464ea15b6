"""Read all frames of a video in order, upright and at a constant rate."""

import os
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from dsanet.datasets.video.opening import frame_rate, open_video, orientation, stores_frame_times, turn_upright

# A longer gap between timestamps is an error, not a still image.
MAX_GAP_SECONDS = 60
# Where recordings are joined, the marked packet is at most this many packets before the next recording.
_MAX_MARKED_BEFORE_JOIN = 3


class ConstantRateReader:
    """Iterate over the frames of a video, as PyAV frames in display order.

    At a constant rate, the frame at each time is the last one that is due, within half a frame. A video that has this
    rate already yields every frame once, even if its timestamps are rounded; otherwise frames are repeated or skipped,
    so that the speed of motion stays the same.

    A damaged video yields the frames that can be decoded, and the previous frame in gaps; ``damage`` is set afterward.
    A video is damaged if packets are incomplete or cannot be decoded, or if the end of the file is missing. Broadcasts
    (.ts, .mpg) may begin between key frames, and recordings may be joined; this is not damage.

    Args:
        path: the video.
        fps: frames per second; None for every frame once, regardless of its time.
        average_rate: use the average rate of the video as ``fps``.

    Attributes:
        rate: ``fps``, or the average rate of the video if it is None; None if that is unknown.
        sample_aspect_ratio: width of a stored pixel divided by its height; None if unknown.
        damage: description of the damage after all frames were read; None if there is none.

    Raises:
        ValueError: the file is empty, not a video, or has no frame rate although ``average_rate`` is set; during
            iteration: the timestamps jump and ``fps`` or ``average_rate`` is set, or no frame can be decoded.
    """

    def __init__(self, path: str, fps: Fraction | None = None, average_rate: bool = False) -> None:
        assert fps is None or not average_rate, 'fps and average_rate are mutually exclusive'
        import av

        if os.path.isfile(path) and not os.path.getsize(path):
            raise ValueError(f'{path} is empty')  # clearer than the message of FFmpeg
        self._errors: tuple[type[Exception], ...] = (av.error.FFmpegError,)
        self._path = path
        self._container, self._stream = open_video(path)
        self.damage: str | None = None
        try:
            self._is_avi = self._container.format.name == 'avi'
            average = frame_rate(self._container, self._stream)
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
            # AVI stores no timestamps of B-frames, and FFmpeg's guesses are wrong.
            ticks = frame.dts if self._is_avi else frame.pts
            stamp = None if ticks is None or base is None else ticks * base
            previous = time
            if first is None:
                first, time = stamp or Fraction(0), Fraction(0)
            else:
                # Frames with a missing or wrong timestamp follow at the average rate.
                guess = previous + self._period
                time = stamp - first if stamp is not None and stamp - first > previous else guess
            if self._fps is not None and time - previous > MAX_GAP_SECONDS and previous >= 0:
                raise ValueError(f'timestamps jump from {float(previous):.2f} to {float(time):.2f} seconds')
            yield frame, time, duration
        if first is None:
            raise ValueError(f'no frame can be decoded{f": {self.damage}" if self.damage else ""}')

    def _decode(self) -> Iterator[tuple[Any, Fraction]]:
        """Yield the frames that can be decoded and their durations; record the first damage."""
        packets = self._container.demux()
        durations: dict[int, Fraction] = {}
        num_packets, position, end = 0, 0, Fraction(0)
        suspected: tuple[int, str] | None = None
        previous: Fraction | None = None
        has_begun = stores_frame_times(self._container)
        while True:
            try:
                packet = next(packets, None)
            except self._errors as error:
                self._add_damage(f'cannot read after frame {position}: {_message(error)}')
                return
            if packet is None:
                break
            base = _fraction(packet.time_base)
            if base and packet.pts is not None:
                end = max(end, (packet.pts + (packet.duration or 0)) * base)
            if packet.stream is not self._stream:
                continue
            time = None if base is None or packet.dts is None else packet.dts * base
            if packet.is_keyframe and _jumps(previous, time):
                suspected = None  # two joined recordings: FFmpeg marks the end of the first one as damaged
            if packet.is_corrupt and suspected is None:
                suspected = num_packets, f'damaged after frame {position}'
            if suspected is not None and num_packets - suspected[0] > _MAX_MARKED_BEFORE_JOIN:
                self._add_damage(suspected[1])
            previous = time
            num_packets += packet.size > 0
            has_begun |= packet.is_keyframe
            if base and packet.pts is not None and packet.duration:
                durations[packet.pts] = packet.duration * base
            try:
                frames = packet.decode()
            except self._errors as error:
                if has_begun:
                    failed = f'cannot decode after frame {position}: {_message(error)}'
                    self._add_damage(failed if suspected is None else suspected[1])
                continue
            for frame in frames:
                if position or not frame.is_corrupt:  # as in decode_all()
                    position += 1
                    yield frame, durations.pop(frame.pts, self._period)
        if suspected is not None:
            self._add_damage(suspected[1])
        self._check_end(num_packets, end)

    def _check_end(self, num_packets: int, end: Fraction) -> None:
        """Record damage if the end of the file is missing.

        Args:
            num_packets: number of packets of the video.
            end: when the last packet of any stream ends, in seconds.
        """
        formats = self._container.format.name.split(',')
        if 'mov' in formats:
            expected = sum(entry.size > 0 for entry in self._stream.index_entries)
            if num_packets < expected:
                self._add_damage(f'ends after frame {num_packets} of {expected}')
        if 'matroska' in formats and _is_shortened_matroska(self._path):
            # Only the index may be missing, so the duration is compared, too. It counts from 0 or from the start time.
            duration = Fraction(self._container.duration or 0, 1_000_000)
            start = Fraction(self._container.start_time or 0, 1_000_000)
            seconds = end if duration > start else end - start
            if not duration or seconds + self._period / 2 < duration:
                self._add_damage(f'ends after {float(seconds):.2f} of {float(duration):.2f} seconds')

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
        # Two, because a reformatter caches the setup for one size and format.
        self._resize: Any = VideoReformatter()
        self._recode: Any = VideoReformatter()

    def __call__(self, frame: Any) -> Any:
        """Return the converted PyAV frame; all frames have the size of the first one, even if the video changes it."""
        import av

        if self._size is None:
            self._size = scaled_size(frame.height, frame.width, self._short_side, self._multiple)
        height, width = self._size
        is_turned = any(orientation(frame))
        pixel_format = 'rgb24' if is_turned else self._pixel_format
        size = {'width': width, 'height': height, 'interpolation': 'BICUBIC'}
        original = frame
        frame = self._resize.reformat(frame, format=pixel_format, **size, **_colors(pixel_format), threads=1)
        if is_turned:
            upright = np.ascontiguousarray(turn_upright(frame.to_ndarray(), original))
            frame = av.VideoFrame.from_ndarray(upright, format='rgb24')
            frame = self._recode.reformat(frame, format=self._pixel_format, **_colors(self._pixel_format), threads=1)
        return frame


def _colors(pixel_format: str) -> dict[str, str]:
    """Return the color space and the range of a format, as arguments of ``reformat``."""
    if not pixel_format.startswith('yuv'):
        return {}
    # Formats that start with yuvj use all 256 levels, like JPEG.
    return {'dst_colorspace': 'ITU601', 'dst_color_range': 'JPEG' if pixel_format.startswith('yuvj') else 'MPEG'}


def parse_rate(text: str) -> Fraction:
    """Parse a frame rate such as '30', '29.97' or '30000/1001'."""
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if rate <= 0:
        raise ValueError(f'invalid frame rate {text!r}; use frames per second, such as 30, 29.97 or 30000/1001')
    return rate


def _is_shortened_matroska(path: str) -> bool:
    """Return True if a Matroska file is shorter than its header says; False if unknown, as in live recordings."""
    with open(path, 'rb') as file:
        for _ in range(2):  # the EBML header, then the segment, which is the rest of the file
            file.read(4)  # their ids
            first = file.read(1)
            length = 9 - first[0].bit_length() if first and first[0] else 1
            value = int.from_bytes(first + file.read(length - 1), 'big') - (1 << 7 * length)
            if value == (1 << 7 * length) - 1:  # unknown
                return False
            end = file.tell() + value
            file.seek(end)
    return end > os.path.getsize(path)


def _jumps(previous: Fraction | None, time: Fraction | None) -> bool:
    """Return True if the second of two decoding times is earlier, or more than a second later."""
    return previous is not None and time is not None and not 0 <= time - previous <= 1


def _fraction(value: Any) -> Fraction | None:
    """Convert a PyAV rational to Fraction; None if unset, which is None in older and 0/1 in newer versions of PyAV."""
    if value is None or not value:
        return None
    return Fraction(value.numerator, value.denominator)


def _message(error: Exception) -> str:
    return getattr(error, 'strerror', None) or str(error)
