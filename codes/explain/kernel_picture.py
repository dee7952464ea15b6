"""One picture of the kernels of all DSA modules, a row for each module."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dsanet.data_tools.visualization import escape_math, save_figure, shorten
from dsanet.explain.kernels import Floats, Kernels, ModuleKernels
from dsanet.utils.text import count_noun

MAX_ROWS = 16  # classes or videos in a heat map
_SINGULAR = {'classes': 'class', 'videos': 'video'}


def draw_kernels(content: Kernels, file: Path, title: str) -> None:
    """Draw the kernels; a file is complete or not written.

    The panels of a module: the mean kernel of each channel; these kernels as lines, with the identity and the average;
    the standard deviation between videos; how classes, or videos without known classes, move the weights to earlier or
    later snippets; for the same classes, the kernel of the channel that differs most between them. Channels are sorted
    by their center of mass, so that channels with similar kernels are neighbors.

    Args:
        content: the kernels.
        file: output file; its extension sets the format.
        title: source of the kernels.
    """
    from matplotlib.figure import Figure

    rows, names = _group(content)
    kind = 'classes' if (content.labels >= 0).any() else 'videos'
    figure = Figure(figsize=(15, 1 + 3.3 * len(content.modules)), layout='constrained')
    figure.suptitle(
        f'{escape_math(title)}: kernels of {count_noun(len(content.modules), "DSA module")} for '
        f'{count_noun(len(content.videos), "video")}\n'
        'DSA replaces each snippet u by a weighted sum of its neighbors in time. The weights are the kernel, generated '
        'for each video and channel; they sum to 1.',
        fontsize=12,
    )
    panels = figure.subplots(
        len(content.modules), 5, squeeze=False, gridspec_kw={'width_ratios': [1, 1.4, 1, 1.9, 1.2]}
    )
    for module, axes in zip(content.modules, panels, strict=True):
        _draw_module(figure, axes, module, content, rows, names, kind)
    save_figure(figure, file, dpi=75)


def _group(content: Kernels) -> tuple[list[npt.NDArray[np.intp]], list[str]]:
    """Return the indices of the videos of each class, and the names of the classes; each video without classes."""
    labels = content.labels
    known = sorted(set(labels[labels >= 0].tolist()))
    if not known:
        return [np.array([i]) for i in range(len(labels))], [Path(video).name for video in content.videos]
    return [np.flatnonzero(labels == k) for k in known], [content.class_names[k] for k in known]


def _draw_module(
    figure: Any,
    axes: Any,
    module: ModuleKernels,
    content: Kernels,
    groups: list[npt.NDArray[np.intp]],
    names: list[str],
    kind: str,
) -> None:
    kernels = module.kernels
    length = kernels.shape[2]
    taps = [f'u{k - length // 2:+d}' if k != length // 2 else 'u' for k in range(length)]
    order = np.argsort(module.offsets().mean(axis=0), kind='stable')
    mean = kernels.mean(axis=0)  # (C, L)
    stats = module.measure(content.labels)
    short = [escape_math(shorten(name, 32)) for name in names]

    image = axes[0].imshow(mean[order], aspect='auto', cmap='viridis', vmin=0, vmax=1, interpolation='nearest')
    figure.colorbar(image, ax=axes[0], label='weight')
    residual = ' (its input is added)' if module.residual else ''
    axes[0].set_title(f'{module.name}{residual}\nmean kernel of each channel', fontsize=10, loc='left')
    axes[0].set_ylabel(f'{len(order)} channels, sorted')

    axes[1].plot(mean.T, color='0.75', linewidth=0.6)
    identity, average = np.eye(length)[length // 2], np.full(length, 1 / length)
    axes[1].plot(identity, color='C3', linestyle='--', label=f'identity: distance {stats.from_identity:.2f}')
    axes[1].plot(average, color='C2', linestyle='--', label=f'averaging: distance {stats.from_average:.2f}')
    axes[1].plot(mean.mean(axis=0), color='black', linewidth=2, label='mean of all channels')
    axes[1].set_title(f'gray: each channel\nbetween channels {stats.between_channels:.3f}', fontsize=10)
    axes[1].legend(fontsize=8, loc='upper right')
    axes[1].set_ylim(0, 1.35)

    spread = kernels.std(axis=0)[order]
    image = axes[2].imshow(
        spread, aspect='auto', cmap='magma', vmin=0, vmax=max(spread.max(), 1e-3), interpolation='nearest'
    )
    figure.colorbar(image, ax=axes[2], label='standard deviation')
    axes[2].set_title(f'change between videos\nmean distance {stats.between_videos:.3f}', fontsize=10)
    axes[2].set_ylabel('channels, same order')

    means = np.stack([kernels[group].mean(axis=0) for group in groups])  # (groups, C, L)
    moved = np.stack([module.offsets()[group].mean(axis=0) for group in groups])  # (groups, C)
    shown = _draw_moves(
        figure, axes[3], moved[:, order], short, kind, _share_text(stats.between_classes, stats.by_chance)
    )

    channel = int(means.var(axis=0).sum(axis=1).argmax())
    image = axes[4].imshow(
        means[shown, channel], aspect='auto', cmap='viridis', vmin=0, vmax=1, interpolation='nearest'
    )
    for row, tap in np.ndindex(len(shown), length):
        weight = means[shown[row], channel, tap]
        color = 'black' if weight > 0.6 else 'white'
        axes[4].text(tap, row, f'{weight:.2f}', ha='center', va='center', fontsize=8, color=color)
    axes[4].set_title(f'kernel of channel {channel},\nwhich differs most', fontsize=10)
    axes[4].set_yticks(range(len(shown)), [''] * len(shown))
    for panel in (axes[0], axes[1], axes[2], axes[4]):
        panel.set_xticks(range(length), taps)
        panel.set_xlabel('weight of snippet')


def _draw_moves(figure: Any, panel: Any, moved: Floats, names: list[str], kind: str, share: str) -> list[int]:
    """Draw by how many snippets groups move the center of mass of the kernel of each channel.

    Args:
        figure: the figure of the panel.
        panel: where to draw.
        moved: center of mass in snippets, (groups, C).
        names: of the groups.
        kind: what a group is.
        share: second line of the title.

    Returns:
        The groups shown, those that differ most.
    """
    shown = _most_different(moved, MAX_ROWS)
    difference = (moved - moved.mean(axis=0))[shown]
    limit = max(float(np.abs(difference).max()), 1e-6)
    image = panel.imshow(difference, aspect='auto', cmap='RdBu_r', vmin=-limit, vmax=limit, interpolation='nearest')
    figure.colorbar(image, ax=panel, label='− earlier, + later snippets')
    panel.set_yticks(range(len(shown)), [names[i] for i in shown], fontsize=8)
    panel.set_xlabel('channels, same order')
    panel.set_title(f'{_count(len(shown), len(names), kind)}: where the weights move{share}', fontsize=10, loc='center')
    return shown


def _share_text(share: float | None, chance: float | None) -> str:
    if share is None or chance is None:
        return '\nfrom the mean of all'
    return f'\nclasses explain {share:.0%} of the variance ({chance:.0%} by chance)'


def _most_different(values: Floats, limit: int) -> list[int]:
    """Return the indices of the rows that are farthest from the mean of all, in their order."""
    distance = np.abs(values - values.mean(axis=0)).sum(axis=1)
    return sorted(np.argsort(-distance, kind='stable')[:limit].tolist())


def _count(shown: int, number: int, kind: str) -> str:
    if number == 1:
        return f'1 {_SINGULAR[kind]}'
    return f'{number} {kind}' if shown == number else f'{shown} of {number} {kind}'
