"""A process that fails, dies or freezes ends the run; the last line on the console says which one and why."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dsanet.utils.processes import is_alive
from tests.faults.conftest import ROOT, Start
from tests.faults.test_kills import children

pytestmark = pytest.mark.faults

TIMEOUT = 'runtime.timeout_minutes=0.1'
COMMAND = (sys.executable, 'tools/launch.py')


def test_error_of_one_process_is_printed_last(start: Start, config: Path, tmp_path: Path) -> None:
    fault = ('tests/faults/train_with_fault.py', 'raise', 1, 'iteration', 3)
    job = start(*COMMAND, 2, *fault, config, '--work-dir', tmp_path / 'work', '--no-check')
    assert job.wait() == 1
    lines = job.lines()
    assert lines[-1] == 'LookupError: this is the fault'
    assert lines.count('Traceback (most recent call last):') == 1
    assert re.findall(r'\d+', lines[lines.index('Traceback (most recent call last):') - 1]) == ['1']
    assert 'LookupError: this is the fault' in (tmp_path / 'work' / 'run.rank1.log').read_text()


@pytest.mark.parametrize(
    ('processes', 'fault'), [(3, ('freeze', 1, 'iteration', 1)), (2, ('freeze', 0, 'validation', 0))]
)
def test_frozen_process_ends_the_run_and_is_named(
    processes: int, fault: tuple, start: Start, config: Path, tmp_path: Path
) -> None:
    command = (*COMMAND, processes, 'tests/faults/train_with_fault.py', *fault, config, '--work-dir', tmp_path / 'work')
    job = start(*command, '--no-check', '--cfg-options', TIMEOUT, STOP_TIMEOUT=2)
    sign = '[1/' if fault[2] == 'iteration' else ' 1/4 [2/2]'
    job.wait_for(sign)
    frozen, pids = fault[1], job.workers()
    started = time.monotonic()
    assert job.wait() == 1
    assert (
        time.monotonic() - started < 60
    )  # 6 s timeout, 5 s to ask the others, 2 s to end; the rest for a busy machine
    assert re.findall(r'\d+', job.lines()[-1].split('; ')[-1]) == [str(frozen)]
    assert 'Traceback' not in job.output.read_text()
    witness = 'run.log' if frozen else 'run.rank1.log'
    assert 'Traceback' in (tmp_path / 'work' / witness).read_text()
    assert len(pids) == processes
    assert not any(is_alive(pid) for pid in pids.values())


@pytest.mark.parametrize(('number', 'limit'), [(signal.SIGSTOP, 60), (signal.SIGKILL, 30)])
def test_lost_data_workers_end_a_single_process(
    number: int, limit: float, start: Start, config: Path, tmp_path: Path
) -> None:
    options = ('--work-dir', tmp_path / 'work', '--no-check', '--cfg-options', 'train_cfg.max_epochs=1000')
    job = start(sys.executable, '-m', 'dsanet', 'train', config, *options)
    job.wait_for(' 2/1000 [1/')
    workers = children(job.process.pid)
    for pid in workers:
        os.kill(pid, number)
    started = time.monotonic()
    assert job.wait() == 1
    assert time.monotonic() - started < limit
    assert int(re.findall(r'process (\d+)', job.lines()[-1])[0]) in workers
    assert 'Traceback' not in job.output.read_text()


def test_small_shared_memory_ends_a_run(config: Path, tmp_path: Path) -> None:
    mount = 'mount -t tmpfs -o size=80k none /dev/shm'
    if subprocess.run(['unshare', '-m', 'sh', '-c', mount], capture_output=True, check=False).returncode:
        pytest.skip('requires the right to mount')
    options = '--no-check --cfg-options train_dataloader.batch_size=16 train_dataloader.num_workers=2'
    run = f'{mount} && exec {sys.executable} -m dsanet train {config} --work-dir {tmp_path} {options}'
    done = subprocess.run(
        ['unshare', '-m', 'sh', '-c', run], cwd=ROOT, capture_output=True, text=True, timeout=150, check=False
    )
    assert done.returncode == 1
    output = done.stdout + done.stderr
    assert re.search('error: .*/dev/shm.*--shm-size', output)
    assert 'Traceback' not in output
