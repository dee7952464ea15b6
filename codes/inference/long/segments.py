"""Scores over time from overlapping windows, and the segments in which a class is present.

Time is divided into parts of one stride. In each part, the probability of a class is the mean over the windows that
cover the middle of the part. With a softmax model, the label of a part is the most probable class, if its probability
is at least the threshold; otherwise the part has no label. With a model for several labels (sigmoid), all classes of at
least the threshold are labels. Adjacent parts with the same label form a segment; its score is the mean probability.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from dsanet.datasets.transforms.base import check_number

Probabilities = npt.NDArray[np.float32]


@dataclass(frozen=True)
class WindowScores:
    """The result for one window.

    Args:
        start, end: seconds since the first frame.
        num_frames: number of frames.
        scores: (K,), outputs of the model averaged over the views, as for a video with these frames.
        probabilities: (K,).
    """

    start: Fraction
    end: Fraction
    num_frames: int
    scores: npt.NDArray[np.float32] = field(repr=False)
    probabilities: Probabilities = field(repr=False)


@dataclass(frozen=True)
class CurvePoint:
    """The mean probabilities (K,) of the windows at a time from ``start`` to ``end``, in seconds."""

    start: Fraction
    end: Fraction
    probabilities: Probabilities = field(repr=False)


@dataclass(frozen=True)
class Segment:
    """A time in which a class is present.

    Args:
        label: name of the class.
        start, end: seconds since the first frame.
        score: mean probability of the class from start to end.
    """

    label: str
    start: float
    end: float
    score: float

    def to_dict(self) -> dict[str, Any]:
        """Return the segment for JSON."""
        return {'label': self.label, 'start': self.start, 'end': self.end, 'score': self.score}


class ScoreCurve:
    """Averages windows that arrive in the order of their starts; keeps only those that later parts may need.

    Args:
        stride: seconds between the starts of two windows.
    """

    def __init__(self, stride: Fraction) -> None:
        self.stride = stride
        self._windows: list[WindowScores] = []
        self._next = 0  # number of the next part

    def add(self, window: WindowScores) -> list[CurvePoint]:
        """Add a window; return the parts of the curve before its start, which are final."""
        points = list(self._advance(window.start))
        self._windows.append(window)
        return points

    def finish(self) -> list[CurvePoint]:
        """Return the rest of the curve."""
        return list(self._advance(max((window.end for window in self._windows), default=Fraction(0))))

    def _advance(self, until: Fraction) -> Iterator[CurvePoint]:
        while (start := self._next * self.stride) < until:
            end = min(start + self.stride, until)
            middle = (start + end) / 2
            self._windows = [window for window in self._windows if window.end > middle]
            covering = [window.probabilities for window in self._windows if window.start <= middle]
            if covering:  # otherwise all windows were dropped, or had no frames
                yield CurvePoint(start, end, np.mean(covering, axis=0))
            elif not self._windows:
                self._next = -(-until // self.stride) - 1
            self._next += 1


class SegmentMerger:
    """Merges parts of a curve that arrive in order of time.

    Args:
        class_names: names by class number.
        threshold: smallest probability of a label.
        multi_label: whether a time may have several labels.

    Raises:
        ValueError: the threshold is not a probability.
    """

    def __init__(self, class_names: Sequence[str], threshold: float = 0.5, multi_label: bool = False) -> None:
        check_number('threshold', threshold, 0, 1)
        self.class_names = class_names
        self.threshold = threshold
        self.multi_label = multi_label
        self._open: dict[int, tuple[Fraction, Fraction, float]] = {}  # start, end, integral of the probability

    def add(self, point: CurvePoint) -> list[Segment]:
        """Add a part; return the segments that end before it."""
        labels = set(self._labels(point.probabilities))
        done = [k for k, (_, end, _) in self._open.items() if k not in labels or end != point.start]
        segments = [self._close(k) for k in done]
        for k in labels:
            start, _, integral = self._open.get(k, (point.start, point.start, 0.0))
            integral += float(point.probabilities[k]) * float(point.end - point.start)
            self._open[k] = start, point.end, integral
        return segments

    def finish(self) -> list[Segment]:
        """Return the segments that last until the end."""
        return [self._close(k) for k in list(self._open)]

    def _labels(self, probabilities: Probabilities) -> list[int]:
        if self.multi_label:
            return np.flatnonzero(probabilities >= self.threshold).tolist()
        best = int(probabilities.argmax())
        return [best] if probabilities[best] >= self.threshold else []

    def _close(self, k: int) -> Segment:
        start, end, integral = self._open.pop(k)
        return Segment(self.class_names[k], float(start), float(end), integral / float(end - start))
