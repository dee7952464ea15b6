"""The samples of videos to predict, read in this process or in data workers."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from dsanet.datasets.loader import ShardSampler, collate
from dsanet.datasets.transforms.base import MissingSample, Record, check_count
from dsanet.datasets.transforms.compose import Compose
from dsanet.datasets.workers import WatchedLoader, init_worker
from dsanet.inference.pipelines import complete_record
from dsanet.inference.sources import Source
from dsanet.utils.machine_faults import MachineError
from dsanet.utils.text import printable


class LoadedSamples:
    """Samples of some videos.

    Args:
        samples: of the videos, in their order; of one that cannot be read only ``index`` and ``error``.

    Attributes:
        batches: from ``collate``, one for each shape.
        facts: number of frames, frame rate and frame indices by the index of the video.
        errors: why a video could not be read, by its index.
    """

    def __init__(self, samples: Sequence[Record]) -> None:
        self.errors: dict[int, str] = {sample['index']: sample['error'] for sample in samples if 'error' in sample}
        readable = [sample for sample in samples if 'error' not in sample]
        self.facts: dict[int, dict[str, Any]] = {sample['index']: sample['facts'] for sample in readable}
        by_shape: dict[tuple[int, ...], list[Record]] = {}
        for sample in readable:
            by_shape.setdefault(sample['inputs'].shape, []).append(sample)
        self.batches = [collate(group) for group in by_shape.values()]


class _SourceSamples(Dataset[Record]):
    """The samples of videos; one that cannot be read has only ``index`` and ``error``."""

    def __init__(self, sources: Sequence[Source], pipelines: Mapping[str, Compose]) -> None:
        self.sources = sources
        self.pipelines = pipelines

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: int) -> Record:
        source = self.sources[index]
        return read_sample(source, self.pipelines[source.kind], index)


def read_sample(source: Source, pipeline: Compose, index: int = 0) -> Record:
    """Return the sample of a video, with ``facts``; of one that cannot be read only ``index`` and ``error``.

    Args:
        source: the video.
        pipeline: for this kind of source.
        index: number of the video.
    """
    path = source.name
    try:
        with source.open() as record:
            path = record['path']
            facts = complete_record(record, index)
            return pipeline(record) | {'facts': facts}
    except (OSError, ValueError) as error:
        if isinstance(error, MachineError):
            raise
        text = str(error) if path in str(error) else f'{path}: {error}'
        if not isinstance(error, MissingSample):  # the file may be a temporary one, or readable outside of the span
            text = text.replace(path, source.name)
        return {'index': index, 'error': printable(text)}


def build_sample_loader(
    sources: Sequence[Source],
    pipelines: Mapping[str, Compose],
    batch_size: int,
    num_workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> WatchedLoader:
    """Return a loader of :class:`LoadedSamples`, each of ``batch_size`` videos.

    Args:
        sources: the videos.
        pipelines: by kind of source.
        batch_size: number of videos.
        num_workers: processes that read the videos; 0 to read them here.
        rank, world_size: this process and the number of processes, which share the batches as in a test.
    """
    check_count('batch_size', batch_size)
    check_count('num_workers', num_workers, low=0)
    return WatchedLoader(
        _SourceSamples(sources, pipelines),
        batch_size=batch_size,
        sampler=ShardSampler(len(sources), batch_size, rank, world_size),
        num_workers=num_workers,
        collate_fn=LoadedSamples,
        persistent_workers=num_workers > 0,
        multiprocessing_context='fork' if num_workers > 0 else None,
        worker_init_fn=init_worker,
        generator=torch.Generator(),
    )


def load_samples(
    sources: Sequence[Source], pipelines: Mapping[str, Compose], batch_size: int, num_workers: int = 0
) -> Iterator[LoadedSamples]:
    """Yield the samples of ``batch_size`` videos after another; see :func:`build_sample_loader`."""
    yield from build_sample_loader(sources, pipelines, batch_size, num_workers)
