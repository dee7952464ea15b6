"""Charts as inline SVG, which is sharp at each size and takes its colors from the style of the page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsanet.reports.html_parts import html_text

WIDTH, HEIGHT = 440, 260
LEFT, RIGHT, TOP, BOTTOM = 56, 10, 12, 40
MAX_POINTS = 300  # per line; more than a chart has room for
NUM_STYLES = 8  # styles of lines in the style sheet


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Args:
        name: shown when the pointer rests on the line.
        style: number of its color and dashes.
        points: (x, y), with finite y.
        band: (x, lowest y, highest y) of an area around the line; empty for none.
    """

    name: str
    style: int
    points: Sequence[tuple[float, float]]
    band: Sequence[tuple[float, float, float]] = ()


def ticks(low: float, high: float, number: int = 5) -> list[float]:
    """Return about ``number`` round values from ``low`` to ``high``."""
    span = high - low
    raw = span / number
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def thin_out(points: Sequence[tuple[float, ...]]) -> list[tuple[float, ...]]:
    """Return at most ``MAX_POINTS`` points, evenly spaced by number, with the first and the last one."""
    if len(points) <= MAX_POINTS:
        return list(points)
    return [points[round(i * (len(points) - 1) / (MAX_POINTS - 1))] for i in range(MAX_POINTS)]


def draw_lines(lines: Sequence[Line], title: str, x_label: str) -> str:
    """Return a line chart as SVG.

    Args:
        lines: at least one of them has a point.
        title: text for screen readers.
        x_label: label of the horizontal axis.
    """
    ys = [y for line in lines for _, y in line.points] + [y for line in lines for row in line.band for y in row[1:]]
    xs = [x for line in lines for x, _ in line.points]
    low, high = min(ys), max(ys)
    margin = (high - low) * 0.04 or abs(high) * 0.1 or 1.0
    bottom, top = (0.0 if 0 <= low < (high - low) * 0.5 else low - margin), high + margin
    left, right = min(xs), max(max(xs), min(xs) + 1)

    def place_x(x: float) -> float:
        return LEFT + (x - left) / (right - left) * (WIDTH - LEFT - RIGHT)

    def place_y(y: float) -> float:
        return HEIGHT - BOTTOM - (y - bottom) / (top - bottom) * (HEIGHT - TOP - BOTTOM)

    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html_text(title)}">']
    for y in ticks(bottom, top):
        parts.append(f'<path class="grid" d="M{LEFT} {place_y(y):.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{place_y(y) + 4:.1f}" text-anchor="end">{y:.4g}</text>')
    for x in ticks(left, right):
        anchor = 'end' if place_x(x) > WIDTH - RIGHT - 18 else 'middle'
        parts.append(f'<text x="{place_x(x):.1f}" y="{HEIGHT - BOTTOM + 17}" text-anchor="{anchor}">{x:.6g}</text>')
    parts.append(f'<path class="axis" d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>')
    parts.append(f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{html_text(x_label)}</text>')
    for line in lines:
        style, band = line.style % NUM_STYLES, thin_out(line.band)
        if len(band) > 1:
            edge = [(x, y) for x, _, y in band] + [(x, y) for x, y, _ in reversed(band)]
            corners = 'L'.join(f'{place_x(x):.1f} {place_y(y):.1f}' for x, y in edge)
            parts.append(f'<path class="band s{style}" d="M{corners}Z"/>')
        points = [(place_x(x), place_y(y)) for x, y in thin_out(line.points)]
        name = f'<title>{html_text(line.name)}</title>'
        if len(points) == 1:
            parts.append(
                f'<circle class="dot s{style}" cx="{points[0][0]:.1f}" cy="{points[0][1]:.1f}" r="3">{name}</circle>'
            )
        elif points:
            path = 'L'.join(f'{x:.1f} {y:.1f}' for x, y in points)
            parts.append(f'<path class="line s{style}" d="M{path}">{name}</path>')
    return ''.join([*parts, '</svg>'])


def draw_matrix(matrix: NDArray[np.int64], shares: NDArray[np.float64], names: Sequence[str], max_cells: int) -> str:
    """Return a confusion matrix as SVG; labels in rows and predictions in columns.

    Args:
        matrix: (K, K) numbers of videos.
        shares: (K, K) fractions of the videos of each row; nan for a class without videos.
        names: of the K classes; the axes show numbers of classes.
        max_cells: at most this number of cells, those with the most videos.
    """
    num_classes = len(matrix)
    cell = 36 if num_classes <= 15 else max(4, 600 // num_classes)
    edge = 34
    size = edge + cell * num_classes
    parts = [f'<svg class="matrix" viewBox="0 0 {size} {size}" style="max-width:{size}px" role="img" ']
    parts.append('aria-label="Confusion matrix: labels in rows, predictions in columns">')
    parts.append(f'<rect class="empty" x="{edge}" y="{edge}" width="{size - edge}" height="{size - edge}"/>')
    if num_classes <= 40:
        for k in range(num_classes):
            middle = edge + (k + 0.5) * cell
            parts.append(f'<text x="{middle}" y="{edge - 8}" text-anchor="middle">{k}</text>')
            parts.append(f'<text x="{edge - 8}" y="{middle + 4}" text-anchor="end">{k}</text>')
    cells = np.argwhere(matrix).tolist()
    for row, column in sorted(cells, key=lambda place: -matrix[place[0], place[1]])[:max_cells]:
        x, y, share, count = edge + column * cell, edge + row * cell, shares[row, column], matrix[row, column]
        # With the square root, a confusion of a few percent is visible next to a diagonal of 90%.
        kind = 'right' if row == column else 'wrong'
        name = f'<title>{html_text(names[row])} → {html_text(names[column])}: {count}</title>'
        parts.append(
            f'<rect class="{kind}" x="{x}" y="{y}" width="{cell}" height="{cell}" '
            f'fill-opacity="{math.sqrt(share):.2f}">{name}</rect>'
        )
        if num_classes <= 15:
            strong = ' class="strong"' if share > 0.3 else ''
            parts.append(f'<text{strong} x="{x + cell / 2}" y="{y + cell / 2 + 4}" text-anchor="middle">{count}</text>')
    return ''.join([*parts, '</svg>'])
