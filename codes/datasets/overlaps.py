"""Find spans of a video that overlap although their labels differ."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from dsanet.datasets.records import VideoRecord, VideoRecords


def check_overlaps(records: Sequence[VideoRecord]) -> list[str]:
    """Return an error for each span that overlaps another sample of the same file with another label.

    Args:
        records: of a dataset with one label per video.
    """
    columns = VideoRecords.of(records)
    if not columns.has_spans:
        return []
    by_path: dict[str, list[VideoRecord]] = {}
    for index in _find_candidates(columns).tolist():
        record = columns[index]
        by_path.setdefault(record.path, []).append(record)
    found = []
    for samples in by_path.values():
        if all(record.span is None for record in samples):  # whole videos may be listed twice
            continue
        limits = [(r.start or 0.0, float('inf') if r.end is None else r.end, r.labels) for r in samples]
        found += [(samples[i], samples[j]) for i, j in find_overlaps(limits)]
    return [
        f'{later.source}: {later.key!r} overlaps {earlier.key!r} ({earlier.source}), which has another label; '
        'set multi_hot=<number of classes> if a video may have several labels at a time'
        for earlier, later in sorted(found, key=lambda pair: pair[1].line or 0)
    ]


def _find_candidates(records: VideoRecords) -> npt.NDArray[np.int64]:
    """Return the indices of all records of files with overlaps, and perhaps of some others, ascending."""
    starts, ends = (np.full(len(records), np.nan) if one is None else one for one in (records.starts, records.ends))
    starts, ends = np.nan_to_num(starts, nan=0.0), np.where(np.isnan(ends), np.inf, ends)
    hashes = np.fromiter((hash(path) for chunk in records.paths.chunks() for path in chunk), np.int64, len(records))
    order = np.lexsort((starts, hashes))
    # In the order of the starts, there is an overlap only if one span begins before the previous one ends.
    overlaps = (np.diff(hashes[order]) == 0) & (starts[order[1:]] < ends[order[:-1]])
    return np.flatnonzero(np.isin(hashes, hashes[order[1:][overlaps]]))


def find_overlaps(spans: Sequence[tuple[float, float, object]]) -> Iterator[tuple[int, int]]:
    """Yield the positions of spans that overlap and have different labels, each later one with an earlier one.

    Args:
        spans: start, end and label of the spans of one file.
    """
    order = sorted(range(len(spans)), key=lambda i: (spans[i][0], i))
    # Of all earlier spans, the one that ends last; and of those with another label than that one.
    last: int | None = None
    other: int | None = None
    for i in order:
        start, end, label = spans[i]
        for j in (last, other):
            if j is not None and spans[j][1] > start and spans[j][2] != label:
                yield min(i, j), max(i, j)
                break
        if last is None or end > spans[last][1]:
            if last is not None and spans[last][2] != label:
                other = last
            last = i
        elif spans[last][2] != label and (other is None or end > spans[other][1]):
            other = i
