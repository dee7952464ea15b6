import logging
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from dsanet.engine import checkpointing
from dsanet.engine.checkpointing import (
    Position,
    Saver,
    check_resumable,
    describe_misfit,
    find_changes,
    list_checkpoints,
    newest_checkpoint,
    what_to_resume,
)
from dsanet.engine.stopping import RunError
from dsanet.utils.checkpoint_io import read_checkpoint, save_atomically

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
    monkeypatch.setattr(checkpointing.time, 'monotonic', lambda: next(times))
    saver = Saver(tmp_path, keep=2, on_error='stop')
    with caplog.at_level(logging.WARNING, 'dsanet'):
        saver.save({}, Position(1))
        saver.save({}, Position(2))
    assert len(caplog.messages) == 1
    assert caplog.messages[0].endswith('epoch_1.pth took 61 s; the disk is slow')


def test_newest_checkpoint_passes_over_damaged_ones(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for epoch in (2, 9, 10):
        save_atomically({'epoch': epoch}, tmp_path / f'epoch_{epoch}.pth')
    (tmp_path / 'epoch_11.pth.part').write_bytes(b'never finished')
    data = (tmp_path / 'epoch_10.pth').read_bytes()
    (tmp_path / 'epoch_10.pth').write_bytes(data[: len(data) // 2])
    assert [file.name for _, file in list_checkpoints(tmp_path)] == ['epoch_10.pth', 'epoch_9.pth', 'epoch_2.pth']
    with caplog.at_level(logging.WARNING, 'dsanet'):
        file, content = newest_checkpoint(tmp_path)
    assert (file.name, content) == ('epoch_9.pth', {'epoch': 9})
    assert 'passed over' in caplog.text
    assert 'epoch_10.pth' in caplog.text


def test_checkpoints_are_sorted_by_epoch_and_iteration(tmp_path: Path) -> None:
    names = ['epoch_10.pth', 'epoch_9_iter_100.pth', 'epoch_9_iter_20.pth', 'epoch_9.pth', 'epoch_0_iter_5.pth']
    for name in [*reversed(names), 'epoch_3_iter_.pth', 'epoch_x.pth', 'best.pth']:
        (tmp_path / name).touch()
    found = list_checkpoints(tmp_path)
    assert [file.name for _, file in found] == names
    assert [place.file_name for place, _ in found] == names


def test_newest_checkpoint_of_an_empty_folder_is_none_and_of_damaged_ones_an_error(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None
    (tmp_path / 'epoch_1.pth').write_bytes(b'x')
    with pytest.raises(ValueError, match='none of the 1 checkpoints in .* can be read'):
        newest_checkpoint(tmp_path)


CONFIG = {'model': {'a': 1, 'list': [1, {'b': 2}], 'module_cfg': {'type': 'DSA'}}, 'optimizer': {'lr': 0.1}}


RUN = {'config': CONFIG, 'iterations_per_epoch': 5, 'world_size': 2}


def test_equal_runs_have_no_changes() -> None:
    assert find_changes(RUN, CONFIG, 5, 2) == []


def test_changes_are_named_as_deep_as_they_can_be() -> None:
    config = {
        'model': {'a': 1, 'list': [1, {'b': 3}], 'module_cfg': None, 'new': 'x'},
        'optimizer': {'lr': 0.1},
        'train_cfg': {'max_epochs': 7},
        'metrics': ['not told: they change no weight'],
    }
    assert find_changes(RUN, config, 4, 2) == [
        'iterations_per_epoch was 5 and is 4',
        'model.list.1.b was 2 and is 3',
        "model.module_cfg was {'type': 'DSA'} and is None",
        'model.new was None and is x',
        'train_cfg.max_epochs was None and is 7',
    ]
    assert find_changes(RUN, {**CONFIG, 'optimizer': {'lr': [1, 2]}}, 5, 2) == ['optimizer.lr was 0.1 and is [1, 2]']


def test_weights_alone_are_no_run() -> None:
    with pytest.raises(ValueError, match=r'x.pth holds weights, but not a run to resume \(no optimizer, scaler, '):
        check_resumable(Path('x.pth'), {'state_dict': {}})


def test_misfit_is_told_by_weights_shapes_and_config() -> None:
    target = {'a': torch.zeros(2), 'b': torch.zeros(3), 'c': torch.zeros(1)}
    source = {'a': torch.zeros(2), 'b': torch.zeros(4), 'd': torch.zeros(1)}
    changes = ['model.x was 1 and is 2', 'schedule.y was 1 and is 2']
    assert describe_misfit({'state_dict': source}, target, changes, ValueError('many\nlines')) == (
        '1 keys missing (c); 1 keys unexpected (d); b has shape (4,) instead of (3,); model.x was 1 and is 2'
    )
    assert describe_misfit({'state_dict': target}, target, [], ValueError('many\nlines')) == 'many'
    assert describe_misfit({'state_dict': 3}, target, [], KeyError()) == 'KeyError'


def test_a_restarted_run_continues_where_it_stood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work_dir, file = tmp_path / 'work', tmp_path / 'elsewhere.pth'
    work_dir.mkdir()
    torch.save({'epoch': 3}, file)
    for asked in (None, 'auto', str(file)):
        assert what_to_resume(asked, work_dir) == asked
    monkeypatch.setenv('TORCHELASTIC_RESTART_COUNT', '1')
    for asked in (None, 'auto'):
        assert what_to_resume(asked, work_dir) == 'auto'
    # The file counts until the run has gone beyond it, whatever lay in the work dir before.
    assert what_to_resume(str(file), work_dir) == str(file)
    torch.save({'epoch': 3}, work_dir / 'epoch_3.pth')
    assert what_to_resume(str(file), work_dir) == str(file)
    torch.save({'epoch': 4}, work_dir / 'epoch_4.pth')
    assert what_to_resume(str(file), work_dir) == 'auto'
