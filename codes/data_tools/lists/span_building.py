"""Build CSV lists of spans: find the videos, check the spans, split them by video, and add a background class."""

import csv
import io
import math
import os
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from tqdm import tqdm

from dsanet.data_tools.lists.base import ListedVideo, Lists, has_line_break
from dsanet.data_tools.lists.custom import choose_val
from dsanet.data_tools.lists.matching import BuiltList, find_video
from dsanet.data_tools.lists.media_index import MediaIndex
from dsanet.data_tools.lists.span_sources import ListedSpan
from dsanet.datasets.overlaps import find_overlaps
from dsanet.datasets.span_lists import check_span
from dsanet.datasets.video.opening import frame_rate, open_video
from dsanet.datasets.video.span_reader import MAX_EXCESS, format_seconds, length_in_header


class VideoLength(NamedTuple):
    """Frame rate and length of a video in seconds, as its file states them; None if it does not."""

    rate: float | None
    seconds: float | None


class _Sample(NamedTuple):
    """A row of a list: a span with its limits in seconds, and its source."""

    path: str
    classes: tuple[str, ...]
    start: float | None
    end: float | None
    source: str

    @property
    def last(self) -> float:
        """The end, infinite for that of the video."""
        return math.inf if self.end is None else self.end


def add_class(lists: Lists, name: str) -> Lists:
    """Add a class after the others; raise a ValueError if there is one with this name."""
    sources = [video.source for videos in lists.splits.values() for video in videos if name in video.classes]
    if sources or not name.strip():
        problem = f'{sources[0]} has this class' if sources else 'the name is empty'
        raise ValueError(f'--background {name!r}: {problem}; choose another name')
    return Lists([*(other for other in lists.class_names if other != name), name], lists.splits, lists.notes)


def build_span_lists(
    lists: Lists,
    media: MediaIndex,
    prefix: str,
    val_fraction: float | None = None,
    seed: int = 0,
    background: str | None = None,
    frame_rate: float | None = None,
    workers: int = 8,
) -> list[BuiltList]:
    """Return the content of the CSV lists.

    Args:
        lists: their videos are :class:`ListedSpan`; the class names include ``background``.
        media: videos on disk.
        prefix: prefix of all paths; empty or with a trailing '/'.
        val_fraction: share of the videos of the split 'all' that goes to 'val'.
        seed: seed of this choice.
        background: name of a class of spans between the others; None for none.
        frame_rate: frames per second of spans in frames; None for that of the video.
        workers: number of threads that open videos.

    Raises:
        ValueError: a video is in two splits, or ``val_fraction`` is missing or has no effect.
    """
    if 'all' in lists.splits and val_fraction is None:
        raise ValueError(
            'the annotations are not split into training and validation; set the fraction of the videos for '
            'validation, such as --val-fraction 0.2, or use --file train=FILE --file val=FILE'
        )
    if 'all' not in lists.splits and val_fraction is not None:
        raise ValueError(f'--val-fraction {val_fraction:g} has no effect: the files have {", ".join(lists.splits)}')
    if background is not None and background not in lists.class_names:
        raise ValueError(f'--background {background!r} is not one of the classes in the class file')
    found = {split: _find_videos(split, spans, media) for split, spans in lists.splits.items()}
    paths = sorted({path for _, matched in found.values() for path, _ in matched})
    lengths, problems = read_lengths(media.root, paths, workers)
    samples: dict[str, list[_Sample]] = {}
    built: dict[str, BuiltList] = {}
    for split, (one, matched) in found.items():
        samples[split] = _check_spans(one, matched, lengths, problems, frame_rate)
        built[split] = one
    if val_fraction is not None:
        samples, built = _split_by_video(samples['all'], built['all'], val_fraction, seed)
    _check_splits(samples)
    for split, one in built.items():
        _write_rows(one, samples[split], prefix, lengths, lists.class_names, background)
    return list(built.values())


def read_lengths(root: str, paths: Sequence[str], workers: int) -> tuple[dict[str, VideoLength], dict[str, str]]:
    """Open videos, with a progress bar; return their lengths, and the problem of each one that cannot be opened."""

    def read(path: str) -> VideoLength | str:
        try:
            container, stream = open_video(os.path.join(root, path))
            with container:
                rate = frame_rate(container, stream)
                return VideoLength(None if rate is None else float(rate), length_in_header(container, stream))
        except Exception as error:
            return str(error) or type(error).__name__

    lengths: dict[str, VideoLength] = {}
    problems: dict[str, str] = {}
    with ThreadPoolExecutor(workers) as pool:
        bar = tqdm(pool.map(read, paths), desc='videos', total=len(paths), unit='video', disable=None)
        for path, result in zip(paths, bar, strict=True):
            if isinstance(result, str):
                problems[path] = result
            else:
                lengths[path] = result
    return lengths, problems


def _find_videos(
    split: str, spans: Sequence[ListedVideo], media: MediaIndex
) -> tuple[BuiltList, list[tuple[str, ListedSpan]]]:
    """Return the list of a split with the spans whose video is not found, and the others with their paths."""
    built = BuiltList(split, len(spans), extension='.csv')
    matched = []
    for span in spans:
        assert isinstance(span, ListedSpan), 'the readers of span_sources return spans'
        path, wanted, reason, details = find_video(span.names, media)
        if not reason and (has_line_break(path) or path != path.strip()):
            reason, details = 'invalid path', f'a list cannot contain the path {path!r}'
        if reason:
            built.skipped.append((wanted, reason, details, span.source))
        else:
            matched.append((path, span))
    return built, matched


def _check_spans(
    built: BuiltList,
    matched: Sequence[tuple[str, ListedSpan]],
    lengths: Mapping[str, VideoLength],
    problems: Mapping[str, str],
    frame_rate: float | None,
) -> list[_Sample]:
    """Return the valid spans, with limits in seconds; the others are added to ``built.skipped``."""
    samples: list[_Sample] = []
    places: dict[str, list[int]] = defaultdict(list)  # positions in samples, by path
    for path, span in matched:
        try:
            if path in problems:
                raise ValueError(f'cannot be opened: {problems[path]}')
            start, end = _to_seconds(span, lengths[path], frame_rate)
            check_span(start, end)
            length = lengths[path].seconds
            if length is not None and max(end or 0, (start or 0) + MAX_EXCESS) > length + MAX_EXCESS:
                raise ValueError(f'{_describe(start, end)} is outside of the video, which has {length:.2f} s')
        except ValueError as error:
            reason = 'cannot be opened' if path in problems else 'invalid span'
            built.skipped.append((path, reason, f'{path}: {error}', span.source))
            continue
        places[path].append(len(samples))
        samples.append(_Sample(path, span.classes, start, end, span.source))
    dropped = set()
    for path, of_path in places.items():
        first: dict[tuple[object, ...], int] = {}
        for n in of_path:
            other = first.setdefault(samples[n][1:4], n)
            if other != n:
                dropped.add(n)
                details = f'{path}: {_describe(*samples[n][2:4])} is already listed in {samples[other].source}'
                built.skipped.append((path, 'listed twice', details, samples[n].source))
        kept = [n for n in of_path if n not in dropped]
        limits = [(samples[n].start or 0.0, samples[n].last, frozenset(samples[n].classes)) for n in kept]
        for i, j in find_overlaps(limits):
            earlier, later = samples[kept[i]], samples[kept[j]]
            dropped.add(kept[j])
            details = f'{path}: {_describe(*later[2:4])} overlaps another label, {earlier.source}'
            built.skipped.append((path, 'overlapping', details, later.source))
    return [sample for n, sample in enumerate(samples) if n not in dropped]


def _to_seconds(span: ListedSpan, length: VideoLength, frame_rate: float | None) -> tuple[float | None, float | None]:
    """Return the limits of a span in seconds; those of frames are in the middle between two frames."""
    if span.frames is None:
        return span.start, span.end
    rate = frame_rate or length.rate
    if rate is None:
        raise ValueError('the file does not state its frame rate; set --frame-rate')
    first, last = span.frames
    if first < 0 or last < first:
        problem = 'frames are counted from 1' if first < 0 else 'the span ends before it starts'
        raise ValueError(f'{problem}: frames {first + 1} to {last + 1}')
    return round(max(first - 0.5, 0) / rate, 4), round((last + 0.5) / rate, 4)


def _describe(start: float | None, end: float | None) -> str:
    return f'{format_seconds(start or 0.0)} to {"the end" if end is None else f"{format_seconds(end)} s"}'


def _split_by_video(
    samples: Sequence[_Sample], built: BuiltList, val_fraction: float, seed: int
) -> tuple[dict[str, list[_Sample]], dict[str, BuiltList]]:
    """Assign all spans of a random share of the videos to 'val', the others to 'train'."""
    chosen = choose_val(sorted({sample.path for sample in samples}), val_fraction, seed)
    by_split = {
        'train': [sample for sample in samples if sample.path not in chosen],
        'val': [sample for sample in samples if sample.path in chosen],
    }
    by_split = {split: found for split, found in by_split.items() if found}
    lists = {split: BuiltList(split, len(found), extension='.csv') for split, found in by_split.items()}
    # Videos that are missing belong to no split.
    first = next(iter(lists.values()), None) or lists.setdefault('train', BuiltList('train', 0, extension='.csv'))
    by_split.setdefault(first.name, [])
    first.skipped, first.num_listed = built.skipped, first.num_listed + len(built.skipped)
    return by_split, lists


def _check_splits(samples: Mapping[str, Sequence[_Sample]]) -> None:
    """Raise a ValueError if a video is in two splits: their spans show the same people and place."""
    first: dict[str, tuple[str, str]] = {}
    for split, found in samples.items():
        for sample in found:
            other, source = first.setdefault(sample.path, (split, sample.source))
            if other != split:
                raise ValueError(
                    f'{sample.source}: {sample.path} is in {split} and in {other} ({source}); '
                    'all spans of a video must be in the same split'
                )


def _write_rows(
    built: BuiltList,
    samples: Sequence[_Sample],
    prefix: str,
    lengths: Mapping[str, VideoLength],
    class_names: Sequence[str],
    background: str | None,
) -> None:
    """Fill ``built`` with the rows of a list, in the order of the samples."""
    rows = list(samples)
    if background is not None:
        found = _find_background(samples, lengths, background)
        rows += found
        built.num_listed += len(found)
        place = {path: number for number, path in enumerate(dict.fromkeys(sample.path for sample in samples))}
        rows.sort(key=lambda row: place[row.path])
    text = io.StringIO(newline='')
    writer = csv.writer(text, lineterminator='\n')
    for row in rows:
        limits = ['' if limit is None else format_seconds(limit) for limit in row[2:4]]
        # Names may contain commas.
        label = row.classes[0] if len(row.classes) == 1 else ','.join(str(class_names.index(k)) for k in row.classes)
        writer.writerow([prefix + row.path, label, *limits])
        built.per_class.update(row.classes)
        built.paths.setdefault(row.path, row.source)
    built.lines = text.getvalue().removesuffix('\n').split('\n') if rows else []


def _find_background(samples: Sequence[_Sample], lengths: Mapping[str, VideoLength], name: str) -> list[_Sample]:
    """Return spans between the labeled ones.

    They have the median length of the labeled spans, or that of a shorter gap that is not shorter than the shortest
    labeled span. A video has at most as many as it has labeled spans, evenly spread over its gaps.
    """
    durations = [sample.end - (sample.start or 0.0) for sample in samples if sample.end is not None]
    if not durations:
        return []
    usual, shortest = statistics.median(durations), min(durations)
    by_path: dict[str, list[_Sample]] = defaultdict(list)
    for sample in samples:
        by_path[sample.path].append(sample)
    found = []
    for path, of_path in by_path.items():
        pieces: list[tuple[float, float]] = []
        for start, end in _gaps(of_path, lengths[path].seconds):
            length = min(usual, end - start)
            number = int((end - start) / length) if length >= shortest else 0
            step = (end - start) / max(number, 1)
            # Each piece is in the middle of its share of the gap.
            pieces += [(start + (i + 0.5) * step - length / 2, length) for i in range(number)]
        number = min(len(pieces), len(of_path))
        for i in range(number):
            start, length = pieces[(2 * i + 1) * len(pieces) // (2 * number)]
            found.append(_Sample(path, (name,), round(start, 3), round(start + length, 3), of_path[0].source))
    return found


def _gaps(samples: Sequence[_Sample], seconds: float | None) -> list[tuple[float, float]]:
    """Return the parts of a video without a span; without its length, not the part after the last one."""
    gaps = []
    position = 0.0
    for start, end in sorted((one.start or 0.0, one.last) for one in samples):
        if start > position:
            gaps.append((position, start))
        position = max(position, end)
    if seconds is not None and seconds > position:
        gaps.append((position, seconds))
    return gaps
