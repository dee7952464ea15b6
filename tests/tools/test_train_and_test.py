"""The commands as a user types them, on two processes of the CPU. Few, because starting them takes seconds."""

import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from codes.config import load_config
from codes.engine.checkpoint import read_checkpoint
from codes.engine.logging import read_scalars
from tests.engine.test_runner import assert_same_run, make_config
from tools.data.make_ordered_actions import make_dataset

ROOT = Path(__file__).parents[2]


def run(script: str, *arguments: object, check: bool = True) -> subprocess.CompletedProcess:
    """Run one of the two scripts from the project's folder."""
    environment = {**os.environ, 'PYTHON': sys.executable, 'OMP_NUM_THREADS': '1'}
    command = ['bash', script, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve training and seven validation videos: neither 2 processes nor batches of 4 divide seven."""
    root = tmp_path_factory.mktemp('data') / 'ordered'
    make_dataset(root, num_videos=24, seed=0, val_fraction=0.5, size=32)
    lines = (root / 'val.txt').read_text().splitlines()
    (root / 'val.txt').write_text('\n'.join(lines[:7]) + '\n')
    return root


@pytest.fixture(scope='module')
def config(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config file with augmentation, dropout and workers, global batch 8 on two processes, one iteration an epoch."""
    file = tmp_path_factory.mktemp('config') / 'tiny.py'
    make_config(data, num_workers=1).dump(file)
    return file


@pytest.fixture(scope='module')
def straight(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work dir of four undisturbed epochs on two processes."""
    work_dir = tmp_path_factory.mktemp('straight')
    run('dist_train_recognizer.sh', config, 2, '--work-dir', work_dir)
    return work_dir


def test_two_processes_stopped_and_resumed_end_in_the_same_bits(config: Path, straight: Path, tmp_path: Path) -> None:
    # The learning rate looks ahead to the last epoch, so the first part must be stopped and not just be shorter.
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    command = [sys.executable, 'tools/launch.py', '2', 'tests/tools/train_and_stop.py', '2']
    arguments = [str(config), '--work-dir', str(tmp_path)]
    stopped = subprocess.run([*command, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert stopped.returncode != 0
    assert (tmp_path / 'epoch_2.pth').is_file(), stopped.stdout + stopped.stderr
    assert not (tmp_path / 'epoch_3.pth').exists()
    done = run('dist_train_recognizer.sh', config, 2, '--work-dir', tmp_path, '--resume')
    assert 'behind epoch 2' in done.stdout
    assert_same_run(read_checkpoint(straight / 'epoch_4.pth'), read_checkpoint(tmp_path / 'epoch_4.pth'))


def test_run_announces_itself_and_leaves_a_config_that_can_be_run_again(config: Path, straight: Path) -> None:
    log = (straight / 'run.log').read_text()
    assert '2 process(es) x batch 4 = 8 videos an iteration, 1 iterations an epoch, epochs 1 to 4' in log
    assert 'DSA inserted before_conv2 of 1 blocks: layer2.0' in log
    assert re.search(r'best epoch \d: top1 ', log)
    assert log.count('epoch 4/4 [1/1]') == 1  # one process writes, not two
    assert load_config(straight / 'config.py').to_dict() == load_config(config).to_dict()


def test_evaluation_is_the_same_on_one_and_on_two_processes(config: Path, straight: Path, tmp_path: Path) -> None:
    results = []
    for processes, name in ((1, 'one.json'), (2, 'two.pkl')):
        out = tmp_path / name
        done = run('dist_test_recognizer.sh', config, straight / 'best.pth', processes, '--out', out)
        numbers = re.search(r'7 videos  (top1 .*)', done.stdout)[1]
        results.append((numbers, json.loads(out.read_text()) if out.suffix == '.json' else pickle.loads(out.read_bytes())))
    (numbers1, one), (numbers2, two) = results
    assert numbers1 == numbers2
    assert [(r['path'], r['label']) for r in one] == [(r['path'], r['label']) for r in two]
    assert len({r['path'] for r in one}) == 7
    np.testing.assert_allclose([r['scores'] for r in one], [r['scores'] for r in two], rtol=1e-4, atol=1e-5)
    top1 = np.mean([np.argmax(r['scores']) == r['label'] for r in one]) * 100
    assert f'top1 {top1:.2f}' in numbers1


def test_options_of_the_tests_command_take_effect(config: Path, straight: Path, tmp_path: Path) -> None:
    options = ['--average-views', 'prob', '--max-views-per-forward', 1, '--amp', 'bf16']
    run('dist_test_recognizer.sh', config, straight / 'best.pth', 1, '--out', tmp_path / 'x.json', *options)
    scores = np.array([r['scores'] for r in json.loads((tmp_path / 'x.json').read_text())])
    np.testing.assert_allclose(scores.sum(1), 1, rtol=1e-4)


def test_options_of_the_train_command_take_effect(config: Path, straight: Path, tmp_path: Path) -> None:
    options = ['--seed', 3, '--deterministic', '--amp', 'bf16', '--no-validate', '--load-from', straight / 'best.pth']
    override = ['--cfg-options', 'train_cfg.max_epochs=1', 'optimizer.lr=0.25', 'schedule.warmup_epochs=0']
    done = run('dist_train_recognizer.sh', config, 1, '--work-dir', tmp_path, *options, *override)
    resolved = load_config(tmp_path / 'config.py')
    assert resolved.runtime == {**load_config(config).runtime, 'seed': 3, 'deterministic': True, 'amp': 'bf16'}
    assert 'val_dataloader' not in resolved
    assert f'weights from {straight / "best.pth"}: ' in done.stdout
    lines = read_scalars(tmp_path / 'scalars.jsonl')
    assert [line['train/lr'] for line in lines[:1]] == [0.25]
    assert not any('val/top1' in line for line in lines)
    assert sorted(f.name for f in tmp_path.glob('*.pth')) == ['epoch_1.pth']


def test_mistakes_are_one_line_and_end_the_run(config: Path, tmp_path: Path) -> None:
    done = run('dist_train_recognizer.sh', config, 2, '--cfg-options', 'model.backbone.dept=18', check=False)
    assert done.returncode != 0
    assert done.stderr.count("error: model.backbone.dept is not an argument of ResNet_I3D. Did you mean 'depth'?") == 1
    assert 'Traceback' not in done.stderr


@pytest.mark.parametrize(
    ('arguments', 'text'),
    [
        (['tools/train_recognizer.py', 'nowhere.py'], r'error: there is no config .*nowhere.py'),
        (['tools/test_recognizer.py', '{config}', 'nowhere.pth'], r'error: there is no checkpoint .*nowhere.pth'),
        (['tools/test_recognizer.py', '{config}', 'x.pth', '--out', 'x.txt'], r"'x.txt' must end in .pkl or .json"),
    ],
)
def test_tools_run_without_the_launcher_and_refuse_missing_files(config: Path, arguments: list[str], text: str) -> None:
    command = [sys.executable, *(a.format(config=config) for a in arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert re.search(text, done.stderr)
    assert 'Traceback' not in done.stderr


@pytest.mark.needs_gpu
def test_training_on_every_gpu_of_the_machine(config: Path, tmp_path: Path) -> None:
    gpus = torch.cuda.device_count()
    override = ['--cfg-options', 'train_cfg.max_epochs=1', f'train_dataloader.batch_size={max(1, 8 // gpus)}']
    done = run('dist_train_recognizer.sh', config, gpus, '--work-dir', tmp_path, '--amp', 'bf16', *override)
    assert f'{gpus} process(es)' in done.stdout
