"""Run the trials of an experiment: training, test and order test of each, several at a time.

Each step is a ``dsanet`` command in a process of its own. A finished step is not repeated, and an interrupted training
continues from its last checkpoint.
"""

import json
import logging
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from dsanet.engine.checkpointing import list_checkpoints
from dsanet.experiments.plan import Plan, Trial
from dsanet.utils.files import write_atomically
from dsanet.utils.processes import die_with_parent

LOGGER = logging.getLogger(__name__)

TRIAL_FILE = 'trial.json'  # the config and overrides with which a work dir was made
RESULTS = 'results.npz'
ORDER = 'order.json'
LOG = 'commands.log'  # the commands and their output, if several run at a time
PROGRAM = (sys.executable, '-m', 'dsanet')
_POLL_S = 0.1
_LINES = 3  # of the log, in the message about a failure


@dataclass(frozen=True)
class Resources:
    """What the trials may use.

    Args:
        jobs: trials at a time.
        gpus: processes of each trial, as in ``dsanet train --gpus``.
        has_cuda: whether these processes use GPUs. Then each trial has GPUs of its own.
    """

    jobs: int = 1
    gpus: int = 1
    has_cuda: bool = False

    def environment(self, slot: int) -> dict[str, str]:
        """Return the variables of the trial in a slot, 0 to ``jobs - 1``, for its GPUs or CPU threads."""
        if self.has_cuda:
            visible = os.environ.get('CUDA_VISIBLE_DEVICES')
            devices = visible.split(',') if visible else [str(i) for i in range(self.jobs * self.gpus)]
            return {'CUDA_VISIBLE_DEVICES': ','.join(devices[slot * self.gpus : (slot + 1) * self.gpus])}
        if 'OMP_NUM_THREADS' in os.environ:
            return {}
        return {'OMP_NUM_THREADS': str(max((os.cpu_count() or 1) // (self.jobs * self.gpus), 1))}


class _Job:
    """A trial that is running: one command at a time."""

    def __init__(
        self, trial: Trial, slot: int, commands: Iterator[list[str]], log: Path | None, env: dict[str, str]
    ) -> None:
        self.trial = trial
        self.slot = slot
        self.commands = commands
        self.log = log
        self.env = {**os.environ, **env}
        self.name = f'{trial.variant.name}, seed {trial.seed}'
        self.started = time.monotonic()
        self.process: subprocess.Popen[bytes] | None = None

    def advance(self) -> bool:
        """Start the next command, and return whether there is one."""
        command = next(self.commands, None)
        if command is None:
            return False
        line = shlex.join(['dsanet', *command])
        LOGGER.info('%s: %s', self.name, command[0] if self.log else line)
        with ExitStack() as stack:
            stream = None if self.log is None else stack.enter_context(self.log.open('ab', buffering=0))
            if stream is not None:
                stream.write(f'$ {line}\n'.encode())
            # A session of its own, because this process tells it to end after Ctrl-C.
            self.process = subprocess.Popen(
                [*PROGRAM, *command],
                stdout=stream,
                stderr=None if stream is None else subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=self.env,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        return True

    def describe_failure(self) -> str:
        """Return the message about the failed command, with the end of its output."""
        assert self.process is not None, 'no command was started'
        text = f'{self.name}: a command failed (exit status {self.process.returncode})'
        if self.log is None:
            return f'{text}, see its output above'
        lines = self.log.read_text(errors='replace').splitlines()[-_LINES:]
        return '\n'.join([f'{text}, see {self.log}', *(f'    {line}' for line in lines)])


def run_trials(plan: Plan, out: Path, resources: Resources, imports: Sequence[str] = ()) -> list[str]:
    """Run all trials that are not finished, and wait for them.

    Args:
        plan: the experiment.
        out: folder of the work dirs.
        resources: what the trials may use.
        imports: modules that register custom classes.

    Returns:
        A message for each trial that failed; the others are not affected.

    Raises:
        ValueError: a work dir was made with another config or other overrides.
    """
    for trial in plan.trials:
        _check_same(trial, out / trial.folder)
    waiting = plan.trials
    slots = list(range(resources.jobs))
    active: list[_Job] = []
    failures = []
    try:
        while waiting or active:
            while waiting and slots:
                active.append(_start(waiting.pop(0), slots.pop(0), out, resources, imports))
            for job in list(active):
                if job.process is not None and job.process.poll() is None:
                    continue
                if job.process is not None and job.process.returncode:
                    failures.append(job.describe_failure())
                    LOGGER.error('%s', failures[-1])
                elif job.advance():
                    continue
                else:
                    LOGGER.info('%s: done after %.1f minutes', job.name, (time.monotonic() - job.started) / 60)
                active.remove(job)
                slots.append(job.slot)
            time.sleep(_POLL_S)
    finally:
        _stop(active)
    return failures


def _stop(jobs: Sequence[_Job]) -> None:
    """Tell the commands to end; a training writes a checkpoint before it does."""
    running = [job.process for job in jobs if job.process is not None and job.process.poll() is None]
    for process in running:
        process.send_signal(signal.SIGTERM)
    for process in running:
        process.wait()


def _check_same(trial: Trial, work_dir: Path) -> None:
    file = work_dir / TRIAL_FILE
    if file.is_file() and json.loads(file.read_text()) != _describe(trial):
        raise ValueError(
            f'{work_dir} was made with another config or other cfg_options than {trial.variant.name!r} has now; '
            'remove it, or choose another --out'
        )


def _describe(trial: Trial) -> dict[str, object]:
    return {'config': trial.variant.config, 'cfg_options': list(trial.variant.cfg_options), 'seed': trial.seed}


def _start(trial: Trial, slot: int, out: Path, resources: Resources, imports: Sequence[str]) -> _Job:
    work_dir = out / trial.folder
    work_dir.mkdir(parents=True, exist_ok=True)
    write_atomically(json.dumps(_describe(trial), indent=2).encode() + b'\n', work_dir / TRIAL_FILE)
    commands = _commands(trial, work_dir, resources.gpus, imports)
    log = work_dir / LOG if resources.jobs > 1 else None
    return _Job(trial, slot, commands, log, resources.environment(slot))


def _commands(trial: Trial, work_dir: Path, gpus: int, imports: Sequence[str]) -> Iterator[list[str]]:
    """Yield the arguments of the commands that the trial still needs."""
    config = trial.variant.config
    modules = [argument for name in imports for argument in ('--import', name)]
    options = ['--cfg-options', *trial.variant.cfg_options, f'runtime.seed={trial.seed}', *modules]
    processes = ['--gpus', str(gpus)]
    if not (work_dir / RESULTS).is_file():
        yield ['train', config, *processes, '--work-dir', str(work_dir), '--resume', 'auto', *options]
        yield ['test', config, str(_last(work_dir)), *processes, '--out', str(work_dir / RESULTS), *options]
    if not (work_dir / ORDER).is_file():
        yield ['order', str(_last(work_dir)), config, '--json', str(work_dir / ORDER), *options]


def _last(work_dir: Path) -> Path:
    """Return the checkpoint of the last epoch: best.pth is selected on validation videos, often those of the test."""
    return list_checkpoints(work_dir)[0][1]
