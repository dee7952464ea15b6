"""The checkpoints of a run: which are written and kept, which is the newest, and whether a run can resume from one."""

import logging
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from dsanet.config.loading import find_differences
from dsanet.engine.stopping import RunError
from dsanet.models.weights.loading import describe_difference
from dsanet.utils import distributed
from dsanet.utils.checkpoint_io import read_checkpoint, save_atomically

LOGGER = logging.getLogger(__name__)

RUN_FILE = re.compile(r'epoch_(\d+)(?:_iter_(\d+))?\.pth')


class Position(NamedTuple):
    """Where a run stands: finished epochs, and iterations done in the one behind them."""

    epoch: int
    iteration: int = 0

    @property
    def file_name(self) -> str:
        """Name of the checkpoint of this place, ``epoch_3.pth`` or ``epoch_3_iter_40.pth``."""
        within = f'_iter_{self.iteration}' if self.iteration else ''
        return f'epoch_{self.epoch}{within}.pth'


def position_of(content: Mapping[str, Any]) -> Position:
    """Return where the run of a checkpoint stood; at its very beginning if it holds no run."""
    return Position(content.get('epoch', 0), content.get('iteration', 0))


def list_checkpoints(work_dir: Path) -> list[tuple[Position, Path]]:
    """Return the checkpoints of a work dir and where the run stood, the furthest first."""
    found = [(match, file) for file in work_dir.glob('epoch_*.pth') if (match := RUN_FILE.fullmatch(file.name))]
    return sorted(((Position(int(m[1]), int(m[2] or 0)), file) for m, file in found), reverse=True)


def newest_checkpoint(work_dir: Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the furthest checkpoint of a work dir that can be read, with its content; None if there is none.

    Damaged files are passed over with a warning.

    Raises:
        ValueError: there are checkpoints, and all are damaged.
    """
    files = list_checkpoints(work_dir)
    for _, file in files:
        try:
            return file, read_checkpoint(file)
        except ValueError as error:
            LOGGER.warning('passed over: %s', error)
    if files:
        raise ValueError(f'none of the {len(files)} checkpoints in {work_dir} can be read')
    return None


_SLOW = 60.0  # seconds after which writing a checkpoint is worth a word: the other processes wait meanwhile


class Saver:
    """Writes the checkpoints of a run and lets go of old ones.

    Args:
        work_dir: an existing folder.
        keep: how many epochs' checkpoints stay, and how many of those within an epoch.
        on_error: 'stop' or 'continue' when one cannot be written.

    Attributes:
        is_missing: whether the last checkpoint could not be written.
        is_best_missing: the same of ``best.pth``.
    """

    def __init__(self, work_dir: Path, keep: int, on_error: str) -> None:
        self.work_dir = work_dir
        self.keep = keep
        self.on_error = on_error
        self.is_missing = False
        self.is_best_missing = False

    def save(self, content: Mapping[str, Any], position: Position) -> None:
        """Write the checkpoint of a place, then remove what is too old. Those within an epoch go with its end.

        Raises:
            RunError: it cannot be written, and ``on_error`` is 'stop'.
        """
        self.is_missing = True
        self.is_missing = not self._write(content, self.work_dir / position.file_name)
        if self.is_missing:
            return
        files = list_checkpoints(self.work_dir)
        ends = [file for place, file in files if not place.iteration]
        within = [file for place, file in files if place.iteration]
        for file in ends[self.keep :] + within[self.keep if position.iteration else 0 :]:
            with suppress(OSError):  # on a disk that has become read-only they stay
                file.unlink()

    def save_best(self, content: Mapping[str, Any]) -> None:
        """Write ``best.pth``.

        Raises:
            RunError: as :meth:`save`.
        """
        self.is_best_missing = True
        self.is_best_missing = not self._write(content, self.work_dir / 'best.pth')

    def remove_parts(self) -> None:
        """Remove what a run that was killed while it wrote has left."""
        for file in self.work_dir.glob('*.pth.part'):
            file.unlink()

    def newest(self) -> str:
        """Return the name of the furthest checkpoint that is there, or 'none'."""
        return next((file.name for _, file in list_checkpoints(self.work_dir)), 'none')

    def _write(self, content: Mapping[str, Any], file: Path) -> bool:
        """Write a file; returns whether it is there."""
        started = time.monotonic()
        try:
            save_atomically(content, file)
        except OSError as error:
            reason = error.strerror or error
            text = f'{file} could not be written: {reason}; the last good checkpoint is {self.newest()}'
            if self.on_error == 'stop':
                raise RunError(f"{text}. runtime.on_save_error='continue' goes on nevertheless") from error
            LOGGER.error('%s; the run goes on', text)
            return False
        if (seconds := time.monotonic() - started) > _SLOW:
            LOGGER.warning('writing %s took %.0f s; the disk is slow', file, seconds)
        return True


_NEEDED: dict[str, type | tuple[type, ...]] = {
    'state_dict': Mapping,
    'optimizer': Mapping,
    'scaler': Mapping,
    'epoch': int,
    'validated': bool,
    'best': (Mapping, type(None)),
    'iterations_per_epoch': int,
    'config': Mapping,
}

# Sections that decide how a training goes.
_SECTIONS = ('model', 'train_dataloader', 'optimizer', 'parameters', 'schedule', 'train_cfg', 'runtime')


def check_resumable(file: Path, content: Mapping[str, Any]) -> None:
    """Refuse a checkpoint that holds no run.

    Raises:
        ValueError: what it lacks, or what is no such thing.
    """
    if lacking := [key for key in _NEEDED if key not in content]:
        raise ValueError(
            f'{file} holds weights, but not a run to resume (no {", ".join(lacking)}); '
            'use --load-from to start from weights'
        )
    wrong = [key for key, kind in _NEEDED.items() if not isinstance(content[key], kind)]
    wrong += [key for key in ('epoch', 'iteration') if content.get(key, 0) < 0] if not wrong else []
    if wrong or content['iterations_per_epoch'] < 1:
        names = ', '.join(f'{key}={str(content[key])[:40]!r}' for key in wrong or ['iterations_per_epoch'])
        raise ValueError(f'{file} is no checkpoint of a run: {names} cannot be')


def find_changes(
    content: Mapping[str, Any], config: Mapping[str, Any], iterations_per_epoch: int, world_size: int
) -> list[str]:
    """Name everything because of which a resumed run cannot end as the interrupted one would have.

    Args:
        content: the checkpoint.
        config: of the run now.
        iterations_per_epoch, world_size: of the run now.

    Returns:
        Texts such as ``optimizer.lr was 0.1 and is 0.2``.
    """
    numbers = {'iterations_per_epoch': iterations_per_epoch, 'world_size': world_size}
    changes = find_differences({name: content.get(name) for name in numbers}, numbers)
    for section in _SECTIONS:
        changes |= find_differences(content['config'].get(section, {}), config.get(section, {}), section)
    return list(changes.values())


def describe_misfit(
    content: Mapping[str, Any], target: Mapping[str, Tensor], changes: Sequence[str], error: Exception
) -> str:
    """Say why a checkpoint does not fit, without torch's own many lines: its weights, then its config.

    Args:
        content: the checkpoint.
        target: state dict of the model that it does not fit.
        changes: from :func:`find_changes`.
        error: what loading it raised; told where the weights do not differ.
    """
    source = content['state_dict']
    is_state = isinstance(source, Mapping) and all(isinstance(value, Tensor) for value in source.values())
    weights = describe_difference(source, target) if is_state else ''
    told = [change for change in changes if change.startswith(('model.', 'optimizer.', 'parameters.'))]
    return '; '.join([weights or (str(error).strip() or type(error).__name__).splitlines()[0], *told[:4]])


def what_to_resume(asked: str | None, work_dir: Path) -> str | None:
    """Return what a run resumes: what was asked for, or where it stood if the launcher had to restart it."""
    if not distributed.is_restart():
        return asked
    if asked in (None, 'auto'):
        return 'auto'
    found = newest_checkpoint(work_dir)
    # At its first start nothing in the work dir was further than the file (Trainer.start): what is, this run wrote.
    if found is None or position_of(found[1]) <= position_of(read_checkpoint(asked)):
        return asked
    return 'auto'
