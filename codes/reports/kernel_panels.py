"""The kernels of DSA modules as HTML with inline SVG, for a few videos or a single one.

The colors of text are those of the page around it.
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from dsanet.data_tools.visualization import Image, shorten
from dsanet.explain.kernels import Floats, Kernels, KernelStats, ModuleKernels
from dsanet.reports.html_parts import html_table, html_text, png_uri

WIDTH = 340
MAX_OPEN = 4  # modules that are not folded
MAX_CLASSES = 16
_TAP_HEIGHT, _CLASS_HEIGHT = 26, 18

EXPLANATION = (
    'DSA replaces the features of each snippet by a weighted sum of those of its neighbors in time. The weights, the '
    'kernel, are generated for each video and channel, and sum to 1: <code>u</code> is the snippet itself, '
    '<code>u-1</code> the one before, <code>u+1</code> the one after.'
)


def draw_kernel_panels(kernels: Kernels) -> str:
    """Return a table with the numbers of all modules, and the panels of each one.

    The panels: the mean kernel with its range over the channels, between the identity and plain averaging; the kernel
    of each channel; with several videos the change from video to video; with several classes how each class moves the
    weights to earlier or later snippets. Channels are sorted by the center of mass of their kernel.
    """
    parts = [_draw_table(kernels)]
    for number, module in enumerate(kernels.modules):
        residual = ' (its input is added to the result)' if module.residual else ''
        title = f'<code>{html_text(module.name)}</code>{residual}'
        panels = f'<div class="grid-of narrow">{"".join(_draw_module(module, kernels))}</div>'
        is_open = ' open' if number < MAX_OPEN else ''
        parts.append(f'<details{is_open}><summary>{title}</summary>{panels}</details>')
    return ''.join(parts)


def _draw_table(kernels: Kernels) -> str:
    stats = [module.measure(kernels.labels) for module in kernels.modules]
    header = ['Module', 'Channels', 'From identity', 'From averaging', 'Offset (snippets)', 'Between channels']
    has_several, has_classes = len(kernels.videos) > 1, any(one.between_classes is not None for one in stats)
    header += ['Between videos'] * has_several + ['Explained by classes (by chance)'] * has_classes
    rows = []
    for module, one in zip(kernels.modules, stats, strict=True):
        values = [f'{one.from_identity:.3f}', f'{one.from_average:.3f}', f'{one.offset:+.3f}']
        values += [f'{one.between_channels:.3f}'] + [f'{one.between_videos:.3f}'] * has_several
        rows.append([f'<code>{html_text(module.name)}</code>', str(module.kernels.shape[1]), *values])
        if has_classes:
            rows[-1].append(_share_text(one))
    note = (
        'Distances are from 0 (equal kernels) to 1 (all weight elsewhere). The offset is the mean center of mass, '
        'negative for earlier snippets.'
    )
    table = html_table('How the kernels differ from fixed ones and from each other', header, rows, range(1, 8))
    return f'{table}<p class="note">{note}</p>'


def _share_text(stats: KernelStats) -> str:
    return '–' if stats.between_classes is None else f'{stats.between_classes:.0%} ({stats.by_chance:.0%})'


def _draw_module(module: ModuleKernels, kernels: Kernels) -> list[str]:
    values = module.kernels
    length, number = values.shape[2], len(kernels.videos)
    taps = ['u' if k == length // 2 else f'u{k - length // 2:+d}' for k in range(length)]
    order = np.argsort(module.offsets().mean(axis=0), kind='stable')
    mean = values.mean(axis=0)[order].T  # (L, C)
    panels = [
        _figure('Weights', _draw_weights(mean, taps)),
        _figure(
            'Kernel of each channel',
            _draw_heat(mean, _viridis, taps, _TAP_HEIGHT, ('0', 'weight', '1')),
        ),
    ]
    if number > 1:
        spread = values.std(axis=0)[order].T  # (L, C)
        limit = max(float(spread.max()), 1e-6)
        scale = ('0', 'standard deviation', f'{limit:.2g}')
        panels.append(
            _figure('Change from video to video', _draw_heat(spread / limit, _magma, taps, _TAP_HEIGHT, scale))
        )
    moves = _draw_moves(module, kernels, order)
    return panels + ([_figure('Center of mass by class', moves)] if moves else [])


def _draw_moves(module: ModuleKernels, kernels: Kernels, order: npt.NDArray[np.intp]) -> str:
    """Return by how many snippets classes move the kernel of each channel; nothing for fewer than two classes."""
    labels = kernels.labels
    known = np.unique(labels[labels >= 0])
    if len(known) < 2:
        return ''
    moved = np.stack([module.offsets()[labels == k].mean(axis=0) for k in known])[:, order]  # (classes, C)
    moved -= moved.mean(axis=0)
    shown = np.sort(np.argsort(-np.abs(moved).sum(axis=1), kind='stable')[:MAX_CLASSES])
    limit = max(float(np.abs(moved[shown]).max()), 1e-6)
    names = [kernels.class_names[known[i]] for i in shown]
    scale = (f'earlier {limit:.2g}', 'snippets', f'later {limit:.2g}')
    return _draw_heat(moved[shown] / limit / 2 + 0.5, _diverging, names, _CLASS_HEIGHT, scale)


def _figure(title: str, content: str) -> str:
    return f'<figure><figcaption>{title}</figcaption>{content}</figure>'


def _draw_weights(mean: Floats, taps: Sequence[str]) -> str:
    """Return the mean weight of each tap (L, C) as a bar, with the range over the channels."""
    left, top, bottom, height = 40, 28, 42, 190
    column = (WIDTH - left) / len(taps)
    width = min(44.0, 0.6 * column)
    numbers = ', '.join(f'{tap} {weights.mean():.2f}' for tap, weights in zip(taps, mean, strict=True))
    parts = [_open_svg(height, f'mean weight of {numbers}')]

    def place(weight: float) -> float:
        return height - bottom - weight * (height - top - bottom)

    for weight in (0, 0.5, 1):
        parts.append(
            f'<path class="grid" stroke="currentColor" stroke-opacity=".25" d="M{left} {place(weight):.1f}H{WIDTH}"/>'
        )
        parts.append(_text(left - 6, place(weight) + 4, f'{weight:g}', 'end'))
    for k, (tap, weights) in enumerate(zip(taps, mean, strict=True)):
        x, value = left + (k + 0.5) * column, float(weights.mean())
        low, high = place(float(weights.min())), place(float(weights.max()))
        parts.append(
            f'<rect x="{x - width / 2:.1f}" y="{place(value):.1f}" width="{width:.1f}" '
            f'height="{place(0) - place(value):.1f}" fill="#3b7dd8"/>'
            f'<path stroke="currentColor" stroke-width="1.5" fill="none" d="M{x:.1f} {low:.1f}V{high:.1f}'
            f'M{x - 7:.1f} {low:.1f}h14M{x - 7:.1f} {high:.1f}h14"/>'
            + _text(x, height - 24, tap, 'middle')
            + _text(x, height - 6, f'{value:.2f}', 'middle')
        )
    dashes = 'stroke="#e0760a" stroke-width="2" stroke-dasharray="6 4"'
    parts.append(
        f'<path {dashes} d="M{left} {place(1 / len(taps)):.1f}H{WIDTH}"/><path {dashes} d="M4 10h28"/>'
        + _text(38, 14, 'equal weights', 'start')
        + '<path stroke="currentColor" stroke-width="1.5" d="M146 10h28m-28 -5v10m28 -10v10"/>'
        + _text(182, 14, 'range over channels', 'start')
    )
    return ''.join([*parts, '</svg>'])


def _draw_heat(
    values: Floats, color: Callable[[Floats], Image], names: Sequence[str], row: int, scale: tuple[str, str, str]
) -> str:
    """Return a heat map with a column per channel.

    Args:
        values: (rows, C) from 0 to 1.
        color: returns the RGB colors (rows, C, 3) of values.
        names: of the rows.
        row: height of a row.
        scale: what the colors of the legend mean: lowest, unit, highest.
    """
    is_short = max(map(len, names)) <= 4
    left, size = (40, 13) if is_short else (172, 11)
    height = len(names) * row
    total = height + 64
    parts = [_open_svg(total, f'heat map of {", ".join(names)} by channel')]
    for k, name in enumerate(names):
        parts.append(_text(left - 6, (k + 0.5) * row + 4, shorten(name, 30), 'end', size))
    parts.append(_image(color(values), left, 0, WIDTH - left, height))
    parts.append(_text((left + WIDTH) / 2, height + 17, f'{values.shape[1]} channels, sorted', 'middle'))
    parts.append(_image(color(np.linspace(0, 1, 60)[None]), WIDTH / 2 - 60, total - 32, 120, 12))
    parts.append(
        _text(WIDTH / 2 - 68, total - 21, scale[0], 'end') + _text(WIDTH / 2 + 68, total - 21, scale[2], 'start')
    )
    parts.append(_text(WIDTH / 2, total - 6, scale[1], 'middle'))
    return ''.join([*parts, '</svg>'])


def _open_svg(height: float, label: str) -> str:
    return f'<svg class="chart" viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{html_text(label)}">'


def _text(x: float, y: float, text: str, anchor: str, size: int = 13) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" style="font-size:{size}px" fill="currentColor">'
        f'{html_text(text)}</text>'
    )


def _image(colors: Image, x: float, y: float, width: float, height: float) -> str:
    """Return an image whose pixels are stretched to rectangles."""
    return (
        f'<image href="{png_uri(colors)}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" '
        'preserveAspectRatio="none" style="image-rendering:pixelated"/>'
    )


def _viridis(values: Floats) -> Image:
    return _map_colors(values, cv2.COLORMAP_VIRIDIS)


def _magma(values: Floats) -> Image:
    return _map_colors(values, cv2.COLORMAP_MAGMA)


def _map_colors(values: Floats, colormap: int) -> Image:
    levels = (255 * values.clip(0, 1)).round().astype(np.uint8)
    return np.asarray(cv2.cvtColor(cv2.applyColorMap(levels, colormap), cv2.COLOR_BGR2RGB), np.uint8)


def _diverging(values: Floats) -> Image:
    """Return blue for 0, white for 0.5, and red for 1."""
    ends = np.array([[33, 102, 172], [255, 255, 255], [178, 24, 43]], float)
    places = np.array([0, 0.5, 1])
    channels = [np.interp(values, places, ends[:, c]) for c in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)  # (rows, C, 3)
