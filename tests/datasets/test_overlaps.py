import numpy as np
import pytest

from dsanet.datasets.overlaps import check_overlaps, find_overlaps
from dsanet.datasets.records import VideoRecord


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
