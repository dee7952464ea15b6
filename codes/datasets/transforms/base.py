"""Base class of the pipeline's transforms: each takes a record, adds or changes some keys, and returns it.

=================  ==================================================================================
key                value
=================  ==================================================================================
``path``           str, video file or folder of frames
``span``           (start, end) in seconds, a part of the video file; a limit of the video is None
``label``          int, class number; float32 (K,) in a dataset with ``multi_hot``
``index``          int, index in the dataset
``rng``            ``numpy.random.Generator`` of this sample, the only source of randomness
``num_frames``     int, number of frames of the video
``filename_tmpl``  str, file names of the frames in a folder
``start_index``    int, number of the first frame in a folder
``fps``            float, average frames per second of the video; None if unknown
``reader``         an open ``VideoReader``
``frame_indices``  int64 (V, U, T), starting at 0, whatever ``start_index`` is
``frame_times``    float64 (V, U, T), seconds from the first frame to each of them, if they are sampled by time
``frames``         uint8 RGB (V*U*T, H, W, 3), in the order of ``frame_indices``; crops multiply V
``inputs``         uint8 tensor (V, U, C, T, H, W)
=================  ==================================================================================
"""

import numbers
from abc import ABC, abstractmethod
from typing import Any, ClassVar

from dsanet.config.registry import TRANSFORMS

Record = dict[str, Any]


class Transform(ABC):
    """One step of a pipeline. It declares its keys, so that a pipeline can be checked before it runs.

    Attributes:
        requires: keys that the record must have.
        provides: keys that the record has afterward.
        removes: keys that the record no longer has afterward.
        classes: class numbers in the options of the step; the dataset checks that these classes exist.
    """

    registry: ClassVar = TRANSFORMS  # for the steps of a config
    requires: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    removes: tuple[str, ...] = ()
    classes: tuple[int, ...] = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for old, new in (('needs', 'requires'), ('gives', 'provides')):
            if old in vars(cls):
                raise TypeError(f'{cls.__name__}.{old}: this attribute is now named {new!r}')

    @abstractmethod
    def __call__(self, record: Record) -> Record:
        """Apply the step; ``record`` may be changed in place."""


class SampleError(ValueError):
    """A sample cannot be made, for example because a crop is larger than the frames. The message names the video."""


class BadSample(SampleError):
    """A video or folder of frames that cannot be read: an error of the data, not of the config.

    Args:
        text: the complete message.
        path: the video or folder, with the span if there is one.
        reason: cause of the error.
        source: list file and line; empty until the dataset adds it.
    """

    def __init__(self, text: str, path: str = '', reason: str = '', source: str = '') -> None:
        super().__init__(text)
        self.path = path
        self.reason = reason
        self.source = source


class BadSpan(BadSample):
    """A span that is outside of its video, or has no frames: an error of the list."""


class MissingSample(BadSample, FileNotFoundError):
    """A video, folder or frame that does not exist."""


def check_count(name: str, value: int, low: int = 1) -> int:
    """Return ``value`` if it is an integer of at least ``low``; otherwise raise a ValueError."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ValueError(f'{name} must be an integer >= {low}, got {value!r}')
    return value


def check_number(name: str, value: float, low: float, high: float) -> float:
    """Return ``value`` if it is a number from ``low`` to ``high``; otherwise raise a ValueError."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not low <= value <= high:
        raise ValueError(f'{name} must be a number from {low:g} to {high:g}, got {value!r}')
    return value
