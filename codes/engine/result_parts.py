"""The finished batches of a running test, stored on disk so that an interrupted test can be resumed.

Each process appends to its own file, one line per batch: a checksum and JSON. A line without a valid checksum, such as
one that was being written when the process was killed, is skipped and its batch is scored again. The first line of each
start is the identity of the test, so that results of different tests cannot be mixed.
"""

import base64
import json
import logging
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsanet.config.loading import find_differences
from dsanet.engine.resuming import hash_records
from dsanet.utils import distributed
from dsanet.utils.files import hash_file
from dsanet.utils.json_lines import warn_of_damaged_lines

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScoredBatch:
    """The results of one batch of n videos.

    Args:
        number: index of the batch in the dataset.
        index: (n,) int64, indices of the videos in the dataset.
        scores: (n, K) float32.
        labels: (n,) int64, or (n, K) float32 if a video may have several labels.
    """

    number: int
    index: NDArray[np.int64]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64] | NDArray[np.float32]


class ResultParts:
    """The part files of a test, in a folder that is shared by all processes of one node.

    Args:
        folder: folder of the files, created when the first batch is written.
        identity: everything that the scores depend on, by name: plain values, dicts and lists.

    Attributes:
        done: numbers of the batches that were finished before, on all ranks.
        restored: results of finished batches, for this rank; each batch is restored on one rank.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.folder = folder
        self.identity = json.loads(json.dumps(identity))  # tuples become lists, as in the file
        self.done: frozenset[int] = frozenset()
        self.restored: list[ScoredBatch] = []
        self._has_begun = False

    def start(self, resume: bool) -> None:
        """Restore the results of an interrupted test, or make sure that there are none. Call this on all ranks.

        Args:
            resume: whether to continue that test. The number of processes may differ.
        """
        found: dict[int, ScoredBatch] = {}
        for file in sorted(self.folder.glob('rank_*.jsonl')):
            found |= self._read(file)
        if found and not resume:
            raise ValueError(
                f'{self.folder} contains {len(found)} finished batches of an interrupted test; continue it with '
                '--resume-test, or remove the folder to start again'
            )
        # Nodes may have separate disks. A batch that several ranks found is restored on the first of them.
        numbers = distributed.all_gather_object(sorted(found))
        lower_ranks = {number for of_rank in numbers[: distributed.rank()] for number in of_rank}
        self.restored = [batch for number, batch in sorted(found.items()) if number not in lower_ranks]
        self.done = frozenset(number for of_rank in numbers for number in of_rank)

    def add(self, batch: ScoredBatch) -> None:
        """Append one batch to the file, where it survives a crash of the process but not of the machine."""
        file = self.folder / f'rank_{distributed.rank()}.jsonl'
        content = {
            'batch': batch.number,
            'index': batch.index.tolist(),
            'labels': _to_text(batch.labels),
            'scores': _to_text(batch.scores),
        }
        lines = _encode(content)
        if not self._has_begun:
            # The newline ends a truncated line.
            lines = b'\n' + _encode({'identity': self.identity}) + lines
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with file.open('ab') as stream:
                stream.write(lines)
        except OSError as error:
            raise OSError(f'cannot write {file}: {error.strerror}') from error
        self._has_begun = True

    def remove(self) -> None:
        """Remove the files, after the results have been saved. Call this on all ranks."""
        distributed.all_gather_object(None)  # wait until rank 0 has written the results
        if distributed.local_rank() == 0:  # once per node
            for file in self.folder.glob('rank_*.jsonl'):
                file.unlink(missing_ok=True)
            with suppress(OSError):  # it contains other files, or another node has removed it
                self.folder.rmdir()

    def _read(self, file: Path) -> dict[int, ScoredBatch]:
        found = {}
        identity: Any = None
        damaged: list[int] = []
        for number, content in _decode_lines(file):
            if content is None:
                damaged.append(number)
            elif 'identity' in content:
                identity = content['identity']
            elif identity is not None:
                self._check(identity)
                found[content['batch']] = _to_batch(content)
        warn_of_damaged_lines(file, damaged)  # their batches are scored again
        return found

    def _check(self, identity: Mapping[str, Any]) -> None:
        if differences := find_differences(identity, self.identity):
            first, *others = differences
            more = f', and {len(others)} more differences ({", ".join(others[:3])})' if others else ''
            raise ValueError(
                f'{self.folder} contains results of a different test: {differences[first]}{more}; '
                'remove the folder or choose another --out'
            )


def _encode(content: Mapping[str, Any]) -> bytes:
    text = json.dumps(content).encode()
    return b'%08x %s\n' % (zlib.crc32(text), text)


def _decode_lines(file: Path) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Yield the number and the content of each line; None for a damaged line."""
    with file.open('rb') as stream:
        for number, line in enumerate(stream, 1):
            if line == b'\n':
                continue
            checksum, _, text = line.rstrip(b'\n').partition(b' ')
            yield number, json.loads(text) if checksum == b'%08x' % zlib.crc32(text) else None


def _to_text(array: NDArray[Any]) -> dict[str, Any]:
    """Return an array in a form that JSON can hold; fifteen times faster and four times shorter than decimals."""
    return {'dtype': str(array.dtype), 'shape': array.shape, 'base64': base64.b64encode(array.tobytes()).decode()}


def _to_array(content: Mapping[str, Any]) -> NDArray[Any]:
    values = np.frombuffer(base64.b64decode(content['base64']), content['dtype'])
    return values.reshape(content['shape'])  # (n,) or (n, K)


def _to_batch(content: Mapping[str, Any]) -> ScoredBatch:
    index = np.array(content['index'], dtype=np.int64)
    return ScoredBatch(content['batch'], index, _to_array(content['scores']), _to_array(content['labels']))


def describe_test(config: Mapping[str, Any], checkpoint: str | Path, amp: str | None, dataset: Any) -> dict[str, Any]:
    """Return the identity of a test: everything that the scores depend on, by name."""
    loader = {key: value for key, value in config['test_dataloader'].items() if key != 'num_workers'}
    return {
        'model': config['model'],
        'test_dataloader': loader,
        'amp': amp,
        'runtime.seed': config.get('runtime', {}).get('seed', 0),
        'the SHA-256 of the checkpoint': hash_file(Path(checkpoint))[:16],
        'the SHA-256 of the list of videos': hash_records(dataset)[:16],
    }
