from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from dsanet.evaluation.detection import TrueSegment
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


def test_missed_class_is_drawn(tmp_path: Path) -> None:
    """An annotated class without found segments gets a row of its own."""
    truth = [TrueSegment('class 0', 0, 8)]
    assert choose_classes(make_curve(5), [Segment('class 2', 0, 9, 0.5), *truth], NAMES) == [2, 0, 11]
    files = [tmp_path / 'plain.png', tmp_path / 'full.png']
    for file, known in zip(files, ([], truth), strict=True):
        plot_timeline(make_curve(5), [], NAMES, 0.5, 'film', file, known)
    dark = [(cv2.imread(str(file)) < 128).all(axis=2).sum() for file in files]
    assert dark[1] > dark[0] + 1000, 'the box is about 1000 pixels wide'


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


def test_frames_and_annotated_segments_are_drawn(tmp_path: Path) -> None:
    """The frames, red and then blue, fill a row; a black box is around the annotated time."""
    frames = np.zeros((2, 4, 4, 3), np.uint8)
    frames[0, ..., 0] = frames[1, ..., 2] = 255
    segments = [Segment('class 2', 0, 4, 0.5)]
    plain, full = tmp_path / 'plain.png', tmp_path / 'full.png'
    plot_timeline(make_curve(5), segments, NAMES, 0.5, 'film', plain, frames=frames)
    truth = [TrueSegment('class 2', 0, 8), TrueSegment('not shown', 1, 2)]
    plot_timeline(make_curve(5), segments, NAMES, 0.5, 'film', full, truth, frames)
    image, before = cv2.imread(str(full)), cv2.imread(str(plain))
    red, blue = (np.flatnonzero((image == color).all(axis=2).any(axis=0)) for color in ((0, 0, 255), (255, 0, 0)))
    assert len(red) > 300
    assert len(blue) > 300
    assert red.max() <= blue.min() + 2
    assert image.shape == before.shape
    dark = [(picture < 128).all(axis=2).sum() for picture in (image, before)]
    assert dark[0] > dark[1] + 1000, 'the box is about 600 pixels wide'
