"""A process that fails, dies or freezes ends the run, and the console says last of all which one and why."""

import sys
import time
from pathlib import Path

import pytest

from tests.faults.conftest import Start
from tests.faults.jobs import is_running

pytestmark = pytest.mark.faults

PATIENCE = 'runtime.timeout_minutes=0.1'
COMMAND = (sys.executable, 'tools/launch.py')


def test_an_error_of_one_process_is_the_last_thing_on_the_console(start: Start, config: Path, tmp_path: Path) -> None:
    fault = ('tests/faults/train_with_fault.py', 'raise', 1, 'iteration', 3)
    job = start(*COMMAND, 2, *fault, config, '--work-dir', tmp_path / 'work', '--no-check')
    assert job.wait() == 1
    lines = job.lines()
    assert lines[-1] == 'LookupError: this is the fault'
    assert lines.count('Traceback (most recent call last):') == 1
    assert lines[lines.index('Traceback (most recent call last):') - 1] == 'process 1 was the first to fail:'
    assert 'LookupError: this is the fault' in (tmp_path / 'work' / 'run.rank1.log').read_text()


@pytest.mark.parametrize(
    ('processes', 'fault'), [(3, ('freeze', 1, 'iteration', 1)), (2, ('freeze', 0, 'validation', 0))]
)
def test_a_frozen_process_ends_the_run_in_time_and_is_named(
    processes: int, fault: tuple, start: Start, config: Path, tmp_path: Path
) -> None:
    command = (*COMMAND, processes, 'tests/faults/train_with_fault.py', *fault, config, '--work-dir', tmp_path / 'work')
    job = start(*command, '--no-check', '--cfg-options', PATIENCE, STOP_TIMEOUT=2)
    sign = '[1/' if fault[2] == 'iteration' else 'epoch 1/4 [2/2]'
    job.wait_for(sign)
    frozen, pids = fault[1], job.workers()
    started = time.monotonic()
    assert job.wait() == 1
    assert time.monotonic() - started < 60  # 6 to wait, 5 to ask around, 2 to end; the rest is a busy machine
    last = job.lines()[-1]
    assert 'lost contact with the others: ' in last
    assert last.endswith(f'; no sign of life from process {frozen}')
    assert 'Traceback' not in job.output.read_text()
    witness = 'run.log' if frozen else 'run.rank1.log'
    assert 'Traceback' in (tmp_path / 'work' / witness).read_text()
    assert len(pids) == processes
    assert not any(is_running(pid) for pid in pids.values())
