"""Small videos whose frames encode their index, so that tests can check decoding and cropping.

A frame has nine horizontal stripes. The top stripe is a gradient from black (left) to white (right): its mean shows the
position of a crop. The other eight stripes are the bits of the frame index, black or white; compression, resizing and
crops of full height preserve them.
"""

import os
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
_NUM_STRIPES = 9


def draw_frame(index: int, height: int = 72, width: int = 128) -> Image:
    """Return RGB frame ``index``, from 0 to 255, as uint8 (height, width, 3)."""
    stripe = height // _NUM_STRIPES
    gray = np.zeros((height, width), np.uint8)
    gray[:stripe] = np.linspace(0, 255, width).astype(np.uint8)
    for bit in range(8):
        gray[(bit + 1) * stripe : (bit + 2) * stripe] = 255 * (index >> bit & 1)
    return np.repeat(gray[:, :, None], 3, axis=2)


def draw_frames(num_frames: int, height: int = 72, width: int = 128) -> Image:
    """Return frames 0, 1, ... as uint8 (num_frames, height, width, 3)."""
    return np.stack([draw_frame(index, height, width) for index in range(num_frames)])


def read_index(frame: Any) -> int:
    """Return the index of a frame (height, width, 3), which may be compressed, resized or cropped at the sides."""
    levels = _stripe_levels(np.asarray(frame))
    return sum(int(levels[bit + 1] > 127) << bit for bit in range(8))


def read_center(frame: Any) -> float:
    """Return the horizontal center of a crop: 0 is the left edge of the full frame, 1 the right edge."""
    return float(_stripe_levels(np.asarray(frame))[0]) / 255


def _stripe_levels(frame: Image) -> list[float]:
    """Return the mean gray level of the inner half of each stripe."""
    stripe = frame.shape[0] / _NUM_STRIPES
    return [frame[round((k + 0.25) * stripe) : round((k + 0.75) * stripe)].mean() for k in range(_NUM_STRIPES)]


def write_video(
    path: Any, num_frames: int, height: int = 72, width: int = 128, codec: str = 'libx264', **options: str
) -> str:
    """Write a video with 25 frames per second, a key frame every 12 frames and B-frames; return its path.

    The extension of ``path`` selects the container; ``options`` are encoder options.
    """
    options = {'g': '12', 'bf': '2'} | ({'crf': '15'} if codec == 'libx264' else {'qscale': '3'}) | options
    with av.open(str(path), 'w') as container:
        stream: Any = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, 'yuv420p'
        for index in range(num_frames):
            frame = av.VideoFrame.from_ndarray(draw_frame(index, height, width), format='rgb24')
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return str(path)


def rotate_video(path: Any) -> None:
    """Set the display matrix of an MP4 to a rotation of 90 degrees clockwise, as phones do."""
    with open(path, 'rb') as file:
        data = bytearray(file.read())
    # The matrix starts 40 bytes into the track header: version, times, ids, duration, layer, group, volume.
    start = data.index(b'tkhd') + 4 + 40
    one = 1 << 16
    for place, value in enumerate([0, one, 0, -one, 0, 0, 0, 0, 1 << 30]):
        data[start + 4 * place : start + 4 * place + 4] = value.to_bytes(4, 'big', signed=True)
    with open(path, 'wb') as file:
        file.write(data)


def write_frames(
    folder: Any,
    num_frames: int,
    height: int = 72,
    width: int = 128,
    filename_tmpl: str = 'img_{:05d}.jpg',
    start_index: int = 1,
) -> str:
    """Write a folder of JPEG frames, the first named ``filename_tmpl.format(start_index)``; return its path."""
    os.makedirs(folder)
    for index in range(num_frames):
        file = os.path.join(folder, filename_tmpl.format(index + start_index))
        assert cv2.imwrite(file, draw_frame(index, height, width)), f'cannot write {file}'
    return str(folder)


def write_timed_video(path: Any, ticks: Sequence[int], numbers: Sequence[int], time_base: Fraction) -> str:
    """Write a video with a variable frame rate; return its path.

    Args:
        path: its extension selects the container.
        ticks: when each frame is shown, in units of ``time_base``.
        numbers: what the frames show, see :func:`draw_frame`.
        time_base: seconds.
    """
    with av.open(str(path), 'w') as container:
        stream: Any = container.add_stream('libx264', rate=30, options={'g': '12', 'bf': '2', 'crf': '15'})
        stream.width, stream.height, stream.pix_fmt = 128, 72, 'yuv420p'
        stream.time_base = stream.codec_context.time_base = time_base
        for tick, number in zip(ticks, numbers, strict=True):
            frame = av.VideoFrame.from_ndarray(draw_frame(number), format='rgb24')
            frame.pts, frame.time_base = tick, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return str(path)
