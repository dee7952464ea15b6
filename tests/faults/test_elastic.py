"""MAX_RESTARTS: a run whose processes were killed ends bit-identical to an undisturbed one."""

import os
import re
import signal
import sys
from pathlib import Path

import pytest

from dsanet.utils.checkpoint_io import read_checkpoint
from tests.engine.conftest import assert_same_run
from tests.faults.conftest import Start

pytestmark = pytest.mark.faults


def test_killed_process_restarts_bit_identical(start: Start, config: Path, straight: Path, tmp_path: Path) -> None:
    script = ('bash', 'dist_train_recognizer.sh', config, 2, '--work-dir', tmp_path / 'work')
    job = start(*script, MAX_RESTARTS=3)
    job.wait_for('2/4 [1/2]')
    os.kill(job.workers()[1], signal.SIGKILL)
    assert job.wait() == 0
    assert any(re.search(r'\b1\b.*SIGKILL.*\b1\D+3\b', line) for line in job.lines())
    assert_same_run(read_checkpoint(straight / 'epoch_4.pth'), read_checkpoint(tmp_path / 'work' / 'epoch_4.pth'))


def test_restart_resumes_from_the_given_file(start: Start, config: Path, straight: Path, tmp_path: Path) -> None:
    fault = ('tests/faults/train_with_fault.py', 'kill', 0, 'iteration', 6)
    file = straight / 'epoch_3.pth'
    command = (sys.executable, 'tools/launch.py', 2, *fault, config, '--work-dir', tmp_path / 'work', '--no-check')
    job = start(*command, '--resume', file, MAX_RESTARTS=1)
    assert job.wait() == 0
    assert len([line for line in job.lines() if re.search(rf'{file}\b.*\b3\b', line)]) == 2
    assert_same_run(read_checkpoint(straight / 'epoch_4.pth'), read_checkpoint(tmp_path / 'work' / 'epoch_4.pth'))
