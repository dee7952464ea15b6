"""Run the trials of an experiment: training, test and order test of each, several at a time.

Each step is a ``dsanet`` command in a process of its own. A finished step is not repeated, and an interrupted training
continues from its last checkpoint.
"""

import errno
import json
import logging
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from dsanet.config.loading import find_differences, load_config
from dsanet.data_checks.run import find_test_errors
from dsanet.engine.checkpointing import list_checkpoints
from dsanet.experiments.plan import Plan, Trial
from dsanet.utils.files import write_atomically
from dsanet.utils.json_lines import read_json
from dsanet.utils.processes import die_with_parent

LOGGER = logging.getLogger(__name__)

TRIAL_FILE = 'trial.json'  # the config with which a work dir was made
RESULTS = 'results.npz'
ORDER = 'order.json'
LOG = 'commands.log'  # the commands and their output, if several run at a time
PROGRAM = (sys.executable, '-m', 'dsanet')
_POLL_S = 0.1
_LINES = 3  # of the log, in the message about a failure
_MAX_CHANGES = 5  # in the message about another config


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
        # As for dsanet launch. One core of each process is for its data workers: if they compete with the threads of an
        # operator, each thread waits for the slowest one.
        return {'OMP_NUM_THREADS': str(max(torch.get_num_threads() // (self.jobs * self.gpus) - 1, 1))}


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
        """Start the next command, and return whether there is one.

        Raises:
            OSError: a file cannot be read or written, or the command cannot be started.
        """
        command = next(self.commands, None)
        if command is None:
            return False
        line = shlex.join(['dsanet', *command])
        LOGGER.info('%s: %s', self.name, command[0] if self.log else line)
        with ExitStack() as stack:
            stream = None if self.log is None else stack.enter_context(self.log.open('ab', buffering=0))
            if stream is not None:
                stream.write(f'$ {line}\n'.encode())
            # In a new session, so that Ctrl-C reaches only this process, which then stops the command.
            self.process = subprocess.Popen(
                [*PROGRAM, *command],
                stdout=stream,
                stderr=None if stream is None else subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=self.env,
                start_new_session=True,
                preexec_fn=partial(die_with_parent, os.getpid()),
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


def load_configs(plan: Plan, imports: Sequence[str] = ()) -> dict[Trial, dict[str, Any]]:
    """Return the config of each trial, so that errors in one are found before any trial is run.

    Raises:
        ValueError: an error in a config or in an override.
    """
    configs = {}
    for trial in plan.trials:
        variant = trial.variant
        try:
            configs[trial] = load_config(variant.config, [*variant.cfg_options, f'runtime.seed={trial.seed}'], imports)
        except (FileNotFoundError, KeyError, TypeError, ValueError) as error:
            text = error.args[0] if isinstance(error, KeyError) else error
            raise ValueError(f'variant {variant.name}: {text}') from error
    return configs


def check_test_data(configs: Mapping[Trial, dict[str, Any]], out: Path) -> None:
    """Check the test data of the trials that are not tested yet, so that none is trained in vain.

    Raises:
        ValueError: a list or file is missing or wrong.
    """
    known: dict[str, str] = {}
    for trial, config in configs.items():
        if (out / trial.folder / RESULTS).is_file():
            continue
        key = repr((config['test_dataloader'], config['model'].get('cls_head')))
        if key not in known:
            known[key] = find_test_errors(config)
        if known[key]:
            raise ValueError(f'variant {trial.variant.name}: the test data have errors\n{known[key]}')


def check_unchanged(configs: Mapping[Trial, dict[str, Any]], out: Path) -> None:
    """Check that the work dirs were made with the configs that the trials have now.

    Raises:
        ValueError: a work dir was made with another config or other overrides, or not by an experiment.
    """
    for trial, config in configs.items():
        work_dir = out / trial.folder
        if not list_checkpoints(work_dir) and not (work_dir / RESULTS).exists():
            continue  # a failed trial may be corrected
        if not (work_dir / TRIAL_FILE).is_file():
            raise ValueError(
                f'{work_dir} has a run, but no {TRIAL_FILE} with its config; move it away, or choose another --out'
            )
        before, now = read_json(work_dir / TRIAL_FILE)['resolved'], _describe(trial, config)['resolved']
        if changes := list(find_differences(before, now).values()):
            more = ', ...' if len(changes) > _MAX_CHANGES else ''
            raise ValueError(
                f'{work_dir} was made with another config than {trial.variant.name!r} has now: '
                f'{", ".join(changes[:_MAX_CHANGES])}{more}; remove it, or choose another --out'
            )


def run_trials(
    configs: Mapping[Trial, dict[str, Any]], out: Path, resources: Resources, imports: Sequence[str] = ()
) -> list[str]:
    """Run all trials that are not finished, and wait for them.

    Args:
        configs: of all trials, see :func:`load_configs`; their work dirs have been checked by :func:`check_unchanged`.
        out: folder of the work dirs.
        resources: what the trials may use.
        imports: modules that register custom classes.

    Returns:
        A message for each trial that failed; the others are not affected.
    """
    waiting = list(configs)
    slots = list(range(resources.jobs))
    active: list[_Job] = []
    failures = []
    try:
        while waiting or active:
            while waiting and slots:
                trial = waiting.pop(0)
                active.append(_make_job(trial, configs[trial], slots.pop(0), out, resources, imports))
            for job in list(active):
                if job.process is not None and job.process.poll() is None:
                    continue
                failure = None
                if job.process is not None and job.process.returncode:
                    failure = job.describe_failure()
                else:
                    try:
                        if job.advance():
                            continue
                    except OSError as error:
                        failure = f'{job.name}: {error}'
                if failure is None and job.process is None:
                    LOGGER.info('%s: already finished', job.name)
                elif failure is None:
                    LOGGER.info('%s: done after %.1f minutes', job.name, (time.monotonic() - job.started) / 60)
                else:
                    failures.append(failure)
                    LOGGER.error('%s', failure)
                active.remove(job)
                slots.append(job.slot)
            time.sleep(_POLL_S)
    except (KeyboardInterrupt, SystemExit):
        LOGGER.info('Stopping the trials; to continue, repeat the command')
        raise
    finally:
        _stop(active)
    return failures


def _stop(jobs: Sequence[_Job]) -> None:
    """Stop the commands; training saves a checkpoint before it ends."""
    running = [job.process for job in jobs if job.process is not None and job.process.poll() is None]
    for process in running:
        process.send_signal(signal.SIGTERM)
    for process in running:
        process.wait()


def _describe(trial: Trial, config: dict[str, Any]) -> dict[str, Any]:
    """Return the content of ``TRIAL_FILE``; the resolved config shows changes of the config file, too."""
    variant = trial.variant
    content = {
        'config': variant.config,
        'cfg_options': list(variant.cfg_options),
        'seed': trial.seed,
        'resolved': config,
    }
    same: dict[str, Any] = json.loads(json.dumps(content, default=repr))  # as it is read from the file
    return same


def _make_job(
    trial: Trial, config: dict[str, Any], slot: int, out: Path, resources: Resources, imports: Sequence[str]
) -> _Job:
    work_dir = out / trial.folder
    commands = _commands(trial, config, work_dir, resources.gpus, imports)
    log = work_dir / LOG if resources.jobs > 1 else None
    return _Job(trial, slot, commands, log, resources.environment(slot))


def _commands(
    trial: Trial, cfg: dict[str, Any], work_dir: Path, gpus: int, imports: Sequence[str]
) -> Iterator[list[str]]:
    """Prepare the work dir, and yield the arguments of the commands that the trial still needs."""
    work_dir.mkdir(parents=True, exist_ok=True)
    write_atomically(json.dumps(_describe(trial, cfg), indent=2).encode() + b'\n', work_dir / TRIAL_FILE)
    config = trial.variant.config
    modules = [argument for name in imports for argument in ('--import', name)]
    options = ['--cfg-options', *trial.variant.cfg_options, f'runtime.seed={trial.seed}', *modules]
    processes = ['--gpus', str(gpus)]
    if not (work_dir / RESULTS).is_file():
        yield ['train', config, *processes, '--work-dir', str(work_dir), '--resume', 'auto', *options]
        results = ['--out', str(work_dir / RESULTS), '--resume-test']
        yield ['test', config, str(_last(work_dir)), *processes, *results, *options]
    if has_order(cfg) and not (work_dir / ORDER).is_file():
        yield ['order', str(_last(work_dir)), config, '--json', str(work_dir / ORDER), *options]


def has_order(config: Mapping[str, Any]) -> bool:
    """Return whether the order test is possible: one label per video, and several snippets or frames."""
    dataset = config['test_dataloader']['dataset']
    for part in dataset.get('datasets', [dataset]):
        is_single = any((s.get('num_snippets'), s.get('frames_per_snippet')) == (1, 1) for s in part['pipeline'])
        if is_single or part.get('multi_hot') is not None:
            return False
    return True


def _last(work_dir: Path) -> Path:
    """Return the checkpoint of the last epoch: best.pth is selected on validation videos, often those of the test."""
    checkpoints = list_checkpoints(work_dir)
    if not checkpoints:
        raise FileNotFoundError(errno.ENOENT, 'no checkpoint', str(work_dir / 'epoch_*.pth'))
    return checkpoints[0][1]
