"""Films of plain colors, and a recognizer that sees them: its classes are red, green and blue."""

from collections.abc import Sequence
from typing import Any

import av
import numpy as np
import torch
from torch import Tensor, nn

from dsanet.inference.recognizer import Recognizer
from dsanet.models.heads.base import ClsHead
from dsanet.models.losses import BinaryCrossEntropyLoss, CrossEntropyLoss

FPS = 10
COLORS = {'red': (220, 30, 30), 'green': (30, 220, 30), 'blue': (30, 30, 220), 'dark': (25, 25, 25)}
NAMES = ['red', 'green', 'blue']


class ColorModel(nn.Module):
    """Scores are the brightness of each color channel; a dark video has equal scores."""

    num_classes = 3

    def __init__(self, multi_label: bool = False) -> None:
        super().__init__()
        self.cls_head = ClsHead(3, 1, 0.0, BinaryCrossEntropyLoss() if multi_label else CrossEntropyLoss())
        self.calls = 0

    @property
    def activation(self) -> str:
        return self.cls_head.activation

    def optimize(self) -> None:
        """Nothing can be faster."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return scores (N, K) of (N, V, U, C, T, H, W)."""
        self.calls += 1
        return (inputs.float().mean(dim=(1, 2, 4, 5, 6)) - 100) / 10


def make_color_recognizer(multi_label: bool = False) -> Recognizer:
    pipeline = [
        {'type': 'OpenVideo'},
        {'type': 'SampleSnippets', 'num_snippets': 2, 'frames_per_snippet': 2},
        {'type': 'DecodeVideo'},
        {'type': 'Resize', 'short_side': 16},
        {'type': 'CenterCrop', 'size': 16},
        {'type': 'PackInputs'},
    ]
    config = {'test_dataloader': {'batch_size': 2, 'dataset': {'pipeline': pipeline}}}
    model: Any = ColorModel(multi_label)
    return Recognizer(model, config, NAMES, torch.device('cpu'))


def write_color_film(
    path: Any, scenes: Sequence[tuple[str, int]], format: str | None = None, fps: int = FPS, size: int = 32
) -> str:
    """Write a film; each scene is a color and a number of frames. ``path`` may be a file object, with a format."""
    with av.open(path if hasattr(path, 'write') else str(path), 'w', format=format) as container:
        stream: Any = container.add_stream('libx264', rate=fps, options={'g': '8', 'bf': '2'})
        stream.width, stream.height, stream.pix_fmt = size, size, 'yuv420p'
        for color, number in scenes:
            image = np.full((size, size, 3), COLORS[color], np.uint8)
            for _ in range(number):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format='rgb24')))
        container.mux(stream.encode(None))
    return str(path)
