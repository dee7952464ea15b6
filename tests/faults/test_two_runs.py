"""Several runs in one work dir: one trains, the others are refused, whenever they start."""

import json
import sys
from pathlib import Path

import pytest

from dsanet.utils.json_lines import read_json_lines
from tests.faults.conftest import Start
from tests.faults.jobs import wait_until

pytestmark = pytest.mark.faults


def command(processes: int, config: Path, work_dir: Path, epochs: int, *options: str) -> list[str]:
    tool = ['tools/train_recognizer.py', str(config), '--work-dir', str(work_dir), '--no-check', *options]
    launcher = ['tools/launch.py', str(processes)] if processes > 1 else []
    return [sys.executable, *launcher, *tool, '--cfg-options', f'train_cfg.max_epochs={epochs}']


def iterations(work_dir: Path) -> list[int]:
    return [line['iteration'] for line in read_json_lines(work_dir / 'scalars.jsonl')]


@pytest.mark.parametrize('processes', [1, 2])
def test_second_run_is_refused(config: Path, tmp_path: Path, start: Start, processes: int) -> None:
    work_dir = tmp_path / 'work'
    first = start(*command(processes, config, work_dir, 1000))
    first.wait_for(' 2/1000 ')
    owner = json.loads((work_dir / 'running.json').read_text())
    assert owner['pid'] == (first.workers()[0] if processes > 1 else first.process.pid)
    for options in ((), ('--resume',)):
        second = start(*command(processes, config, work_dir, 1000, *options))
        assert second.wait() == 2
        (line,) = (line for line in second.lines() if 'error' in line)
        assert f' {owner["pid"]} on {owner["host"]}' in line
        assert owner['since'] in line
    assert first.process.poll() is None
    (work_dir / 'running.json').unlink()  # the run goes on, and writes it again
    wait_until((work_dir / 'running.json').exists)
    first.stop()
    resumed = start(*command(processes, config, work_dir, 1000, '--resume'))
    resumed.wait_for('Resumed from')
    assert 'Waiting' not in resumed.output.read_text(), 'the lock of a killed run does not block'
    resumed.stop()


def test_of_runs_started_together_one_trains(config: Path, tmp_path: Path, start: Start) -> None:
    work_dir = tmp_path / 'work'
    jobs = [start(*command(1, config, work_dir, 100, '--resume')) for _ in range(3)]
    assert sorted(job.wait() for job in jobs) == [0, 2, 2]
    numbers = iterations(work_dir)
    assert numbers == sorted(numbers)
    assert not list(work_dir.glob('*running.json*'))
