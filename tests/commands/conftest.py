"""The dist scripts, a small dataset and one full training run, shared by the tests because processes start slowly."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dsanet.config.formatting import format_config
from dsanet.data_tools.ordered_actions import make_dataset
from tests.engine.conftest import make_config

ROOT = Path(__file__).parents[2]
Run = Callable[..., subprocess.CompletedProcess]


@pytest.fixture(scope='session')
def run() -> Run:
    """Run one of the dist scripts in the root folder of the project."""

    def run(script: str, *arguments: object, check: bool = True) -> subprocess.CompletedProcess:
        environment = {**os.environ, 'PYTHON': sys.executable, 'OMP_NUM_THREADS': '1'}
        command = ['bash', script, *map(str, arguments)]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    return run


@pytest.fixture(scope='session')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 training and 7 validation videos; 7 is divisible neither by 2 processes nor by the batch size 4."""
    root = tmp_path_factory.mktemp('data') / 'ordered'
    make_dataset(root, num_videos=32, seed=0, val_fraction=0.5, size=32)
    lines = (root / 'val.txt').read_text().splitlines()
    (root / 'val.txt').write_text('\n'.join(lines[:7]) + '\n')
    return root


@pytest.fixture(scope='session')
def config(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config file with augmentation, dropout and workers; two iterations per epoch on two processes."""
    file = tmp_path_factory.mktemp('config') / 'tiny.py'
    file.write_text(format_config(make_config(data, num_workers=1)))
    return file


@pytest.fixture(scope='session')
def straight(run: Run, config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work dir of an uninterrupted run of four epochs on two processes."""
    work_dir = tmp_path_factory.mktemp('straight')
    run('dist_train_recognizer.sh', config, 2, '--work-dir', work_dir)
    return work_dir
