"""The sections of the report page about what happens inside the networks: activation maps and DSA kernels."""

from collections.abc import Sequence

import numpy as np

from dsanet.data_tools.visualization import Image, fit_into
from dsanet.explain.cam import ActivationMaps
from dsanet.explain.cam_pictures import blend
from dsanet.reports.html_parts import html_name, html_text, jpeg_uri
from dsanet.reports.kernel_panels import EXPLANATION, draw_kernel_panels
from dsanet.reports.run_data import Run

JPEG_QUALITY = 80
CELL, GAP = 120, 4  # pixels
COLUMNS = 4
MAX_SNIPPETS = 8


def write_kernels(runs: Sequence[Run]) -> str:
    """Return the kernels of each run."""
    parts = []
    for run in runs:
        kernels = run.internals.kernels
        if kernels is None:
            body = f'<p>{html_text(run.internals.why_no_kernels)}</p>'
        else:
            classes = len(np.unique(kernels.labels[kernels.labels >= 0]))
            of_classes = f' of {classes} classes' if classes > 1 else ''
            note = (
                f'Kernels that {html_text(run.internals.checkpoint)} generates for {len(kernels.videos)} test '
                f'videos{of_classes}, spread evenly over the list; one view of each. '
                'The first two panels are means over the videos.'
            )
            body = f'<p class="note">{note}</p>{draw_kernel_panels(kernels)}'
        parts.append(f'<article><h3>{html_text(run.name)}</h3>{body}</article>')
    return f'<p class="note">{EXPLANATION}</p>{"".join(parts)}'


def write_maps(runs: Sequence[Run]) -> str:
    """Return the activation maps of the most confident mistakes of each run."""
    parts = []
    for run in runs:
        internals = run.internals
        figures = []
        for mistake in internals.mistakes:
            rows = [
                _draw_row(maps, role) for maps, role in ((mistake.predicted, 'predicted'), (mistake.label, 'label'))
            ]
            path = f'<p class="path">{html_text(mistake.label.video)}</p>'
            figures.append(f'<figure>{"".join(rows)}{path}</figure>')
        reason = f'<p>{html_text(internals.why_no_maps)}</p>' if internals.why_no_maps else ''
        layers = sorted({mistake.label.layer for mistake in internals.mistakes})
        note = ''
        if layers:
            layer = ', '.join(f'<code>{html_text(layer)}</code>' for layer in layers)
            note = f'<p class="note">Grad-CAM of {layer} in {html_text(internals.checkpoint)}.</p>'
        grid = f'<div class="grid-of narrow">{"".join(figures)}</div>' if figures else ''
        parts.append(f'<article><h3>{html_text(run.name)}</h3>{reason}{note}{grid}</article>')
    note = (
        'Where the network finds the class that it predicted, and where it finds the right one: the middle frame of '
        'each snippet, in order of time. Blue is nothing; red speaks most for the class in this video. Percentages are '
        'the probabilities in the center of a single view.'
    )
    return f'<p class="note">{note}</p>{"".join(parts)}'


def _draw_row(maps: ActivationMaps, role: str) -> str:
    """Return the maps of one class as a picture with a caption."""
    title = f'{role.capitalize()}: {html_name(maps.label)} ({maps.probability:.1%})'
    if maps.is_empty:
        return f'<figcaption>{title}</figcaption><p>All maps are zero: nothing in this layer speaks for this class.</p>'
    alt = f'Activation maps of the {role} class in {html_text(maps.video)}'
    image = jpeg_uri(draw_middle_frames(maps), JPEG_QUALITY)
    return f'<figcaption>{title}</figcaption><img alt="{alt}" src="{image}">'


def draw_middle_frames(maps: ActivationMaps) -> Image:
    """Return the middle frame of at most ``MAX_SNIPPETS`` snippets under its map, four in a line."""
    num_snippets, num_frames = maps.frames.shape[:2]
    shown = np.unique(np.linspace(0, num_snippets - 1, min(num_snippets, MAX_SNIPPETS)).round().astype(int)).tolist()
    scaled, t = maps.scaled(), num_frames // 2
    columns = min(COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    image = np.full((rows * (CELL + GAP) - GAP, columns * (CELL + GAP) - GAP, 3), 128, np.uint8)
    for number, u in enumerate(shown):
        row, column = divmod(number, columns)
        top, left = row * (CELL + GAP), column * (CELL + GAP)
        image[top : top + CELL, left : left + CELL] = fit_into(blend(maps.frames[u, t], scaled[u, t]), CELL, CELL)
    return image
