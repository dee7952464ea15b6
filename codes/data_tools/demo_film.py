"""Make a film of ordered actions with pauses between them, and the segments that a detector should find.

The actions are those of :mod:`dsanet.data_tools.ordered_actions`; a pause shows a background without shapes. The
segments are written in the format of ActivityNet.
"""

import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from dsanet.data_tools.ordered_actions import (
    CLASSES,
    FPS,
    MIN_SIZE,
    NOISE_AMPLITUDE,
    NUM_FRAMES,
    draw_background,
    draw_video,
)
from dsanet.utils.files import check_absent, open_atomically, write_atomically

PAUSE_RANGE = (NUM_FRAMES, 2 * NUM_FRAMES)  # frames


def make_film(file: Path, num_actions: int = 8, seed: int = 0, size: int = 40) -> Path:
    """Write a film that begins and ends with a pause, and its segments as JSON.

    Args:
        file: MP4 file.
        num_actions: number of actions; their classes repeat in random order.
        seed: random seed; equal seeds give equal films.
        size: height and width in pixels.

    Returns:
        The JSON file, with the name of the film.

    Raises:
        ValueError: an argument is out of range, or one of the files exists.
    """
    truth = file.with_suffix('.json')
    check_absent(file)
    check_absent(truth)
    if size < MIN_SIZE or size % 2:
        raise ValueError(f'size must be even and at least {MIN_SIZE} pixels, got {size}')
    segments: list[dict[str, Any]] = []
    num_frames = 0
    with open_atomically(file) as target, av.open(target, 'w', format='mp4') as container:
        stream: Any = container.add_stream('libx264', rate=FPS, options={'preset': 'veryfast', 'qp': '18', 'g': '25'})
        stream.height = stream.width = size
        stream.pix_fmt, stream.codec_context.thread_count = 'yuv420p', 1
        for label, frames in _draw_scenes(num_actions, seed, size):
            start, num_frames = num_frames, num_frames + len(frames)
            if label is not None:
                segments.append({'label': CLASSES[label], 'segment': [start / FPS, num_frames / FPS]})
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format='rgb24')))
        container.mux(stream.encode(None))
    annotation = {'duration': float(Fraction(num_frames, FPS)), 'annotations': segments}
    write_atomically(json.dumps({'database': {file.stem: annotation}}, indent=2).encode() + b'\n', truth)
    return truth


def _draw_scenes(num_actions: int, seed: int, size: int) -> Iterator[tuple[int | None, np.ndarray]]:
    """Yield class and frames (F, size, size, 3) of actions, and of the pauses around them, whose class is None."""
    rng = np.random.default_rng(seed)
    labels: list[int] = []
    while len(labels) < num_actions:
        labels += rng.permutation(len(CLASSES)).tolist()
    for label in labels[:num_actions]:
        yield None, _draw_pause(rng, size)
        yield label, draw_video(label, rng, size)
    yield None, _draw_pause(rng, size)


def _draw_pause(rng: np.random.Generator, size: int) -> np.ndarray:
    num_frames = int(rng.integers(*PAUSE_RANGE, endpoint=True))
    noise = rng.integers(-NOISE_AMPLITUDE, NOISE_AMPLITUDE, size=(num_frames, size, size, 1), endpoint=True)
    return np.clip(np.rint(draw_background(size, rng) + noise), 0, 255).astype(np.uint8)
