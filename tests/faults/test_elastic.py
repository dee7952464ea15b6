"""MAX_RESTARTS: a run of which processes were killed ends in the bits of one that was left alone."""

import os
import signal
import sys
from pathlib import Path

import pytest

from dsanet.utils.checkpoint_io import read_checkpoint
from tests.engine.test_trainer import assert_same_run
from tests.faults.conftest import Start
from tests.faults.jobs import is_running

pytestmark = pytest.mark.faults


def test_a_killed_process_is_started_again_with_all_others(
    start: Start, config: Path, straight: Path, tmp_path: Path
) -> None:
    script = ('bash', 'dist_train_recognizer.sh', config, 2, '--work-dir', tmp_path / 'work')
    job = start(*script, MAX_RESTARTS=3)
    job.wait_for('epoch 2/4 [1/2]')
    os.kill(job.workers()[1], signal.SIGKILL)
    assert job.wait() == 0
    assert any('process 1 was the first to fail: SIGKILL' in line and 'restart 1 of 3' in line for line in job.lines())
    assert_same_run(read_checkpoint(straight / 'epoch_4.pth'), read_checkpoint(tmp_path / 'work' / 'epoch_4.pth'))


def test_a_run_that_resumed_a_file_starts_again_from_it(
    start: Start, config: Path, straight: Path, tmp_path: Path
) -> None:
    fault = ('tests/faults/train_with_fault.py', 'kill', 0, 'iteration', 6)
    file = straight / 'epoch_3.pth'
    command = (sys.executable, 'tools/launch.py', 2, *fault, config, '--work-dir', tmp_path / 'work', '--no-check')
    job = start(*command, '--resume', file, MAX_RESTARTS=1)
    assert job.wait() == 0
    assert job.output.read_text().count(f'resumed from {file}, behind epoch 3') == 2
    assert_same_run(read_checkpoint(straight / 'epoch_4.pth'), read_checkpoint(tmp_path / 'work' / 'epoch_4.pth'))


def test_ctrl_c_ends_the_run_and_starts_nothing_again(start: Start, config: Path, tmp_path: Path) -> None:
    script = ('bash', 'dist_train_recognizer.sh', config, 2, '--work-dir', tmp_path / 'work')
    job = start(*script, '--cfg-options', 'train_cfg.max_epochs=1000', MAX_RESTARTS=3)
    job.wait_for('epoch 2/1000')
    pids = job.workers()
    os.killpg(job.process.pid, signal.SIGINT)  # as a terminal does
    assert job.wait() == 130
    assert job.lines()[-1] == 'stopped by SIGINT'
    assert len(pids) == 2
    assert not any(is_running(pid) for pid in pids.values())
