from fractions import Fraction

import numpy as np
import pytest

from dsanet.inference.long.segments import CurvePoint, ScoreCurve, Segment, SegmentMerger, WindowScores

F = Fraction
NAMES = ['a', 'b', 'c']


def window(start: float, end: float, *probabilities: float) -> WindowScores:
    values = np.array(probabilities, np.float32)
    return WindowScores(F(str(start)), F(str(end)), 1, values, values)


def point(start: float, end: float, *probabilities: float) -> CurvePoint:
    return CurvePoint(F(str(start)), F(str(end)), np.array(probabilities, np.float32))


def curve_of(windows: list[WindowScores], stride: str) -> list[CurvePoint]:
    curve = ScoreCurve(F(stride))
    points = [point for window in windows for point in curve.add(window)]
    return points + curve.finish()


def test_curve_is_the_mean_of_covering_windows() -> None:
    rng = np.random.default_rng(0)
    length, stride, end = F(5, 2), F(4, 5), F(93, 10)
    windows = []
    while not windows or windows[-1].end < end:
        start = len(windows) * stride
        windows.append(WindowScores(start, min(start + length, end), 1, None, rng.random(4, np.float32)))  # type: ignore[arg-type]
    points = curve_of(windows, '4/5')
    assert [p.start for p in points] == [i * stride for i in range(12)]
    assert [p.end for p in points] == [*((i + 1) * stride for i in range(11)), end]
    for p in points:
        middle = (p.start + p.end) / 2
        expected = [w.probabilities for w in windows if w.start <= middle < w.end]
        np.testing.assert_allclose(p.probabilities, sum(expected) / len(expected), rtol=1e-6)


def test_parts_are_final_when_they_are_returned() -> None:
    curve = ScoreCurve(F(1))
    assert curve.add(window(0, 2, 1, 0, 0)) == []
    (first,) = curve.add(window(1, 3, 0, 1, 0))
    assert (first.start, first.end, first.probabilities.tolist()) == (0, 1, [1, 0, 0])
    (second,) = curve.add(window(2, 4, 0, 0, 1))
    assert (second.start, second.probabilities.tolist()) == (1, [0.5, 0.5, 0])
    assert [p.start for p in curve.finish()] == [2, 3]


def test_time_without_windows_is_missing() -> None:
    windows = [window(0, 1, 1, 0, 0), window(1000, 1001, 0, 1, 0)]
    points = curve_of(windows, '0.5')
    assert [float(p.start) for p in points] == [0, 0.5, 1000, 1000.5]


def merge(points: list[CurvePoint], threshold: float = 0.5, multi_label: bool = False) -> list[Segment]:
    merger = SegmentMerger(NAMES, threshold, multi_label)
    return [segment for point in points for segment in merger.add(point)] + merger.finish()


def test_runs_of_a_label_become_segments() -> None:
    points = [
        point(0, 1, 0.6, 0.4, 0),
        point(1, 3, 0.9, 0.1, 0),
        point(3, 4, 0.4, 0.4, 0.2),
        point(4, 5, 0, 0.5, 0.5),
        point(5, 6, 0.7, 0.2, 0.1),
    ]
    assert merge(points) == [
        Segment('a', 0, 3, pytest.approx((0.6 + 2 * 0.9) / 3)),
        Segment('b', 4, 5, 0.5),
        Segment('a', 5, 6, pytest.approx(0.7)),
    ]


def test_missing_time_ends_a_segment() -> None:
    assert [(s.start, s.end) for s in merge([point(0, 1, 1, 0, 0), point(2, 3, 1, 0, 0)])] == [(0, 1), (2, 3)]


def test_several_labels_may_overlap() -> None:
    points = [point(0, 1, 0.9, 0.8, 0), point(1, 2, 0.9, 0.1, 0.7)]
    found = {(s.label, s.start, s.end) for s in merge(points, multi_label=True)}
    assert found == {('a', 0, 2), ('b', 0, 1), ('c', 1, 2)}


def test_threshold_zero_labels_all_time() -> None:
    assert [(s.label, s.end) for s in merge([point(0, 1, 0.34, 0.33, 0.33)], 0)] == [('a', 1)]


@pytest.mark.parametrize('threshold', [-0.1, 1.1, float('nan')])
def test_threshold_must_be_a_probability(threshold: float) -> None:
    with pytest.raises(ValueError, match='threshold'):
        SegmentMerger(NAMES, threshold)


def test_segment_for_json() -> None:
    assert Segment('a', 0.5, 2, 0.75).to_dict() == {'label': 'a', 'start': 0.5, 'end': 2, 'score': 0.75}
