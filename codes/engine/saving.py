"""Which checkpoints of a run are written and kept, and what happens if one cannot be written."""

import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from codes.engine.checkpoint import Position, run_files, save_atomically
from codes.engine.stopping import RunError

LOGGER = logging.getLogger(__name__)

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
        files = run_files(self.work_dir)
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
        return next((file.name for _, file in run_files(self.work_dir)), 'none')

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
