"""Two machines, made from network namespaces: each has its own address and loopback device."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dsanet.utils.checkpoint_io import read_checkpoint
from tests.engine.conftest import assert_same_run
from tests.faults.conftest import Start
from tests.faults.jobs import Job

pytestmark = pytest.mark.faults

ADDRESSES = ('10.77.0.1', '10.77.0.2')


@pytest.fixture(scope='module')
def machines() -> Iterator[list[str]]:
    """The names of two connected network namespaces."""
    names = [f'dsanet-{os.getpid()}-{n}' for n in (0, 1)]
    cables = [f'ds{os.getpid()}-{n}' for n in (0, 1)]

    def ip(*arguments: str) -> None:
        subprocess.run(['ip', *arguments], check=True, capture_output=True, text=True)

    if shutil.which('ip') is None:
        pytest.skip('network namespaces need the command ip (Debian: iproute2)')
    try:
        for name in names:
            ip('netns', 'add', name)
        ends = zip(names, cables, strict=True)
        ip('link', 'add', cables[0], 'netns', names[0], 'type', 'veth', 'peer', cables[1], 'netns', names[1])
        for (name, cable), address in zip(ends, ADDRESSES, strict=True):
            ip('-n', name, 'link', 'set', 'lo', 'up')
            ip('-n', name, 'addr', 'add', f'{address}/24', 'dev', cable)
            ip('-n', name, 'link', 'set', cable, 'up')
    except subprocess.CalledProcessError as error:
        for name in names:
            subprocess.run(['ip', 'netns', 'delete', name], check=False, capture_output=True)
        pytest.skip(f'network namespaces cannot be created here: {error.stderr.strip()}')
    yield names
    for name in names:
        ip('netns', 'delete', name)


def start_on(machines: list[str], start: Start, *command: object, **environment: object) -> list[Job]:
    """Start a command on both machines."""
    variables = {'NNODES': 2, 'MASTER_ADDR': ADDRESSES[0], **environment}
    return [
        start('ip', 'netns', 'exec', name, *command, NODE_RANK=rank, **variables) for rank, name in enumerate(machines)
    ]


def test_two_machines_survive_a_killed_process(
    machines: list[str], start: Start, config: Path, straight: Path, tmp_path: Path
) -> None:
    script = ('bash', 'dist_train_recognizer.sh', config, 1, '--work-dir', tmp_path / 'work')
    first, second = start_on(machines, start, *script, MAX_RESTARTS=2)
    first.wait_for('2/4 [1/2]')
    os.kill(second.workers()[1], signal.SIGKILL)  # process 1 is on the second machine
    assert [first.wait(), second.wait()] == [0, 0]
    assert any(re.search(r'\b1\b.*SIGKILL', line) for line in second.lines())
    assert re.search(r'(?i)resum\w+ .*epoch_\d\.pth', first.output.read_text())
    assert_same_run(read_checkpoint(straight / 'epoch_4.pth'), read_checkpoint(tmp_path / 'work' / 'epoch_4.pth'))


def test_error_is_shown_on_both_machines(machines: list[str], start: Start, config: Path, tmp_path: Path) -> None:
    fault = ('tests/faults/train_with_fault.py', 'raise', 1, 'iteration', 1)
    command = (sys.executable, 'tools/launch.py', 1, *fault, config, '--work-dir', tmp_path / 'work', '--no-check')
    first, second = start_on(machines, start, *command)
    assert [first.wait(), second.wait()] == [1, 1]
    assert second.lines()[-1] == 'LookupError: this is the fault'
    assert re.search(r'\b0\b.*\b1\b.*: LookupError: this is the fault$', first.lines()[-1])


def test_pulled_cable_ends_both_machines(machines: list[str], start: Start, config: Path, tmp_path: Path) -> None:
    options = ('--cfg-options', 'runtime.timeout_minutes=0.1', 'train_cfg.max_epochs=1000')
    script = ('bash', 'dist_train_recognizer.sh', config, 1, '--work-dir', tmp_path / 'work', '--no-check', *options)
    first, second = start_on(machines, start, *script, STOP_TIMEOUT=2)
    first.wait_for(' 2/1000 ')
    cable = f'ds{os.getpid()}-1'
    subprocess.run(['ip', '-n', machines[1], 'link', 'set', cable, 'down'], check=True)
    try:
        started = time.monotonic()
        assert [first.wait(), second.wait()] == [1, 1]
        assert time.monotonic() - started < 80  # 6 s timeout, 5 s to ask, 20 s to leave; the rest for a busy machine
        assert re.findall(r'\d+', first.lines()[-1].split('; ')[-1]) == ['1']
        assert re.findall(r'\d+', second.lines()[-1].split('; ')[-1]) == ['0']
    finally:
        subprocess.run(['ip', '-n', machines[1], 'link', 'set', cable, 'up'], check=True)
