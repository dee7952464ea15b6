"""Ctrl-C and SIGTERM at random moments end every command with its status, and one line or silence."""

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.conftest import Start

pytestmark = pytest.mark.faults

STATUS = {signal.SIGINT: (130, -signal.SIGINT), signal.SIGTERM: (143, -signal.SIGTERM)}
DSANET = (sys.executable, '-m', 'dsanet')


def commands(config: Path, checkpoint: Path, folder: Path) -> list[tuple[object, ...]]:
    return [
        (*DSANET, 'train', config, '--work-dir', folder / 'train'),
        (sys.executable, 'tools/train_recognizer.py', config, '--work-dir', folder / 'script', '--no-check'),
        ('bash', 'dist_train_recognizer.sh', config, 2, '--work-dir', folder / 'dist'),
        (*DSANET, 'test', config, checkpoint),
        (*DSANET, 'check', config, '--out', folder),
        (*DSANET, 'find-lr', config, '--out', folder / 'lr.png'),
        (*DSANET, 'browse', config, '--out', folder),
        (*DSANET, 'summary', config),
        (*DSANET, '--help'),
    ]


@pytest.mark.parametrize('number', STATUS)
def test_signal_at_any_moment_is_quiet(
    number: signal.Signals, config: Path, straight: Path, tmp_path: Path, start: Start
) -> None:
    rng = random.Random(int(number))
    for i, command in enumerate(commands(config, straight / 'epoch_4.pth', tmp_path / 'out')):
        job = start(*command)
        time.sleep(rng.uniform(0.3, 6))  # Python itself prints a traceback when it is interrupted earlier
        ended = job.process.poll() is not None
        if not ended:
            (os.killpg if i % 2 else os.kill)(job.process.pid, number)
        status, output = job.wait(), job.output.read_text()
        assert status in STATUS[number] or status == 0, (command, status, output)
        assert 'Traceback' not in output, (command, output)
        assert 'Exception ignored' not in output, (command, output)
        assert output.lower().count('interrupted') + output.count('Stopped by') <= 1, (command, output)


@pytest.mark.parametrize('kill', [os.kill, os.killpg])
def test_stopped_processes_say_once_where(kill: Callable[[int, int], None], config: Path, start: Start) -> None:
    job = start('bash', 'dist_train_recognizer.sh', config, 2, '--work-dir', config.parent / kill.__name__)
    job.wait_for('Epoch 1/4')
    kill(job.process.pid, signal.SIGTERM)
    assert job.wait() == 143
    lines = [line for line in job.output.read_text().splitlines() if 'SIGTERM' in line]
    assert len(lines) == 1, lines
    assert '--resume' in lines[0]
