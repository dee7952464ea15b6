"""The finished batches of a test that is still going on, kept on disk so that an interrupted test can be continued.

Each process appends to a file of its own, a line a batch: a checksum, and JSON. A line that was being written when the
process died has no valid checksum and is left out; its batch is scored again. The first line of each start says what
was tested with what, its identity, so that results of two different tests cannot be mixed.
"""

import hashlib
import json
import logging
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsanet.config.loading import find_differences
from dsanet.utils import distributed

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScoredBatch:
    """The results of one batch of n videos.

    Args:
        number: the batch's place in the dataset, from 0 on.
        index: (n,) int64, places of the videos in the dataset.
        scores: (n, K) float32.
        labels: (n,) int64; or float32 (n, K), where a video may have several labels.
    """

    number: int
    index: NDArray[np.int64]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64] | NDArray[np.float32]


class ResultParts:
    """The part files of a test, in a folder that all processes of one machine share.

    Args:
        folder: where the files are; made when the first batch is written.
        identity: everything that the scores depend on, by name; plain values, dicts and lists of them.

    Attributes:
        done: numbers of the batches that an earlier start finished, in all processes.
        restored: those of them whose results this process hands in; each is handed in by one process.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.folder = folder
        self.identity = json.loads(json.dumps(identity))  # as it will be read: no tuples
        self.done: frozenset[int] = frozenset()
        self.restored: list[ScoredBatch] = []
        self._has_begun = False

    def start(self, resume: bool) -> None:
        """Take up what an interrupted test left, or make sure that it left nothing. All processes call this together.

        Args:
            resume: whether that test shall be continued, on whatever number of processes.

        Raises:
            ValueError: there are results, and ``resume`` is False; or they are of another test, says in what.
        """
        found: dict[int, ScoredBatch] = {}
        for file in sorted(self.folder.glob('rank_*.jsonl')):
            found |= self._read(file)
        if found and not resume:
            raise ValueError(
                f'{self.folder} holds {len(found)} finished batches of an interrupted test: continue it with '
                '--resume-test, or remove the folder to start anew'
            )
        # Machines may have disks of their own: what several processes found counts once, for the first of them.
        every = distributed.all_gather_object(sorted(found))
        before = {number for numbers in every[: distributed.rank()] for number in numbers}
        self.restored = [batch for number, batch in sorted(found.items()) if number not in before]
        self.done = frozenset(number for numbers in every for number in numbers)

    def add(self, batch: ScoredBatch) -> None:
        """Write one batch down. It is safe from then on, unless the machine itself goes down.

        Raises:
            OSError: it cannot be written.
        """
        file = self.folder / f'rank_{distributed.rank()}.jsonl'
        content = {
            'batch': batch.number,
            'index': batch.index.tolist(),
            'labels': batch.labels.tolist(),
            'scores': batch.scores.tolist(),
        }
        lines = _encode(content)
        if not self._has_begun:
            # The line end closes a line that broke off.
            lines = b'\n' + _encode({'identity': self.identity}) + lines
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with file.open('ab') as stream:
                stream.write(lines)
        except OSError as error:
            raise OSError(f'{file} cannot be written: {error.strerror}') from error
        self._has_begun = True

    def remove(self) -> None:
        """Remove the files: the results are safe elsewhere. All processes call this together."""
        distributed.all_gather_object(None)  # wait until rank 0 has written the results
        if os.environ.get('LOCAL_RANK', '0') == '0':  # once a machine
            for file in self.folder.glob('rank_*.jsonl'):
                file.unlink(missing_ok=True)
            with suppress(OSError):  # something else is in there, or another machine was quicker
                self.folder.rmdir()

    def _read(self, file: Path) -> dict[int, ScoredBatch]:
        """Return the batches of one file, by number.

        Raises:
            ValueError: they are of another test.
        """
        found = {}
        identity: Any = None
        num_damaged = 0
        for content in _decode_lines(file):
            if content is None:
                num_damaged += 1
            elif 'identity' in content:
                identity = content['identity']
            elif identity is not None:
                self._check(identity)
                found[content['batch']] = _to_batch(content)
        if num_damaged:
            LOGGER.warning('%s: %d damaged lines left out; their batches are scored again', file, num_damaged)
        return found

    def _check(self, identity: Mapping[str, Any]) -> None:
        if differences := find_differences(identity, self.identity):
            first, *others = differences
            more = f', and {len(others)} more things differ ({", ".join(others[:3])})' if others else ''
            raise ValueError(
                f'{self.folder} holds results of another test: {differences[first]}{more}; '
                'remove the folder, or choose another --out'
            )


def _encode(content: Mapping[str, Any]) -> bytes:
    text = json.dumps(content).encode()
    return b'%08x %s\n' % (zlib.crc32(text), text)


def _decode_lines(file: Path) -> Iterator[dict[str, Any] | None]:
    """Yield the content of each line, or None for a damaged one."""
    with file.open('rb') as stream:
        for line in stream:
            if line == b'\n':
                continue
            checksum, _, text = line.rstrip(b'\n').partition(b' ')
            yield json.loads(text) if checksum == b'%08x' % zlib.crc32(text) else None


def _to_batch(content: Mapping[str, Any]) -> ScoredBatch:
    kind: type = np.float32 if isinstance(content['labels'][0], list) else np.int64
    index = np.array(content['index'], dtype=np.int64)
    scores = np.array(content['scores'], dtype=np.float32)
    return ScoredBatch(content['batch'], index, scores, np.array(content['labels'], dtype=kind))


def describe_test(config: Mapping[str, Any], checkpoint: str, amp: str | None, dataset: Any) -> dict[str, Any]:
    """Return everything that the scores depend on, by name; except for what only changes the speed."""
    with open(checkpoint, 'rb') as stream:
        digest = hashlib.sha256()
        while block := stream.read(2**20):
            digest.update(block)
    records = [(record.path, record.labels, record.num_frames) for record in dataset.records]
    loader = {key: value for key, value in config['test_dataloader'].items() if key != 'num_workers'}
    return {
        'model': config['model'],
        'test_dataloader': loader,
        'amp': amp,
        'runtime.seed': config.get('runtime', {}).get('seed', 0),
        'the SHA-256 of the checkpoint': digest.hexdigest()[:16],
        'the SHA-256 of the list of videos': hashlib.sha256(json.dumps(records).encode()).hexdigest()[:16],
    }
