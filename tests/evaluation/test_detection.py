import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from dsanet.evaluation.detection import FoundSegment, TrueSegment, detection_map, read_ground_truth


def iou(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Return the IoU of two spans by counting milliseconds."""
    one, other = (range(round(1000 * start), round(1000 * end)) for start, end in (a, b))
    common = len(range(max(one.start, other.start), min(one.stop, other.stop)))
    return common / (len(one) + len(other) - common)


def slow_map(truth: dict[str, list[TrueSegment]], found: dict[str, list[FoundSegment]], threshold: float) -> float:
    """Return the mAP by the definition: at each rank, the best precision at this or a larger recall."""
    labels = {segment.label for segments in truth.values() for segment in segments}
    precisions = []
    for label in labels:
        free = {name: [s for s in segments if s.label == label] for name, segments in truth.items()}
        number = sum(map(len, free.values()))
        ranked = [(s.score, name, s) for name, segments in found.items() for s in segments if s.label == label]
        ranked.sort(key=lambda item: -item[0])
        hits = []
        for _, name, segment in ranked:
            best = max(free[name], key=lambda s: iou((s.start, s.end), (segment.start, segment.end)), default=None)
            is_hit = best is not None and iou((best.start, best.end), (segment.start, segment.end)) >= threshold
            if is_hit:
                free[name].remove(best)  # type: ignore[arg-type]
            hits.append(is_hit)
        curve = defaultdict(float)
        for i in range(len(hits)):
            curve[sum(hits[: i + 1])] = max(curve[sum(hits[: i + 1])], sum(hits[: i + 1]) / (i + 1))
        area = 0.0
        for recall in range(1, number + 1):
            area += max((precision for other, precision in curve.items() if other >= recall), default=0.0) / number
        precisions.append(area)
    return 100 * sum(precisions) / len(precisions)


def test_map_by_hand() -> None:
    truth = {'x': [TrueSegment('a', 0, 10), TrueSegment('a', 20, 30), TrueSegment('b', 0, 10)], 'y': []}
    found = {
        'x': [
            FoundSegment('a', 0, 9, 0.9),  # IoU 0.9
            FoundSegment('a', 1, 10, 0.8),  # the same segment again
            FoundSegment('a', 20, 25, 0.7),  # IoU 0.5
            FoundSegment('b', 5, 15, 0.5),  # IoU 1/3
            FoundSegment('c', 0, 10, 0.9),  # not annotated
        ],
        'y': [FoundSegment('a', 0, 10, 0.95)],
    }
    # a: wrong, right, wrong, right: precisions 1/2 and 1/2 at recalls 1/2 and 1; b: 1 at 0.3
    assert detection_map(truth, found, (0.3, 0.5, 0.6)) == pytest.approx({0.3: 75, 0.5: 25, 0.6: 12.5})


def test_map_equals_a_slow_loop() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        truth: dict[str, list[TrueSegment]] = {}
        found: dict[str, list[FoundSegment]] = {}
        for name in 'xyz':
            spans = [(float(s), float(s + rng.integers(1, 5))) for s in np.cumsum(rng.integers(3, 8, 5))]
            truth[name] = [TrueSegment('abc'[rng.integers(3)], *span) for span in spans]
            found[name] = [
                FoundSegment(
                    'abc'[rng.integers(3)] if rng.random() < 0.4 else label,
                    max(0.0, start + round(float(rng.normal(0, 0.4)), 3)),
                    end + 1.5 + round(float(rng.normal(0, 0.4)), 3),
                    float(rng.random()),
                )
                for label, start, end in truth[name] * 2
            ]
        for threshold, value in detection_map(truth, found).items():
            assert value == pytest.approx(slow_map(truth, found, threshold), abs=1e-9)


def test_perfect_and_empty_detections() -> None:
    truth = {'x': [TrueSegment('a', 0, 1), TrueSegment('b', 1, 2)]}
    perfect = {'x': [FoundSegment(*segment, 0.5) for segment in truth['x']]}
    assert set(detection_map(truth, perfect).values()) == {100.0}
    assert set(detection_map(truth, {'x': []}).values()) == {0.0}
    assert list(detection_map(truth, {})) == [0.3, 0.4, 0.5, 0.6, 0.7]


def test_unknown_video_and_empty_truth_are_errors() -> None:
    with pytest.raises(ValueError, match='other'):
        detection_map({'x': [TrueSegment('a', 0, 1)]}, {'other': []})
    with pytest.raises(ValueError, match='no segments'):
        detection_map({'x': []}, {})


def test_ground_truth_is_read(tmp_path: Path) -> None:
    file = tmp_path / 'a.json'
    annotations = [{'label': 'jump', 'segment': [1, 2.5]}]
    file.write_text(
        json.dumps({'database': {'x': {'duration': 9, 'annotations': annotations}, 'y': {'annotations': []}}})
    )
    assert read_ground_truth(file) == {'x': [TrueSegment('jump', 1, 2.5)], 'y': []}


@pytest.mark.parametrize(
    'content',
    [
        '[]',
        '{"results": {}}',
        '{"database": {"x": {}}}',
        '{"database": {"x": {"annotations": [{"label": "a", "segment": [2, 1]}]}}}',
        '{"database": {"x": {"annotations": [{"label": "a", "segment": [1]}]}}}',
        '{"database": {"x": {"annotations": [{"segment": [1, 2]}]}}}',
    ],
)
def test_wrong_ground_truth_names_the_file(tmp_path: Path, content: str) -> None:
    (tmp_path / 'a.json').write_text(content)
    with pytest.raises(ValueError, match=r'a\.json'):
        read_ground_truth(tmp_path / 'a.json')


def test_missing_ground_truth_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_ground_truth(tmp_path / 'a.json')
