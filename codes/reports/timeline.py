"""Plot the scores of a film over time, with frames above and segments below."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dsanet.data_tools.visualization import escape_math, missing_glyphs_allowed, shorten
from dsanet.datasets.video.readers import Frames
from dsanet.evaluation.detection import TrueSegment
from dsanet.inference.long.segments import CurvePoint, Segment
from dsanet.utils.files import write_atomically

_MAX_CLASSES = 8
_MAX_NAME = 40
_MINUTES_FROM_S = 600


def plot_timeline(
    curve: Sequence[CurvePoint],
    segments: Sequence[Segment],
    class_names: Sequence[str],
    threshold: float,
    title: str,
    file: Path,
    truth: Sequence[TrueSegment] = (),
    frames: Frames | None = None,
) -> None:
    """Plot the classes with the most time in segments, also annotated ones, then the most probable ones, as PNG.

    Args:
        curve: probabilities over time; a gap stays empty.
        segments: drawn as bars in the color of their class.
        class_names: names by class number.
        threshold: drawn as a line.
        title: of the plot.
        file: PNG file, written atomically.
        truth: annotated segments, outlined in the row of their class.
        frames: images (n, H, W, 3) of equal parts of the film's time, in a row above; None for no row.
    """
    from matplotlib.figure import Figure

    shown = choose_classes(curve, [*segments, *truth], class_names)
    is_long = bool(curve) and float(curve[-1].end) > _MINUTES_FROM_S
    unit = 60 if is_long else 1
    figure = Figure(figsize=(12, 4.5 + 0.2 * len(shown) + (frames is not None)))
    rows = figure.add_gridspec(3, 1, height_ratios=(0.01 if frames is None else 0.9, 3, 0.3 * max(len(shown), 1)))
    top = figure.add_subplot(rows[1])
    bottom = figure.add_subplot(rows[2], sharex=top)
    top.tick_params(labelbottom=False)
    for row, k in enumerate(shown):
        color = f'C{row}'
        edges, values = _steps(curve, k)
        top.plot(edges / unit, values, color=color, linewidth=1.2)
        spans = [(s.start / unit, (s.end - s.start) / unit) for s in segments if s.label == class_names[k]]
        bottom.broken_barh(spans, (row - 0.35, 0.7), color=color)
        known = [(s.start / unit, (s.end - s.start) / unit) for s in truth if s.label == class_names[k]]
        bottom.broken_barh(known, (row - 0.45, 0.9), facecolor='none', edgecolor='black')
    top.axhline(threshold, color='0.5', linestyle=':', linewidth=1)
    top.set_ylim(0, 1.02)
    top.set_ylabel('probability')
    top.grid(alpha=0.3)
    names = [escape_math(shorten(class_names[k], _MAX_NAME)) for k in shown]
    bottom.set_yticks(range(len(shown)), names)
    bottom.set_ylim(len(shown) - 0.4, -0.6)
    bottom.set_xlabel('minutes' if is_long else 'seconds')
    bottom.grid(alpha=0.3, axis='x')
    upper = top
    if curve:
        limits = (float(curve[0].start) / unit, float(curve[-1].end) / unit)
        bottom.set_xlim(limits)
        if frames is not None:
            upper = figure.add_subplot(rows[0], sharex=top)
            upper.imshow(np.concatenate([*frames], axis=1), extent=(*limits, 0, 1), aspect='auto')
            upper.set_axis_off()
    upper.set_title(escape_math(title))
    content = io.BytesIO()
    with missing_glyphs_allowed():
        figure.tight_layout()
        figure.savefig(content, format='png', dpi=110)
    write_atomically(content.getvalue(), file)


def choose_classes(
    curve: Sequence[CurvePoint], segments: Sequence[Segment | TrueSegment], class_names: Sequence[str]
) -> list[int]:
    """Return the classes to plot, at most eight: by time in found or annotated segments, then by probability."""
    if not curve:
        return []
    highest = np.max([point.probabilities for point in curve], axis=0)
    present = [sum(s.end - s.start for s in segments if s.label == name) for name in class_names]
    order = sorted(range(len(class_names)), key=lambda k: (-present[k], -highest[k], k))
    number_present = sum(seconds > 0 for seconds in present)
    return order[: min(_MAX_CLASSES, max(number_present, 3))]


def _steps(curve: Sequence[CurvePoint], k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the x and y values of a step curve, with NaN where time is missing."""
    x: list[float] = []
    y: list[float] = []
    for number, point in enumerate(curve):
        if number and point.start != curve[number - 1].end:
            x.append(float(point.start))
            y.append(float('nan'))
        x += [float(point.start), float(point.end)]
        y += [float(point.probabilities[k])] * 2
    return np.array(x), np.array(y)
