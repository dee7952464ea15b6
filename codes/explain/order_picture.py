"""A picture of how much recognizers depend on the order of snippets and frames."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dsanet.data_tools.visualization import escape_math, save_figure, shorten
from dsanet.explain.order import OrderResult


def draw_order(results: Mapping[str, OrderResult], file: Path, title: str) -> None:
    """Draw the accuracy of each arrangement, a bar for each model and a dot for each class.

    Args:
        results: by the name of the model; with the same arrangements and videos.
        file: output file; its extension sets the format.
        title: source of the videos.
    """
    from matplotlib.figure import Figure

    first = next(iter(results.values()))
    figure = Figure(figsize=(2.5 + 1.5 * len(first.names), 4.2), layout='constrained')
    panel = figure.subplots()
    width = 0.8 / len(results)
    for i, (model, result) in enumerate(results.items()):
        places = np.arange(len(result.names)) + (i - (len(results) - 1) / 2) * width
        accuracies = result.accuracies()
        bars = panel.bar(
            places, accuracies, width * 0.92, color=f'C{i}', alpha=0.75, label=escape_math(shorten(model, 60))
        )
        panel.bar_label(bars, [f'{value:.1f}' for value in accuracies], fontsize=9, padding=2)
        for values in result.class_accuracies().T:  # left of the middle, where the number of the bar is
            panel.plot(places - 0.36 * width, values, '.', color='black', markersize=4, alpha=0.6, clip_on=False)
    chance = 100 / first.scores.shape[2]
    panel.axhline(chance, color='0.5', linestyle=':', linewidth=1, label=f'guessing: {chance:.1f}%')
    panel.plot([], [], '.', color='black', label='one class')
    panel.set_xticks(range(len(first.names)), first.names)
    panel.set_ylim(0, 112)
    panel.set_yticks(range(0, 101, 20))
    panel.set_ylabel('top-1 accuracy (%)')
    panel.set_title(f'{escape_math(title)}: {len(first.labels)} videos with rearranged snippets or frames')
    figure.legend(loc='outside lower center', ncols=2, frameon=False)
    save_figure(figure, file, dpi=90)
