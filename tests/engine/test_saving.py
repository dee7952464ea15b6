import logging
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from codes.engine import saving
from codes.engine.checkpoint import Position, read_checkpoint
from codes.engine.saving import Saver
from codes.engine.stopping import RunError

CONTENT = {'weight': torch.arange(1_300_000, dtype=torch.float32)}  # 5.2 MB


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_old_checkpoints_go_when_the_new_one_is_there(tmp_path: Path) -> None:
    saver = Saver(tmp_path, keep=2, on_error='stop')
    for position in (Position(1), Position(2), Position(2, 5), Position(2, 10), Position(2, 15)):
        saver.save({}, position)
    assert names(tmp_path) == ['epoch_1.pth', 'epoch_2.pth', 'epoch_2_iter_10.pth', 'epoch_2_iter_15.pth']
    saver.save({}, Position(3))
    saver.save_best({})
    assert names(tmp_path) == ['best.pth', 'epoch_2.pth', 'epoch_3.pth']


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / 'epoch_3.pth.part').write_bytes(b'x')
    Saver(tmp_path, keep=2, on_error='stop').remove_parts()
    assert names(tmp_path) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of eight megabytes."""
    folder = tmp_path / 'disk'
    folder.mkdir()
    mounted = shutil.which('mount') and os.geteuid() == 0
    command = ['mount', '-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', str(folder)]
    if not mounted or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip('this user cannot mount a small file system')
    yield folder
    subprocess.run(['umount', str(folder)], check=True)


@pytest.mark.parametrize('on_error', ['stop', 'continue'])
def test_full_disk_leaves_the_last_good_checkpoint(
    small_disk: Path, on_error: str, caplog: pytest.LogCaptureFixture
) -> None:
    saver = Saver(small_disk, keep=1, on_error=on_error)
    saver.save(CONTENT, Position(1))
    text = 'epoch_2.pth could not be written: No space left on device; the last good checkpoint is epoch_1.pth'
    if on_error == 'stop':
        with pytest.raises(RunError, match=text):
            saver.save(CONTENT, Position(2))
    else:
        saver.save(CONTENT, Position(2))
        assert text in caplog.text
    assert saver.is_missing
    assert names(small_disk) == ['epoch_1.pth']
    assert torch.equal(read_checkpoint(small_disk / 'epoch_1.pth')['weight'], CONTENT['weight'])
    saver.save({}, Position(3))
    assert not saver.is_missing


def test_read_only_disk_is_named(small_disk: Path) -> None:
    subprocess.run(['mount', '-o', 'remount,ro', str(small_disk)], check=True)
    with pytest.raises(RunError, match=r'epoch_1.pth could not be written: Read-only file system; .* is none'):
        Saver(small_disk, keep=1, on_error='stop').save({}, Position(1))


def test_slow_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    times = iter([0.0, 61.0, 100.0, 101.0])
    monkeypatch.setattr(saving.time, 'monotonic', lambda: next(times))
    saver = Saver(tmp_path, keep=2, on_error='stop')
    with caplog.at_level(logging.WARNING, 'codes'):
        saver.save({}, Position(1))
        saver.save({}, Position(2))
    assert len(caplog.messages) == 1
    assert caplog.messages[0].endswith('epoch_1.pth took 61 s; the disk is slow')
