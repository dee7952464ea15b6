from pathlib import Path

import cv2
import numpy as np
import pytest

from dsanet.reports.confusion import draw_confusion


def test_confusion_is_drawn_with_labels_in_rows_and_absent_classes_gray(tmp_path: Path) -> None:
    # A share is dark where the class is, whatever else is drawn.
    matrix = np.array([[0, 9, 0], [9, 0, 0], [0, 0, 0]])
    draw_confusion(matrix, ['run', 'walk', 'jump'], tmp_path / 'x.png')
    picture = cv2.imread(str(tmp_path / 'x.png')).astype(int)
    dark = (picture[..., 0] - picture[..., 2] > 40) & (picture.sum(axis=2) < 250)  # dark blue, in BGR
    rows, columns = np.nonzero(dark[:, : picture.shape[1] * 3 // 4])  # without the color bar
    upper = rows < np.median(rows)
    assert columns[upper].mean() > columns[~upper].mean()  # the first class was taken for the second
    assert (picture == 211).all(axis=2).sum() > 500  # light gray


@pytest.mark.parametrize('num_classes', [40, 101])
def test_pictures_of_many_classes_grow_within_bounds(tmp_path: Path, num_classes: int) -> None:
    names = [f'a class with a rather long name {k}' for k in range(num_classes)]
    draw_confusion(np.eye(num_classes, dtype=np.int64), names, tmp_path / 'x.png')
    height, width, _ = cv2.imread(str(tmp_path / 'x.png')).shape
    assert 1000 < height < width < 2700
