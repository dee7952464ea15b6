from pathlib import Path

import numpy as np
import pytest

from dsanet.reports.mistake_sheets import read_sheet
from tests.make_videos import write_video


def test_sheet_has_first_to_last_frame(tmp_path: Path) -> None:
    write_video(str(tmp_path / 'a.mp4'), 30)
    sheet = read_sheet(str(tmp_path / 'a.mp4'))
    assert sheet is not None
    assert sheet.shape == (90, 4 * 160, 3)  # 16:9
    assert sheet.dtype == np.uint8
    cells = np.split(sheet, 4, axis=1)
    assert not any(np.array_equal(one, other) for one, other in zip(cells, cells[1:], strict=False))


def test_square_frames_have_no_bars(tmp_path: Path) -> None:
    write_video(str(tmp_path / 'a.mp4'), 8, 64, 64)
    sheet = read_sheet(str(tmp_path / 'a.mp4'))
    assert sheet is not None
    assert sheet.shape == (120, 4 * 120, 3)


def test_unreadable_video_has_no_sheet(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert read_sheet(str(tmp_path / 'missing.mp4')) is None
    assert not caplog.records
    (tmp_path / 'bad.mp4').write_bytes(b'\0' * 5000)
    assert read_sheet(str(tmp_path / 'bad.mp4')) is None
    assert len(caplog.records) == 1
