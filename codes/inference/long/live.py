"""Predict a stream: the windows of a camera, pipe or network stream as they arrive."""

import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from dsanet.inference.long.predictor import score_windows
from dsanet.inference.long.segments import WindowScores
from dsanet.inference.long.streams import LiveWindows, describe_error, open_stream, stream_name
from dsanet.inference.long.windows import DEFAULT_WINDOW_S, Window, WindowPipeline, WindowSpec
from dsanet.inference.recognizer import Recognizer

_MAX_LATENCIES = 100_000


@dataclass
class StreamStats:
    """What happened to the frames of a stream.

    Attributes:
        num_frames: frames that arrived.
        num_unseen_frames: those that no predicted window covers: of dropped windows, and after the last window.
        num_windows: windows that were predicted.
        num_dropped_windows: windows that were dropped because the model was busy.
        latencies: seconds from the arrival of a window's last frame to its result, of the latest windows.
    """

    num_frames: int = 0
    num_unseen_frames: int = 0
    num_windows: int = 0
    num_dropped_windows: int = 0
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=_MAX_LATENCIES), repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers for JSON, with the median and largest latency."""
        known = bool(self.latencies)
        return {
            'num_frames': self.num_frames,
            'num_unseen_frames': self.num_unseen_frames,
            'num_windows': self.num_windows,
            'num_dropped_windows': self.num_dropped_windows,
            'latency_median': statistics.median(self.latencies) if known else None,
            'latency_max': max(self.latencies) if known else None,
        }


class StreamPredictor:
    """Predicts the windows of a stream. Iterate over it once, for the result of each window as it arrives.

    Args:
        recognizer: from ``load_recognizer``.
        source: '-' for standard input, a device such as /dev/video0, a named pipe, or a URL.
        window, stride: as for ``predict_long``.
        allow_urls: read from the network.
        should_stop: called several times per second; the iteration ends after the current window if it returns True.

    Attributes:
        name: of the stream, without a password.
        spec: the windows.
        fps: nominal frames per second; None if unknown.
        stats: numbers up to now.

    Raises:
        ValueError, FileNotFoundError: the source cannot be opened, or an argument is out of range.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        source: str,
        window: float = DEFAULT_WINDOW_S,
        stride: float | None = None,
        allow_urls: bool = False,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        self.name = stream_name(source)
        self.spec = WindowSpec(window, stride)
        self.stats = StreamStats()
        begin = time.monotonic()
        container = open_stream(source, allow_urls)
        rate = container.streams.video[0].average_rate
        self.fps = float(rate) if rate else None
        self._recognizer = recognizer
        self._pipeline = WindowPipeline(recognizer, self.name, self.fps)
        self._windows = LiveWindows(container, self.spec, self._pipeline.prepare, should_stop, begin)
        self._num_seen = 0  # frames in predicted windows
        self._next_frame = 0  # number of the first frame after them

    def __iter__(self) -> Iterator[WindowScores]:
        """Yield the results until the stream ends or is stopped.

        Raises:
            ValueError: the stream ends with an error, or has no frames.
        """
        arrivals: list[float] = []
        try:
            for result in score_windows(self._recognizer, self._pipeline, self._note(arrivals)):
                self.stats.latencies.append(time.monotonic() - arrivals.pop())
                self.stats.num_windows += 1
                self._count()
                yield result
        finally:
            self._windows.close()
            self._count()
        if self._windows.error is not None:
            raise ValueError(
                f'stream {self.name} ended: {describe_error(self._windows.error, self.stats.num_frames > 0)}'
            ) from self._windows.error
        if not self.stats.num_frames:
            raise ValueError(f'stream {self.name} ended without a frame')

    def _note(self, arrivals: list[float]) -> Iterator[Window]:
        """Yield the windows; note when their last frame arrived, and how many frames they add."""
        for window in self._windows:
            arrivals.append(window.frames[-1].arrival)
            end = window.first_frame + len(window.frames)
            self._num_seen += end - max(window.first_frame, self._next_frame)
            self._next_frame = end
            yield window

    def _count(self) -> None:
        self.stats.num_frames = self._windows.num_frames
        self.stats.num_dropped_windows = self._windows.num_dropped_windows
        self.stats.num_unseen_frames = self.stats.num_frames - self._num_seen
