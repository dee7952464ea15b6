"""Copies of videos with what the network says about them."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dsanet.data_tools.visualization import Sheet, shorten
from dsanet.datasets.video.readers import Frames
from dsanet.datasets.video.sequential import read_sequentially
from dsanet.inference.prediction import Prediction
from dsanet.inference.sources import Source
from dsanet.utils.files import open_atomically

_MIN_WIDTH = 320  # pixels; smaller videos are enlarged, so that the text fits
_TEXT_HEIGHT = 30
_TIMELINE_HEIGHT = 14
_DEFAULT_FPS = 25.0
_GRAY, _BLACK = (215, 215, 215), (0, 0, 0)


def annotate_video(source: Source, prediction: Prediction, file: Path) -> None:
    """Write a copy of a video with its best class above, and below a bar of the frames that the network has seen.

    Each snippet has a color of its own on the bar; while one of its frames is shown, the picture has a frame in
    this color.

    Args:
        source: the video.
        prediction: its result.
        file: MP4 file to write.

    Raises:
        ValueError: the video cannot be read.
    """
    assert prediction.frame_indices is not None, 'there is a result'
    fps = prediction.num_frames / prediction.seconds if prediction.seconds else _DEFAULT_FPS
    text = f'{prediction.labels[0]}  {100 * prediction.probabilities[0]:.1f}%'
    snippet_bar = SnippetBar(prediction.frame_indices, prediction.num_frames)
    images = _annotate(_read_frames(source), text, snippet_bar)
    write_video(images, file, fps)


class SnippetBar:
    """A strip that shows which frames belong to which snippet.

    Args:
        frame_indices: (G, U, T).
        num_frames: number of frames of the video.
    """

    def __init__(self, frame_indices: npt.NDArray[np.int64], num_frames: int) -> None:
        self.num_frames = num_frames
        num_snippets = frame_indices.shape[1]
        self.colors = [snippet_color(u, num_snippets) for u in range(num_snippets)]
        self.snippet_of = {int(i): u for u in range(num_snippets) for i in frame_indices[:, u].flat}

    def draw(self, index: int, width: int) -> Frames:
        """Return the strip (H, W, 3), with a mark at frame ``index``."""
        strip = np.full((_TIMELINE_HEIGHT, width, 3), 255, np.uint8)
        strip[4:-4] = _GRAY
        for frame, snippet in self.snippet_of.items():
            left, right = self._span(frame, width)
            strip[3:-3, left:right] = self.colors[snippet]
        left, right = self._span(index, width)
        strip[:, left:right] = _BLACK
        return strip

    def _span(self, index: int, width: int) -> tuple[int, int]:
        left = index * width // self.num_frames
        return left, max(left + 2, (index + 1) * width // self.num_frames)


def snippet_color(snippet: int, num_snippets: int) -> tuple[int, int, int]:
    """Return the RGB color of a snippet."""
    hue = np.uint8(180 * snippet // max(num_snippets, 1))
    red, green, blue = cv2.cvtColor(np.array([[[hue, 200, 230]]], np.uint8), cv2.COLOR_HSV2RGB)[0, 0].tolist()
    return red, green, blue


def draw_text(text: str, width: int) -> Frames:
    """Return a white strip (H, W, 3) with a line of text."""
    sheet = Sheet(width, _TEXT_HEIGHT)
    sheet.write(shorten(text, max(10, width // 8)), 6, 7, size=15)
    return sheet.draw()


def enlarge(image: Frames) -> Frames:
    """Return an image with an even height and width, enlarged by a whole number if there is no room for text."""
    factor = -(-_MIN_WIDTH // image.shape[1])
    image = image.repeat(factor, axis=0).repeat(factor, axis=1)
    return image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2]  # (H, W, 3)


def write_video(images: Iterator[Frames], file: Path, fps: float) -> None:
    """Write images (H, W, 3) of one even height and width as MP4, atomically and one by one."""
    import av

    with open_atomically(file) as target, av.open(target, 'w', format='mp4') as container:
        stream: Any = None
        for image in images:
            if stream is None:
                stream = container.add_stream('libx264', rate=Fraction(fps).limit_denominator(1000))
                stream.height, stream.width = image.shape[:2]
                stream.pix_fmt = 'yuv420p'
                stream.options = {'crf': '18', 'preset': 'veryfast'}
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format='rgb24')))
        if stream is not None:
            container.mux(stream.encode(None))


def _annotate(frames: Iterator[Frames], text: str, snippet_bar: SnippetBar) -> Iterator[Frames]:
    heading: Frames | None = None
    for index, frame in enumerate(frames):
        image = np.ascontiguousarray(enlarge(frame))
        if heading is None:
            heading = draw_text(text, image.shape[1])
        snippet = snippet_bar.snippet_of.get(index)
        if snippet is not None:
            bottom, right = image.shape[0] - 1, image.shape[1] - 1
            cv2.rectangle(image, (0, 0), (right, bottom), snippet_bar.colors[snippet], thickness=6)
        yield np.concatenate([heading, image, snippet_bar.draw(index, image.shape[1])])


def _read_frames(source: Source) -> Iterator[Frames]:
    """Yield all frames of a source, (H, W, 3)."""
    with source.open() as record:
        if source.kind == 'video':
            yield from read_sequentially(record['path'])
        elif source.kind == 'array':
            yield from record['reader'].read(np.arange(record['num_frames']))
        else:
            yield from _read_images(record)


def _read_images(record: dict[str, Any]) -> Iterator[Frames]:
    from dsanet.datasets.transforms.decoding import DecodeRawFrames

    decode = DecodeRawFrames()
    for index in range(record['num_frames']):
        yield decode({**record, 'frame_indices': np.array([[[index]]])})['frames'][0]
