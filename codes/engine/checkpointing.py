"""The checkpoints of a run: what they hold, which are written and kept, and how a run resumes from one."""

import logging
import os
import re
import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from dsanet.config.schema import TrainCfg
from dsanet.engine.stopping import RunError
from dsanet.utils import distributed
from dsanet.utils.checkpoint_io import read_checkpoint, save_atomically
from dsanet.utils.file_lock import FileLock
from dsanet.utils.files import write_atomically

LOGGER = logging.getLogger(__name__)

RUN_FILE = re.compile(r'epoch_(\d+)(?:_iter_(\d+))?\.pth')
CONFIG_HEADER = '# The resolved config of this run, written by DSANet. Checksum: '


class Position(NamedTuple):
    """Progress of a run: completed epochs, and completed iterations of the next one."""

    epoch: int
    iteration: int = 0

    @property
    def file_name(self) -> str:
        """Name of the checkpoint, such as ``epoch_3.pth`` or ``epoch_3_iter_40.pth``."""
        within = f'_iter_{self.iteration}' if self.iteration else ''
        return f'epoch_{self.epoch}{within}.pth'

    def __str__(self) -> str:
        return f'iteration {self.iteration} of epoch {self.epoch + 1}' if self.iteration else f'epoch {self.epoch}'


@dataclass
class TrainState:
    """Progress and counters of a run; part of every checkpoint.

    Attributes:
        iterations_per_epoch: of this run.
        batch_size: videos per iteration of this run, over all processes.
        epoch: completed epochs.
        iteration: completed iterations of the current epoch.
        validated: whether the last completed epoch has been validated, if that was due.
        best: metrics of the best epoch, with its number; None before the first validation.
        num_worse: validations since the best one.
        num_nonfinite: iterations skipped because the loss or gradient was not finite.
        num_steps: optimizer steps in the current epoch.
        curve_offset: iterations in the curves minus those of this run, which differ if ``iterations_per_epoch`` has
            changed.
        resumed_from: position of the checkpoint that the run continues; not saved.
    """

    iterations_per_epoch: int
    batch_size: int
    epoch: int = 0
    iteration: int = 0
    validated: bool = True
    best: dict[str, float] | None = None
    num_worse: int = 0
    num_nonfinite: int = 0
    num_steps: int = 0
    curve_offset: int = 0
    resumed_from: Position | None = field(default=None, init=False)

    @property
    def position(self) -> Position:
        """Completed epochs and iterations."""
        return Position(self.epoch, self.iteration)

    @property
    def num_iterations(self) -> int:
        """Completed iterations since the start of training."""
        return self.epoch * self.iterations_per_epoch + self.iteration

    @property
    def num_logged(self) -> int:
        """The iteration number on the x axis of the curves, which always increases."""
        return self.num_iterations + self.curve_offset

    def is_done(self, cfg: TrainCfg) -> bool:
        """Return whether the last epoch is completed, or the metric has not improved for ``patience`` validations."""
        is_stale = cfg.patience is not None and self.num_worse >= cfg.patience
        return self.epoch >= cfg.max_epochs or (is_stale and self.validated and not self.iteration)

    def add_validation(self, metrics: Mapping[str, float], save_best: str) -> bool:
        """Record the validation of the last completed epoch; returns whether it is the best by ``save_best``."""
        is_best = self.best is None or metrics[save_best] > self.best[save_best]
        self.num_worse = 0 if is_best else self.num_worse + 1
        if is_best:
            self.best = {'epoch': self.epoch, **metrics}
        self.validated = True
        return is_best

    def state_dict(self) -> dict[str, Any]:
        """Return the saved attributes."""
        return {name: value for name, value in asdict(self).items() if name != 'resumed_from'}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the attributes from a checkpoint. Attributes missing from an older one keep their values.

        If the batch size has changed, the run continues after as many videos of the epoch, rounded down to whole
        iterations: some may be used twice in this epoch, but none is missed. At least one iteration is left.
        """
        for one in fields(self):
            if one.name in state and one.name not in ('iterations_per_epoch', 'batch_size'):
                setattr(self, one.name, state[one.name])
        self.resumed_from = self.position
        num_logged = self.epoch * state['iterations_per_epoch'] + self.iteration + self.curve_offset
        num_videos = self.iteration * state.get('batch_size', self.batch_size)
        self.iteration = min(num_videos // self.batch_size, self.iterations_per_epoch - 1)
        self.curve_offset = num_logged - self.num_iterations


def position_of(content: Mapping[str, Any]) -> Position:
    """Return the progress of the run in a checkpoint; 0 epochs if it holds weights only."""
    return Position(content.get('epoch', 0), content.get('iteration', 0))


def list_checkpoints(work_dir: Path) -> list[tuple[Position, Path]]:
    """Return the checkpoints of a work dir with their positions, the latest first."""
    found = [(match, file) for file in work_dir.glob('epoch_*.pth') if (match := RUN_FILE.fullmatch(file.name))]
    return sorted(((Position(int(m[1]), int(m[2] or 0)), file) for m, file in found), reverse=True)


def newest_checkpoint(work_dir: Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the latest readable checkpoint of a work dir and its content; None if there is no checkpoint.

    Damaged files are skipped with a warning.

    Raises:
        ValueError: all checkpoints are damaged.
    """
    files = list_checkpoints(work_dir)
    for _, file in files:
        try:
            return file, read_checkpoint(file)
        except ValueError as error:
            LOGGER.warning('Skipping unreadable checkpoint: %s', error)
    if files:
        raise ValueError(f'none of the {len(files)} checkpoints in {work_dir} can be read')
    return None


_SLOW = 60.0  # seconds; other processes wait while a checkpoint is written, so a slow disk is worth a warning


class Saver:
    """Writes the checkpoints of a run and removes old ones.

    Args:
        work_dir: an existing folder.
        keep: number of checkpoints kept at the ends of epochs, and of those within an epoch.
        lock: of the work dir, if any.
    """

    def __init__(self, work_dir: Path, keep: int, lock: FileLock | None = None) -> None:
        self.work_dir = work_dir
        self.keep = keep
        self.lock = lock

    def save(self, content: Mapping[str, Any], position: Position) -> None:
        """Write a checkpoint, then remove old ones. The end of an epoch removes all within it.

        Later ones were written before the run was resumed with a larger batch size, and counted smaller iterations.

        Raises:
            RunError: it cannot be written.
        """
        self._write(content, self.work_dir / position.file_name)
        files = list_checkpoints(self.work_dir)
        later = [file for place, file in files if place > position]
        ends = [file for place, file in files if not place.iteration and place <= position]
        within = [file for place, file in files if place.iteration and place <= position]
        for file in later + ends[self.keep :] + within[self.keep if position.iteration else 0 :]:
            with suppress(OSError):  # they stay on a disk that has become read-only
                file.unlink()

    def save_best(self, content: Mapping[str, Any]) -> None:
        """Write ``best.pth``.

        Raises:
            RunError: it cannot be written.
        """
        self._write(content, self.work_dir / 'best.pth')

    def describe(self, position: Position) -> str:
        """Return where a stopped run is and how to continue it."""
        return f'after {position}; continue with --resume {self.work_dir / position.file_name}'

    def _write(self, content: Mapping[str, Any], file: Path) -> None:
        if self.lock is not None and (other := self.lock.taken_by()):
            raise RunError(f'{self.work_dir} was taken over by {other}, because this run was not responding')
        started = time.monotonic()
        try:
            save_atomically(content, file)
        except OSError as error:
            last = next((file.name for _, file in list_checkpoints(self.work_dir)), 'none')
            raise RunError(f'cannot write {file}: {error.strerror or error}; last checkpoint: {last}') from error
        if (seconds := time.monotonic() - started) > _SLOW:
            LOGGER.warning('Writing %s took %.0f s; the disk is slow', file, seconds)


def write_config(text: str, work_dir: Path) -> None:
    """Write the resolved config to ``config.py``, or to ``config_resolved.py`` if the user wrote or edited that file.

    A full disk must not keep a run from continuing, so this only logs a warning.
    """
    try:
        for name in ('config.py', 'config_resolved.py'):
            file = work_dir / name
            old = file.read_text(errors='replace') if file.exists() else None
            if old is None or old == _with_header(old.partition('\n')[2]):
                write_atomically(_with_header(text).encode(), file)
                return
            LOGGER.info('Keeping %s, which was written or edited by hand', file)
    except OSError as error:
        LOGGER.warning('Cannot write the resolved config: %s', error)


def _with_header(text: str) -> str:
    return f'{CONFIG_HEADER}{zlib.crc32(text.encode()):08x}\n{text}'


def _dict_of(kind: Any) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, Mapping) and all(_fits(item, kind) for item in value.values())


# The types of the parts of a checkpoint, for _fits.
_NUMBERS = _dict_of(lambda value: isinstance(value, int | float))
_REQUIRED: dict[str, Any] = {
    'state_dict': _dict_of(Tensor),
    'optimizer': {'state': _dict_of(Mapping), 'param_groups': [Mapping]},
    'scaler': Mapping,
    'epoch': int,
    'validated': bool,
    'best': lambda value: value is None or _NUMBERS(value),
    'iterations_per_epoch': int,
    'config': Mapping,
}
_METER = {'sums': _NUMBERS, 'counts': _NUMBERS}
_BAD_SAMPLES = {'count': int, 'first': str, 'found': [{'path': str, 'reason': str, 'source': str, 'epoch': int}]}
_OPTIONAL: dict[str, Any] = {
    'iteration': int,
    'num_worse': int,
    'num_nonfinite': int,
    'num_steps': int,
    'curve_offset': lambda value: type(value) is int,  # negative after a change to larger batches
    'batch_size': int,
    'class_names': lambda value: value is None or _fits(value, [str]),
    'inputs': _dict_of(str),
    'ema_state_dict': _dict_of(Tensor),
    'ema_updates': int,
    'progress': [{'meter': _METER, 'bad_samples': _BAD_SAMPLES}],
}


def _fits(value: Any, kind: Any) -> bool:
    """Return whether a value has a type, where integers are not negative; a dict has the types of its entries."""
    if isinstance(kind, dict):
        return isinstance(value, Mapping) and all(
            key in value and _fits(value[key], part) for key, part in kind.items()
        )
    if isinstance(kind, list):
        return isinstance(value, list) and all(_fits(part, kind[0]) for part in value)
    if kind is int:
        return type(value) is int and 0 <= value < 2**63
    return isinstance(value, kind) if isinstance(kind, type) else kind(value)


def find_checkpoint(source: str, work_dir: Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the checkpoint to resume from and its content; called by all processes together.

    Args:
        source: a file, or 'auto' for the latest readable checkpoint of the work dir.
        work_dir: of the run.

    Returns:
        None if ``source`` is 'auto' and there is no checkpoint.

    Raises:
        FileNotFoundError, ValueError: the file is missing, damaged or not a checkpoint of a run, or the processes found
            different ones.
    """
    found = newest_checkpoint(work_dir) if source == 'auto' else (Path(source), read_checkpoint(source))
    if found is not None:
        check_resumable(*found)
    positions = distributed.all_gather_object(None if found is None else tuple(position_of(found[1])))
    if len(set(positions)) > 1:
        raise ValueError(
            f'the processes found different checkpoints (epoch, iteration): {positions}; all nodes need the same files'
        )
    return found


def check_resumable(file: Path, content: Mapping[str, Any]) -> None:
    """Check that a checkpoint holds a run.

    Raises:
        ValueError: keys are missing or have impossible values.
    """
    if missing := [key for key in _REQUIRED if key not in content]:
        raise ValueError(
            f'{file} holds weights only, not a run to resume (no {", ".join(missing)}); start from it with --load-from'
        )
    wrong = [key for key, kind in (_REQUIRED | _OPTIONAL).items() if key in content and not _fits(content[key], kind)]
    if not wrong and content.get('iteration', 0) >= content['iterations_per_epoch']:
        wrong = [key for key in ('iterations_per_epoch', 'iteration') if key in content]
    if wrong:
        values = ', '.join(f'{key}={str(content[key])[:40]!r}' for key in wrong)
        raise ValueError(f'{file} is not a valid checkpoint: {values}')


def remove_leftovers(work_dir: Path, position: Position, resume: str | None) -> None:
    """Make room for a run: remove incomplete files, and set aside checkpoints later than its start.

    All processes call it together; the first one changes files.

    Args:
        work_dir: of the run.
        position: where the run starts.
        resume: 'auto' if it starts at the latest readable checkpoint: later ones are then damaged, and renamed.

    Raises:
        ValueError: there are later checkpoints of another run; resuming would continue with them.
    """
    later = [file for place, file in list_checkpoints(work_dir) if place > position]
    if later and resume != 'auto':
        raise ValueError(
            f'{work_dir} already has checkpoints of later iterations than this run starts at: '
            f'{", ".join(file.name for file in later)}. '
            'Continue with --resume, choose another --work-dir, or remove these checkpoints'
        )
    distributed.barrier()  # every process has looked before files are renamed
    if distributed.rank() == 0:
        for file in later:
            os.replace(file, file.with_name(f'{file.name}.damaged'))
        for file in work_dir.glob('*.pth.part'):
            if RUN_FILE.fullmatch(file.stem) or file.stem == 'best.pth':
                file.unlink()


def what_to_resume(requested: str | None, work_dir: Path) -> str | None:
    """Return the ``resume`` argument of a run, which a restart by the launcher changes to its own latest checkpoint."""
    if not distributed.is_restart():
        return requested
    if requested in (None, 'auto'):
        return 'auto'
    found = newest_checkpoint(work_dir)
    # The first start refused later checkpoints (remove_leftovers), so later ones are of this run.
    if found is None or position_of(found[1]) <= position_of(read_checkpoint(requested)):
        return requested
    return 'auto'
