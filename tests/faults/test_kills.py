"""Runs killed at random and at chosen moments end bit-identical to an undisturbed run."""

import os
import random
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from dsanet.config.formatting import format_config
from dsanet.utils.checkpoint_io import read_checkpoint
from dsanet.utils.json_lines import read_json_lines
from dsanet.utils.processes import is_alive
from tests.engine.conftest import assert_same_run, make_config, read_curves
from tests.faults.conftest import Start
from tests.faults.jobs import Job, wait_until

pytestmark = pytest.mark.faults

EPOCHS = 10
KILLS_A_RUN = 5


@pytest.fixture(scope='module')
def config(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten epochs with a worker, dropout, averaged weights, and a checkpoint after every third iteration."""
    made = make_config(data, num_workers=1, train_cfg={'max_epochs': EPOCHS, 'ema_decay': 0.9})
    made['train_dataloader']['batch_size'] = 2
    made['runtime'] = {'log_interval': 1, 'checkpoint_interval': 3}
    file = tmp_path_factory.mktemp('config') / 'killed.py'
    file.write_text(format_config(made))
    return file


def command(processes: int, tool: Sequence[str], config: Path, work_dir: Path) -> list[str]:
    launcher = [] if processes == 1 else ['tools/launch.py', str(processes)]
    options = ['--work-dir', str(work_dir), '--resume', '--no-check']
    return [sys.executable, *launcher, *tool, str(config), *options]


def finish(processes: int, config: Path, work_dir: Path, output: Path) -> None:
    job = Job(command(processes, ['tools/train_recognizer.py'], config, work_dir), output)
    assert job.wait() == 0, output.read_text()[-3000:]


@pytest.fixture(scope='module')
def undisturbed(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """The work dirs of undisturbed runs by number of processes."""
    folder = tmp_path_factory.mktemp('undisturbed')
    made: dict[int, Path] = {}

    def get(processes: int) -> Path:
        if processes not in made:
            made[processes] = folder / str(processes)
            finish(processes, config, made[processes], folder / f'{processes}.txt')
        return made[processes]

    return get


def assert_same(one: Path, two: Path) -> None:
    """Compare weights, optimizer, averaged weights, metrics and curves, bit by bit."""
    for name in (f'epoch_{EPOCHS}.pth', 'best.pth'):
        assert_same_run(read_checkpoint(one / name), read_checkpoint(two / name))
    assert read_curves(one) == read_curves(two)


def children(pid: int) -> list[int]:
    """Return the child processes of a process, oldest first."""
    found = []
    for folder in Path('/proc').iterdir():
        if folder.name.isdecimal():
            try:
                fields = (folder / 'stat').read_text().rpartition(')')[2].split()
            except OSError:
                continue  # it has ended
            if int(fields[1]) == pid and fields[0] != 'Z':
                found.append(int(folder.name))
    return sorted(found)


def pick(job: Job, processes: int, target: str, rng: random.Random) -> int | None:
    """Return the process of a job to kill; None if there is none yet."""
    try:
        rank = job.process.pid if processes == 1 else rng.choice(sorted(job.workers().values()))
        return rank if target == 'rank' else rng.choice(children(rank))
    except (IndexError, OSError):
        return None


def reached(work_dir: Path) -> int:
    """Return the last iteration that a run logged."""
    return max((line['iteration'] for line in read_json_lines(work_dir / 'scalars.jsonl')), default=0)


def wait_for_training(job: Job, work_dir: Path, started: int, iterations: int) -> None:
    """Wait until the run has been started ``started`` times, and for a number of further iterations."""
    log = work_dir / 'run.log'

    def has_ended() -> bool:
        return job.process.poll() is not None

    wait_until(
        lambda: (
            has_ended() or (log.is_file() and len(re.findall('iterations(?:/| an )epoch', log.read_text())) >= started)
        )
    )
    last = reached(work_dir) + iterations
    wait_until(lambda: has_ended() or reached(work_dir) >= last)


def kill(job: Job, processes: int, target: str, rng: random.Random) -> bool:
    """Kill a part of a running job; return False if it had ended before."""
    if target == 'job':
        if job.process.poll() is not None:
            return False
        os.killpg(job.process.pid, signal.SIGKILL)
        job.wait()
        return True
    victim = None
    while victim is None:
        if job.process.poll() is not None:
            return False
        victim = pick(job, processes, target, rng)
    try:
        os.kill(victim, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return job.wait() != 0


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / 'output.txt'


@pytest.mark.parametrize(
    ('processes', 'seed'),
    [
        (1, 0),
        (2, 1),
        *(pytest.param(p, s, marks=pytest.mark.long) for p, s in ((1, 2), (2, 3), (1, 4), (3, 5))),
    ],
)
def test_random_kills_resume_bit_identical(
    config: Path,
    undisturbed: Callable[[int], Path],
    tmp_path: Path,
    output: Path,
    processes: int,
    seed: int,
    start: Start,
) -> None:
    rng = random.Random(seed)
    work_dir = tmp_path / 'run'
    kills: list[str] = []
    for attempt in range(1, 4 * KILLS_A_RUN):
        if len(kills) == KILLS_A_RUN:
            break
        target = rng.choice(['job', 'rank', 'worker'])
        job = start(*command(processes, ['tools/train_recognizer.py'], config, work_dir))
        wait_for_training(job, work_dir, attempt, rng.randrange(6))
        time.sleep(rng.uniform(0, 0.1))
        if kill(job, processes, target, rng):
            kills.append(f'{target} at {reached(work_dir)}')
        elif job.wait() == 0:
            break
    finish(processes, config, work_dir, output)
    assert_same(undisturbed(processes), work_dir)
    assert len(kills) == KILLS_A_RUN, f'only {kills}: the run is too short for this machine'


CHOSEN = [
    ('checkpoint', 3),
    ('checkpoint', 30),
    ('rename', 2),
    ('renamed', 4),
    ('log', 5),
    ('validation', 2),
]


@pytest.mark.parametrize('processes', [1, pytest.param(2, marks=pytest.mark.long)])
def test_chosen_kills_resume_bit_identical(
    config: Path,
    undisturbed: Callable[[int], Path],
    tmp_path: Path,
    output: Path,
    processes: int,
    start: Start,
) -> None:
    work_dir = tmp_path / 'run'
    for moment, number in CHOSEN:
        tool = ['tests/faults/train_and_die.py', moment, str(number)]
        job = start(*command(processes, tool, config, work_dir))
        assert job.wait() == (-signal.SIGKILL if processes == 1 else 1), job.lines()[-30:]
    finish(processes, config, work_dir, output)
    assert_same(undisturbed(processes), work_dir)


@pytest.mark.parametrize(
    ('numbers', 'status'),
    [([signal.SIGTERM], 143), ([signal.SIGINT], 130), ([signal.SIGINT, signal.SIGINT], 130)],
)
def test_signal_stops_run_with_frozen_workers(
    config: Path,
    undisturbed: Callable[[int], Path],
    tmp_path: Path,
    output: Path,
    numbers: list[int],
    status: int,
    start: Start,
) -> None:
    work_dir = tmp_path / 'run'
    job = start(*command(1, ['tools/train_recognizer.py'], config, work_dir))
    wait_for_training(job, work_dir, 1, 2)
    workers = children(job.process.pid)
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    started = time.monotonic()
    for number in numbers:
        time.sleep(1)
        os.kill(job.process.pid, number)
    assert job.wait() == status, job.lines()[-30:]
    assert time.monotonic() - started < 30  # 3 s to wait for a batch, and the end of Python on a busy machine
    assert 'Traceback' not in job.output.read_text()
    assert len(workers) == 2
    assert not any(map(is_alive, workers))
    finish(1, config, work_dir, output)
    assert_same(undisturbed(1), work_dir)


@pytest.mark.parametrize(('number', 'status'), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize('processes', [1, 2])
def test_signal_to_all_processes_saves_and_stops(
    config: Path,
    undisturbed: Callable[[int], Path],
    tmp_path: Path,
    output: Path,
    processes: int,
    number: int,
    status: int,
    start: Start,
) -> None:
    work_dir = tmp_path / 'run'
    job = start(*command(processes, ['tools/train_recognizer.py'], config, work_dir))
    wait_for_training(job, work_dir, 1, 2)
    os.killpg(job.process.pid, number)  # as terminals and schedulers do: data workers get it too
    assert job.wait() == status, job.lines()[-30:]
    assert 'death signal' not in job.output.read_text(), 'the launcher says it once, torch does not repeat it'
    log = (work_dir / 'run.log').read_text()
    assert signal.Signals(number).name in log
    assert 'bad sample' not in log.lower()
    finish(processes, config, work_dir, output)
    assert_same(undisturbed(processes), work_dir)
