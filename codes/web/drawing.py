"""The result for a video as HTML: bars of the best classes, classes over time, the sampled snippets, maps and kernels.

The HTML has no scripts and refers to no other file. All names are escaped. Colors of text and background are those of
the page, which has a light and a dark theme.
"""

from collections.abc import Sequence
from html import escape

import numpy as np
import numpy.typing as npt

from dsanet.explain.cam import ActivationMaps
from dsanet.explain.cam_pictures import blend
from dsanet.explain.kernels import Kernels
from dsanet.inference.annotation import snippet_color
from dsanet.inference.long.predictor import LongPrediction
from dsanet.inference.long.segments import CurvePoint
from dsanet.inference.prediction import Prediction
from dsanet.reports.html_parts import jpeg_uri
from dsanet.reports.kernel_panels import EXPLANATION, draw_kernel_panels
from dsanet.reports.timeline import choose_classes
from dsanet.web.analysis import VideoAnalysis

_MAX_PICTURES = 256  # of the views that are shown; others are counted
_MAX_SEGMENTS = 50
_JPEG_QUALITY = 88

CSS = """
.dsanet { color: var(--body-text-color); font-size: 15px; line-height: 1.45; }
.dsanet h2 { font-size: 1.2em; margin: 1.4em 0 .3em; }
.dsanet p { margin: .2em 0 .6em; opacity: .75; overflow-wrap: anywhere; }
.dsanet .error { color: var(--body-text-color); border: 1px solid #d04040; border-left-width: 6px; border-radius: 6px;
  padding: .6em .9em; }
.dsanet .bars { display: grid; grid-template-columns: minmax(5em, max-content) 1fr max-content; gap: .35em .7em;
  align-items: center; }
.dsanet .name { overflow-wrap: anywhere; }
.dsanet .track { height: 1.1em; background: var(--border-color-primary); border-radius: 3px; }
.dsanet .track > div { height: 100%; min-width: 1px; background: #3b7dd8; border-radius: 3px; }
.dsanet .number { text-align: right; font-variant-numeric: tabular-nums; }
.dsanet svg { display: block; width: 100%; background: var(--border-color-primary); border-radius: 3px; }
.dsanet .curve { height: 44px; margin-bottom: .5em; }
.dsanet .positions { height: 16px; margin: .3em 0; }
.dsanet .axis { display: flex; justify-content: space-between; opacity: .75; font-size: .87em;
  font-variant-numeric: tabular-nums; }
.dsanet table { border-collapse: collapse; border: 0 !important; margin: .8em 0; }
.dsanet th, .dsanet td { text-align: left; padding: .15em 1.2em .15em 0 !important;
  border: 0 !important; color: inherit !important; }
.dsanet td:first-child { white-space: nowrap; }
.dsanet tr { border: 0 !important; }
.dsanet th { font-weight: 600; }
.dsanet .snippet { margin: .9em 0; }
.dsanet .single { display: flex; flex-wrap: wrap; gap: 0 16px; }
.dsanet .swatch { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .45em; }
.dsanet .frames { display: flex; flex-wrap: wrap; gap: 5px; margin-top: .3em; }
.dsanet figure { margin: 0; width: 96px; }
.dsanet figure img { width: 96px; border-radius: 2px; display: block; }
.dsanet figcaption { font-size: .76em; opacity: .75; }
.dsanet .grid-of { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 300px), 1fr)); gap: .8em; }
.dsanet .grid-of figure { width: auto; border: 1px solid var(--border-color-primary); border-radius: 6px;
  padding: .5em; }
.dsanet .grid-of figcaption { font-size: .9em; font-weight: 600; opacity: 1; }
.dsanet svg.chart { background: none; }
.dsanet .scroll { overflow-x: auto; }
.dsanet caption { text-align: left; opacity: .75; }
.dsanet code { font-size: .9em; white-space: nowrap; }
.dsanet summary { cursor: pointer; font-weight: 600; margin: .5em 0; }
@media (max-width: 480px) {
  .dsanet figure, .dsanet figure img { width: 64px; }
  .dsanet .bars { grid-template-columns: 1fr max-content; }
  .dsanet .bars > .name { grid-column: 1 / -1; margin-bottom: -.3em; }
}
"""


def draw_error(message: str) -> str:
    """Return a message about a video that cannot be shown."""
    return f'<div class="dsanet"><div class="error" role="alert">{escape(message)}</div></div>'


def draw_analysis(analysis: VideoAnalysis) -> str:
    """Return all panels."""
    panels = [_draw_classes(analysis.prediction)]
    if analysis.film is not None:
        panels.append(_draw_film(analysis.film, analysis.class_names, analysis.window))
    elif analysis.why_no_film:
        panels.append(f'<section><h2>Classes over time</h2><p>{escape(analysis.why_no_film)}</p></section>')
    panels.append(_draw_snippets(analysis.prediction, analysis.inputs))
    panels.append(_draw_maps(analysis.maps, analysis.why_no_maps))
    panels.append(_draw_kernels(analysis.kernels))
    return f'<div class="dsanet">{"".join(panels)}</div>'


def _draw_classes(prediction: Prediction) -> str:
    length = f'{prediction.num_frames} frames'
    if prediction.seconds is not None:
        length += f', {prediction.seconds:.1f} s'
    views = f'averaged over {prediction.num_views} views' if prediction.num_views > 1 else 'one view'
    bars = ''.join(
        f'<span class="name">{escape(label)}</span>'
        f'<div class="track"><div style="width:{100 * probability:.2f}%"></div></div>'
        f'<span class="number">{100 * probability:.1f}%</span>'
        for label, probability in zip(prediction.labels, prediction.probabilities, strict=True)
    )
    return (
        f'<section><h2>Classes</h2><p>{escape(prediction.video)}: {length}, {views}</p>'
        f'<div class="bars">{bars}</div></section>'
    )


def _draw_film(film: LongPrediction, class_names: Sequence[str], window: float) -> str:
    rows = ''.join(
        f'<div class="name">{escape(class_names[k])}</div>{draw_curve(film.curve, k, film.seconds, class_names[k])}'
        for k in choose_classes(film.curve, film.segments, class_names)
    )
    shown = film.segments[:_MAX_SEGMENTS]
    lines = ''.join(
        f'<tr><td class="number">{segment.start:.1f}–{segment.end:.1f} s</td><td>{escape(segment.label)}</td>'
        f'<td class="number">{100 * segment.score:.0f}%</td></tr>'
        for segment in shown
    )
    header = '<tr><th>time</th><th>class</th><th>mean</th></tr>'
    table = f'<table>{header}{lines}</table>' if shown else '<p>No class reaches 50% at any time.</p>'
    if len(film.segments) > len(shown):
        table += f'<p>The first {len(shown)} of {len(film.segments)} segments.</p>'
    return (
        f'<section><h2>Classes over time</h2><p>{film.num_windows} windows of {window:g} s slide over the video. '
        f'A curve is the probability of a class, from 0 to 100%; the table lists the times at which it is at least 50%.'
        f'</p>{rows}<div class="axis"><span>0 s</span>'
        f'<span>{film.seconds / 2:.1f} s</span><span>{film.seconds:.1f} s</span></div>{table}</section>'
    )


def draw_curve(curve: Sequence[CurvePoint], k: int, seconds: float, name: str) -> str:
    """Return the probabilities of class ``k`` as an SVG of 1000 x 100 units: time, and percent from the bottom."""
    areas = []
    for point in curve:
        left, right = 1000 * float(point.start) / seconds, 1000 * float(point.end) / seconds
        areas.append(f'M{left:.2f} 100V{100 - 100 * float(point.probabilities[k]):.2f}H{right:.2f}V100Z')
    highest = max(float(point.probabilities[k]) for point in curve)
    label = escape(f'{name} over time, at most {100 * highest:.0f}%')
    return (
        f'<svg class="curve" viewBox="0 0 1000 100" preserveAspectRatio="none" role="img" aria-label="{label}">'
        f'<path fill="#3b7dd8" shape-rendering="crispEdges" d="{"".join(areas)}"/></svg>'
    )


def _draw_snippets(prediction: Prediction, inputs: npt.NDArray[np.uint8]) -> str:
    assert prediction.frame_indices is not None, 'there is a result'
    indices = prediction.frame_indices
    num_views, num_groups = len(inputs), len(indices)
    num_shown = max(1, min(num_views, _MAX_PICTURES // (inputs.shape[1] * inputs.shape[2])))
    views = []
    for view in range(num_shown):
        crop, group = divmod(view, num_groups)
        content = _draw_view(prediction, indices[group], inputs[view])
        if num_views > 1:
            is_open = ' open' if view == 0 else ''
            title = f'View {view}: crop {crop}, group {group} of snippets'
            content = f'<details{is_open}><summary>{title}</summary>{content}</details>'
        views.append(content)
    more = f'<p>{num_shown} of {num_views} views are shown.</p>' if num_shown < num_views else ''
    return (
        '<section><h2>What the network sees</h2><p>The sampled snippets after resizing and cropping. The bar shows '
        f'their positions in the video.</p>{"".join(views)}{more}</section>'
    )


def _draw_maps(maps: ActivationMaps | None, reason: str) -> str:
    """Return the frames of each snippet under the maps of a class."""
    if maps is None:
        return f'<section><h2>Activation maps</h2><p>There are none: {escape(reason)}</p></section>'
    title = f'<h2>Where it finds “{escape(maps.label)}”</h2>'
    view = f'Grad-CAM of <code>{escape(maps.layer)}</code> in the center of one view.'
    if maps.is_empty:
        return f'<section>{title}<p>{view} All maps are zero: nothing in this layer speaks for the class.</p></section>'
    scaled, shares, rows = maps.scaled(), maps.shares(), []
    num_shown = max(1, min(len(maps.frames), _MAX_PICTURES // maps.frames.shape[1]))
    for u in range(num_shown):
        pictures = ''.join(
            f'<figure><img src="{jpeg_uri(blend(maps.frames[u, t], scaled[u, t]), _JPEG_QUALITY)}" '
            f'alt="map of frame {index}"><figcaption>frame {index}</figcaption></figure>'
            for t, index in enumerate(maps.frame_indices[u].tolist())
        )
        share = f'{100 * shares[u]:.0f}% of the sum of all maps'
        rows.append(f'<div class="snippet"><b>Snippet {u}</b>, {share}<div class="frames">{pictures}</div></div>')
    more = f'<p>{num_shown} of {len(maps.frames)} snippets are shown.</p>' if num_shown < len(maps.frames) else ''
    return (
        f'<section id="maps">{title}<p>{view} Blue is nothing; red speaks most for the class in this video.</p>'
        f'{"".join(rows)}{more}</section>'
    )


def _draw_kernels(kernels: Kernels | None) -> str:
    if kernels is None:
        return '<section><h2>DSA kernels</h2><p>The model has no DSA, so it generates no kernels.</p></section>'
    return (
        f'<section id="kernels"><h2>DSA kernels</h2><p>The kernels of this video. {EXPLANATION}</p>'
        f'{draw_kernel_panels(kernels)}</section>'
    )


def _draw_view(prediction: Prediction, frame_indices: npt.NDArray[np.int64], frames: npt.NDArray[np.uint8]) -> str:
    """Return a view: the positions of its snippets, then their frames, (U, T, H, W, 3)."""
    num_snippets = len(frames)
    colors = ['#{:02x}{:02x}{:02x}'.format(*snippet_color(u, num_snippets)) for u in range(num_snippets)]
    fps = prediction.num_frames / prediction.seconds if prediction.seconds else None
    rows = []
    for u, (indices, images) in enumerate(zip(frame_indices.tolist(), frames, strict=True)):
        times = [f'{index / fps:.2f}' for index in (indices[0], indices[-1])] if fps else []
        time = f', {"–".join(dict.fromkeys(times))} s' if times else ''
        pictures = ''.join(
            f'<figure><img src="{jpeg_uri(image, _JPEG_QUALITY)}" alt="frame {index} of snippet {u}">'
            f'<figcaption>frame {index}</figcaption></figure>'
            for index, image in zip(indices, images, strict=True)
        )
        rows.append(
            f'<div class="snippet"><span class="swatch" style="background:{colors[u]}"></span><b>Snippet {u}</b>{time}'
            f'<div class="frames">{pictures}</div></div>'
        )
    single = ' class="single"' if frame_indices.shape[1] == 1 else ''  # snippets of one frame are side by side
    return f'{_draw_positions(frame_indices, colors, prediction.num_frames)}<div{single}>{"".join(rows)}</div>'


def _draw_positions(frame_indices: npt.NDArray[np.int64], colors: Sequence[str], num_frames: int) -> str:
    width = max(1000 / num_frames, 2.0)
    marks = ''.join(
        f'<rect x="{1000 * index / num_frames:.2f}" y="0" width="{width:.2f}" height="16" fill="{color}"/>'
        for indices, color in zip(frame_indices.tolist(), colors, strict=True)
        for index in indices
    )
    return (
        '<svg class="positions" viewBox="0 0 1000 16" preserveAspectRatio="none" role="img" '
        f'aria-label="positions of {len(colors)} snippets in {num_frames} frames">{marks}</svg>'
    )
