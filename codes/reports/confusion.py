"""Draw confusion matrices."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsanet.data_tools.visualization import escape_math


def class_shares(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the fractions (K, K) of the videos of each row of a confusion matrix; nan in rows without videos."""
    videos = matrix.sum(axis=1, keepdims=True)
    return np.where(videos > 0, matrix / np.maximum(videos, 1), np.nan)


def draw_confusion(matrix: NDArray[np.int64], names: Sequence[str], file: Path, title: str) -> None:
    """Draw a confusion matrix; each row shows the fractions of a class by predicted class.

    Args:
        matrix: (K, K) numbers of videos, labels in rows and predictions in columns.
        names: names of the K classes; the axes show names for up to 100 classes, otherwise numbers.
        file: output file; its extension sets the format.
        title: source of the results.
    """
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    num_classes = len(matrix)
    shares = class_shares(matrix)  # classes without videos are gray
    shown = [escape_math(name if len(name) <= 24 else f'{name[:23]}…') for name in names]
    size = min(4 + 0.17 * num_classes, 22)
    figure = Figure(figsize=(size + 1, size))
    panel = figure.subplots()
    panel.set_facecolor('lightgrey')
    # With the square root, a confusion of a few percent is visible next to a diagonal of 90%.
    image = panel.imshow(shares, cmap='Blues', norm=PowerNorm(0.5, 0, 1), interpolation='nearest')
    if num_classes <= 100:
        font = 9 if num_classes <= 30 else 7
        panel.set_xticks(range(num_classes), shown, rotation=90, fontsize=font)
        panel.set_yticks(range(num_classes), shown, fontsize=font)
    if num_classes <= 15:
        for row, column in np.argwhere(matrix).tolist():
            color = 'white' if shares[row, column] > 0.3 else 'black'
            panel.text(column, row, str(matrix[row, column]), ha='center', va='center', fontsize=8, color=color)
    panel.set_title(escape_math(title))
    panel.set_xlabel('predicted')
    panel.set_ylabel('label')
    figure.colorbar(image, ax=panel, fraction=0.046, pad=0.02, label='fraction of the videos of a class')
    figure.tight_layout()
    figure.savefig(file, dpi=110)
