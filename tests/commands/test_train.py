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
from dsanet.commands.train import CONFIG_HEADER, _keep_config
from dsanet.config.formatting import format_config
from dsanet.config.loading import load_config
from dsanet.data_checks.reading import splits_of_run
from dsanet.data_checks.run import check_before_training
from dsanet.engine.trainer import Trainer
from dsanet.utils.checkpoint_io import read_checkpoint
from dsanet.utils.json_lines import read_lines
from tests.commands.conftest import ROOT, Run
from tests.engine.conftest import make_config
from tests.engine.test_trainer import assert_same_run


@pytest.mark.sweep
def test_two_processes_stopped_and_resumed_end_in_the_same_bits(
    run: Run, config: Path, straight: Path, tmp_path: Path
) -> None:
    # The learning rate looks ahead to the last epoch, so the first part must be stopped and not just be shorter.
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    command = [sys.executable, 'tools/launch.py', '2', 'tests/commands/train_and_stop.py', '2']
    arguments = [str(config), '--work-dir', str(tmp_path)]
    stopped = subprocess.run(
        [*command, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert stopped.returncode != 0
    assert (tmp_path / 'epoch_2.pth').is_file(), stopped.stdout + stopped.stderr
    assert not (tmp_path / 'epoch_3.pth').exists()
    done = run('dist_train_recognizer.sh', config, 2, '--work-dir', tmp_path, '--resume')
    assert 'behind epoch 2' in done.stdout
    assert_same_run(read_checkpoint(straight / 'epoch_4.pth'), read_checkpoint(tmp_path / 'epoch_4.pth'))


@pytest.mark.sweep
def test_torchrun_trains_and_resumes_to_the_same_bits(config: Path, straight: Path, tmp_path: Path) -> None:
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2']
    arguments = [str(config), '--work-dir', str(tmp_path), '--resume']

    def run(*program: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [*command, *program, *arguments],
            cwd=ROOT,
            env={**os.environ, 'OMP_NUM_THREADS': '1'},
            capture_output=True,
            text=True,
            check=False,
        )

    stopped = run('tests/commands/train_and_stop.py', '2')
    assert stopped.returncode == 1
    assert not (tmp_path / 'epoch_3.pth').exists()
    done = run('-m', 'dsanet', 'train')
    assert done.returncode == 0, done.stderr
    assert f'resumed from {tmp_path / "epoch_2.pth"}' in done.stdout
    assert_same_run(read_checkpoint(straight / 'epoch_4.pth'), read_checkpoint(tmp_path / 'epoch_4.pth'))
    assert_same_run(read_checkpoint(straight / 'best.pth'), read_checkpoint(tmp_path / 'best.pth'))
    arguments += ['--cfg-options', 'model.backbone.dept=18']
    wrong = run('tools/train_recognizer.py')
    assert wrong.returncode == 1
    assert "error: model.backbone.dept is not an argument of ResNet_I3D. Did you mean 'depth'?" in wrong.stderr


@pytest.mark.sweep
def test_run_announces_itself_and_leaves_a_config_that_can_be_run_again(run: Run, config: Path, straight: Path) -> None:
    log = (straight / 'run.log').read_text()
    assert '2 process(es) x batch 4 = 8 videos an iteration, 2 iterations an epoch, epochs 1 to 4' in log
    assert re.search(r'DSA .*before_conv2 .*1 .*layer2\.0', log)
    assert re.search(r'best epoch \d: top1 ', log)
    assert log.count('epoch 4/4 [2/2]') == 1  # one process writes, not two
    assert load_config(straight / 'config.py') == load_config(config)


@pytest.mark.sweep
def test_options_of_the_train_command_take_effect(run: Run, config: Path, straight: Path, tmp_path: Path) -> None:
    options = ['--seed', 3, '--deterministic', '--amp', 'bf16', '--no-validate', '--load-from', straight / 'best.pth']
    override = ['--cfg-options', 'train_cfg.max_epochs=1', 'optimizer.lr=0.25', 'schedule.warmup_epochs=0']
    done = run('dist_train_recognizer.sh', config, 1, '--work-dir', tmp_path, *options, *override)
    resolved = load_config(tmp_path / 'config.py')
    assert resolved['runtime'] == {**load_config(config)['runtime'], 'seed': 3, 'deterministic': True, 'amp': 'bf16'}
    assert 'val_dataloader' not in resolved
    assert str(straight / 'best.pth') in done.stdout
    lines = read_lines(tmp_path / 'scalars.jsonl')
    assert [line['train/lr'] for line in lines[:1]] == [0.25]
    assert not any('val/top1' in line for line in lines)
    assert sorted(f.name for f in tmp_path.glob('*.pth')) == ['epoch_1.pth']


@pytest.mark.sweep
def test_two_processes_in_mixed_precision_warn_of_nothing(run: Run, data: Path, tmp_path: Path) -> None:
    config = make_config(data, train_cfg={'max_epochs': 1})
    block = {'type': 'NonLocal3d', 'mode': 'concatenation', 'place': 'after_block', 'blocks': (0, 1, 0, 0)}
    config['model']['module_cfg'] = [config['model']['module_cfg'], block]
    (tmp_path / 'tiny.py').write_text(format_config(config))
    done = run('dist_train_recognizer.sh', tmp_path / 'tiny.py', 2, '--work-dir', tmp_path, '--amp', 'bf16')
    assert 'best epoch 1' in done.stdout
    assert 'Warning' not in done.stderr


@pytest.mark.sweep
def test_mistakes_are_one_line_and_end_the_run(run: Run, config: Path, tmp_path: Path) -> None:
    done = run('dist_train_recognizer.sh', config, 2, '--cfg-options', 'model.backbone.dept=18', check=False)
    assert done.returncode != 0
    assert done.stderr.count("error: model.backbone.dept is not an argument of ResNet_I3D. Did you mean 'depth'?") == 1
    assert 'Traceback' not in done.stderr


@pytest.mark.sweep
@pytest.mark.parametrize(
    ('arguments', 'text'),
    [
        (['tools/train_recognizer.py', 'nowhere.py'], r'error: .*nowhere\.py'),
        (['tools/test_recognizer.py', '{config}', 'nowhere.pth'], r'error: there is no checkpoint .*nowhere.pth'),
        (['tools/test_recognizer.py', '{config}', 'x.pth', '--out', 'x.txt'], r"'x.txt' must end in .pkl or .json"),
    ],
)
def test_tools_run_without_the_launcher_and_refuse_missing_files(
    run: Run, config: Path, arguments: list[str], text: str
) -> None:
    command = [sys.executable, *(a.format(config=config) for a in arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert re.search(text, done.stderr)
    assert 'Traceback' not in done.stderr


@pytest.fixture
def few_videos(data: Path, tmp_path: Path) -> dict:
    """A config of its own copy of the data, of which videos can be taken away."""
    shutil.copytree(data, tmp_path / 'copy')
    return make_config(tmp_path / 'copy')


def remove_a_video(data: Path) -> None:
    """Remove a video of validation, which takes none instead."""
    (data / (data / 'val.txt').read_text().split()[0]).unlink()


def test_data_are_looked_at_before_training(
    few_videos: dict, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger('dsanet'), 'propagate', True)
    with caplog.at_level(logging.INFO, logger='dsanet'):
        check_before_training(splits_of_run(Trainer(few_videos, tmp_path, torch.device('cpu'))))
    assert any(re.match(r'train: 16 .*\b8\b.*\b2\b.*decord', message) for message in caplog.messages)
    assert any(message.startswith('val: 7 videos') for message in caplog.messages)
    remove_a_video(tmp_path / 'copy')
    with pytest.raises(ValueError, match='--no-check.*\n.*1 of '):
        check_before_training(splits_of_run(Trainer(few_videos, tmp_path, torch.device('cpu'))))


def test_data_that_are_not_fit_stop_the_command_unless_it_is_told_otherwise(
    few_videos: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def stop(*_args: object) -> None:
        raise ValueError('got as far as the start')

    monkeypatch.setattr(Trainer, 'start', stop)
    monkeypatch.setattr('dsanet.engine.logging.setup_logging', lambda *_: None)  # it outlives the test
    (tmp_path / 'page.py').write_text(format_config(few_videos))
    arguments = ['train', str(tmp_path / 'page.py'), '--work-dir', str(tmp_path / 'out')]
    too_large = ['--cfg-options', 'val_dataloader.dataset.pipeline.3.size=40']
    for extra, text in (
        ([], 'got as far as the start'),
        (too_large, '40x40 '),
        (['--no-validate'], 'got as far as the start'),
        (['--no-check', *too_large], 'got as far as the start'),
    ):
        with pytest.raises(SystemExit) as ended:
            commands.main([*arguments, *extra])
        assert ended.value.code == 2
        assert text in capsys.readouterr().err
    remove_a_video(tmp_path / 'copy')
    for extra, text in (([], '--no-check'), (['--no-check'], 'got as far as the start')):
        with pytest.raises(SystemExit) as ended:
            commands.main([*arguments, *extra])
        assert ended.value.code == 2
        assert text in capsys.readouterr().err


def test_resolved_config_replaces_only_what_a_run_wrote(tmp_path: Path) -> None:
    _keep_config('a = 1\n', tmp_path)
    _keep_config('a = 2\n', tmp_path)
    assert (tmp_path / 'config.py').read_text() == f'{CONFIG_HEADER}a = 2\n'
    (tmp_path / 'config.py').write_text('mine\n')
    _keep_config('a = 3\n', tmp_path)
    _keep_config('a = 4\n', tmp_path)
    assert (tmp_path / 'config.py').read_text() == 'mine\n'
    assert (tmp_path / 'config_resolved.py').read_text() == f'{CONFIG_HEADER}a = 4\n'


def test_number_of_classes_is_counted(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    seen: list[int] = []

    def stop(trainer: Trainer, *_args: object) -> None:
        seen.append(trainer.model.num_classes)
        raise ValueError('got as far as the start')

    monkeypatch.setattr(Trainer, 'start', stop)
    monkeypatch.setattr('dsanet.engine.logging.setup_logging', lambda *_: None)  # it outlives the test
    page = make_config(data)
    page['model']['cls_head']['num_classes'] = None
    (tmp_path / 'page.py').write_text(format_config(page))
    arguments = ['train', str(tmp_path / 'page.py'), '--work-dir', str(tmp_path / 'out'), '--no-check']
    with pytest.raises(SystemExit):
        commands.main(arguments)
    assert seen == [8]
    (tmp_path / 'classes.txt').write_text('a\nb\n')
    with pytest.raises(SystemExit):
        commands.main([*arguments, '--cfg-options', f'val_dataloader.dataset.class_file={tmp_path / "classes.txt"}'])
    assert re.search(r'(8 .*classes\.txt has 2|label 7|2)', capsys.readouterr().err)


@pytest.mark.sweep
def test_all_processes_stop_for_data_that_are_not_fit(run: Run, few_videos: dict, tmp_path: Path) -> None:
    (tmp_path / 'page.py').write_text(format_config(few_videos))
    remove_a_video(tmp_path / 'copy')
    done = run('dist_train_recognizer.sh', tmp_path / 'page.py', 2, '--work-dir', tmp_path / 'out', check=False)
    assert done.returncode != 0
    assert done.stderr.count('--no-check') == 1
    assert 'Traceback' not in done.stderr


@pytest.mark.needs_gpu
def test_training_on_every_gpu_of_the_machine(run: Run, config: Path, tmp_path: Path) -> None:
    gpus = torch.cuda.device_count()
    override = ['train_cfg.max_epochs=1', 'train_cfg.sync_bn=True', f'train_dataloader.batch_size={max(1, 8 // gpus)}']
    options = ['--work-dir', tmp_path, '--amp', 'bf16', '--cfg-options', *override]
    done = run('dist_train_recognizer.sh', config, gpus, *options)
    assert f'{gpus} process(es)' in done.stdout
    assert np.isfinite(read_lines(tmp_path / 'scalars.jsonl')[0]['train/grad_norm'])
