"""Clips for comparing an exported file with PyTorch: from a video, or generated.

Letters (see ``dsanet``): V views, U snippets, T frames, C channels, H x W pixels.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from dsanet.config.registry import TRANSFORMS, build
from dsanet.datasets.transforms.base import Record, Transform
from dsanet.datasets.transforms.compose import Compose
from dsanet.datasets.transforms.decoding import DecodeRawFrames, DecodeVideo, OpenVideo
from dsanet.datasets.video.readers import Frames, Indices, VideoReader

_NUM_FRAMES = 64
_NUM_DISCS = 12


class GeneratedVideo(VideoReader):
    """Colored discs that move over a textured background, different in each frame.

    Args:
        height, width: in pixels.
        seed: of the picture.
    """

    package = 'numpy'

    def __init__(self, height: int, width: int, seed: int) -> None:
        self.path = 'generated video'
        self.num_frames = _NUM_FRAMES
        rng = np.random.default_rng(seed)
        coarse = rng.integers(0, 256, (8, 8, 3), np.uint8)
        self._background = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        self._size = np.array([width, height])
        self._places = rng.uniform(0, 1, (_NUM_DISCS, 2))
        self._speeds = rng.uniform(-0.03, 0.03, (_NUM_DISCS, 2))
        self._colors = rng.integers(0, 256, (_NUM_DISCS, 3)).tolist()

    def _read(self, indices: Indices) -> Frames:
        frames = []
        for index in indices.tolist():
            frame = self._background.copy()
            places = (self._places + index * self._speeds) % 1 * self._size
            for place, color in zip(places.round().astype(int).tolist(), self._colors, strict=True):
                cv2.circle(frame, place, max(int(self._size.min()) // 8, 1), color, -1)
            frames.append(frame)
        return np.stack(frames)  # (len, H, W, 3)

    def close(self) -> None:
        pass


def make_views(pipeline: Sequence[Mapping[str, Any]], video: str | None, number: int) -> tuple[int, Tensor]:
    """Return the number of test views, and different views for a comparison.

    Args:
        pipeline: the configs of the transforms of the test pipeline.
        video: path of a video; None for generated ones.
        number: of views.

    Returns:
        V, and uint8 (number, U, T, H, W, C).

    Raises:
        ValueError: the frames of two videos have different sizes, or the video cannot be read.
    """
    steps = [build(step, TRANSFORMS, f'test_dataloader.dataset.pipeline.{i}') for i, step in enumerate(pipeline)]
    sizes = [step['size'] for step in pipeline if 'size' in step]
    side = int(max(np.ravel(sizes), default=224)) + 32  # large enough for the crops
    wide, high = (
        _process(steps, GeneratedVideo(height, width, seed))
        for seed, (height, width) in enumerate([(side, 2 * side), (side + 32, side)])
    )
    if wide.shape != high.shape:
        raise ValueError(
            f'the frames are {wide.shape[3]} x {wide.shape[4]} or {high.shape[3]} x {high.shape[4]} pixels, depending '
            'on the video, but an exported file has one size; end the test pipeline with a crop, such as CenterCrop'
        )
    found = torch.cat([wide, high]) if video is None else _process(steps, video)  # (views, U, T, H, W, C)
    found = found[np.linspace(0, len(found) - 1, min(number, len(found))).round().astype(int)]
    # If there are too few: flipped, reversed, and both.
    found = torch.cat([found, found.flip(4), found.flip(2), found.flip(2, 4)])
    while len(found) < number:
        found = torch.cat([found, found])
    return len(wide), found[:number]


def _process(steps: Sequence[Transform], video: VideoReader | str) -> Tensor:
    """Return the views of a video file or of an open video as uint8 (V, U, T, H, W, C)."""
    record: Record = {'path': video, 'label': -1, 'index': 0, 'rng': np.random.default_rng(0)}
    if isinstance(video, str):
        openers = [step for step in steps if isinstance(step, OpenVideo)]
        record = OpenVideo(openers[0].decoder if openers else 'pyav', time_limit=None)(record)
    else:
        record |= {'path': video.path, 'reader': video, 'num_frames': video.num_frames}
    # Pipelines for folders of frames, too.
    rest = [DecodeVideo() if isinstance(step, DecodeRawFrames) else step for step in steps]
    rest = [step for step in rest if not isinstance(step, OpenVideo)]
    return Compose(rest, tuple(record), owner='export')(record)['inputs'].movedim(2, -1)  # (V, U, T, H, W, C)
