"""A picture of what a data check found: histograms and findings."""

import textwrap
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dsanet.data_checks.probe import FileFacts, Job
from dsanet.data_checks.report import LEVELS, Report, describe
from dsanet.data_checks.splits import Split
from dsanet.data_tools.visualization import DPI, Image, escape_math, shorten

COLORS = ('tab:blue', 'tab:orange', 'tab:green')


LEVEL_COLORS = {'error': 'tab:red', 'warning': 'darkorange', 'note': 'dimgray'}


MOST_NAMED = 40  # classes beyond which a histogram has no names


def draw_report(report: Report, splits: Sequence[Split], facts: Mapping[Job, FileFacts], title: str) -> Image:
    """Draw what a report says: videos by class, frames, seconds, resolutions, findings.

    Args:
        report: what was found.
        splits: training first; a test split with the list of validation is left out.
        facts: of files, by ``Split.job_of``; empty in the quick form.
        title: heads the picture, with the verdict.

    Returns:
        The picture, (H, W, 3).
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [split for number, split in enumerate(splits) if split.keys not in [s.keys for s in splits[:number]]]
    shown = [split for split in shown if split.records]
    labels = sorted({label for split in shown for label in (*split.counts, *range(split.num_classes or 0))})
    tall = max(7.0, 0.24 * len(labels) + 2 if len(labels) <= MOST_NAMED else 0)
    figure = Figure(figsize=(14, tall), dpi=DPI, layout='constrained')
    canvas = FigureCanvasAgg(figure)
    grid = figure.add_gridspec(3, 3, width_ratios=(1.3, 1, 1))
    color = 'tab:green' if report.is_fit else 'tab:red'
    figure.suptitle(f'{title}: {report.verdict} ({report.form} form)', color=color, fontsize=14)
    _draw_classes(figure.add_subplot(grid[:, 0]), shown, labels)
    frames = [_numbers_of(split, facts, 'frames') for split in shown]
    seconds = [_numbers_of(split, facts, 'seconds') for split in shown]
    _draw_lengths(figure.add_subplot(grid[0, 1]), shown, frames, 'frames')
    _draw_lengths(figure.add_subplot(grid[0, 2]), shown, seconds, 'seconds')
    _draw_resolutions(figure.add_subplot(grid[1, 1:]), shown, facts)
    _write_findings(figure.add_subplot(grid[2, 1:]), report)
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='Glyph')
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _draw_classes(panel: Any, splits: Sequence[Split], labels: Sequence[int]) -> None:
    """Draw the number of videos by class: bars with names, or one curve for many classes."""
    panel.set_title('videos of each class')
    if len(labels) > MOST_NAMED:
        for split, color in zip(splits, COLORS, strict=False):
            panel.plot(sorted((split.counts[k] for k in labels), reverse=True), color=color, label=_name(split))
        panel.set_xlabel('classes, the largest first')
        panel.set_ylim(bottom=0)
    else:
        width = 0.8 / max(len(splits), 1)
        for number, split in enumerate(splits):
            places = np.arange(len(labels)) + (number - (len(splits) - 1) / 2) * width
            counts = [split.counts[k] for k in labels]
            bars = panel.barh(places, counts, width, color=COLORS[number % len(COLORS)], label=_name(split))
            panel.bar_label(bars, padding=2, fontsize=8)
        names = splits[0].class_names if splits else None
        known = [f'{shorten(names[k], 28)} ({k})' if names and k < len(names) else f'class {k}' for k in labels]
        panel.set_yticks(range(len(labels)), [escape_math(name) for name in known], fontsize=9)
        panel.invert_yaxis()
        panel.margins(x=0.12)
    if splits:
        panel.legend(loc='best')


def _name(split: Split) -> str:
    return f'{split.name} ({len(split.records):,})'


def _numbers_of(split: Split, facts: Mapping[Job, FileFacts], what: str) -> list[float]:
    known = [facts.get(split.job_of(record)) for record in split.records] if facts else []
    found = [one for one in known if one is not None and one.kind == 'ok']
    if what == 'seconds':
        return [one.num_frames / one.fps for one in found if one.fps]
    return [one.num_frames for one in found] or [n for r in split.records if (n := r.num_frames) is not None]


def _draw_lengths(panel: Any, splits: Sequence[Split], numbers: Sequence[Sequence[float]], what: str) -> None:
    """Draw a histogram of lengths, and how many frames are needed."""
    panel.set_title(f'{what} of each video')
    every = [value for values in numbers for value in values]
    if not every:
        _leave_empty(panel)
        return
    # Where a few videos are far longer than the rest, the rest would be one bar.
    is_wide = max(every) > 20 * max(float(np.median(every)), 1e-9)
    low, high = min(every), max(max(every), min(every) + 1)
    edges = np.geomspace(max(low, 1e-2), high, 31) if is_wide else np.linspace(low, high, 31)
    for split, values, color in zip(splits, numbers, COLORS, strict=False):
        panel.hist(np.maximum(values, edges[0]), bins=edges, color=color, alpha=0.6, label=split.name)
    if is_wide:
        panel.set_xscale('log')
    needed = splits[0].needed_frames if splits else 0
    if what == 'frames' and needed:
        panel.axvline(needed, color='tab:red', linestyle='--')
        # The text goes where there is room, whatever the bars are like.
        panel.annotate(
            f'{needed} needed',
            (needed, 1),
            xycoords=('data', 'axes fraction'),
            xytext=(4, -11),
            textcoords='offset points',
            color='tab:red',
            fontsize=9,
        )
    panel.set_ylabel('videos')


def _leave_empty(panel: Any) -> None:
    panel.text(0.5, 0.5, 'no file was opened', ha='center', va='center', color='gray', transform=panel.transAxes)
    panel.set_xticks([])
    panel.set_yticks([])


def _draw_resolutions(panel: Any, splits: Sequence[Split], facts: Mapping[Job, FileFacts]) -> None:
    """Draw how many videos have which width and height, the eight most frequent ones."""
    panel.set_title('resolutions (width x height)')
    jobs = {split.job_of(record) for split in splits for record in split.records} if facts else set()
    sizes = [(one.width, one.height) for job in jobs if (one := facts.get(job)) is not None and one.kind == 'ok']
    if not sizes:
        _leave_empty(panel)
        return
    names, counts = np.unique([f'{width}x{height}' for width, height in sizes], return_counts=True)
    order = np.argsort(-counts, kind='stable')
    shown = [(str(names[i]), int(counts[i])) for i in order[:8]]
    if len(order) > 8:
        shown.append((f'{len(order) - 8} others', int(counts[order[8:]].sum())))
    side = splits[0].short_side if splits else 0
    colors = [_color_of(name, side) for name, _ in shown]
    bars = panel.barh([name for name, _ in shown], [count for _, count in shown], color=colors)
    panel.bar_label(bars, padding=3, fontsize=9)
    panel.set_ylim(max(len(shown), 4) - 0.5, -0.5)  # the most frequent one on top, and no bar as thick as a panel
    panel.set_xlim(0, 1.1 * max(count for _, count in shown))
    panel.tick_params(axis='y', labelsize=9)
    if 'darkorange' in colors:
        panel.set_xlabel(f'orange: the shorter side is enlarged to {side}', color='darkorange', fontsize=9)


def _color_of(name: str, side: int) -> str:
    sides = name.split('x')
    return 'darkorange' if len(sides) == 2 and min(map(int, sides)) < side else 'slategray'


def _write_findings(panel: Any, report: Report) -> None:
    """Write what was found, as far as there is room."""
    panel.set_axis_off()
    lines: list[tuple[str, str]] = [('black', f'{name}: {describe(n)}') for name, n in report.splits.items()]
    for level in LEVELS:
        lines += [(LEVEL_COLORS[level], f'{level}: {f.split}: {f.text}') for f in report.of_level(level)]
    rows = [(color, row) for color, line in lines for row in textwrap.wrap(line, 118, subsequent_indent='      ')]
    for number, (color, row) in enumerate(rows[:15]):
        text = '...' if number == 14 and len(rows) > 15 else escape_math(row)
        panel.text(0, 1 - number / 14.5, text, color=color, fontsize=8.5, va='top', transform=panel.transAxes)
