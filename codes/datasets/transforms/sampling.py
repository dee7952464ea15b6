"""Which frames of a video are looked at. Index arithmetic only: no video is opened here.

Legend: V views, U snippets of a view, T frames of a snippet, F frames of the video.

A snippet is T frames, ``frame_interval`` apart, and takes up ``span = T * frame_interval`` frames::

    frames_per_snippet=3, frame_interval=2 (span 6), num_snippets=2, a video of F=16 frames:
    there are F - span + 1 = 11 possible starts, 0 to 10

    frame      0  1  2  3  4  5  6  7  8  9 10 11 12 13 14 15
    random    [----- 0 ------][----- 1 ------]                 one start drawn in each segment: 0-4, 5-9
    centres          x     x     x     x     x     x           starts (2u + 1) * 11 // 4, that is 2 and 8

If the video is no longer than the span, every snippet starts at frame 0, and indices beyond the end repeat
the last frame: with F=4 each of the two snippets above is frames 0, 2, 3.

Starts that remain when the segments are cut in whole frames (10 above) are never drawn, as in
the 2021 release.
"""

import numpy as np
import numpy.typing as npt

from codes.datasets.transforms.base import Record, Transform, check_count
from codes.registry import TRANSFORMS

Indices = npt.NDArray[np.int64]


def random_starts(num_frames: int, span: int, num_snippets: int, rng: np.random.Generator) -> Indices:
    """Draw one snippet start in each of ``num_snippets`` equal segments of the possible starts.

    With fewer possible starts than snippets, sorted starts are drawn from all of them.

    Returns:
        (U,), ascending.
    """
    num_starts = max(num_frames - span + 1, 1)
    segment = num_starts // num_snippets
    if segment == 0:
        return np.sort(rng.integers(num_starts, size=num_snippets))
    return np.arange(num_snippets) * segment + rng.integers(segment, size=num_snippets)


def centre_starts(num_frames: int, span: int, num_snippets: int) -> Indices:
    """Return the centre of each of ``num_snippets`` equal segments of the possible starts.

    Returns:
        (U,), ascending.
    """
    num_starts = max(num_frames - span + 1, 1)
    return (2 * np.arange(num_snippets) + 1) * num_starts // (2 * num_snippets)


def group_into_views(starts: Indices, num_groups: int) -> Indices:
    """Give view g the snippets g, g+G, g+2G, ... of G groups.

    Args:
        starts: (U*G,).
        num_groups: G.

    Returns:
        (G, U), each view in time order.
    """
    return starts.reshape(-1, num_groups).transpose()  # (G, U)


def snippet_frames(starts: Indices, frames_per_snippet: int, frame_interval: int, num_frames: int) -> Indices:
    """Return the frames of the snippets that start at ``starts``; beyond the end the last frame repeats.

    Args:
        starts: (V, U).

    Returns:
        (V, U, T), each from 0 to ``num_frames - 1``.
    """
    indices = starts[:, :, None] + np.arange(frames_per_snippet) * frame_interval
    return np.minimum(indices, num_frames - 1)


@TRANSFORMS.register_module()
class SampleSnippets(Transform):
    """Choose the frames of a video: U snippets of T frames for each view.

    Args:
        num_snippets: U, snippets of one view.
        frames_per_snippet: T, frames of one snippet.
        frame_interval: distance of two frames of a snippet, in frames.
        num_groups: views that are interleaved in time: ``num_groups * num_snippets`` snippets are spread over
            the video, and view g takes every ``num_groups``-th from g on.
        random: draw the starts (training) instead of taking the centres (evaluation).

    Raises:
        ValueError: a number below 1, or random views: training looks at one view.
    """

    needs = ('num_frames', 'rng')
    gives = ('frame_indices',)

    def __init__(
        self,
        num_snippets: int,
        frames_per_snippet: int,
        frame_interval: int = 1,
        num_groups: int = 1,
        random: bool = False,
    ) -> None:
        self.num_snippets = check_count('num_snippets', num_snippets)
        self.frames_per_snippet = check_count('frames_per_snippet', frames_per_snippet)
        self.frame_interval = check_count('frame_interval', frame_interval)
        self.num_groups = check_count('num_groups', num_groups)
        self.random = random
        if random and num_groups > 1:
            raise ValueError(
                f'random=True goes with num_groups=1, got num_groups={num_groups}: random snippets are for '
                'training, which looks at one view; several views are for testing, with random=False'
            )

    def __call__(self, record: Record) -> Record:
        num_frames = record['num_frames']
        if num_frames < 1:
            raise ValueError(f'num_frames={num_frames}: a video needs at least one frame')
        span = self.frames_per_snippet * self.frame_interval
        if self.random:
            starts = random_starts(num_frames, span, self.num_snippets, record['rng'])
        else:
            starts = centre_starts(num_frames, span, self.num_snippets * self.num_groups)
        views = group_into_views(starts, self.num_groups)
        record['frame_indices'] = snippet_frames(views, self.frames_per_snippet, self.frame_interval, num_frames)
        return record
