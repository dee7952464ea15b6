from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from dsanet.inference.long.segments import CurvePoint, Segment
from dsanet.reports.timeline import choose_classes, plot_timeline

NAMES = [f'class {k}' for k in range(12)]


def make_curve(length: int) -> list[CurvePoint]:
    probabilities = np.linspace(0, 0.9, 12, dtype=np.float32)
    return [CurvePoint(Fraction(2 * i), Fraction(2 * i + 2), probabilities) for i in range(length) if i != 3]


def test_classes_of_segments_are_first() -> None:
    segments = [Segment('class 2', 0, 1, 0.5), Segment('class 1', 2, 4, 0.5)]
    assert choose_classes(make_curve(5), segments, NAMES) == [1, 2, 11]
    assert choose_classes(make_curve(5), [], NAMES) == [11, 10, 9]
    many = [Segment(name, 0, 1, 0.5) for name in NAMES]
    assert choose_classes(make_curve(5), many, NAMES) == [11, 10, 9, 8, 7, 6, 5, 4]
    assert choose_classes([], [], NAMES) == []


@pytest.mark.parametrize('length', [5, 400])
def test_plot_has_the_colors_of_the_segments(tmp_path: Path, length: int) -> None:
    segments = [Segment('class 2', 0, length, 0.5), Segment('$x_ ünits', 2, 4, 0.5)]
    names = [*NAMES[:11], '$x_ ünits']
    plot_timeline(make_curve(length), segments, names, 0.5, 'a $ film', tmp_path / 'a.png')
    image = cv2.imread(str(tmp_path / 'a.png'))
    assert image is not None
    blue = (image == (180, 119, 31)).all(axis=2)  # C0 in BGR
    assert blue.sum() > 2000


def test_plot_without_windows(tmp_path: Path) -> None:
    plot_timeline([], [], NAMES, 0.5, 'nothing', tmp_path / 'a.png')
    assert (tmp_path / 'a.png').stat().st_size > 1000
