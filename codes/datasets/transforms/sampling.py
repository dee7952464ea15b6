"""Sample the frames of a video: index arithmetic only, without opening videos.

Legend: V views, U snippets of a view, T frames of a snippet, F frames of the video.

SampleSegments spreads the frames of a snippet over one U-th of the video (see its docstring). SampleSnippets uses T
frames that are ``frame_interval`` apart, so a snippet spans ``span = T * frame_interval`` frames::

    frames_per_snippet=3, frame_interval=2 (span 6), num_snippets=2, a video of F=16 frames:
    there are F - span + 1 = 11 possible starts, 0 to 10

    frame      0  1  2  3  4  5  6  7  8  9 10 11 12 13 14 15
    random    [----- 0 ------][----- 1 ------]                 one start drawn in each segment: 0-4, 5-9
    centers          x     x     x     x     x     x           starts (2u + 1) * 11 // 4, that is 2 and 8

If the video is not longer than the span, every snippet starts at frame 0, and indices beyond the end repeat
the last frame: with F=4 each of the two snippets above is frames 0, 2, 3.

Segments are whole numbers of starts; the remaining starts (10 above) are never drawn, as in the 2021 release.
"""

import numpy as np
import numpy.typing as npt

from dsanet.config.registry import TRANSFORMS
from dsanet.datasets.transforms.base import Record, Transform, check_count

Indices = npt.NDArray[np.int64]


def evenly_spaced_indices(num_frames: int, number: int) -> Indices:
    """Return up to ``number`` frame indices (len,), evenly spaced from the first to the last frame."""
    return np.unique(np.linspace(0, num_frames - 1, number).round().astype(np.int64))


def random_starts(num_frames: int, span: int, num_snippets: int, rng: np.random.Generator) -> Indices:
    """Draw one snippet start in each of ``num_snippets`` equal segments of the possible starts.

    If there are fewer possible starts than snippets, draw from all of them and sort.

    Returns:
        (U,), ascending.
    """
    num_starts = max(num_frames - span + 1, 1)
    segment = num_starts // num_snippets
    if segment == 0:
        return np.sort(rng.integers(num_starts, size=num_snippets))
    return np.arange(num_snippets) * segment + rng.integers(segment, size=num_snippets)


def center_starts(num_frames: int, span: int, num_snippets: int) -> Indices:
    """Return the centers (U,) of ``num_snippets`` equal segments of the possible starts."""
    num_starts = max(num_frames - span + 1, 1)
    return (2 * np.arange(num_snippets) + 1) * num_starts // (2 * num_snippets)


def group_into_views(starts: Indices, num_groups: int) -> Indices:
    """Assign the snippets g, g+G, g+2G, ... of (U*G,) to view g; returns (G, U), each view in time order."""
    return starts.reshape(-1, num_groups).transpose()  # (G, U)


def snippet_frames(starts: Indices, frames_per_snippet: int, frame_interval: int, num_frames: int) -> Indices:
    """Return the frames (V, U, T) of snippets with starts (V, U); the last frame repeats beyond the end."""
    indices = starts[:, :, None] + np.arange(frames_per_snippet) * frame_interval
    return np.minimum(indices, num_frames - 1)


def random_segment_frames(num_frames: int, num_parts: int, rng: np.random.Generator) -> Indices:
    """Draw one frame in each of ``num_parts`` parts of the video.

    Every frame belongs to one part, and the lengths of parts differ by at most one frame. With fewer frames than parts
    nothing is drawn: the frames repeat in order, as in ``center_starts``.

    Returns:
        (num_parts,), ascending.
    """
    if num_frames < num_parts:
        return center_starts(num_frames, 1, num_parts)
    edges = np.arange(num_parts + 1) * num_frames // num_parts
    return rng.integers(edges[:-1], edges[1:])


def _check_one_view(random: bool, num_groups: int) -> None:
    if random and num_groups > 1:
        raise ValueError(
            f'random=True needs num_groups=1, got num_groups={num_groups}: training uses one view; '
            'set random=False to test several views'
        )


def _num_frames_of(record: Record) -> int:
    num_frames: int = record['num_frames']
    if num_frames < 1:
        raise ValueError(f'num_frames={num_frames}: a video must have at least one frame')
    return num_frames


@TRANSFORMS.register_module()
class SampleSnippets(Transform):
    """Sample U snippets of T frames for each view.

    Args:
        num_snippets: U, snippets of one view.
        frames_per_snippet: T, frames of one snippet.
        frame_interval: distance between two frames of a snippet, in frames.
        num_groups: number of views that are interleaved in time: ``num_groups * num_snippets`` snippets are spread over
            the video, and view g uses every ``num_groups``-th one, starting at g.
        random: draw the starts (training) instead of using the centers (evaluation).
    """

    requires = ('num_frames', 'rng')
    provides = ('frame_indices',)

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
        _check_one_view(random, num_groups)

    def __call__(self, record: Record) -> Record:
        num_frames = _num_frames_of(record)
        span = self.frames_per_snippet * self.frame_interval
        if self.random:
            starts = random_starts(num_frames, span, self.num_snippets, record['rng'])
        else:
            starts = center_starts(num_frames, span, self.num_snippets * self.num_groups)
        views = group_into_views(starts, self.num_groups)
        record['frame_indices'] = snippet_frames(views, self.frames_per_snippet, self.frame_interval, num_frames)
        return record


@TRANSFORMS.register_module()
class SampleSegments(Transform):
    """Sample frames spread over the whole video, one in each of U * T equal parts (TSN, section 3.1).

    T consecutive parts form a snippet, so neighboring frames of a snippet are one U*T-th of the video apart::

        num_snippets=2, frames_per_snippet=3, a video of F=12 frames: 6 parts of 2 frames

        frame      0  1  2  3  4  5  6  7  8  9 10 11
        part      [- 0 -|- 1 -|- 2 -|- 3 -|- 4 -|- 5 -]
        snippet   [------- 0 -------][------- 1 ------]
        random     x        x  x        x  x        x     one frame drawn in each part
        centers       x     x     x     x     x     x     (2p + 1) * 12 // 12: snippets 1, 3, 5 and 7, 9, 11
        2 groups   0  1  0  1  0  1  0  1  0  1  0  1     view 0 uses 0, 2, 4 and 6, 8, 10; view 1 the others

    Parts need not be whole numbers of frames: part p begins at frame ``p * F // (U * T)``, so all frames can be drawn.
    If a video has fewer frames than parts, some parts have no frame: the frames repeat in order, in training
    too, like the centers above (F=4: snippets 0, 1, 1 and 2, 3, 3). With groups the same applies to their U * T * G
    smaller parts, so the views of a short video share frames.

    Args:
        num_snippets: U, snippets of one view; 1 for models without snippets (TSN, TSM, TAM, TRN).
        frames_per_snippet: T, frames of one snippet.
        num_groups: G, number of views that are interleaved in time: each part is divided into G smaller ones, and view
            g uses the center of the g-th.
        random: draw the frames (training) instead of using the centers (evaluation).
    """

    requires = ('num_frames', 'rng')
    provides = ('frame_indices',)

    def __init__(self, num_snippets: int, frames_per_snippet: int, num_groups: int = 1, random: bool = False) -> None:
        self.num_snippets = check_count('num_snippets', num_snippets)
        self.frames_per_snippet = check_count('frames_per_snippet', frames_per_snippet)
        self.num_groups = check_count('num_groups', num_groups)
        self.random = random
        _check_one_view(random, num_groups)

    def __call__(self, record: Record) -> Record:
        num_frames = _num_frames_of(record)
        num_parts = self.num_snippets * self.frames_per_snippet
        if self.random:
            frames = random_segment_frames(num_frames, num_parts, record['rng'])
        else:
            frames = center_starts(num_frames, 1, num_parts * self.num_groups)
        views = group_into_views(frames, self.num_groups)
        record['frame_indices'] = views.reshape(-1, self.num_snippets, self.frames_per_snippet)  # (V, U, T)
        return record
