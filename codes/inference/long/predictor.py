"""Predict long videos: windows slide over a film, and their scores become a curve and segments."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from dsanet.inference.long.films import Film
from dsanet.inference.long.segments import CurvePoint, ScoreCurve, Segment, SegmentMerger, WindowScores
from dsanet.inference.long.windows import DEFAULT_WINDOW_S, Window, WindowPipeline, WindowSpec, slide
from dsanet.inference.recognizer import Recognizer
from dsanet.utils.files import check_path


@dataclass(frozen=True)
class LongPrediction:
    """The result for one film or stream, or the reason why it could not be read.

    Args:
        video: path or name.
        segments: in the order of their starts.
        curve: the probabilities over time.
        num_windows: number of windows that were predicted.
        seconds: length from the first to the end of the last frame.
        fps: frames per second; None if unknown.
        error: why there is no result; None if there is one.
    """

    video: str
    segments: list[Segment] = field(default_factory=list)
    curve: list[CurvePoint] = field(default_factory=list, repr=False)
    num_windows: int = 0
    seconds: float = 0.0
    fps: float | None = None
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the result without the curve, for JSON; a film without a result has only ``video`` and ``error``."""
        if self.error is not None:
            return {'video': self.video, 'error': self.error}
        return {
            'video': self.video,
            'seconds': self.seconds,
            'fps': self.fps,
            'num_windows': self.num_windows,
            'segments': [segment.to_dict() for segment in self.segments],
        }


class Timeline:
    """Collects the results of windows, in their order.

    Args:
        merger: makes the segments.
        spec: the windows.
        max_points: the curve keeps only this many parts, the latest ones; None for all.

    Attributes:
        segments: those that are complete.
        curve: the parts that are final.
        num_windows: number of windows.
    """

    def __init__(self, merger: SegmentMerger, spec: WindowSpec, max_points: int | None = None) -> None:
        self.segments: list[Segment] = []
        self.curve: deque[CurvePoint] = deque(maxlen=max_points)
        self.num_windows = 0
        self._merger = merger
        self._average = ScoreCurve(spec.stride)

    def add(self, window: WindowScores) -> list[CurvePoint]:
        """Add a window; return the new parts of the curve."""
        self.num_windows += 1
        return self._add_points(self._average.add(window))

    def finish(self) -> list[CurvePoint]:
        """Complete curve and segments; return the new parts of the curve."""
        points = self._add_points(self._average.finish())
        self.segments += self._merger.finish()
        self.segments.sort(key=lambda segment: (segment.start, segment.end))
        return points

    def _add_points(self, points: list[CurvePoint]) -> list[CurvePoint]:
        for point in points:
            self.segments += self._merger.add(point)
        self.curve += points
        return points

    def to_prediction(self, video: str, fps: float | None) -> LongPrediction:
        """Return the result after :meth:`finish`."""
        seconds = float(self.curve[-1].end) if self.curve else 0.0
        return LongPrediction(video, self.segments, list(self.curve), self.num_windows, seconds, fps)


def predict_long(
    recognizer: Recognizer,
    path: str | os.PathLike[str],
    window: float = DEFAULT_WINDOW_S,
    stride: float | None = None,
    threshold: float = 0.5,
    on_window: Callable[[WindowScores], object] | None = None,
) -> LongPrediction:
    """Find the actions in a film, in constant memory for frames.

    Window k covers the frames from ``k * stride`` until before ``k * stride + window`` seconds. Its scores equal, bit
    for bit, those of a video with only these frames. :mod:`dsanet.inference.long.segments` describes the segments.

    Args:
        recognizer: from ``load_recognizer``.
        path: a video file.
        window: seconds of a window; best is the usual length of the training videos.
        stride: seconds between the starts of two windows; None for half a window.
        threshold: smallest probability of a label.
        on_window: called with the result of each window, in order.

    Raises:
        ValueError: the file is not a video or has no frames, or an argument is out of range.
        FileNotFoundError: the file does not exist.
        TypeError: ``path`` is not a path.
    """
    spec = WindowSpec(window, stride)
    timeline = Timeline(make_merger(recognizer, threshold), spec)
    path = check_path(path, 'path')
    if not os.path.exists(path):
        raise FileNotFoundError(f'{os.path.abspath(path)} does not exist')
    if os.path.isdir(path):
        raise ValueError(f'{path} is a folder; a film is a video file')
    film = Film(path)
    try:
        pipeline = WindowPipeline(recognizer, path, film.fps)
        frames = film.frames(spec, pipeline.sample, pipeline.prepare)
        for result in score_windows(recognizer, pipeline, slide(frames, spec)):
            timeline.add(result)
            if on_window is not None:
                on_window(result)
    finally:
        film.close()
    timeline.finish()
    if not timeline.num_windows:
        raise ValueError(f'{path} has no frames')
    return timeline.to_prediction(path, film.fps)


def make_merger(recognizer: Recognizer, threshold: float) -> SegmentMerger:
    """Return the merger for a recognizer, which knows whether a time may have several labels."""
    return SegmentMerger(recognizer.class_names, threshold, recognizer.model.cls_head.activation == 'sigmoid')


def score_windows(
    recognizer: Recognizer, pipeline: WindowPipeline, windows: Iterable[Window]
) -> Iterator[WindowScores]:
    """Yield the results of windows, one by one, because the number of videos in a batch changes the last bits.

    Raises:
        ValueError: the scores are not finite.
    """
    for window in windows:
        scores, probabilities = recognizer.score(pipeline(window))
        if not scores.isfinite().all():
            raise ValueError(f'{pipeline.name}: the scores from {float(window.start):g} s on are not finite')
        yield WindowScores(window.start, window.end, len(window.frames), scores[0].numpy(), probabilities[0].numpy())
