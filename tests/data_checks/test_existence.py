import time
from pathlib import Path

import numpy as np
import pytest

from dsanet.data_checks import existence
from dsanet.data_checks.existence import FileScan, find_file, golden_ratio_order, scan_files
from dsanet.datasets.records import VideoRecord
from tests.data_checks.conftest import split
from tests.make_videos import write_frames


def test_every_prefix_of_the_order_is_spread() -> None:
    for length in (1, 7, 1000):
        order = golden_ratio_order(length)
        assert sorted(order) == list(range(length))
    for beginning in (10, 50, 200):
        counts = np.histogram(golden_ratio_order(1000)[:beginning], bins=5, range=(0, 1000))[0]
        assert counts.max() - counts.min() <= 2


def test_scan_stops_after_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(existence, 'find_file', lambda record, *_: (calls.append(time.sleep(0.001)), None))
    assert scan_files(split([0] * 50), seconds=None) == FileScan(50, [], {})
    scan = scan_files(split([0] * 5000), seconds=0.05)
    assert scan.bad == []
    assert 20 <= scan.num_videos < 200
    assert scan_files(split([0] * 50), seconds=0).num_videos == 20
    assert len(calls) == 50 + scan.num_videos + 20


def test_missing_and_empty_files_are_reported(tmp_path: Path) -> None:
    (tmp_path / 'a.mp4').write_bytes(b'x')
    (tmp_path / 'empty.mp4').touch()
    (tmp_path / 'folder').mkdir()
    names = ('a.mp4', 'no', 'folder', 'empty.mp4')
    errors = {name: find_file(VideoRecord(str(tmp_path / name), (0,), 'x'))[1] for name in names}
    assert errors.pop('a.mp4') is None
    for name, word in (('no', 'No such file'), ('folder', ' folder'), ('empty.mp4', ' empty')):
        assert str(errors[name]).startswith(f'{tmp_path}/{name}: ')
        assert word in str(errors[name])


def test_first_and_last_frame_are_checked(tmp_path: Path) -> None:
    write_frames(tmp_path / 'v', 5, start_index=0)
    record = VideoRecord(str(tmp_path / 'v'), (0,), 'x', 1, 5)
    assert find_file(record, 'img_{:05d}.jpg', 0)[1] is None
    assert 'img_00005.jpg: No such file' in str(find_file(record, 'img_{:05d}.jpg', 1)[1])
