import random

import numpy as np
import pytest

from dsanet.datasets import overlaps
from dsanet.datasets.overlaps import check_overlaps, find_overlaps
from dsanet.datasets.records import VideoRecord, VideoRecords


def record(label, start=None, end=None, path='a.mp4', line=1):
    return VideoRecord(path, (label,), 'train.csv', line, start=start, end=end)


def test_touching_spans_do_not_overlap():
    assert check_overlaps([record(0, 0, 2), record(1, 2, 3), record(1, 1, 2, 'b.mp4'), record(1, 3)]) == []


def test_overlap_with_whole_video_is_found():
    (error,) = check_overlaps([record(0, line=2), record(1, 2, 3, line=3)])
    assert error.startswith("train.csv:3: 'a.mp4#2-3' overlaps 'a.mp4' (train.csv:2)")
    assert check_overlaps([record(0, line=2), record(1, line=3)]) == []  # whole videos may be listed twice
    assert len(check_overlaps([record(0, 5, line=2), record(1, 8, 9, line=3)])) == 1


@pytest.mark.parametrize('seed', range(30))
def test_overlapping_spans_equal_slow_search(seed):
    rng = np.random.default_rng(seed)
    spans = [(float(s), float(s + d), int(k)) for s, d, k in rng.integers([0, 1, 0], [30, 8, 3], (rng.integers(9), 3))]
    slow = {
        j
        for i, (a, b, k) in enumerate(spans)
        for j, (c, d, m) in enumerate(spans)
        if k != m and max(a, c) < min(b, d) and (a, i) < (c, j)
    }
    found = list(find_overlaps(spans))
    order = [max((i, j), key=lambda n: (spans[n][0], n)) for i, j in found]
    assert sorted(order) == sorted(slow)
    for i, j in found:
        assert i < j
        assert spans[i][2] != spans[j][2]
        assert max(spans[i][0], spans[j][0]) < min(spans[i][1], spans[j][1])


@pytest.mark.parametrize('seed', range(6))
def test_overlaps_are_found_among_all_files(seed):
    rng = random.Random(seed)
    records = []
    for line in range(200):
        start = rng.choice([None, *range(40)])
        end = rng.choice([None, (start or 0) + rng.randint(1, 3)])
        records.append(record(rng.randrange(2), start, end, f'{rng.randrange(60)}.mp4', line))
    expected = 0
    for path in {one.path for one in records}:
        samples = [one for one in records if one.path == path]
        if any(one.span for one in samples):
            limits = [(s.start or 0.0, float('inf') if s.end is None else s.end, s.labels) for s in samples]
            expected += len(list(find_overlaps(limits)))
    assert len(check_overlaps(records)) == expected > 0
    apart = [record(n % 2, 2 * (n // 9), 2 * (n // 9) + 2, f'{n % 9}.mp4', n) for n in rng.sample(range(90), 90)]
    assert check_overlaps(apart) == []
    assert len(overlaps._find_candidates(VideoRecords.of(apart))) == 0
