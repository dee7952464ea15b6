"""What every step of a pipeline is: a record in, the same record out, with some keys added or changed.

=================  ==================================================================================
key                value
=================  ==================================================================================
``path``           str, video file or folder of frames
``label``          int, class from 0 on; float32 (K,) in a dataset with ``multi_hot``
``index``          int, place in the dataset
``rng``            ``numpy.random.Generator`` of this sample, the only source of randomness
``num_frames``     int, frames of the whole video
``filename_tmpl``  str, how frames in a folder are called
``start_index``    int, number of the first frame in a folder
``reader``         an open ``VideoReader``
``frame_indices``  int64 (V, U, T), from 0 on whatever ``start_index`` is
``frames``         uint8 RGB (V*U*T, H, W, 3), in the order of ``frame_indices``; crops multiply V
``inputs``         uint8 tensor (V, U, C, T, H, W)
=================  ==================================================================================
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from dsanet.config.registry import TRANSFORMS

Record = dict[str, Any]


class Transform(ABC):
    """One step. A subclass declares which keys it reads, adds and uses up, so that a chain can be checked.

    Attributes:
        requires: keys that must be there.
        provides: keys that are there afterward.
        removes: keys that are gone afterward.
        classes: class numbers that the step's settings name; the dataset checks that there are such classes.
    """

    registry: ClassVar = TRANSFORMS  # where the steps of a config are looked up
    requires: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    removes: tuple[str, ...] = ()
    classes: tuple[int, ...] = ()

    @abstractmethod
    def __call__(self, record: Record) -> Record:
        """Do the step; ``record`` belongs to the pipeline and may be changed."""


class BadSample(ValueError):
    """A video or a folder of frames that cannot be read: the data are at fault, not the config.

    Args:
        text: the whole message.
        path: the video or folder.
        reason: what is wrong with it.
        source: the list file and line that name it; empty until the dataset adds it.
    """

    def __init__(self, text: str, path: str = '', reason: str = '', source: str = '') -> None:
        super().__init__(text)
        self.path = path
        self.reason = reason
        self.source = source


class MissingSample(BadSample, FileNotFoundError):
    """A video, folder or frame that is not there."""


def check_count(name: str, value: int, low: int = 1) -> int:
    """Return ``value`` if it is a whole number of at least ``low``.

    Raises:
        ValueError: it is not; states name and value.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ValueError(f'{name} must be a whole number of at least {low}, got {value!r}')
    return value
