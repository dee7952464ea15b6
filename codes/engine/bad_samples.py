"""The record of unreadable samples in ``bad_samples.jsonl``; each file is logged once."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dsanet.engine.stopping import RunError
from dsanet.utils import distributed
from dsanet.utils.json_lines import RecordFile, read_json_lines

LOGGER = logging.getLogger(__name__)


class BadSampleLog:
    """Counts the bad samples of each epoch and records each bad file once.

    Rank 0 writes its own files at once, and those of other processes at the end of an epoch. Lines of epochs that a
    resumed run repeats are removed; they are found again.

    Args:
        work_dir: an existing folder.
        epoch: completed epochs.
        num_samples: samples per epoch of this process.
        max_share: largest allowed share of bad samples. Each process checks its own, without waiting for others.
    """

    def __init__(self, work_dir: Path, epoch: int, num_samples: int, max_share: float) -> None:
        self.file = work_dir / 'bad_samples.jsonl'
        self.epoch = epoch + 1
        self.num_samples = num_samples
        self.max_share = max_share
        self._count = 0
        self._first = ''
        self._found: list[dict[str, Any]] = []  # in this epoch, by this process
        lines = [line for line in read_json_lines(self.file, {'path': str, 'epoch': int}) if line['epoch'] <= epoch]
        self._known = {line['path'] for line in lines}
        self._record = RecordFile(self.file) if distributed.rank() == 0 else None
        if self._record is not None and self.file.is_file():
            self._record.rewrite(lines)

    def add(self, bad: Sequence[Sequence[Mapping[str, str]]]) -> None:
        """Count and record the bad samples of a batch.

        Args:
            bad: for each replaced sample of the batch, the list of bad ones: dicts of ``path``, ``reason`` and
                ``source``. Each list counts as one bad sample.

        Raises:
            RunError: more samples of the epoch are bad than allowed.
        """
        self._count += len(bad)
        for case in (case for cases in bad for case in cases):
            self._first = self._first or f'{case["source"]}: {case["path"]!r}: {case["reason"]}'
            if case['path'] not in self._known:
                LOGGER.warning('Bad sample replaced: %s: %r: %s', case['source'], case['path'], case['reason'])
                self._found.append({**case, 'epoch': self.epoch})
                self._write(self._found[-1])
        if self._count > self.max_share * self.num_samples:
            process = f' of process {distributed.rank()}' if distributed.world_size() > 1 else ''
            raise RunError(
                f'{self._count} of {self.num_samples} samples{process} in epoch {self.epoch} cannot be read, more than '
                f'max_bad_share={self.max_share:g} allows; see {self.file}. First: {self._first}'
            )

    def end_epoch(self) -> int:
        """Merge the records of all processes.

        Returns:
            Number of bad samples in the epoch, in all processes.
        """
        every = distributed.all_gather_object((self._count, self._found))
        for case in (case for _, found in every for case in found):
            if case['path'] not in self._known:
                self._write(case)
        self._count, self._first, self._found = 0, '', []
        self.epoch += 1
        return sum(count for count, _ in every)

    def state_dict(self) -> dict[str, Any]:
        """Return what this process has found in the current epoch."""
        return {'count': self._count, 'first': self._first, 'found': list(self._found)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self._count, self._first, self._found = state['count'], state['first'], list(state['found'])
        for case in self._found:
            self._write(case)

    @property
    def num_files(self) -> int:
        """Number of distinct bad files; after the end of an epoch, in all processes."""
        return len(self._known)

    def _write(self, case: Mapping[str, Any]) -> None:
        self._known.add(case['path'])
        if self._record is not None:
            self._record.append(case)
