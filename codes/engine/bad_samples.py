"""The record of samples that could not be read: each file once in the log and in ``bad_samples.jsonl``."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dsanet.engine.stopping import RunError
from dsanet.utils import distributed
from dsanet.utils.json_lines import RecordFile, read_lines

LOGGER = logging.getLogger(__name__)


class BadSampleLog:
    """Counts the bad samples of a run, epoch by epoch, and writes down each file when it is met first.

    Rank 0 writes its own files at once and those of the other processes at the end of an epoch. A run that is resumed
    keeps what was found up to its checkpoint; what came behind it is met again.

    Args:
        work_dir: an existing folder.
        finished: epochs that are done.
        samples: how many samples an epoch gives to this process.
        max_share: largest share of them that may be bad. Each process judges its own samples, so that it need not wait
            for the others.
        progress: what :meth:`progress` gave this process within the running epoch; None at its beginning.
    """

    def __init__(
        self,
        work_dir: Path,
        finished: int,
        samples: int,
        max_share: float,
        progress: Mapping[str, Any] | None = None,
    ) -> None:
        self.file = work_dir / 'bad_samples.jsonl'
        self.samples = samples
        self.max_share = max_share
        self.epoch = finished + 1
        self._is_main = distributed.rank() == 0
        progress = progress or {'count': 0, 'first': '', 'found': []}
        self._count: int = progress['count']
        self._first: str = progress['first']
        self._found: list[dict[str, Any]] = list(progress['found'])
        lines = [line for line in read_lines(self.file) if line['epoch'] <= finished] + self._found
        self._known = {line['path'] for line in lines}
        self._record = RecordFile(self.file) if self._is_main else None
        if self._record is not None and (lines or self.file.is_file()):
            self._record.rewrite(lines)

    def add(self, bad: Sequence[Sequence[Mapping[str, str]]]) -> None:
        """Take up the bad samples of a batch.

        Args:
            bad: for each sample of the batch that stands in for bad ones the list of those, dicts of ``path``,
                ``reason`` and ``source``. It counts as one bad sample, however many stand-ins were bad as well.

        Raises:
            RunError: more samples of the epoch were bad than are allowed.
        """
        self._count += len(bad)
        for case in (case for cases in bad for case in cases):
            self._first = self._first or f'{case["source"]}: {case["path"]!r}: {case["reason"]}'
            if case['path'] not in self._known:
                LOGGER.warning('bad sample %s: %r: %s', case['source'], case['path'], case['reason'])
                self._found.append({**case, 'epoch': self.epoch})
                self._note(self._found[-1])
        if self._count > self.max_share * self.samples:
            of = ' of one process' if distributed.world_size() > 1 else ''
            raise RunError(
                f'{self._count} of {self.samples} samples{of} of epoch {self.epoch} could not be read, more than '
                f'max_bad_share={self.max_share:g} allows; see {self.file}. The first: {self._first}'
            )

    def end_epoch(self) -> int:
        """Bring the processes' records together.

        Returns:
            How many samples of the epoch were bad, in all processes.
        """
        every = distributed.all_gather_object((self._count, self._found))
        for case in (case for _, found in every for case in found):
            if case['path'] not in self._known:
                self._note(case)
        total = sum(count for count, _ in every)
        self._count, self._first, self._found = 0, '', []
        self.epoch += 1
        return total

    def progress(self) -> dict[str, Any]:
        """Return what a checkpoint within the running epoch needs."""
        return {'count': self._count, 'first': self._first, 'found': list(self._found)}

    @property
    def num_files(self) -> int:
        """Number of different files that were bad; behind the end of an epoch those of all processes."""
        return len(self._known)

    def _note(self, case: Mapping[str, Any]) -> None:
        self._known.add(case['path'])
        if self._record is not None:
            self._record.append(case)
