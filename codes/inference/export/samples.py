"""Clips for comparing an exported file with PyTorch: from a video, or generated.

Letters (see ``dsanet``): V views, U snippets, T frames, C channels, H x W pixels.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from dsanet.datasets.video.readers import Frames
from dsanet.inference.pipelines import build_pipeline, complete_record, find_sampling
from dsanet.inference.sources import Video, find_sources

_NUM_FRAMES = 64
_NUM_DISCS = 12


def draw_video(height: int, width: int, seed: int) -> Frames:
    """Return frames (64, height, width, 3) of colored discs that move over a textured background."""
    rng = np.random.default_rng(seed)
    texture = rng.integers(0, 256, (8, 8, 3), np.uint8)
    background = cv2.resize(texture, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.uint8, copy=False)
    places = rng.uniform(0, 1, (_NUM_DISCS, 2))
    speeds = rng.uniform(-0.03, 0.03, (_NUM_DISCS, 2))
    colors = rng.integers(0, 256, (_NUM_DISCS, 3)).tolist()
    frames = np.stack([background] * _NUM_FRAMES)
    for frame in frames:
        for (x, y), color in zip(places.tolist(), colors, strict=True):
            cv2.circle(frame, (int(x * width), int(y * height)), max(min(height, width) // 8, 1), color, -1)
        places = (places + speeds) % 1
    return frames


def make_views(steps: Sequence[Mapping[str, Any]], video: str | None, number: int) -> tuple[int, Tensor]:
    """Return the number of test views, and different views for a comparison.

    Args:
        steps: of the test pipeline, as in a config.
        video: path of a video or of a folder of frames; None for generated videos.
        number: of views.

    Returns:
        V, and uint8 (number, U, T, H, W, C).

    Raises:
        ValueError: the frames of two videos have different sizes, or the video cannot be read.
    """
    sizes = [step['size'] for step in steps if 'size' in step]
    side = int(max(np.ravel(sizes), default=224)) + 32  # large enough for the crops
    wide, high = _process(steps, draw_video(side, 2 * side, 0)), _process(steps, draw_video(side + 32, side, 1))
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


def find_rate(steps: Sequence[Mapping[str, Any]]) -> float:
    """Return a frame rate for frames that have none: with sampling by time every other frame is used."""
    sampling = find_sampling(steps) or {}
    fps = sampling.get('fps') or sampling.get('frames_per_snippet', 1) / (sampling.get('seconds') or 1)
    return 2.0 * fps


def _process(steps: Sequence[Mapping[str, Any]], video: Video) -> Tensor:
    """Return the views of one video as uint8 (V, U, T, H, W, C)."""
    sources, is_single = find_sources(video, find_rate(steps))
    if not is_single:
        raise ValueError(f'{sources[0].name} is one of several videos; a comparison needs a single one')
    source = sources[0]
    source.check_exists()
    with source.open() as record:
        complete_record(record)
        return build_pipeline(steps, source.kind)(record)['inputs'].movedim(2, -1)  # (V, U, T, H, W, C)
