"""Copies of films with the labels of their segments."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import numpy as np

from dsanet.datasets.video.readers import Frames
from dsanet.inference.annotation import draw_text, enlarge, snippet_color, write_video
from dsanet.inference.long.films import Film
from dsanet.inference.long.predictor import LongPrediction
from dsanet.inference.long.segments import Segment
from dsanet.inference.long.windows import TimedFrame

_BAR_HEIGHT = 14
_NO_LABEL = 'none'
_DEFAULT_FPS = 25.0


def annotate_film(path: str, prediction: LongPrediction, file: Path) -> None:
    """Write a copy of a film with the labels at each time above, and below a bar with all segments.

    Args:
        path: the film; it is decoded again.
        prediction: its result.
        file: MP4 file to write.

    Raises:
        ValueError: the film cannot be read.
    """
    film = Film(path)
    try:
        write_video(_annotate(film.all_frames(), prediction), file, prediction.fps or _DEFAULT_FPS)
    finally:
        film.close()


def text_at(segments: Sequence[Segment], time: Fraction) -> str:
    """Return the labels at a time in seconds, with their scores."""
    present = [segment for segment in segments if segment.start <= time < segment.end]
    return ', '.join(f'{segment.label}  {100 * segment.score:.0f}%' for segment in present) or _NO_LABEL


def draw_bar(prediction: LongPrediction, width: int) -> Frames:
    """Return a bar (H, W, 3) of all segments, in a color per label."""
    bar = np.full((_BAR_HEIGHT, width, 3), 225, np.uint8)
    labels = sorted({segment.label for segment in prediction.segments})
    for segment in prediction.segments:
        left = int(segment.start / prediction.seconds * width)
        right = max(left + 1, round(segment.end / prediction.seconds * width))
        bar[2:-2, left:right] = snippet_color(labels.index(segment.label), len(labels))
    return bar


def _annotate(frames: Iterator[TimedFrame], prediction: LongPrediction) -> Iterator[Frames]:
    heading = lru_cache(64)(draw_text)
    bar: Frames | None = None
    for frame in frames:
        assert frame.image is not None, 'all frames are decoded'
        image = enlarge(frame.image)
        width = image.shape[1]
        if bar is None:
            bar = draw_bar(prediction, width)
        position = int(float(frame.time) / prediction.seconds * width)
        marked = bar.copy()
        marked[:, max(0, position - 1) : position + 1] = 0
        yield np.concatenate([heading(text_at(prediction.segments, frame.time), width), image, marked])
