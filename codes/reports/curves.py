"""Plot the curves of runs and of a learning-rate range test."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from dsanet.data_tools.visualization import escape_math, missing_glyphs_allowed
from dsanet.engine.range_test import MEMORY, Point
from dsanet.reports.run_data import Scalars, scalar_names, scalar_points


def plot_curves(runs: Mapping[str, Scalars], file: Path, names: Sequence[str]) -> None:
    """Plot one panel per scalar with one line per run.

    Args:
        runs: name of each run and its lines of ``scalars.jsonl``.
        file: output file; its extension sets the format.
        names: scalars, such as 'train/loss' and 'val/top1'.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * len(names), 3.6))
    panels = figure.subplots(1, len(names), squeeze=False)
    for name, panel in zip(names, panels[0], strict=True):
        known = scalar_names(runs.values())
        if name not in known:
            raise ValueError(f'no run has the scalar {name!r}; available: {", ".join(known)}')
        for run, lines in runs.items():
            points = scalar_points(lines, name)
            if points:
                panel.plot(*zip(*points, strict=True), label=escape_math(f' {run}' if run.startswith('_') else run))
        panel.set_xlabel('iteration')
        panel.set_title(name)
        panel.grid(alpha=0.3)
    panels[0][-1].legend()
    with missing_glyphs_allowed():  # in the names of the runs
        figure.tight_layout()
        figure.savefig(file, dpi=110)


def plot_range_test(points: Sequence[Point], suggestion: tuple[float, float] | None, file: Path) -> None:
    """Plot loss and running average of a range test over the learning rate; the file extension sets the format."""
    from matplotlib.figure import Figure

    rates, averages = [point.rate for point in points], [point.average for point in points]
    figure = Figure(figsize=(7, 4))
    panel = figure.subplots()
    panel.plot(rates, [point.loss for point in points], color='0.8', label='loss')
    panel.plot(rates, averages, label=f'average over about {MEMORY} iterations')
    if suggestion is not None:
        panel.axvline(suggestion[0], color='C2', label=f'steepest: {suggestion[0]:.2g}')
        panel.axvline(suggestion[1], color='C3', linestyle='--', label=f'minimum / 10: {suggestion[1]:.2g}')
    panel.set_xscale('log')
    panel.set_ylim(0.9 * min(averages), 1.3 * averages[0])  # cut off diverging values
    panel.set_xlabel('learning rate')
    panel.set_ylabel('training loss')
    panel.grid(alpha=0.3)
    panel.legend()
    figure.tight_layout()
    figure.savefig(file, dpi=110)


def check_picture(file: Path, name: str) -> None:
    """Check early that a plot can be written.

    Args:
        file: output file.
        name: name of the option for error messages, such as '--out'.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    formats = FigureCanvasAgg.filetypes
    if file.suffix.lstrip('.').lower() not in formats:
        raise ValueError(f'{name} {file} has an unsupported extension; use one of .{", .".join(sorted(formats))}')
    if not file.absolute().parent.is_dir():
        raise FileNotFoundError(f'{name} {file}: folder not found: {file.absolute().parent}')
