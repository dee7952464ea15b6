"""Windows that slide over the frames of a film or stream, cut exactly at times in seconds."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
from torch import Tensor

from dsanet.config.registry import TRANSFORMS, build
from dsanet.datasets.transforms.base import check_number
from dsanet.datasets.video.readers import Frames, FrameTimes, Indices, VideoReader
from dsanet.inference.pipelines import build_pipeline, complete_record
from dsanet.inference.recognizer import Recognizer

DEFAULT_WINDOW_S = 4.0
_MIN_SECONDS = 0.001  # shorter than any frame; the curve has a part for each stride
_MAX_SECONDS = 1e6
_FALLBACK_FPS = 25


def exact_seconds(value: float) -> Fraction:
    """Return the decimal number that a float is written as, so that 3 * 0.4 s is not a little more than 1.2 s."""
    return Fraction(str(value))


@dataclass(frozen=True, init=False)
class WindowSpec:
    """Window k covers the frames shown from ``k * stride`` until before ``k * stride + length`` seconds.

    Args:
        length: seconds of a window.
        stride: seconds between the starts of two windows; None for half a window.

    Raises:
        ValueError: a number is not from 0.001 to 1e6, or the stride is larger than a window, so that frames would be
            skipped.
    """

    length: Fraction
    stride: Fraction

    def __init__(self, length: float = DEFAULT_WINDOW_S, stride: float | None = None) -> None:
        for name, value in (('window', length), ('stride', stride)):
            if value is not None:
                check_number(name, value, _MIN_SECONDS, _MAX_SECONDS)
        object.__setattr__(self, 'length', exact_seconds(length))
        object.__setattr__(self, 'stride', self.length / 2 if stride is None else exact_seconds(stride))
        if self.stride > self.length:
            raise ValueError(
                f'stride={float(self.stride):g} s must not be larger than window={float(self.length):g} s: '
                'the frames between two windows would be skipped'
            )


@dataclass(frozen=True)
class TimedFrame:
    """A frame of a film or stream.

    Args:
        time: seconds since the first frame.
        image: (H, W, 3); None if it is not needed.
        arrival: when it was decoded, ``time.monotonic()``.
    """

    time: Fraction
    image: Frames | None = field(default=None, repr=False)
    arrival: float = 0.0


@dataclass(frozen=True)
class Window:
    """Some consecutive frames.

    Args:
        start, end: seconds since the first frame; the last window ends with the film.
        first_frame: number of its first frame.
        frames: all frames with ``start <= time < end``.
        is_last: whether it contains the last frame.
    """

    start: Fraction
    end: Fraction
    first_frame: int
    frames: tuple[TimedFrame, ...] = field(repr=False)
    is_last: bool = False


def slide(frames: Iterable[TimedFrame], spec: WindowSpec) -> Iterator[Window]:
    """Yield the windows over frames in the order of their times, each as soon as a frame after it arrives.

    Only the frames of the current window are kept. The last window is the first one that contains the last frame; it
    is longer than ``length - stride`` unless the film is shorter. Windows without frames, in gaps, are skipped.
    """
    kept: deque[TimedFrame] = deque()
    first_frame = 0  # number of the first kept frame
    number = 0
    start, end = Fraction(0), spec.length
    last_time, num_frames = Fraction(0), 0
    for frame in frames:
        while frame.time >= end:
            if kept:
                yield Window(start, end, first_frame, tuple(kept))
                number += 1
            else:  # the first window that contains the frame
                number = max(number + 1, (frame.time - spec.length) // spec.stride + 1)
            start = number * spec.stride
            end = start + spec.length
            while kept and kept[0].time < start:
                kept.popleft()
                first_frame += 1
        kept.append(frame)
        last_time, num_frames = frame.time, num_frames + 1
    if kept:
        distance = last_time / (num_frames - 1) if num_frames > 1 else Fraction(1, _FALLBACK_FPS)
        yield Window(start, min(end, last_time + distance), first_frame, tuple(kept), is_last=True)


class WindowReader(VideoReader):
    """The frames of a window, as an open video."""

    package = 'numpy'

    def __init__(self, frames: tuple[TimedFrame, ...], fps: float | None, name: str) -> None:
        self.path = name
        self.fps = fps
        self.num_frames = len(frames)
        self._frames = frames

    def _read(self, indices: Indices) -> Frames:
        images = [self._frames[i].image for i in indices.tolist()]
        assert all(image is not None for image in images), 'all frames of the plan are decoded'
        return np.stack(images)  # (len, H, W, 3)

    def _find_times(self) -> FrameTimes:
        return np.array([float(frame.time - self._frames[0].time) for frame in self._frames])

    def close(self) -> None:
        pass


class WindowPipeline:
    """The pipeline of a recognizer for windows, with the same result as for the frames of a window alone.

    A frame belongs to several windows. Steps that treat each frame separately, which is Resize, are therefore applied
    once per frame, by :meth:`prepare`; this also bounds the memory for frames that wait for the end of their window.

    Args:
        recognizer: its pipeline is used.
        name: of the film or stream, for messages.
        fps: its frames per second; None if unknown.
    """

    def __init__(self, recognizer: Recognizer, name: str, fps: float | None = None) -> None:
        self.name = name
        self.fps = fps
        steps = list(recognizer.steps)
        decoding = next(i for i, step in enumerate(steps) if step['type'] in ('DecodeVideo', 'DecodeRawFrames'))
        self._frame_steps = []
        while decoding + 1 < len(steps) and steps[decoding + 1]['type'] == 'Resize':
            self._frame_steps.append(build(steps.pop(decoding + 1), TRANSFORMS))
        self._pipeline = build_pipeline(steps, 'array')
        names = [i for i, step in enumerate(self._pipeline.transforms) if 'frame_indices' in step.provides]
        self._sampling = self._pipeline.transforms[: names[0] + 1]
        self._times_matter = 'fps' in self._sampling[-1].requires
        self._sample_number = cache(lambda number: self._sample(tuple(TimedFrame(Fraction(i)) for i in range(number))))

    def prepare(self, image: Frames) -> Frames:
        """Return a decoded frame (H, W, 3) as the windows keep it."""
        record: dict[str, Any] = {'frames': image[None]}
        for step in self._frame_steps:
            record = step(record)
        prepared: Frames = record['frames'][0]  # (H, W, 3)
        return prepared

    def sample(self, window: Window) -> Indices:
        """Return the frames of a window that the network sees: distinct, ascending; their images are not needed."""
        return self._sample(window.frames) if self._times_matter else self._sample_number(len(window.frames))

    def _sample(self, frames: tuple[TimedFrame, ...]) -> Indices:
        record = self._record(frames)
        for step in self._sampling:
            record = step(record)
        return np.unique(record['frame_indices'])

    def __call__(self, window: Window) -> Tensor:
        """Return the input of the model, uint8 (N, V, U, C, T, H, W) with N = 1."""
        inputs: Tensor = self._pipeline(self._record(window.frames))['inputs']
        return inputs[None]  # (1, V, U, C, T, H, W)

    def _record(self, frames: tuple[TimedFrame, ...]) -> dict[str, Any]:
        reader = WindowReader(frames, self.fps, self.name)
        record = {'path': self.name, 'reader': reader, 'num_frames': reader.num_frames, 'fps': self.fps}
        complete_record(record)
        return record
