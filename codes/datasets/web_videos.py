"""Labeled videos in WebDataset shards: tar files, often in an object store, that are read from start to end.

A stream has no random access, so the order of samples is less free than that of a :class:`VideoDataset`: each data
worker reads its own shards in random order, through a shuffle buffer. What stays exact: a sample is a pure function of
(seed, epoch, shard, key), and the order one of (seed, epoch, shards, processes, workers). So a run that is killed and
resumed on the same number of processes and workers gets the same batches, also within an epoch.
"""

import hashlib
import json
import multiprocessing
import random
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from dsanet.config.registry import DATASETS
from dsanet.datasets.annotation import read_class_names
from dsanet.datasets.media_files import is_video
from dsanet.datasets.records import VideoRecords
from dsanet.datasets.transforms.base import BadSample, Record, SampleError, Transform, check_count
from dsanet.datasets.transforms.compose import Compose
from dsanet.datasets.video_datasets import VideoSamples
from dsanet.datasets.workers import WatchedLoader
from dsanet.utils.machine_faults import MachineError, explain_shortage
from dsanet.utils.text import count_noun, printable

_BLOCK_BYTES = 2**20
_MAX_BAD = 10  # bad samples in a row that are replaced by the next one


class StreamPosition:
    """The place of a process in its stream; what ``EpochSampler`` is for other datasets.

    It is shared with the data workers, which have no other way to learn the epoch.

    Args:
        num_batches: batches of one process per epoch.
        batch_size: videos in a batch of one process.
        rank, world_size: this process and the number of processes.
    """

    def __init__(self, num_batches: int, batch_size: int, rank: int, world_size: int) -> None:
        self.num_batches = num_batches
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size
        self.is_paused = False  # yields nothing, for start_workers
        self._shared = multiprocessing.get_context('fork').Array('q', 2, lock=False)

    def set_epoch(self, epoch: int, first: int = 0) -> None:
        """Choose the samples of the next iteration over the loader; see ``EpochSampler.set_epoch``."""
        self._shared[0], self._shared[1] = epoch, first

    @property
    def epoch(self) -> int:
        """Number of the epoch, from 0."""
        return self._shared[0]

    @property
    def batches_done(self) -> int:
        """Batches of this process to skip, because the run that is resumed has used them."""
        return self._shared[1] // self.batch_size

    def __len__(self) -> int:
        return self.num_batches * self.batch_size

    def __iter__(self) -> NoReturn:
        raise ValueError('WebVideoDataset is a stream and has no list of samples to choose from; use VideoDataset')


class StreamLoader(WatchedLoader):
    """A loader of a :class:`WebVideoDataset`; its ``sampler`` is the position of the dataset."""

    def __len__(self) -> int:
        return self.dataset.position.num_batches  # type: ignore[attr-defined]


@DATASETS.register_module()
class WebVideoDataset(VideoSamples, IterableDataset[Record]):
    """Labeled videos in WebDataset shards, for training; requires the package ``webdataset``.

    A shard is a tar file. The files of a sample are adjacent and differ in their extension only: the video, such as
    ``abc.mp4``, and its label: either ``abc.cls`` with the class number as text, or ``abc.json`` with the key
    ``label``. ``dsanet make-shards`` writes such shards.

    The shards of an epoch are shuffled and divided among processes, then among data workers. Each worker takes
    the same number of batches, give or take one. If all have the same number of videos, each video is used once
    per epoch, except for less than a batch per worker. A worker with fewer videos starts again with its shards; one
    with more leaves out the rest. In the next epoch, the shards are divided differently.

    Args:
        pipeline: the transforms, starting with OpenVideo.
        shards: paths or URLs with braces, such as ``'train-{000000..000499}.tar'``; or a list of these. As for the
            package ``webdataset``: a local path, ``http://``, ``https://`` (with curl), ``gs://``, or ``pipe:`` and a
            shell command, such as ``'pipe:aws s3 cp s3://bucket/train-{000000..000499}.tar -'``.
        num_videos: number of videos in all shards, which is the length of an epoch.
        shuffle_buffer: number of videos that a data worker keeps in memory to shuffle them; 1 for none.
        class_file: class names, one per line; None if they are unknown.

    Raises:
        FileNotFoundError: a local shard does not exist.
        ValueError: ``webdataset`` is not installed, a number is out of range, or ``shards`` is empty, has duplicates or
            an unknown kind of URL.
    """

    multi_hot = None
    position: StreamPosition

    def __init__(
        self,
        pipeline: Sequence[Transform],
        shards: str | Sequence[str],
        num_videos: int,
        shuffle_buffer: int = 100,
        class_file: str | None = None,
    ) -> None:
        self.shards = expand_shards(shards)
        self.num_videos = check_count('num_videos', num_videos)
        self.shuffle_buffer = check_count('shuffle_buffer', shuffle_buffer)
        self.class_names = read_class_names(class_file) if class_file else None
        self.classes_from = class_file
        self.records = VideoRecords.of([])
        self.num_classes: int | None = None
        self.pipeline = Compose(pipeline, ('path', 'label', 'index', 'rng'), owner=type(self).__name__)
        self.provides = self.pipeline.provides

    @property
    def labels(self) -> NoReturn:
        raise ValueError(
            'WebVideoDataset reads labels together with the videos, so class_balance, balanced class_weights, '
            'MixedDataset and checks of the data cannot use them; use VideoDataset'
        )

    def __len__(self) -> int:
        return self.num_videos

    def __getitem__(self, key: Any) -> NoReturn:
        raise ValueError('WebVideoDataset is a stream and cannot return single samples; use VideoDataset')

    def check_labels(self, num_classes: int) -> None:
        """Check class names and transforms; labels are checked when they are read."""
        if self.class_names is not None and len(self.class_names) != num_classes:
            raise ValueError(f'{self.classes_from} has {len(self.class_names)} classes, but num_classes={num_classes}')
        largest = max((number for step in self.pipeline.transforms for number in step.classes), default=0)
        if largest >= num_classes:
            raise ValueError(f'the pipeline uses class {largest}, but num_classes={num_classes}')
        self.num_classes = num_classes

    def divide(self, batch_size: int, num_workers: int, rank: int, world_size: int, accumulate: int) -> None:
        """Set the share of this process.

        Args:
            batch_size: videos in a batch of one process.
            num_workers: data workers of one process.
            rank, world_size: this process and the number of processes.
            accumulate: batches per step; an epoch has whole steps.

        Raises:
            ValueError: there are fewer shards than data workers, or an epoch is smaller than one step.
        """
        processes = count_noun(world_size, 'process', 'es')
        readers = world_size * max(num_workers, 1)
        if len(self.shards) < readers:
            raise ValueError(
                f'{len(self.shards)} shards cannot be divided among {processes} x num_workers='
                f'{num_workers}: each data worker reads its own; use fewer workers or write more shards'
            )
        steps = self.num_videos // (batch_size * world_size * accumulate)
        if not steps:
            raise ValueError(
                f'training requires full batches: batch_size={batch_size} x {processes} x '
                f'accumulate={accumulate} is more than num_videos={self.num_videos}'
            )
        self.position = StreamPosition(steps * accumulate, batch_size, rank, world_size)

    def __iter__(self) -> Iterator[Record]:
        """Yield the samples of this data worker; those of whole batches."""
        position = self.position
        if position.is_paused:  # in a worker that is just started; the next iteration is that of an epoch
            position.is_paused = False
            return
        info = get_worker_info()
        worker, num_workers = (0, 1) if info is None else (info.id, info.num_workers)
        # Batch i of an epoch comes from worker i % num_workers. In a resumed epoch, counting starts again.
        done = position.batches_done
        worker = (worker + done) % num_workers
        numbers = range(worker, position.num_batches, num_workers)
        skipped = sum(number < done for number in numbers) * position.batch_size
        samples = self._samples(position.epoch, worker, num_workers, skipped)
        for _ in range(len(numbers) * position.batch_size - skipped):
            yield next(samples)

    def _samples(self, epoch: int, worker: int, num_workers: int, skipped: int) -> Iterator[Record]:
        """Yield samples without end, except for the first ones; those are read, but not decoded."""
        bad: list[dict[str, str]] = []
        number = 0
        for item, repetition in self._items(epoch, worker, num_workers):
            number += 1
            if number <= skipped:
                continue
            try:
                sample = self._make_sample(item, epoch, repetition)
            except BadSample as error:
                if self.on_error == 'raise':
                    raise
                bad.append({'path': error.path, 'reason': error.reason, 'source': error.source})
                if len(bad) == _MAX_BAD:
                    text = '; '.join(f'{case["path"]}: {case["reason"]}' for case in bad[:3])
                    raise SampleError(f'{len(bad)} bad samples in a row in the shards. First: {text}') from error
                continue
            yield sample | ({'bad': bad} if bad else {})
            bad = []

    def _items(self, epoch: int, worker: int, num_workers: int) -> Iterator[tuple[dict[str, Any], int]]:
        """Yield the undecoded samples of a worker, shuffled, again and again, with the number of the repetition."""
        import webdataset

        position = self.position
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.shards))
        mine = order[position.rank :: position.world_size][worker::num_workers]
        repetition = 0
        while True:
            entropy = (self.seed, epoch, position.rank, worker, repetition)
            rng = random.Random(int(np.random.SeedSequence(entropy).generate_state(1)[0]))
            shards = (self.shards[i] for i in (mine if not repetition else rng.sample(mine.tolist(), len(mine))))
            size = self.shuffle_buffer
            is_empty = True
            for item in webdataset.shuffle(size, initial=size, rng=rng)(read_shards(shards)):
                is_empty = False
                yield item, repetition
            if is_empty:
                raise SampleError(f'{shard_name(self.shards[mine[0]])}: the shards of a data worker have no samples')
            repetition += 1

    def _make_sample(self, item: dict[str, Any], epoch: int, repetition: int) -> Record:
        """Return the sample of the files of one key, with random numbers that depend on shard and key."""
        shard, key = shard_name(item['__url__']), item['__key__']
        name = f'{shard}/{key}'
        label = self._label(item, shard, name)
        videos = [suffix for suffix in item if is_video(f'x.{suffix}')]
        if len(videos) != 1:
            found = ', '.join(suffix for suffix in item if not suffix.startswith('__'))
            raise BadSample(f'{name} has {len(videos)} videos', name, f'has {len(videos)} videos ({found})', shard)
        digest = int.from_bytes(hashlib.sha256(name.encode(errors='surrogateescape')).digest()[:7], 'big')
        others = (repetition,) if repetition else ()
        record: Record = {
            'label': label,
            'index': digest,
            'rng': np.random.default_rng((self.seed, epoch, digest, *others)),
        }
        with tempfile.NamedTemporaryFile(prefix='dsanet-', suffix=f'.{videos[0]}') as file:
            file.write(item[videos[0]])
            file.flush()
            try:
                return self.pipeline(record | {'path': file.name}) | {'path': name}
            except Exception as error:
                if (shortage := explain_shortage(error)) is not None:
                    raise MachineError(f'{name}: {shortage}') from error
                text = printable(str(error).replace(file.name, name))
                if isinstance(error, BadSample):
                    reason = printable(error.reason.replace(file.name, name)) or text
                    raise BadSample(text, name, reason, shard) from error
                if isinstance(error, ValueError):
                    raise SampleError(f'{name}: {text}') from error
                raise

    def _label(self, item: dict[str, Any], shard: str, name: str) -> int:
        try:
            label = json.loads(item['json'])['label'] if 'cls' not in item else int(item['cls'])
        except (KeyError, ValueError, TypeError):
            label = None
        if isinstance(label, bool) or not isinstance(label, int) or label < 0:
            raise BadSample(
                f'{name} has no label', name, "has no label: neither .cls with a number nor .json with 'label'", shard
            )
        if self.num_classes is not None and label >= self.num_classes:
            raise SampleError(f'{name}: label {label} is out of range: num_classes={self.num_classes}')
        return label


def expand_shards(shards: str | Sequence[str]) -> list[str]:
    """Return the paths and URLs of all shards, with braces expanded, after checking them without network access."""
    try:
        from webdataset.gopen import gopen_schemes
        from webdataset.shardlists import expand_urls
    except ImportError as error:
        raise ValueError(f'WebVideoDataset requires webdataset ({error}); pip install webdataset') from error
    patterns = [shards] if isinstance(shards, str) else list(shards)
    try:
        found = [url for pattern in patterns for url in expand_urls(pattern)]
    except (AssertionError, ValueError) as error:  # an environment variable is not set, or braces are not closed
        raise ValueError(f'shards={shards!r}: {error}') from error
    if not found:
        raise ValueError(f'shards={shards!r} is empty')
    if len(set(found)) < len(found):
        double = next(url for number, url in enumerate(found) if url in found[:number])
        raise ValueError(f'shards has {double!r} twice')
    allowed = sorted({'file', *gopen_schemes} - {'__default__'})
    for url in found:
        scheme = urlsplit(url).scheme
        if scheme and scheme not in allowed:
            hint = f". For S3: 'pipe:aws s3 cp {url} -'" if scheme == 's3' else ''
            raise ValueError(f'shard {url!r}: unknown scheme {scheme!r}; allowed: {", ".join(allowed)}{hint}')
        if not scheme and not Path(url).is_file():
            raise FileNotFoundError(f'shard {url!r} does not exist ({Path(url).absolute()})')
    return found


def shard_name(url: str) -> str:
    """Return the file name of a shard, without folders, commands and queries, which may hold passwords."""
    return (re.findall(r'[^/\s?=]+\.tar\b[\w.]*', url) or ['shard'])[-1]


def read_shards(urls: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Yield the samples of shards, each a dict of bytes by extension, with ``__key__`` and ``__url__``.

    Raises:
        MachineError: a shard cannot be read to its end.
    """
    from webdataset.gopen import gopen
    from webdataset.tariterators import group_by_keys, tar_file_expander

    for url in urls:
        try:
            with gopen(url) as stream:
                yield from group_by_keys(tar_file_expander([{'url': url, 'stream': stream}]))
                while stream.read(_BLOCK_BYTES):  # so that the program at the other end of a pipe can succeed
                    pass
        except (MachineError, SampleError):
            raise
        except Exception as error:
            name = shard_name(url)
            text = error.args[0] if error.args and isinstance(error.args[0], str) else str(error)
            text = text.partition(' @ <')[0]  # webdataset adds its stream
            reason = text.replace(url, name).replace(url.removeprefix('pipe:'), name)
            raise MachineError(f'cannot read shard {name}: {type(error).__name__}: {reason}') from error
