import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from dsanet import commands
from dsanet.config.formatting import format_config
from dsanet.config.loading import load_config
from dsanet.engine.train_step import Stepper
from dsanet.engine.trainer import Trainer
from dsanet.utils.checkpoint_io import read_checkpoint
from dsanet.utils.json_lines import read_json_lines
from tests.commands.conftest import ROOT, Run
from tests.engine.conftest import assert_same_run, make_config


def run_python(*arguments: object) -> subprocess.CompletedProcess:
    """Run a Python program in the root folder of the project."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.sweep
def test_two_processes_resume_bit_identically(run: Run, config: Path, straight: Path, tmp_path: Path) -> None:
    # The schedule depends on the last epoch: so the first part is stopped, and not just shorter.
    stopped = run_python('tools/launch.py', 2, 'tests/commands/train_and_stop.py', 2, config, '--work-dir', tmp_path)
    assert stopped.returncode != 0
    assert (tmp_path / 'epoch_2.pth').is_file(), stopped.stdout + stopped.stderr
    assert not (tmp_path / 'epoch_3.pth').exists()
    done = run('dist_train_recognizer.sh', config, 2, '--work-dir', tmp_path, '--resume')
    assert str(tmp_path / 'epoch_2.pth') in done.stdout
    assert_same_run(read_checkpoint(straight / 'epoch_4.pth'), read_checkpoint(tmp_path / 'epoch_4.pth'))


@pytest.mark.sweep
def test_torchrun_trains_and_resumes_bit_identically(config: Path, straight: Path, tmp_path: Path) -> None:
    torchrun = ('-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', 2)
    arguments = (config, '--work-dir', tmp_path, '--resume')
    stopped = run_python(*torchrun, 'tests/commands/train_and_stop.py', 2, *arguments)
    assert stopped.returncode == 1
    assert not (tmp_path / 'epoch_3.pth').exists()
    done = run_python(*torchrun, '-m', 'dsanet', 'train', *arguments)
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / 'epoch_2.pth') in done.stdout
    for name in ('epoch_4.pth', 'best.pth'):
        assert_same_run(read_checkpoint(straight / name), read_checkpoint(tmp_path / name))
    override = ('--cfg-options', 'model.backbone.dept=18')
    wrong = run_python(*torchrun, 'tools/train_recognizer.py', *arguments, *override)
    assert wrong.returncode == 1
    assert re.search(r"error: model\.backbone\.dept .*ResNet_I3D.*'depth'", wrong.stderr)


@pytest.mark.sweep
def test_work_dir_has_log_and_config(config: Path, straight: Path) -> None:
    log = (straight / 'run.log').read_text()
    for token in ('batch size 8', '2 iterations/epoch', 'DSA', 'layer2.0', str(straight)):
        assert token in log
    assert re.search(r'epoch \d: top1 ', log)
    assert log.count(' 4/4 [2/2]') == 1  # only one of the two processes writes
    assert load_config(straight / 'config.py') == load_config(config)


@pytest.mark.sweep
def test_command_line_options_take_effect(run: Run, config: Path, straight: Path, tmp_path: Path) -> None:
    options = ['--seed', 3, '--deterministic', '--amp', 'bf16', '--no-validate', '--load-from', straight / 'best.pth']
    override = ['--cfg-options', 'train_cfg.max_epochs=1', 'optimizer.lr=0.25', 'schedule.warmup_epochs=0']
    done = run('dist_train_recognizer.sh', config, 1, '--work-dir', tmp_path, *options, *override)
    resolved = load_config(tmp_path / 'config.py')
    assert resolved['runtime'] == {**load_config(config)['runtime'], 'seed': 3, 'deterministic': True, 'amp': 'bf16'}
    assert 'val_dataloader' not in resolved
    assert str(straight / 'best.pth') in done.stdout
    lines = read_json_lines(tmp_path / 'scalars.jsonl')
    assert lines[0]['train/lr'] == 0.25
    assert not any('val/top1' in line for line in lines)
    assert sorted(f.name for f in tmp_path.glob('*.pth')) == ['epoch_1.pth']


@pytest.mark.sweep
def test_mixed_precision_on_two_processes_has_no_warnings(run: Run, data: Path, tmp_path: Path) -> None:
    config = make_config(data, train_cfg={'max_epochs': 1})
    block = {'type': 'NonLocal3d', 'mode': 'concatenation', 'place': 'after_block', 'blocks': (0, 1, 0, 0)}
    config['model']['module_cfg'] = [config['model']['module_cfg'], block]
    (tmp_path / 'tiny.py').write_text(format_config(config))
    done = run('dist_train_recognizer.sh', tmp_path / 'tiny.py', 2, '--work-dir', tmp_path, '--amp', 'bf16')
    assert read_checkpoint(tmp_path / 'best.pth')['epoch'] == 1
    assert 'Warning' not in done.stderr


@pytest.mark.sweep
def test_mistake_is_reported_once_by_processes(run: Run, config: Path) -> None:
    done = run('dist_train_recognizer.sh', config, 2, '--cfg-options', 'model.backbone.dept=18', check=False)
    assert done.returncode != 0
    assert len(re.findall(r"error: model\.backbone\.dept .*'depth'", done.stderr)) == 1
    assert 'Traceback' not in done.stderr


@pytest.mark.sweep
@pytest.mark.parametrize(
    ('arguments', 'token'),
    [
        (['tools/train_recognizer.py', 'nowhere.py'], r'nowhere\.py'),
        (['tools/test_recognizer.py', '{config}', 'nowhere.pth'], r'nowhere\.pth'),
        (['tools/test_recognizer.py', '{config}', 'x.pth', '--out', 'x.txt'], r'x\.txt.* \.pkl or \.json'),
    ],
)
def test_tools_refuse_missing_files(config: Path, arguments: list[str], token: str) -> None:
    done = run_python(*(a.format(config=config) for a in arguments))
    assert done.returncode == 2
    assert re.search(rf'error: .*{token}', done.stderr)
    assert 'Traceback' not in done.stderr


@pytest.fixture
def copied(data: Path, tmp_path: Path) -> dict:
    """A config whose data are a copy, from which videos can be removed."""
    shutil.copytree(data, tmp_path / 'copy')
    return make_config(tmp_path / 'copy')


def remove_video(data: Path) -> str:
    """Remove a validation video, which is not replaced as a training video is; return its name."""
    name = (data / 'val.txt').read_text().split()[0]
    (data / name).unlink()
    return name


def test_data_are_checked_before_training(
    copied: dict, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger('dsanet'), 'propagate', True)
    trainer = Trainer(copied, tmp_path, torch.device('cpu'))
    with caplog.at_level(logging.INFO, logger='dsanet'):
        trainer.prepare()
    assert any(re.match(r'train: .*\b16\b.*\b8\b', message) for message in caplog.messages)
    assert any(re.match(r'val: .*\b7\b', message) for message in caplog.messages)
    name = remove_video(tmp_path / 'copy')
    with pytest.raises(ValueError, match=rf'--no-check(.|\n)*{re.escape(name)}'):
        trainer.prepare()
    trainer.prepare(check_data=False)


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> list[Stepper]:
    """End the command at the end of ``prepare``, with the error 'prepared'; the steppers that got there."""
    steppers = []

    def stop(self: Stepper) -> None:
        steppers.append(self)
        raise ValueError('prepared')

    monkeypatch.setattr(Stepper, 'start', stop)
    return steppers


def error_of(capsys: pytest.CaptureFixture, *arguments: object) -> str:
    """Run a command that ends with status 2, and return what it prints to stderr."""
    with pytest.raises(SystemExit) as ended:
        commands.main([*map(str, arguments)])
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_no_check_trains_on_bad_data(
    copied: dict, tmp_path: Path, prepared: list[Stepper], capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / 'config.py').write_text(format_config(copied))
    command = ('train', tmp_path / 'config.py', '--work-dir', tmp_path / 'out')
    too_large = ('--cfg-options', 'val_dataloader.dataset.pipeline.3.size=40')
    assert 'prepared' in error_of(capsys, *command)
    assert re.search(r'\n +val: .*40x40', error_of(capsys, *command, *too_large))
    assert 'prepared' in error_of(capsys, *command, *too_large, '--no-validate')
    assert 'prepared' in error_of(capsys, *command, *too_large, '--no-check')
    name = remove_video(tmp_path / 'copy')
    assert name in error_of(capsys, *command)
    assert 'prepared' in error_of(capsys, *command, '--no-check')


def test_number_of_classes_is_counted(
    data: Path, tmp_path: Path, prepared: list[Stepper], capsys: pytest.CaptureFixture
) -> None:
    config = make_config(data)
    config['model']['cls_head']['num_classes'] = None
    (tmp_path / 'config.py').write_text(format_config(config))
    command = ('train', tmp_path / 'config.py', '--work-dir', tmp_path / 'out', '--no-check')
    assert 'prepared' in error_of(capsys, *command)
    assert [stepper.model.num_classes for stepper in prepared] == [8]
    (tmp_path / 'classes.txt').write_text('a\nb\n')
    class_file = f'val_dataloader.dataset.class_file={tmp_path / "classes.txt"}'
    assert re.search(r'num_classes=2\b.*\b7\b', error_of(capsys, *command, '--cfg-options', class_file))


@pytest.mark.sweep
def test_bad_data_stop_all_processes(run: Run, copied: dict, tmp_path: Path) -> None:
    (tmp_path / 'config.py').write_text(format_config(copied))
    name = remove_video(tmp_path / 'copy')
    done = run('dist_train_recognizer.sh', tmp_path / 'config.py', 2, '--work-dir', tmp_path / 'out', check=False)
    assert done.returncode != 0
    assert done.stderr.count(name) == 1
    assert 'Traceback' not in done.stderr


@pytest.mark.needs_gpu
def test_training_on_all_gpus(run: Run, config: Path, tmp_path: Path) -> None:
    gpus = torch.cuda.device_count()
    override = ['train_cfg.max_epochs=1', 'train_cfg.sync_bn=True', f'train_dataloader.batch_size={max(1, 8 // gpus)}']
    options = ['--work-dir', tmp_path, '--amp', 'bf16', '--cfg-options', *override]
    run('dist_train_recognizer.sh', config, gpus, *options)
    assert read_checkpoint(tmp_path / 'epoch_1.pth')['world_size'] == gpus
    assert np.isfinite(read_json_lines(tmp_path / 'scalars.jsonl')[0]['train/grad_norm'])
