"""Pictures of a dataset for people: histograms, and sheets of frames with captions.

A sheet is drawn pixel by pixel, so that frames show as the network sees them; matplotlib only writes on it.
"""

import itertools
import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dsanet.utils.files import replacing, write_atomically
from dsanet.utils.text import printable

Image = npt.NDArray[np.uint8]

DPI = 100
POINTS = 72 / DPI  # of a pixel
MARGIN = 12  # pixels around a sheet
MOST_COLUMNS = 32  # frames beside each other


@dataclass
class Sheet:
    """A white picture with frames and captions on it.

    Args:
        width, height: pixels.
    """

    width: int
    height: int
    pixels: Image = field(init=False)
    _texts: list[tuple[float, float, str, dict[str, Any]]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.pixels = np.full((self.height, self.width, 3), 255, np.uint8)

    def paste(self, image: Image, left: int, top: int) -> None:
        """Put an image (H, W, 3) on the sheet."""
        height, width, _ = image.shape
        self.pixels[top : top + height, left : left + width] = image

    def write(self, text: str, left: float, top: float, size: int = 13, color: str = 'black', **style: Any) -> None:
        """Put a text on the sheet, ``size`` pixels high; ``style`` is matplotlib's."""
        self._texts.append((left, top, text, {'fontsize': size * POINTS, 'color': color, **style}))

    def draw(self) -> Image:
        """Return the sheet with its captions, (height, width, 3)."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(self.width / DPI, self.height / DPI), dpi=DPI)
        canvas = FigureCanvasAgg(figure)
        figure.figimage(self.pixels)
        for left, top, text, style in self._texts:
            x, y = left / self.width, 1 - top / self.height
            figure.text(x, y, escape_math(text), va='top', **style)
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', message='Glyph')  # a class name in a script that the font lacks
            canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()

    def save(self, file: Path) -> None:
        """Write a PNG, as a whole or not at all."""
        save_png(self.draw(), file)


def save_png(image: Image, file: Path) -> None:
    """Write an RGB image (H, W, 3) as a PNG, as a whole or not at all.

    Raises:
        OSError: it cannot be written, or has more pixels than a PNG may have.
    """
    is_encoded, data = cv2.imencode('.png', cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not is_encoded:
        raise OSError(f'cannot write {file}: {image.shape[1]} x {image.shape[0]} pixels are no PNG')
    write_atomically(data.tobytes(), file)


def escape_math(text: str) -> str:
    """Return a text as matplotlib wants it; a $ would start a formula."""
    return printable(text).replace('$', r'\$')


def fit_into(image: Image, width: int, height: int, background: int = 235) -> Image:
    """Return the image as large as fits into a box, in the middle of it; its aspect ratio stays."""
    scale = min(width / image.shape[1], height / image.shape[0])
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    resized = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)
    box = np.full((height, width, 3), background, np.uint8)
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    box[top : top + size[1], left : left + size[0]] = resized
    return box


def shorten(text: str, length: int) -> str:
    """Return a text of at most ``length`` characters, the middle left out: names differ at their ends."""
    if len(text) <= length:
        return text
    keep = max(length - 1, 2)
    return f'{text[: keep - keep // 2]}…{text[len(text) - keep // 2 :]}'


# -- samples of each class ---------------------------------------------------------------------------------------------


def draw_classes(
    blocks: Sequence[tuple[str, Sequence[tuple[Image, str]]]], title: str, columns: int, cell: tuple[int, int]
) -> Image:
    """Draw one block a class: its name, and under it some frames with captions.

    Args:
        blocks: by class its heading, and its frames with a caption each.
        title: heads the sheet.
        columns: frames of a class.
        cell: width and height of a frame.

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
            sheet.write(shorten('no video to show', block_width // 8), left, top + heading + 8, color='tab:red')
    return sheet.draw()


def pages(items: Sequence[Any], length: int) -> Iterable[Sequence[Any]]:
    """Cut a sequence into pieces of at most ``length``."""
    return (items[start : start + length] for start in range(0, len(items), length))


# -- what the network sees ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SeenSample:
    """One sample as the network gets it, and where it comes from. Letters as in ``dsanet``; G groups of views.

    Args:
        inputs: uint8 (V, U, T, H, W, 3); crop-major: the G groups of crop 0, then those of crop 1, ...
        whole: the first frame of each snippet before augmentation, small: (G, U, h, w, 3).
        frame_indices: (G, U, T).
        num_frames: of the video.
        headings: lines about it.
    """

    inputs: Image
    whole: Image
    frame_indices: npt.NDArray[np.int64]
    num_frames: int
    headings: Sequence[str]

    def name_of_view(self, view: int) -> str:
        """Return what tells a view from the others; nothing if there is one."""
        num_groups = len(self.frame_indices)
        num_crops = len(self.inputs) // num_groups
        parts = [f'crop {view // num_groups}'] * (num_crops > 1) + [f'group {view % num_groups}'] * (num_groups > 1)
        return ', '.join(parts)


SNIPPET_COLORS = ((31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189), (140, 86, 75))
_LINE, _BAR, _CAPTION, _GAP = 18, 4, 14, 4  # pixels: a heading, a snippet's time line, a caption, between frames
_LABELS = 92  # pixels for what stands left of a row
_APART = 12  # pixels between the frames of two crops


def _color(snippet: int) -> tuple[int, int, int]:
    return SNIPPET_COLORS[snippet % len(SNIPPET_COLORS)]


def _hex(color: tuple[int, int, int]) -> str:
    return '#{:02x}{:02x}{:02x}'.format(*color)


def _bands(sample: SeenSample) -> list[Sequence[int]]:
    """Return which crops stand side by side: all of them, unless that would be too wide."""
    num_crops = len(sample.inputs) // len(sample.frame_indices)
    return list(pages(range(num_crops), max(1, MOST_COLUMNS // sample.inputs.shape[2])))


def height_of(sample: SeenSample, cell: int) -> int:
    """Return how many pixels of a sheet a sample takes up."""
    num_groups, snippets = sample.frame_indices.shape[:2]
    rows = num_groups * len(_bands(sample)) * snippets * (cell + _CAPTION + _GAP)
    return _height_of_heading(sample) + rows + 14


def _height_of_heading(sample: SeenSample) -> int:
    num_groups, snippets = sample.frame_indices.shape[:2]
    return len(sample.headings) * _LINE + num_groups * (snippets * _BAR + 2) + 10


def draw_samples(samples: Sequence[SeenSample], title: str, cell: int) -> Image:
    """Draw samples below each other: a row a snippet, the whole first frame, then all frames as the network sees them.

    Several crops of a snippet stand side by side. Above the rows a line for each snippet shows where in the video its
    frames lie.

    Args:
        samples: the samples.
        title: heads the sheet.
        cell: pixels that a frame is fitted into.

    Returns:
        The sheet, (H, W, 3).
    """
    crops = [len(_bands(sample)[0]) for sample in samples]
    columns = 1 + max(n * sample.inputs.shape[2] for n, sample in zip(crops, samples, strict=True))
    width = 2 * MARGIN + _LABELS + columns * (cell + _GAP) + max(crops) * _APART
    width = max(width, 2 * MARGIN + 620)  # the headings need so much
    sheet = Sheet(width, 2 * MARGIN + 30 + sum(height_of(sample, cell) for sample in samples))
    sheet.write(shorten(title, width // 10), MARGIN, MARGIN, size=18, weight='bold')
    top = MARGIN + 32
    for sample in samples:
        _draw_sample(sheet, sample, top, cell)
        top += height_of(sample, cell)
    return sheet.draw()


def _draw_sample(sheet: Sheet, sample: SeenSample, top: int, cell: int) -> None:
    top = _draw_heading(sheet, sample, top)
    num_groups, snippets, frames = sample.frame_indices.shape
    several = len(sample.inputs) > num_groups
    for group, crops, snippet in itertools.product(range(num_groups), _bands(sample), range(snippets)):
        sheet.write(f'snippet {snippet}', MARGIN, top + 2, color=_hex(_color(snippet)), weight='bold')
        if num_groups > 1:
            sheet.write(f'group {group}', MARGIN, top + 20, size=12)
        left = MARGIN + _LABELS
        sheet.paste(fit_into(sample.whole[group, snippet], cell, cell), left, top)
        sheet.write('whole frame', left, top + cell + 1, size=10, color='dimgray')
        left += cell + _GAP
        for crop in crops:
            left += _APART
            for number in range(frames):
                frame = sample.inputs[crop * num_groups + group, snippet, number]
                sheet.paste(fit_into(frame, cell, cell), left, top)
                name = f'crop {crop}, ' if several and number == 0 else ''
                text = f'{name}frame {sample.frame_indices[group, snippet, number]}'
                sheet.write(shorten(text, cell // 5), left, top + cell + 1, size=10, color='dimgray')
                left += cell + _GAP
        top += cell + _CAPTION + _GAP


def _draw_heading(sheet: Sheet, sample: SeenSample, top: int) -> int:
    """Write about a sample, and draw where in the video its frames lie; returns where the rows begin."""
    for number, text in enumerate(sample.headings):
        style = {'size': 14, 'weight': 'bold'} if number == 0 else {'size': 12}
        letter = 8 if number == 0 else 6.4  # pixels, about
        sheet.write(shorten(text, int((sheet.width - 2 * MARGIN) / letter)), MARGIN, top, **style)
        top += _LINE
    length = sheet.width - 2 * MARGIN
    for group in sample.frame_indices:
        for snippet, indices in enumerate(group):  # a line each, because snippets may overlap
            bar = np.full((_BAR, length, 3), 225, np.uint8)
            for index in indices:
                left = int(index) * length // sample.num_frames
                right = max((int(index) + 1) * length // sample.num_frames, left + 2)
                bar[:, left:right] = _color(snippet)
            sheet.paste(bar, MARGIN, top)
            top += _BAR
        top += 2
    return top + 10


def draw_moments(sample: SeenSample, cell: int) -> list[Image]:
    """Draw a sample as a short film: a column a snippet, a row a view, and one picture for each frame of a snippet.

    Args:
        sample: the sample.
        cell: pixels that a frame is fitted into.

    Returns:
        T pictures (H, W, 3), of even height and width.
    """
    views, snippets, frames = sample.inputs.shape[:3]
    num_groups = len(sample.frame_indices)
    row = cell + 2 * _CAPTION + _GAP
    width = max(2 * MARGIN + snippets * (cell + _GAP), 2 * MARGIN + 420)
    height = 2 * MARGIN + _height_of_heading(sample) + views * row
    pictures = []
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
        pictures.append(sheet.draw())
    return pictures


def save_clip(pictures: Sequence[Image], file: Path, fps: float, loops: int) -> None:
    """Write pictures (H, W, 3), of even height and width, as an MP4, as a whole or not at all.

    Args:
        pictures: one after the other.
        file: where to.
        fps: pictures a second.
        loops: how often they are shown.

    Raises:
        OSError: it cannot be written; or another error of the encoder.
    """
    from fractions import Fraction

    import av

    with replacing(file) as target, av.open(target, 'w', format='mp4') as container:
        stream: Any = container.add_stream('libx264', rate=Fraction(fps).limit_denominator(1000))
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = 'yuv420p'
        stream.options = {'crf': '18', 'preset': 'veryfast'}
        for picture in [*pictures] * loops:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format='rgb24')))
        container.mux(stream.encode(None))
