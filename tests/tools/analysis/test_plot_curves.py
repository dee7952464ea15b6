import json
import sys
from pathlib import Path

import cv2
import pytest

from tools.analysis import plot_curves

LINES = [{'epoch': 1, 'iteration': i, 'train/loss': 1 / i} for i in (1, 2, 3)] + [
    {'epoch': 1, 'iteration': 3, 'val/top1': 9}
]


def test_one_panel_a_scalar(tmp_path: Path) -> None:
    sizes = []
    for names in (['train/loss'], ['train/loss', 'val/top1']):
        plot_curves.plot_curves({'a': LINES, 'b': LINES[:2]}, tmp_path / 'x.png', names)
        image = cv2.imread(str(tmp_path / 'x.png'))
        assert image.std() > 5  # something is drawn
        sizes.append(image.shape[1])
    assert sizes[1] == 2 * sizes[0]


def test_unknown_scalar_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='no run has val/top5; there are epoch, iteration, train/loss, val/top1'):
        plot_curves.plot_curves({'a': LINES}, tmp_path / 'x.png', ['val/top5'])


def test_command_reads_work_dirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / 'scalars.jsonl').write_text('\n'.join(json.dumps(line) for line in LINES))
    out = tmp_path / 'curves.png'
    monkeypatch.setattr(sys, 'argv', ['plot_curves.py', str(tmp_path), '--out', str(out)])
    plot_curves.main()
    assert out.is_file()
    out.unlink()
    monkeypatch.setattr(sys, 'argv', ['plot_curves.py', str(tmp_path), str(tmp_path)])
    plot_curves.main()
    assert out.is_file(), 'by default beside the first run'
    monkeypatch.setattr(sys, 'argv', ['plot_curves.py', str(tmp_path / 'nowhere')])
    with pytest.raises(SystemExit):
        plot_curves.main()
    assert 'has no scalars.jsonl' in capsys.readouterr().err
