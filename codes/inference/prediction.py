"""The result for one video."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Prediction:
    """The classes of one video, or the reason why it could not be read. Comparing two of them ignores the arrays.

    Args:
        video: path, URL or name of the video.
        labels: names of the best classes, the best first.
        scores: their outputs of the network, averaged over the views; probabilities with ``average_views='prob'``.
        probabilities: their probabilities.
        num_views: number of views that were averaged.
        num_frames: number of frames of the video.
        seconds: length of the video; None if its frame rate is unknown.
        all_scores: (K,) float32, outputs for all classes by number, as in a result file of ``dsanet test``.
        frame_indices: (G, U, T) int64, frames of the snippets in each group of views; crops use the same frames.
        error: why there is no result; None if there is one.
    """

    video: str
    labels: Sequence[str] = ()
    scores: Sequence[float] = ()
    probabilities: Sequence[float] = ()
    num_views: int = 0
    num_frames: int = 0
    seconds: float | None = None
    all_scores: npt.NDArray[np.float32] | None = field(default=None, repr=False, compare=False)
    frame_indices: npt.NDArray[np.int64] | None = field(default=None, repr=False, compare=False)
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the result without arrays, for JSON; a video without a result has only ``video`` and ``error``."""
        if self.error is not None:
            return {'video': self.video, 'error': self.error}
        return {
            'video': self.video,
            'labels': list(self.labels),
            'scores': list(self.scores),
            'probabilities': list(self.probabilities),
            'num_views': self.num_views,
            'num_frames': self.num_frames,
            'seconds': self.seconds,
        }
