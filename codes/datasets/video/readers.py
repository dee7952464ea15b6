"""Video decoders with one interface: RGB frames by index, exactly the requested ones.

The frames of a video are those that the ffmpeg command outputs, in order. Only some containers store when each frame
is shown: MP4/MOV, Matroska/WebM and FLV. There a decoder can seek to the key frame before a requested frame and
recognize the requested one. In others (AVI, MPEG, ...) a seek is inexact (decord on AVI with B-frames: off by 10 frames
or more), so they are decoded from the beginning. A reader refuses a file that it cannot read in this way.
"""

import importlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache, cached_property
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

from dsanet.datasets.video.frame_store import Frames, FrameStore, PlanClips, new_array

LOGGER = logging.getLogger(__name__)
Indices = npt.NDArray[np.int64]
FrameTimes = npt.NDArray[np.float64]  # (F,) ascending, in seconds since the first frame


def constant_rate_times(num_frames: int, fps: float) -> FrameTimes:
    """Return when each frame of a video with a constant frame rate is shown."""
    return np.arange(num_frames) / fps


class VideoReader(ABC):
    """An open video.

    Attributes:
        path: the file.
        num_frames: number of frames that can be read, counted by the same decoder.
        fps: average number of frames per second; None if unknown.
        reuses_memory: True if the memory of returned frames is reused after the reader is closed.
        package: module that must be importable, such as 'av'.
        allocate: returns memory for frames of a shape, for readers that decode frame by frame.
    """

    path: str
    num_frames: int
    fps: float | None = None
    reuses_memory: bool = False
    package: ClassVar[str]
    allocate: Callable[[tuple[int, ...]], Frames] = staticmethod(new_array)

    @cached_property
    def frame_times(self) -> FrameTimes:
        """When each frame is shown, (num_frames,) in seconds since the first frame; found when it is used.

        Raises:
            ValueError: the video does not say it, and its frame rate is unknown.
        """
        return self._find_times()

    def _find_times(self) -> FrameTimes:
        """Find ``frame_times``; readers of files that store them override it."""
        if self.fps is None:
            raise ValueError('neither the times nor the rate of its frames are known')
        return constant_rate_times(self.num_frames, self.fps)

    def read(self, indices: Indices, plan: PlanClips | None = None) -> Frames:
        """Decode frames.

        Args:
            indices: (len,), ascending, without duplicates, from 0 to ``num_frames - 1``.
            plan: called once, with height and width of the frames; returns clips, whose crops are applied to each frame
                as soon as it is decoded. None for whole frames.

        Returns:
            uint8 RGB (len, H, W, 3); with a plan, the frames of the first clip, then of the second, ...
        """
        if not len(indices) or indices[0] < 0 or indices[-1] >= self.num_frames or (np.diff(indices) < 1).any():
            last = self.num_frames - 1
            raise ValueError(f'frame indices must be ascending, without duplicates, from 0 to {last}; got {indices}')
        return self._read(indices) if plan is None else self._read_clips(indices, plan)

    @abstractmethod
    def _read(self, indices: Indices) -> Frames:
        """Decode valid indices."""

    def _read_clips(self, indices: Indices, plan: PlanClips) -> Frames:
        """Decode valid indices, and crop the frames. Readers that decode frame by frame keep no whole frames."""
        allocate, self.allocate = self.allocate, new_array  # the memory is for the result
        try:
            frames = self._read(indices)
        finally:
            self.allocate = allocate
        store = FrameStore(len(frames), allocate, plan)
        for position, frame in enumerate(frames):
            store.put_whole(position, frame)
        return store.frames  # (len, H, W, 3)

    @abstractmethod
    def close(self) -> None:
        """Free the decoder; no frames can be read afterward."""


# Decoders by the name that configs use. 'auto' is the first one whose ``package`` is installed.
READERS: dict[str, Any] = {}  # classes that are called with the path of a video

R = TypeVar('R', bound=type[VideoReader])


def register_reader(name: str) -> Callable[[R], R]:
    """Register a decoder class, for ``decoder='name'`` in a config.

    The class is called with the path of a video, sets ``path`` and ``num_frames``, and has an attribute ``package``.
    """

    def register(cls: R) -> R:
        READERS[name] = cls
        return cls

    return register


def is_installed(decoder: str) -> bool:
    """Return True if the decoder's package can be imported."""
    try:
        importlib.import_module(READERS[decoder].package)
    except (ImportError, OSError, RuntimeError):  # OSError and RuntimeError: a shared library is missing
        return False
    return True


@cache
def first_installed() -> str:
    """Return the first of ``READERS`` whose package can be imported, and log it once per process."""
    for name in READERS:
        if is_installed(name):
            LOGGER.info("Using decoder %r (decoder='auto')", name)
            return name
    packages = ', '.join(reader.package for reader in READERS.values())
    raise ImportError(f"decoder='auto' needs one of the packages {packages}; none of them can be imported")
