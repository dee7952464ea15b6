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

With ``fps`` or ``seconds`` instead of ``frame_interval``, the same is done in seconds: see :class:`SampleSnippets`.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from dsanet.config.registry import TRANSFORMS
from dsanet.datasets.transforms.base import BadSample, Record, Transform, check_count, check_number
from dsanet.datasets.video.readers import FrameTimes, Indices, constant_rate_times

# Matroska and FLV round the time of each frame to a millisecond, so differences of times may be off by one.
_ROUNDING_S = 0.0011


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


def film_seconds(times: FrameTimes) -> float:
    """Return the length of a film; its last frame is assumed to be shown as long as the average of the others."""
    return float(times[-1]) * len(times) / max(len(times) - 1, 1)


def spread_start_times(
    seconds: float, span: float, num_snippets: int, rng: np.random.Generator | None
) -> npt.NDArray[np.float64]:
    """Return one start time in each of ``num_snippets`` equal parts of the possible ones, from 0 to ``seconds - span``.

    Args:
        seconds: length of the film.
        span: seconds of a snippet.
        num_snippets: number of start times.
        rng: draws them; None for the centers of the parts.

    Returns:
        (num_snippets,), ascending, in seconds.
    """
    places = np.full(num_snippets, 0.5) if rng is None else rng.random(num_snippets)
    return (np.arange(num_snippets) + places) * max(seconds - span, 0.0) / num_snippets


def shown_frames(times: FrameTimes, at: npt.NDArray[np.float64]) -> Indices:
    """Return the frames that are shown at times ``at`` (...), in seconds: the last ones that are not later.

    Args:
        times: when each frame is shown, (F,) ascending, from 0.
        at: at least 0.
    """
    return times.searchsorted(at + _ROUNDING_S, 'right').astype(np.int64) - 1


def find_frame_times(record: Record) -> FrameTimes:
    """Return when each frame of a record is shown, (F,) in seconds since the first frame.

    Raises:
        BadSample: the times of a video cannot be found.
        ValueError: the frame rate of a folder of frames is unknown.
    """
    reader = record.get('reader')
    if reader is None:
        if record['fps'] is None:
            raise ValueError(
                'SampleSnippets with fps or seconds needs the frame rate of a folder of frames: set fps of '
                'RawFramesDataset, or pass --fps to dsanet predict, or fps in Python'
            )
        return constant_rate_times(_num_frames_of(record), record['fps'])
    try:
        times: FrameTimes = reader.frame_times
    except Exception as error:
        reason = f'sampling by time needs the times of the frames: {error}'
        raise BadSample(f'{reader.path}: {reason}', reader.path, reason) from error
    return times


def group_into_views(starts: npt.NDArray[Any], num_groups: int) -> npt.NDArray[Any]:
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

    The distance between two frames of a snippet is given in frames, or in time by ``fps`` or ``seconds``; at most one
    of the three may be set. In time, a snippet takes ``span = T / fps`` seconds, and starts between 0 and the length of
    the video minus the span, one snippet in each of U equal parts of this range. Its frames are those that a player
    shows at the start and every ``1 / fps`` seconds after it, also if the frame rate varies. So videos of different
    frame rates give snippets of the same length and speed, and a video of a lower rate repeats frames::

        fps=10, frames_per_snippet=3: a snippet takes 0.3 s; frames at 0.5, 0.6 and 0.7 s
        30 fps: frames 15, 18, 21        25 fps: frames 12, 15, 17        6 fps: frames 3, 3, 4

    Args:
        num_snippets: U, snippets of one view.
        frames_per_snippet: T, frames of one snippet.
        frame_interval: distance between two frames of a snippet, in frames; None for 1, or if the distance is in time.
        num_groups: number of views that are interleaved in time: ``num_groups * num_snippets`` snippets are spread over
            the video, and view g uses every ``num_groups``-th one, starting at g.
        random: draw the starts (training) instead of using the centers (evaluation).
        fps: frames per second of a snippet.
        seconds: length of a snippet, the same as ``fps=frames_per_snippet / seconds``.
    """

    requires: tuple[str, ...] = ('num_frames', 'rng')
    provides = ('frame_indices',)

    def __init__(
        self,
        num_snippets: int,
        frames_per_snippet: int,
        frame_interval: int | None = None,
        num_groups: int = 1,
        random: bool = False,
        fps: float | None = None,
        seconds: float | None = None,
    ) -> None:
        self.num_snippets = check_count('num_snippets', num_snippets)
        self.frames_per_snippet = check_count('frames_per_snippet', frames_per_snippet)
        distances = {'frame_interval': frame_interval, 'fps': fps, 'seconds': seconds}
        if len(given := [f'{name}={value!r}' for name, value in distances.items() if value is not None]) > 1:
            raise ValueError(f'{" and ".join(given)}: set only one of frame_interval, fps and seconds')
        self.frame_interval: int | None = None
        self.span_seconds: float | None = None
        if fps is not None:
            self.span_seconds = frames_per_snippet / check_number('fps', fps, 0.001, 1000)
        elif seconds is not None:
            self.span_seconds = float(check_number('seconds', seconds, 0.001, 1e6))
        else:
            self.frame_interval = 1 if frame_interval is None else check_count('frame_interval', frame_interval)
        if self.span_seconds is not None:
            self.requires = (*self.requires, 'fps')
        self.num_groups = check_count('num_groups', num_groups)
        self.random = random
        _check_one_view(random, num_groups)

    def __call__(self, record: Record) -> Record:
        if self.span_seconds is not None:
            record['frame_indices'] = self._sample_times(record, self.span_seconds)
            return record
        assert self.frame_interval is not None, 'the distance is in frames or in time'
        num_frames = _num_frames_of(record)
        span = self.frames_per_snippet * self.frame_interval
        if self.random:
            starts = random_starts(num_frames, span, self.num_snippets, record['rng'])
        else:
            starts = center_starts(num_frames, span, self.num_snippets * self.num_groups)
        views = group_into_views(starts, self.num_groups)
        record['frame_indices'] = snippet_frames(views, self.frames_per_snippet, self.frame_interval, num_frames)
        return record

    def _sample_times(self, record: Record, span: float) -> Indices:
        times = find_frame_times(record)
        rng = record['rng'] if self.random else None
        starts = spread_start_times(film_seconds(times), span, self.num_snippets * self.num_groups, rng)
        views = group_into_views(starts, self.num_groups)
        distance = span / self.frames_per_snippet
        indices = shown_frames(times, views[:, :, None] + np.arange(self.frames_per_snippet) * distance)
        record['frame_times'] = times[indices]
        return indices


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
