import json
import os
import re
import shutil
from pathlib import Path

import pytest

from dsanet.engine.checkpointing import CONFIG_HEADER, Position
from dsanet.engine.stopping import RunError
from dsanet.engine.trainer import Trainer
from dsanet.engine.work_dir import check_no_other_run, hold_lock, remove_run
from dsanet.utils.checkpoint_io import read_checkpoint
from dsanet.utils.file_lock import FileLock
from tests.engine.conftest import DEVICE, make_config, train

FIRST_EPOCH = {'epoch': 1, 'iteration': 3, 'train/loss': 1.5}
VALIDATED = {'epoch': 1, 'iteration': 4, 'val/top1': 50.0}
SECOND_EPOCH = {'epoch': 2, 'iteration': 5, 'train/loss': 1.5}


def write(file: Path, *lines: dict) -> None:
    file.write_text(''.join(json.dumps(line) + '\n' for line in lines))


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


# -- one run at a time -------------------------------------------------------------------------------------------------


def test_second_run_exits_with_status_2(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for path in (tmp_path, tmp_path / 'scores.pkl'):
        with hold_lock(path, 'choose another --out') as lock:
            assert lock.file.is_file()
            with pytest.raises(SystemExit, match='^2$'), hold_lock(path, 'choose another --out'):
                pass
            assert re.match(rf'error: {path} .*\b{os.getpid()}\b.*--out', capsys.readouterr().err)
        assert not list(tmp_path.iterdir())


def test_only_rank_0_holds_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {'RANK': '1', 'WORLD_SIZE': '2', 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': '1'}.items():
        monkeypatch.setenv(name, value)
    with hold_lock(tmp_path, '') as lock:
        assert lock is None
    assert not list(tmp_path.iterdir())


def test_run_that_lost_its_lock_writes_nothing(data: Path, tmp_path: Path) -> None:
    lock = FileLock(tmp_path / 'running.json', tmp_path)
    lock.acquire()
    trainer = Trainer(make_config(data), tmp_path, DEVICE, lock)
    trainer.prepare(check_data=False)
    owner = json.loads(lock.file.read_text())
    lock.file.write_text(json.dumps({**owner, 'id': 'other', 'host': 'node7'}))
    with pytest.raises(RunError, match='node7'):
        trainer.train()
    lock.release()
    assert not list(tmp_path.glob('*.pth'))


# -- files of other runs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize('resume', [None, 'auto'])
def test_fresh_start_keeps_best_and_curves(
    data: Path, straight: Path, tmp_path: Path, resume: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ('best.pth', 'scalars.jsonl', 'config.py'):
        shutil.copy(straight / name, tmp_path)
    before = contents(tmp_path)
    caplog.set_level('INFO', 'dsanet')
    trainer = Trainer(make_config(data, runtime={'seed': 1}), tmp_path, DEVICE)
    with pytest.raises(ValueError, match=rf'{tmp_path} .*best\.pth, scalars\.jsonl.*--resume {tmp_path}/best\.pth'):
        trainer.prepare(resume, check_data=False)
    assert contents(tmp_path) == before
    assert 'from the beginning' not in caplog.text
    best = read_checkpoint(tmp_path / 'best.pth')['epoch']
    trainer.prepare(str(tmp_path / 'best.pth'), check_data=False)
    assert trainer.state.epoch == best


def test_resuming_elsewhere_names_the_missing_best(
    data: Path, straight: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = Trainer(make_config(data), tmp_path, DEVICE)
    trainer.prepare(str(straight / 'epoch_4.pth'), check_data=False)
    (message,) = [one for one in caplog.messages if 'best.pth' in one]
    assert str(tmp_path) in message
    assert f'epoch {trainer.state.best["epoch"]} ' in message


def test_refused_start_keeps_the_config(data: Path, straight: Path, tmp_path: Path) -> None:
    shutil.copytree(straight, tmp_path / 'run')
    trainer = Trainer(make_config(data, runtime={'seed': 1}), tmp_path / 'run', DEVICE)
    with pytest.raises(ValueError, match=r'epoch_4\.pth'):
        trainer.prepare(check_data=False)
    assert (tmp_path / 'run' / 'config.py').read_bytes() == (straight / 'config.py').read_bytes()


@pytest.mark.parametrize(
    ('lines', 'resume', 'is_allowed'),
    [
        ([FIRST_EPOCH], 'auto', True),  # killed before its first checkpoint
        ([FIRST_EPOCH], None, False),
        ([FIRST_EPOCH, VALIDATED], 'auto', False),
        ([FIRST_EPOCH, SECOND_EPOCH], 'auto', False),
        ([], None, True),
    ],
)
def test_curves_without_a_checkpoint(tmp_path: Path, lines: list, resume: str | None, is_allowed: bool) -> None:
    write(tmp_path / 'scalars.jsonl', *lines)
    if is_allowed:
        check_no_other_run(tmp_path, resume, None)
        return
    with pytest.raises(ValueError, match=r': scalars\.jsonl\. ') as refused:
        check_no_other_run(tmp_path, resume, None)
    assert ('with --resume,' in str(refused.value)) == (lines == [FIRST_EPOCH]), 'only if that helps'


def test_restart_continues_before_first_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / 'scalars.jsonl', {**FIRST_EPOCH, 'epoch': 4})
    with pytest.raises(ValueError, match=r'scalars\.jsonl'):
        check_no_other_run(tmp_path, '/elsewhere/epoch_3.pth', Position(3))
    monkeypatch.setenv('TORCHELASTIC_RESTART_COUNT', '1')
    check_no_other_run(tmp_path, '/elsewhere/epoch_3.pth', Position(3))


@pytest.mark.parametrize('name', ['best.pth', 'scalars.jsonl', 'nonfinite.jsonl', 'bad_samples.jsonl', 'epoch_1.pth'])
def test_checkpoint_of_other_folder_needs_unused_work_dir(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('x')
    with pytest.raises(ValueError, match=rf': {re.escape(name)}\. '):
        check_no_other_run(tmp_path, '/elsewhere/epoch_3.pth', Position(3))
    (tmp_path / 'link').symlink_to(tmp_path)
    check_no_other_run(tmp_path, f'{tmp_path}/link/epoch_3.pth', Position(3))
    check_no_other_run(tmp_path, 'auto', Position(3))


def test_failed_start_does_not_block_the_next(data: Path, tmp_path: Path) -> None:
    for _ in range(2):
        Trainer(make_config(data), tmp_path, DEVICE).prepare(check_data=False)
    train(make_config(data, train_cfg={'max_epochs': 1}), tmp_path)


def test_remove_run_keeps_files_of_the_user(straight: Path, tmp_path: Path) -> None:
    shutil.copytree(straight, tmp_path / 'run')
    for name in ('notes.txt', 'epoch_best.pth', 'mine.pth'):
        (tmp_path / 'run' / name).write_text('mine')
    remove_run(tmp_path / 'run')
    assert sorted(contents(tmp_path / 'run')) == ['config.py', 'epoch_best.pth', 'mine.pth', 'notes.txt']
    assert not (tmp_path / 'run' / 'tensorboard').exists()
    assert (tmp_path / 'run' / 'config.py').read_text().startswith(CONFIG_HEADER)
