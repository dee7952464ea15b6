from pathlib import Path

import cv2
import pytest

from dsanet.reports.curves import check_picture, plot_curves

LINES = [{'epoch': 1, 'iteration': i, 'train/loss': 1 / i} for i in (1, 2, 3)] + [
    {'epoch': 1, 'iteration': 3, 'val/top1': 9}
]


def test_each_scalar_has_a_panel(tmp_path: Path) -> None:
    sizes = []
    for names in (['train/loss'], ['train/loss', 'val/top1']):
        plot_curves({'日': LINES, 'b': LINES[:2]}, tmp_path / 'x.png', names)
        image = cv2.imread(str(tmp_path / 'x.png'))
        assert image.std() > 5  # something is drawn
        sizes.append(image.shape[1])
    assert sizes[1] == 2 * sizes[0]


def test_null_is_a_gap_of_the_curve(tmp_path: Path) -> None:
    lines = [{'iteration': 4, 'train/loss': None}, {'iteration': 5, 'train/loss': 1}]
    plot_curves({'a': [*LINES, *lines], 'b': lines[:1]}, tmp_path / 'x.png', ['train/loss'])
    assert (tmp_path / 'x.png').exists()


def test_unknown_scalar_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='val/top5.*epoch, iteration, train/loss, val/top1'):
        plot_curves({'a': LINES}, tmp_path / 'x.png', ['val/top5'])


def test_unwritable_picture_is_refused_early(tmp_path: Path) -> None:
    check_picture(tmp_path / 'x.svg', '--out')
    with pytest.raises(ValueError, match=r'--out .*x.docx.*\.png'):
        check_picture(tmp_path / 'x.docx', '--out')
    with pytest.raises(FileNotFoundError, match='--out .*nowhere'):
        check_picture(tmp_path / 'nowhere' / 'x.png', '--out')
