"""Draw sheets of frames with captions, and clips.

Frames are copied pixel by pixel, so that they look exactly as the network sees them; matplotlib only draws the text.
"""

import itertools
import math
import warnings
from collections.abc import Sequence
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

    def write(self, text: str, left: float, top: float, size: int = 13, color: str = 'black', **style: Any) -> None:
        """Write text of ``size`` pixels; ``style`` has further arguments of matplotlib."""
        self._texts.append((left, top, text, {'fontsize': size * POINTS, 'color': color, **style}))

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
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', message='Glyph')  # a character that the font does not have
            canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def save_png(image: Image, file: Path) -> None:
    """Write an RGB image (H, W, 3) as PNG, atomically."""
    is_encoded, data = cv2.imencode('.png', cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not is_encoded:
        raise OSError(f'cannot write {file}: OpenCV cannot encode {image.shape[1]} x {image.shape[0]} pixels as PNG')
    write_atomically(data.tobytes(), file)


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


# -- samples of each class ---------------------------------------------------------------------------------------------


def draw_classes(
    blocks: Sequence[tuple[str, Sequence[tuple[Image, str]]]], title: str, columns: int, cell: tuple[int, int]
) -> Image:
    """Draw a block for each class: a heading and some frames with captions.

    Args:
        blocks: heading of each class, and its frames with captions.
        title: title of the sheet.
        columns: frames per class.
        cell: width and height of a frame in pixels.

    Returns:
        The sheet, (H, W, 3).
    """
    width, height = cell
    gap, heading, caption = 6, 22, 16
    block_width, block_height = columns * (width + gap), heading + height + caption + 12
    across = 2 if len(blocks) > 5 else 1
    down = math.ceil(len(blocks) / across)
    sheet = Sheet(2 * MARGIN + across * block_width + (across - 1) * 24, 2 * MARGIN + 30 + down * block_height)
    sheet.write(title, MARGIN, MARGIN, size=18, weight='bold')
    for number, (name, frames) in enumerate(blocks):
        column, row = divmod(number, down)
        left, top = MARGIN + column * (block_width + 24), MARGIN + 34 + row * block_height
        sheet.write(shorten(name, block_width // 8), left, top, size=15)
        for place, (frame, text) in enumerate(frames):
            x = left + place * (width + gap)
            sheet.paste(fit_into(frame, width, height), x, top + heading)
            sheet.write(shorten(text, width // 5), x, top + heading + height + 2, size=10, color='dimgray')
        if not frames:
            sheet.write(shorten('no readable video', block_width // 8), left, top + heading + 8, color='tab:red')
    return sheet.draw()


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
    sheet = Sheet(width, 2 * MARGIN + 30 + sum(height_of(sample, cell) for sample in samples))
    sheet.write(shorten(title, width // 10), MARGIN, MARGIN, size=18, weight='bold')
    top = MARGIN + 32
    for sample in samples:
        _draw_sample(sheet, sample, top, cell)
        top += height_of(sample, cell)
    return sheet.draw()


def _draw_sample(sheet: Sheet, sample: NetworkInput, top: int, cell: int) -> None:
    top = _draw_heading(sheet, sample, top)
    num_groups, snippets, frames = sample.frame_indices.shape
    for group, snippet in itertools.product(range(num_groups), range(snippets)):
        sheet.write(f'snippet {snippet}', MARGIN, top + 2, color=_hex(_color(snippet)), weight='bold')
        if num_groups > 1:
            sheet.write(f'group {group}', MARGIN, top + 20, size=12)
        left = MARGIN + _LABELS
        sheet.paste(fit_into(sample.whole[group, snippet], cell, cell), left, top)
        sheet.write('full frame', left, top + cell + 1, size=10, color='dimgray')
        left += cell + _GAP
        for crop in range(sample.num_crops):
            left += _CROP_GAP
            for number in range(frames):
                frame = sample.inputs[crop * num_groups + group, snippet, number]
                sheet.paste(fit_into(frame, cell, cell), left, top)
                name = f'crop {crop}, ' if sample.num_crops > 1 and number == 0 else ''
                text = f'{name}frame {sample.frame_indices[group, snippet, number]}'
                sheet.write(shorten(text, cell // 5), left, top + cell + 1, size=10, color='dimgray')
                left += cell + _GAP
        top += cell + _CAPTION + _GAP


def _draw_heading(sheet: Sheet, sample: NetworkInput, top: int) -> int:
    """Draw headings and the positions of the frames in the video; return the top of the rows."""
    for number, text in enumerate(sample.headings):
        style = {'size': 14, 'weight': 'bold'} if number == 0 else {'size': 12}
        letter = 8 if number == 0 else 6.4  # pixels, about
        sheet.write(shorten(text, int((sheet.width - 2 * MARGIN) / letter)), MARGIN, top, **style)
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
    height = 2 * MARGIN + _height_of_heading(sample) + views * row
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
                sheet.write(shorten(text, cell // 5), left, top + cell + _CAPTION + 3, size=10, color='dimgray')
            top += row
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
