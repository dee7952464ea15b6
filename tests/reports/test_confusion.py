from pathlib import Path

import cv2
import numpy as np
import pytest

from dsanet.reports.confusion import draw_confusion


def test_rows_are_labels_and_absent_classes_gray(tmp_path: Path) -> None:
    # Large shares are dark blue.
    matrix = np.array([[0, 9, 0], [9, 0, 0], [0, 0, 0]])
    draw_confusion(matrix, ['run', '$walk$', 'jump'], tmp_path / 'x.png', '$one$.pkl')
    picture = cv2.imread(str(tmp_path / 'x.png')).astype(int)
    dark = (picture[..., 0] - picture[..., 2] > 40) & (picture.sum(axis=2) < 250)  # dark blue, in BGR
    rows, columns = np.nonzero(dark[:, : picture.shape[1] * 3 // 4])  # without the color bar
    upper = rows < np.median(rows)
    assert columns[upper].mean() > columns[~upper].mean()  # the first class was predicted as the second
    assert (picture == 211).all(axis=2).sum() > 500  # light gray


@pytest.mark.parametrize('num_classes', [40, 101])
def test_picture_size_is_limited_for_many_classes(tmp_path: Path, num_classes: int) -> None:
    names = [f'a class with a rather long name {k}' for k in range(num_classes)]
    draw_confusion(np.eye(num_classes, dtype=np.int64), names, tmp_path / 'x.png', 'one.pkl')
    height, width, _ = cv2.imread(str(tmp_path / 'x.png')).shape
    assert 1000 < height < width < 2700
