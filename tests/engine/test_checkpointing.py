import errno
import logging
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from dsanet.config.schema import TrainCfg
from dsanet.engine import checkpointing
from dsanet.engine.checkpointing import (
    CONFIG_HEADER,
    Position,
    Saver,
    TrainState,
    check_resumable,
    find_checkpoint,
    list_checkpoints,
    newest_checkpoint,
    remove_leftovers,
    what_to_resume,
    write_config,
)
from dsanet.engine.stopping import RunError
from dsanet.utils import distributed
from dsanet.utils.checkpoint_io import read_checkpoint, save_atomically

CONTENT = {'weight': torch.arange(1_300_000, dtype=torch.float32)}  # 5.2 MB
CONFIG = {'model': {'a': 1, 'list': [1, {'b': 2}], 'module_cfg': {'type': 'DSA'}}, 'optimizer': {'lr': 0.1}}
RUN = {'config': CONFIG, 'iterations_per_epoch': 5, 'world_size': 2}
RESUMABLE = {
    **RUN,
    'state_dict': {},
    'optimizer': {'state': {}, 'param_groups': []},
    'scaler': {},
    'epoch': 3,
    'validated': True,
    'best': None,
}


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


# -- TrainState --------------------------------------------------------------------------------------------------------


def test_train_state_round_trip() -> None:
    state = TrainState(5, 4, epoch=2, iteration=3, validated=False, best={'epoch': 1, 'top1': 0.5}, num_worse=1)
    state.num_nonfinite = 4
    other = TrainState(5, 4)
    other.load_state_dict(state.state_dict())
    assert other.state_dict() == state.state_dict()
    assert (other.position, other.num_iterations, other.num_logged) == (Position(2, 3), 13, 13)


@pytest.mark.parametrize(
    ('iterations', 'batch_size', 'iteration'),
    [
        (10, 2, 6),
        (4, 5, 2),
        (1, 20, 0),
        (5, 4, 3),
        (5, 3, 4),  # as many iterations, but 3 of them have used the videos of 4
        (3, 4, 2),  # of a shorter list: at least one iteration is left
        (2, 4, 1),
        (9, 4, 3),  # of a longer list
    ],
)
def test_train_state_continues_after_the_same_videos(iterations: int, batch_size: int, iteration: int) -> None:
    state = TrainState(iterations, batch_size)
    state.load_state_dict(TrainState(5, 4, epoch=2, iteration=3).state_dict())
    assert (state.position, state.resumed_from) == (Position(2, iteration), Position(2, 3))
    assert (state.iterations_per_epoch, state.batch_size) == (iterations, batch_size)
    assert state.num_iterations == 2 * iterations + iteration
    assert state.num_logged == 13  # iterations in the curves
    state.iteration += 1
    again = TrainState(iterations, batch_size)
    again.load_state_dict(state.state_dict())
    assert again.num_logged == 14


def test_train_state_of_older_checkpoint_has_defaults() -> None:
    state = TrainState(5, 4)
    state.load_state_dict({'iterations_per_epoch': 5, 'epoch': 3, 'weights': 'ignored'})
    assert state.state_dict() == TrainState(5, 4, epoch=3).state_dict()


def test_best_epoch_and_patience() -> None:
    state, cfg = TrainState(5, 4), TrainCfg(max_epochs=9, patience=2)
    found = []
    for state.epoch, top1 in enumerate([0.2, 0.5, 0.5, 0.4], 1):
        found.append((state.add_validation({'top1': top1}, 'top1'), state.num_worse, state.is_done(cfg)))
    assert found == [(True, 0, False), (True, 0, False), (False, 1, False), (False, 2, True)]
    assert state.best == {'epoch': 2, 'top1': 0.5}
    assert not state.is_done(TrainCfg(max_epochs=9))
    assert state.is_done(TrainCfg(max_epochs=4))


# -- files -------------------------------------------------------------------------------------------------------------


def test_old_checkpoints_are_removed(tmp_path: Path) -> None:
    saver = Saver(tmp_path, keep=2)
    for position in (Position(1), Position(2), Position(2, 5), Position(2, 10), Position(2, 15)):
        saver.save({}, position)
    assert names(tmp_path) == ['epoch_1.pth', 'epoch_2.pth', 'epoch_2_iter_10.pth', 'epoch_2_iter_15.pth']
    saver.save({}, Position(3))
    saver.save_best({})
    assert names(tmp_path) == ['best.pth', 'epoch_2.pth', 'epoch_3.pth']


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of eight megabytes."""
    folder = tmp_path / 'disk'
    folder.mkdir()
    can_mount = shutil.which('mount') and os.geteuid() == 0
    command = ['mount', '-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', str(folder)]
    if not can_mount or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip('this user cannot mount a small file system')
    yield folder
    subprocess.run(['umount', str(folder)], check=True)


def test_full_disk_keeps_the_last_checkpoint(small_disk: Path) -> None:
    saver = Saver(small_disk, keep=1)
    saver.save(CONTENT, Position(1))
    with pytest.raises(RunError, match=rf'epoch_2\.pth: {os.strerror(errno.ENOSPC)}.*epoch_1\.pth'):
        saver.save(CONTENT, Position(2))
    assert names(small_disk) == ['epoch_1.pth']
    assert torch.equal(read_checkpoint(small_disk / 'epoch_1.pth')['weight'], CONTENT['weight'])


def test_read_only_disk_is_an_error(small_disk: Path) -> None:
    subprocess.run(['mount', '-o', 'remount,ro', str(small_disk)], check=True)
    with pytest.raises(RunError, match=rf'epoch_1\.pth: {os.strerror(errno.EROFS)}.*none'):
        Saver(small_disk, keep=1).save({}, Position(1))


def test_slow_disk_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    times = iter([0.0, 61.0, 100.0, 101.0])
    monkeypatch.setattr(checkpointing.time, 'monotonic', lambda: next(times))
    saver = Saver(tmp_path, keep=2)
    with caplog.at_level(logging.WARNING, 'dsanet'):
        saver.save({}, Position(1))
        saver.save({}, Position(2))
    (message,) = caplog.messages
    assert 'epoch_1.pth' in message
    assert '61 s' in message


def test_checkpoints_are_sorted_by_position(tmp_path: Path) -> None:
    names = ['epoch_10.pth', 'epoch_9_iter_100.pth', 'epoch_9_iter_20.pth', 'epoch_9.pth', 'epoch_0_iter_5.pth']
    for name in [*reversed(names), 'epoch_3_iter_.pth', 'epoch_x.pth', 'best.pth']:
        (tmp_path / name).touch()
    found = list_checkpoints(tmp_path)
    assert [file.name for _, file in found] == names
    assert [position.file_name for position, _ in found] == names


def test_resolved_config_replaces_only_our_own(tmp_path: Path) -> None:
    write_config('a = 1\n', tmp_path)
    write_config('a = 2\n', tmp_path)
    header, text = (tmp_path / 'config.py').read_text().split('\n', 1)
    assert (header[: len(CONFIG_HEADER)], text) == (CONFIG_HEADER, 'a = 2\n')
    (tmp_path / 'config.py').write_text(f'{header}\n# my notes\n{text}')
    write_config('a = 3\n', tmp_path)
    assert '# my notes' in (tmp_path / 'config.py').read_text(), 'edited'
    (tmp_path / 'config_resolved.py').unlink()
    (tmp_path / 'config.py').write_text('mine\n')
    write_config('a = 3\n', tmp_path)
    write_config('a = 4\n', tmp_path)
    assert (tmp_path / 'config.py').read_text() == 'mine\n'
    assert (tmp_path / 'config_resolved.py').read_text().endswith('\na = 4\n')


# -- resuming ----------------------------------------------------------------------------------------------------------


def test_newest_checkpoint_skips_damaged_ones(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for epoch in (2, 9, 10):
        save_atomically({'epoch': epoch}, tmp_path / f'epoch_{epoch}.pth')
    (tmp_path / 'epoch_11.pth.part').write_bytes(b'never finished')
    data = (tmp_path / 'epoch_10.pth').read_bytes()
    (tmp_path / 'epoch_10.pth').write_bytes(data[: len(data) // 2])
    with caplog.at_level(logging.WARNING, 'dsanet'):
        file, content = newest_checkpoint(tmp_path)
    assert (file.name, content) == ('epoch_9.pth', {'epoch': 9})
    (message,) = caplog.messages
    assert 'epoch_10.pth' in message


def test_newest_checkpoint_is_none_or_an_error(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None
    (tmp_path / 'epoch_1.pth').write_bytes(b'x')
    with pytest.raises(ValueError, match=rf' 1 .*{tmp_path}'):
        newest_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ('fault', 'kind'),
    [
        (OSError(errno.EIO, os.strerror(errno.EIO)), OSError),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), MemoryError),
    ],
)
def test_machine_fault_is_not_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception, kind: type
) -> None:
    def fail(*_args: object, **_options: object) -> None:
        raise fault

    for epoch in (1, 2):
        save_atomically({'epoch': epoch}, tmp_path / f'epoch_{epoch}.pth')
    monkeypatch.setattr(torch, 'load', fail)
    with pytest.raises(kind, match=r'epoch_2\.pth'):
        newest_checkpoint(tmp_path)
    assert names(tmp_path) == ['epoch_1.pth', 'epoch_2.pth']


def test_processes_need_the_same_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, 'all_gather_object', lambda value: [value, (3, 0)])
    with pytest.raises(ValueError, match=r'\[None, \(3, 0\)\]'):
        find_checkpoint('auto', tmp_path)
    save_atomically(RESUMABLE, tmp_path / 'epoch_3.pth')
    assert find_checkpoint('auto', tmp_path)[0] == tmp_path / 'epoch_3.pth'


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('config', 3),
        ('iterations_per_epoch', 0),
        ('epoch', -1),
        ('epoch', True),
        ('epoch', 2**70),
        ('epoch', 1.5),
        ('iteration', -2),
        ('iteration', 2**62),
        ('state_dict', {'a': 'x'}),
        ('optimizer', []),
        ('optimizer', {'state': {0: 5}, 'param_groups': []}),
        ('optimizer', {'state': {}, 'param_groups': [3]}),
        ('batch_size', 'x'),
        ('curve_offset', 'x'),
        ('class_names', 7),
        ('class_names', ['a', 3]),
        ('inputs', [1]),
        ('inputs', {'list': 5}),
        ('best', {'top1': 'x'}),
        ('num_worse', None),
        ('num_steps', 'x'),
        ('class_names', 'x'),
        ('class_names', [1]),
        ('inputs', 'x'),
        ('ema_updates', {}),
        ('ema_state_dict', 3),
        ('progress', [{}]),
        ('progress', [{'meter': {'sums': {}, 'counts': {}}, 'bad_samples': {'count': 'x', 'first': '', 'found': []}}]),
    ],
)
def test_wrong_entries_are_named(key: str, value: object) -> None:
    check_resumable(Path('x.pth'), RESUMABLE)
    with pytest.raises(ValueError, match=rf'x\.pth .*[ :]{key}=') as refused:
        check_resumable(Path('x.pth'), {**RESUMABLE, key: value})
    assert str(value)[:40] in str(refused.value)


def test_weights_alone_cannot_be_resumed() -> None:
    with pytest.raises(ValueError, match=r'x\.pth .*optimizer, scaler, .*--load-from'):
        check_resumable(Path('x.pth'), {'state_dict': {}})


def test_leftovers_of_a_run(tmp_path: Path) -> None:
    for name in ('epoch_1.pth', 'epoch_2.pth', 'epoch_2_iter_3.pth', 'epoch_3.pth.part', 'best.pth'):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r': epoch_2_iter_3\.pth\. .*--resume.*--work-dir'):
        remove_leftovers(tmp_path, Position(2), None)
    assert len(names(tmp_path)) == 5
    remove_leftovers(tmp_path, Position(2), 'auto')
    assert names(tmp_path) == ['best.pth', 'epoch_1.pth', 'epoch_2.pth', 'epoch_2_iter_3.pth.damaged']


def test_restart_resumes_the_latest_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work_dir, file = tmp_path / 'work', tmp_path / 'elsewhere.pth'
    work_dir.mkdir()
    torch.save({'epoch': 3}, file)
    for requested in (None, 'auto', str(file)):
        assert what_to_resume(requested, work_dir) == requested
    monkeypatch.setenv('TORCHELASTIC_RESTART_COUNT', '1')
    for requested in (None, 'auto'):
        assert what_to_resume(requested, work_dir) == 'auto'
    # The file is used until the run has a later checkpoint.
    assert what_to_resume(str(file), work_dir) == str(file)
    torch.save({'epoch': 3}, work_dir / 'epoch_3.pth')
    assert what_to_resume(str(file), work_dir) == str(file)
    torch.save({'epoch': 4}, work_dir / 'epoch_4.pth')
    assert what_to_resume(str(file), work_dir) == 'auto'
