import json
from pathlib import Path

import pytest

from dsanet import commands
from dsanet.config.formatting import format_config
from dsanet.config.loading import load_config
from dsanet.engine.work_dir import hold_lock
from dsanet.experiments import running
from dsanet.experiments.running import Resources
from dsanet.utils.file_lock import FileLock
from tests.engine.conftest import make_config

Capture = pytest.CaptureFixture[str]
PLAN = """
config = 'tiny.py'
seeds = [0, 1]
cfg_options = ['train_cfg.max_epochs=2']

[variants.I3D]
cfg_options = ['model.module_cfg=None']

[variants.DSANet]
"""


@pytest.fixture
def folder(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a config and a plan, as the current one."""
    (tmp_path / 'tiny.py').write_text(format_config(make_config(data)))
    (tmp_path / 'mine.toml').write_text(PLAN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*arguments: object) -> int:
    try:
        return commands.main(['experiment', *map(str, arguments)]) or 0
    except SystemExit as error:
        return int(error.code or 0)


@pytest.mark.sweep
def test_experiment_trains_tests_and_compares(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    assert call('mine.toml', '--jobs', 2) == 0
    out = folder / 'work_dirs' / 'mine'
    tables = (out / 'tables.md').read_text()
    for seed in (0, 1):
        for name in ('i3d', 'dsanet'):
            work_dir = out / f'{name}_seed{seed}'
            config = load_config(work_dir / 'config.py')
            assert (config['runtime']['seed'], config['train_cfg']['max_epochs']) == (seed, 2)
            assert (work_dir / 'epoch_2.pth').is_file()
        order = json.loads((out / f'i3d_seed{seed}' / 'order.json').read_text())['model']['arrangements']
        assert order['reversed']['max_change'] < 1e-5, 'without DSA, the order of the snippets has no effect'
    report = (out / 'report.html').read_text()
    assert all(f'{name}_seed1' in report for name in ('i3d', 'dsanet'))
    (out / 'tables.md').unlink()
    with hold_lock(out, ''):
        assert call('mine.toml') == 2
        assert call('mine.toml', '--tables-only') == 0
    (out / 'tables.md').unlink()
    monkeypatch.setattr(running, 'PROGRAM', ('/nothing',))  # nothing is run again
    assert call('mine.toml') == 0
    assert (out / 'tables.md').read_text() == tables
    assert not list(out.glob('running.json'))


def test_folder_in_place_of_tables_is_found_first(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(running, 'PROGRAM', ('/nothing',))
    (folder / 'out' / 'tables.md').mkdir(parents=True)
    assert call('mine.toml', '--out', 'out') != 0
    assert 'out/tables.md' in capsys.readouterr().err
    assert not list((folder / 'out').glob('i3d*'))


def test_lock_has_a_heartbeat(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a process of another machine would take it for a stale lock."""
    beats = []
    monkeypatch.setattr(FileLock, 'start_heartbeat', lambda lock: beats.append(lock.file))
    monkeypatch.setattr(running, 'PROGRAM', ('false',))
    assert call('mine.toml', '--out', 'out') == 1
    assert [file.parent for file in beats] == [Path('out')]


def test_failed_trials_give_status_one(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr(running, 'PROGRAM', ('false',))
    assert call('mine.toml', '--out', 'out') == 1
    assert '4 of 4' in capsys.readouterr().out
    assert not (folder / 'out' / 'tables.md').exists()


def test_wrong_option_is_found_before_training(folder: Path, capsys: Capture) -> None:
    (folder / 'bad.toml').write_text(PLAN + "cfg_options = ['optimizer.l=1']")
    for more in ([], ['--tables-only']):
        assert call('bad.toml', '--out', 'out', *more) == 2
        error = capsys.readouterr().err
        assert 'DSANet' in error
        assert 'optimizer.l' in error
    assert call('mine.toml', '--out', 'out', '--tables-only') == 2
    assert not (folder / 'out').exists()


def test_included_plan_is_found_by_name(folder: Path, capsys: Capture) -> None:
    assert call('experiments/mini_kinetics', '--tables-only') == 2
    assert 'work_dirs/mini_kinetics' in capsys.readouterr().err
    assert call('experiments/mini') == 2
    assert 'experiments/mini_kinetics' in capsys.readouterr().err


@pytest.mark.parametrize('plan', ['none.toml', 'tiny.py'])
def test_wrong_plan_is_one_line(folder: Path, capsys: Capture, plan: str) -> None:
    assert call(plan) == 2
    error = capsys.readouterr().err
    assert plan in error
    assert 'Traceback' not in error


def test_gpus_are_shared_evenly(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr('torch.cuda.is_available', lambda: True)
    monkeypatch.setattr('torch.cuda.device_count', lambda: 2)
    assert call('mine.toml', '--jobs', 2, '--gpus', 2) == 2
    assert '4' in capsys.readouterr().err
    assert Resources(2, 1, has_cuda=True).environment(0) != Resources(2, 1, has_cuda=True).environment(1)
