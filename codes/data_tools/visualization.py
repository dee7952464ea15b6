"""Draw sheets of frames with captions, and clips.

Frames are copied pixel by pixel, so that they look exactly as the network sees them; matplotlib only draws the text.
"""

import bisect
import contextlib
import functools
import io
import itertools
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dsanet.utils.files import open_atomically, write_atomically
from dsanet.utils.text import printable_lines

Image = npt.NDArray[np.uint8]

DPI = 100
POINTS = 72 / DPI  # points per pixel
MARGIN = 12  # pixels around a sheet


@dataclass
class Sheet:
    """A white image to place frames and captions on, with a size in pixels."""

    width: int
    height: int
    pixels: Image = field(init=False)
    _texts: list[tuple[float, float, str, dict[str, Any]]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.pixels = np.full((self.height, self.width, 3), 255, np.uint8)

    def paste(self, image: Image, left: int, top: int) -> None:
        """Copy an image (H, W, 3) to the sheet."""
        height, width, _ = image.shape
        self.pixels[top : top + height, left : left + width] = image

    def write(
        self,
        text: str,
        left: float,
        top: float,
        size: int = 13,
        color: str = 'black',
        weight: str = 'normal',
        width: float | None = None,
    ) -> None:
        """Write text of ``size`` pixels, shortened in the middle to ``width`` pixels, or to the edge of the sheet."""
        width = self.width - left if width is None else width
        style = {'fontsize': size * POINTS, 'color': color, 'weight': weight}
        self._texts.append((left, top, shorten_to_width(text, width, size, weight), style))

    def draw(self) -> Image:
        """Render the sheet with its captions, (height, width, 3)."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(self.width / DPI, self.height / DPI), dpi=DPI)
        canvas = FigureCanvasAgg(figure)
        figure.figimage(self.pixels)
        for left, top, text, style in self._texts:
            x, y = left / self.width, 1 - top / self.height
            figure.text(x, y, escape_math(text), va='top', **style)
        with missing_glyphs_allowed():
            canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def save_png(image: Image, file: Path) -> None:
    """Write an RGB image (H, W, 3) as PNG, atomically."""
    try:
        is_encoded, data = cv2.imencode('.png', cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    except cv2.error:  # older versions of OpenCV
        is_encoded = False
    if not is_encoded:
        raise OSError(f'cannot write {file}: OpenCV cannot encode {image.shape[1]} x {image.shape[0]} pixels as PNG')
    write_atomically(data.tobytes(), file)


def save_figure(figure: Any, file: Path, dpi: int) -> None:
    """Write a figure of matplotlib atomically; the extension of the file sets the format."""
    stream = io.BytesIO()
    with missing_glyphs_allowed():
        figure.savefig(stream, dpi=dpi, format=file.suffix.lstrip('.').lower())
    write_atomically(stream.getvalue(), file)


def escape_math(text: str) -> str:
    """Escape text for matplotlib, where $ starts a formula."""
    return printable_lines(text).replace('$', r'\$')


def fit_into(image: Image, width: int, height: int, background: int = 235) -> Image:
    """Resize an image to fit into a box, keeping its aspect ratio, and center it."""
    scale = min(width / image.shape[1], height / image.shape[0])
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    resized = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)
    box = np.full((height, width, 3), background, np.uint8)
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    box[top : top + size[1], left : left + size[0]] = resized
    return box


def shorten(text: str, length: int) -> str:
    """Shorten text to at most ``length`` characters by removing the middle, because names differ at their ends."""
    if len(text) <= length:
        return text
    keep = max(length - 1, 2)
    return f'{text[: keep - keep // 2]}…{text[len(text) - keep // 2 :]}'


@contextlib.contextmanager
def missing_glyphs_allowed() -> Iterator[None]:
    """Do not warn of characters that the font does not have; they are drawn as boxes."""
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='Glyph')
        yield


@functools.lru_cache(maxsize=1)
def _renderer() -> Any:
    from matplotlib.backends.backend_agg import RendererAgg

    return RendererAgg(1, 1, DPI)


def text_width(text: str, size: int, weight: str = 'normal') -> float:
    """Return the width in pixels of text of ``size`` pixels, as :class:`Sheet` draws it."""
    from matplotlib.font_manager import FontProperties

    with missing_glyphs_allowed():
        font = FontProperties(size=size * POINTS, weight=weight)
        width: float = _renderer().get_text_width_height_descent(printable_lines(text), font, ismath=False)[0]
    return width


def shorten_to_width(text: str, width: float, size: int, weight: str = 'normal') -> str:
    """Shorten text to at most ``width`` pixels, but to no less than its first and last character."""
    if text_width(text, size, weight) <= width:
        return text
    lengths = range(2, len(text))
    best = bisect.bisect_right(lengths, width, key=lambda n: text_width(shorten(text, n), size, weight))
    return shorten(text, lengths[max(best - 1, 0)]) if lengths else text


def wrap_to_width(text: str, width: float, size: int) -> list[str]:
    """Break text between words into lines of at most ``width`` pixels."""
    lines = ['']
    for word in text.split():
        longer = f'{lines[-1]} {word}'.lstrip()
        if lines[-1] and text_width(longer, size) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


# -- input of the network ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NetworkInput:
    """A sample as the network sees it. Shape letters as in ``dsanet``; G is the number of groups of views.

    Args:
        inputs: uint8 (V, U, T, H, W, 3); crop-major: the G groups of crop 0, then those of crop 1, ...
        whole: first frame of each snippet before augmentation, resized: (G, U, h, w, 3).
        frame_indices: (G, U, T).
        num_frames: number of frames of the video.
        headings: lines of text that describe it.
    """

    inputs: Image
    whole: Image
    frame_indices: npt.NDArray[np.int64]
    num_frames: int
    headings: Sequence[str]

    @property
    def num_crops(self) -> int:
        return len(self.inputs) // len(self.frame_indices)

    def name_of_view(self, view: int) -> str:
        """Return the name of a view; empty if there is only one."""
        num_groups = len(self.frame_indices)
        crop, group = divmod(view, num_groups)
        parts = [f'crop {crop}'] * (self.num_crops > 1) + [f'group {group}'] * (num_groups > 1)
        return ', '.join(parts)


SNIPPET_COLORS = ((31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189), (140, 86, 75))
_LINE, _BAR, _CAPTION, _GAP = 18, 4, 14, 4  # height in pixels of a heading, time bar, caption; gap between frames
_LABELS = 92  # width of the labels at the left of a row
_CROP_GAP = 12  # pixels between the frames of two crops


LETTERS = 'V views, U snippets, C color channels, T frames per snippet, H x W height and width in pixels'
SHEET_LEGEND = (
    f'inputs: {LETTERS}. A row is a snippet: first its full first frame, then the frames that the network sees, with '
    'their numbers in the video, counted from 0. The bars show where in the video they are, from its start (left) to '
    'its end (right).'
)
CLIP_LEGEND = (
    f'inputs: {LETTERS}. A column is a snippet as the network sees it. The bars show where in the video its frames '
    'are, from start (left) to end (right).'
)
_LEGEND_LINE = 16  # height in pixels of a line of the legend


def _color(snippet: int) -> tuple[int, int, int]:
    return SNIPPET_COLORS[snippet % len(SNIPPET_COLORS)]


def _hex(color: tuple[int, int, int]) -> str:
    return '#{:02x}{:02x}{:02x}'.format(*color)


def height_of(sample: NetworkInput, cell: int) -> int:
    """Return the height of a sample on a sheet in pixels."""
    num_groups, snippets = sample.frame_indices.shape[:2]
    rows = num_groups * snippets * (cell + _CAPTION + _GAP)
    return _height_of_heading(sample) + rows + 14


def _height_of_heading(sample: NetworkInput) -> int:
    num_groups, snippets = sample.frame_indices.shape[:2]
    return len(sample.headings) * _LINE + num_groups * (snippets * _BAR + 2) + 10


def draw_sheet(samples: Sequence[NetworkInput], title: str, cell: int) -> Image:
    """Draw a row for each snippet of each sample: the full first frame, then all frames as the network sees them.

    Crops of a snippet are side by side. A bar above the rows shows the positions of the frames in the video.

    A frame has ``cell`` x ``cell`` pixels; the sheet is (H, W, 3).
    """
    num_crops = max(sample.num_crops for sample in samples)
    columns = 1 + max(sample.num_crops * sample.inputs.shape[2] for sample in samples)
    width = 2 * MARGIN + _LABELS + columns * (cell + _GAP) + num_crops * _CROP_GAP
    width = max(width, 2 * MARGIN + 620)  # minimum width for the headings
    legend = wrap_to_width(SHEET_LEGEND, width - 2 * MARGIN, 12)
    top = MARGIN + 32 + len(legend) * _LEGEND_LINE
    sheet = Sheet(width, top + MARGIN + sum(height_of(sample, cell) for sample in samples))
    sheet.write(title, MARGIN, MARGIN, size=18, weight='bold', width=width - 2 * MARGIN)
    _draw_legend(sheet, legend, MARGIN + 26)
    for sample in samples:
        _draw_sample(sheet, sample, top, cell)
        top += height_of(sample, cell)
    return sheet.draw()


def _draw_legend(sheet: Sheet, lines: Sequence[str], top: int) -> None:
    for number, line in enumerate(lines):
        sheet.write(line, MARGIN, top + number * _LEGEND_LINE, size=12, color='dimgray')


def _draw_sample(sheet: Sheet, sample: NetworkInput, top: int, cell: int) -> None:
    top = _draw_heading(sheet, sample, top)
    num_groups, snippets, frames = sample.frame_indices.shape
    for group, snippet in itertools.product(range(num_groups), range(snippets)):
        sheet.write(f'snippet {snippet}', MARGIN, top + 2, color=_hex(_color(snippet)), weight='bold')
        if num_groups > 1:
            sheet.write(f'group {group}', MARGIN, top + 20, size=12)
        left = MARGIN + _LABELS
        sheet.paste(fit_into(sample.whole[group, snippet], cell, cell), left, top)
        sheet.write('full frame', left, top + cell + 1, size=10, color='dimgray', width=cell)
        left += cell + _GAP
        for crop in range(sample.num_crops):
            left += _CROP_GAP
            for number in range(frames):
                frame = sample.inputs[crop * num_groups + group, snippet, number]
                sheet.paste(fit_into(frame, cell, cell), left, top)
                name = f'crop {crop}, ' if sample.num_crops > 1 and number == 0 else ''
                text = f'{name}frame {sample.frame_indices[group, snippet, number]}'
                sheet.write(text, left, top + cell + 1, size=10, color='dimgray', width=cell)
                left += cell + _GAP
        top += cell + _CAPTION + _GAP


def _draw_heading(sheet: Sheet, sample: NetworkInput, top: int) -> int:
    """Draw headings and the positions of the frames in the video; return the top of the rows."""
    for number, text in enumerate(sample.headings):
        size, weight = (14, 'bold') if number == 0 else (12, 'normal')
        sheet.write(text, MARGIN, top, size, weight=weight, width=sheet.width - 2 * MARGIN)
        top += _LINE
    length = sheet.width - 2 * MARGIN
    for group in sample.frame_indices:
        for snippet, indices in enumerate(group):  # separate bars, because snippets may overlap
            bar = np.full((_BAR, length, 3), 225, np.uint8)
            for index in indices:
                left = int(index) * length // sample.num_frames
                right = max((int(index) + 1) * length // sample.num_frames, left + 2)
                bar[:, left:right] = _color(snippet)
            sheet.paste(bar, MARGIN, top)
            top += _BAR
        top += 2
    return top + 10


def draw_clip(sample: NetworkInput, cell: int) -> list[Image]:
    """Draw a sample as a clip with one column per snippet and one row per view.

    A frame has ``cell`` x ``cell`` pixels; the clip is T images (H, W, 3) of even height and width.
    """
    views, snippets, frames = sample.inputs.shape[:3]
    num_groups = len(sample.frame_indices)
    row = cell + 2 * _CAPTION + _GAP
    width = max(2 * MARGIN + snippets * (cell + _GAP), 2 * MARGIN + 420)
    legend = wrap_to_width(CLIP_LEGEND, width - 2 * MARGIN, 12)
    bottom = MARGIN + _height_of_heading(sample) + views * row
    height = bottom + len(legend) * _LEGEND_LINE + MARGIN
    images = []
    for number in range(frames):
        sheet = Sheet(width + width % 2, height + height % 2)
        top = _draw_heading(sheet, sample, MARGIN)
        for view in range(views):
            for snippet in range(snippets):
                left = MARGIN + snippet * (cell + _GAP)
                index = sample.frame_indices[view % num_groups, snippet, number]
                sheet.write(f'snippet {snippet}', left, top, color=_hex(_color(snippet)), weight='bold', size=12)
                sheet.paste(fit_into(sample.inputs[view, snippet, number], cell, cell), left, top + _CAPTION + 2)
                text = f'frame {index}'
                if name := sample.name_of_view(view):
                    text = f'{text}, {name}'
                sheet.write(text, left, top + cell + _CAPTION + 3, size=10, color='dimgray', width=cell)
            top += row
        _draw_legend(sheet, legend, bottom)
        images.append(sheet.draw())
    return images


def save_clip(images: Sequence[Image], file: Path, fps: float, loops: int) -> None:
    """Write images (H, W, 3) of even height and width as MP4, ``loops`` times, atomically."""
    from fractions import Fraction

    import av

    with open_atomically(file) as target, av.open(target, 'w', format='mp4') as container:
        stream: Any = container.add_stream('libx264', rate=Fraction(fps).limit_denominator(1000))
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = 'yuv420p'
        stream.options = {'crf': '18', 'preset': 'veryfast'}
        for image in [*images] * loops:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format='rgb24')))
        container.mux(stream.encode(None))
