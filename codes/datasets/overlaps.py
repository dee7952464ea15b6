"""Find spans of a video that overlap although their labels differ."""

from collections.abc import Iterator, Sequence

from dsanet.datasets.annotation import VideoRecord


def check_overlaps(records: Sequence[VideoRecord]) -> list[str]:
    """Return an error for each span that overlaps another sample of the same file with another label.

    Args:
        records: of a dataset with one label per video.
    """
    paths = {record.path for record in records if record.span is not None}
    by_path: dict[str, list[VideoRecord]] = {path: [] for path in paths}
    for record in records if paths else ():
        if record.path in paths:
            by_path[record.path].append(record)
    found = []
    for samples in by_path.values():
        limits = [(r.start or 0.0, float('inf') if r.end is None else r.end, r.labels) for r in samples]
        found += [(samples[i], samples[j]) for i, j in find_overlaps(limits)]
    return [
        f'{later.source}: {later.key!r} overlaps {earlier.key!r} ({earlier.source}), which has another label; '
        'set multi_hot=<number of classes> if a video may have several labels at a time'
        for earlier, later in sorted(found, key=lambda pair: pair[1].line or 0)
    ]


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
