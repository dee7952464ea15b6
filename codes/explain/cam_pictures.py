"""Pictures and videos of class activation maps."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from dsanet.data_tools.visualization import MARGIN, Image, Sheet, fit_into, shorten
from dsanet.explain.cam import ActivationMaps
from dsanet.inference.annotation import SnippetBar, draw_text, enlarge, write_video

_COLUMNS = 8
_FPS = 4.0


def draw_maps(maps: ActivationMaps) -> Image:
    """Draw the frames and the maps over them; (H, W, 3).

    A snippet is a row, its frames on the left and the maps on the right. Snippets of a single frame are columns, with
    the maps below the frames.
    """
    num_snippets, num_frames = maps.frames.shape[:2]
    single = num_frames == 1
    columns = min(num_snippets if single else num_frames, _COLUMNS)
    lines = -(-(num_snippets if single else num_frames) // columns)
    cell, gap, heading, caption = (112 if columns > 4 else 128), 6, 20, 16
    half = columns * (cell + gap)
    row = lines * (heading + 2 * cell + gap + caption) if single else heading + lines * (cell + caption) + 8
    width = max(2 * MARGIN + (half if single else 2 * half + 24), 780 if single else 560)
    top = MARGIN + 96
    sheet = Sheet(width, top + (1 if single else num_snippets) * row + MARGIN)
    _draw_header(sheet, maps)
    if single:
        text = 'What the network sees, and below it where it finds the class'
        sheet.write(text, MARGIN, top - 22, weight='bold')
        sheet.write('Percentages: shares of the sum of all maps', MARGIN + 470, top - 22, color='dimgray')
    else:
        sheet.write('What the network sees', MARGIN, top - 22, weight='bold')
        sheet.write('Where it finds the class', MARGIN + half + 24, top - 22, weight='bold')
    scaled, shares = maps.scaled(), maps.shares()
    for u in range(num_snippets):
        x, y = MARGIN, top + u * row
        if single:
            x, y = MARGIN + u % columns * (cell + gap), top + u // columns * (row // lines)
        share = f'snippet {u}: {100 * shares[u]:.0f}%'
        sheet.write(share if single else f'{share} of the sum of all maps', x, y)
        for t in range(num_frames):
            line, column = divmod(t, columns)
            left, high = x + column * (cell + gap), y + heading + line * (cell + caption)
            right, low = (left, high + cell + gap) if single else (left + half + 24, high)  # place of the map
            sheet.paste(fit_into(maps.frames[u, t], cell, cell), left, high)
            sheet.paste(fit_into(blend(maps.frames[u, t], scaled[u, t]), cell, cell), right, low)
            sheet.write(f'frame {maps.frame_indices[u, t]}', left, low + cell + 1, size=10, color='dimgray')
    return sheet.draw()


def write_maps_video(maps: ActivationMaps, file: Path) -> None:
    """Write the frames and the maps over them, side by side in the order of time, as MP4.

    The bar below shows where the snippets lie in the video.
    """
    write_video(_images(maps), file, _FPS)


def blend(frame: Image, heat: npt.NDArray[np.float32]) -> Image:
    """Return a frame (H, W, 3) under the colors of a map (H, W) from 0 to 1."""
    gray = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)[..., None]
    return (0.5 * gray + 0.5 * _colors(heat)).astype(np.uint8)  # (H, W, 3)


def _images(maps: ActivationMaps) -> Iterator[Image]:
    scaled = maps.scaled()
    snippet_bar = SnippetBar(maps.frame_indices[None], maps.num_frames)
    columns = maps.frame_indices.shape[1]
    for position in np.argsort(maps.frame_indices, axis=None, kind='stable'):
        u, t = divmod(int(position), columns)
        frame, index = maps.frames[u, t], int(maps.frame_indices[u, t])
        image = enlarge(np.concatenate([frame, blend(frame, scaled[u, t])], axis=1))
        width = image.shape[1]
        place = f'snippet {u}, frame {index}' + ', all maps are zero' * maps.is_empty
        heading = [draw_text(text, width) for text in (f'{maps.label}  {100 * maps.probability:.1f}%', place)]
        yield np.concatenate([*heading, image, snippet_bar.draw(index, width)])


def _draw_header(sheet: Sheet, maps: ActivationMaps) -> None:
    """Write the class, the source and the color scale."""
    sheet.write(_title(maps), MARGIN, MARGIN, size=18, weight='bold')
    text = f'Grad-CAM of {maps.layer}. {shorten(maps.video, 40)}'
    sheet.write(text, MARGIN, MARGIN + 28, color='dimgray')
    if maps.is_empty:
        sheet.write(
            'All maps are zero: nothing in this layer speaks for this class.', MARGIN, MARGIN + 50, color='firebrick'
        )
    else:
        scale = _colors(np.tile(np.linspace(0, 1, 160, dtype=np.float32), (12, 1)))
        sheet.write('nothing', MARGIN, MARGIN + 50)
        sheet.paste(scale, MARGIN + 60, MARGIN + 52)
        sheet.write('speaks most for the class in this video', MARGIN + 228, MARGIN + 50)


def _title(maps: ActivationMaps) -> str:
    kind = 'predicted' if maps.is_predicted else 'not the predicted class'
    return f'{maps.label}  {100 * maps.probability:.1f}% ({kind}, score {maps.score:.2f})'


def _colors(values: npt.NDArray[np.float32]) -> Image:
    levels = (255 * values.clip(0, 1)).astype(np.uint8)
    return np.asarray(cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB), np.uint8)
