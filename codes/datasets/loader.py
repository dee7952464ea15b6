"""From samples to batches, on one process or many.

Legend: N videos in a batch, V views, U snippets, T frames a snippet, C channels, H and W pixels.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from codes.datasets.video_datasets import RawFramesDataset, VideoDataset


class EpochSampler(Sampler[tuple[int, int]]):
    """Order of the training samples: one permutation an epoch, a pure function of (seed, epoch).

    Only full global batches are made, so every process has the same number of batches. Batch ``i`` of all
    processes together is always the ``i``-th piece of the permutation, however many processes share it.

    Args:
        num_samples: length of the data set.
        batch_size: videos in a batch of one process.
        seed: first of the two numbers that the order is made from.
        rank, world_size: this process and the number of processes; process ``r`` takes samples
            ``r, r + world_size, ...`` of the permutation.

    Raises:
        ValueError: the data set is smaller than one global batch.
    """

    def __init__(self, num_samples: int, batch_size: int, seed: int, rank: int, world_size: int) -> None:
        global_batch = batch_size * world_size
        if num_samples < global_batch:
            raise ValueError(
                f'training makes full batches only: one needs batch_size={batch_size} x {world_size} '
                f'process(es) = {global_batch} videos, but the data set has {num_samples}'
            )
        self.num_samples = num_samples
        self.num_used = num_samples // global_batch * global_batch
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration gives, from 0 on."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.num_samples)
        # The epoch travels with the index: a persistent worker has no other way to learn of a new epoch.
        for index in order[self.rank : self.num_used : self.world_size].tolist():
            yield self.epoch, index

    def __len__(self) -> int:
        return self.num_used // self.world_size


class ShardSampler(Sampler[int]):
    """Every sample exactly once over all processes: process ``r`` takes ``r, r + world_size, ...``.

    There is no padding: shards may differ in length by one, and may be empty.
    """

    def __init__(self, num_samples: int, rank: int, world_size: int) -> None:
        self.indices = range(rank, num_samples, world_size)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.indices)


def collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Stack samples to a batch.

    Args:
        samples: what PackInputs leaves: ``inputs`` (V, U, C, T, H, W), ``label``, ``index``, ``path``.

    Returns:
        ``inputs`` uint8 (N, V, U, C, T, H, W) with the channels last in memory, as in the samples;
        ``label`` (N,) int64, or float32 (N, K) of multi-hot labels; ``index`` (N,) int64; ``path`` a list.

    Raises:
        ValueError: the samples differ in shape; names two of them.
    """
    first = samples[0]
    for sample in samples:
        if sample['inputs'].shape != first['inputs'].shape:
            raise ValueError(
                f'inputs of one batch differ in shape (V, U, C, T, H, W): {tuple(first["inputs"].shape)} of '
                f'{first["path"]} and {tuple(sample["inputs"].shape)} of {sample["path"]}; '
                'end the pipeline with a crop of fixed size, or use batch_size=1'
            )
    # Stacking the permuted views themselves would rewrite the memory channels-first.
    memory = torch.stack([s['inputs'].permute(0, 1, 3, 4, 5, 2) for s in samples])  # (N, V, U, T, H, W, C)
    return {
        'inputs': memory.permute(0, 1, 2, 6, 3, 4, 5),  # (N, V, U, C, T, H, W)
        'label': torch.from_numpy(np.stack([s['label'] for s in samples])),
        'index': torch.tensor([s['index'] for s in samples], dtype=torch.int64),
        'path': [s['path'] for s in samples],
    }


def init_worker(worker_id: int) -> None:
    """Keep a worker process to one thread: there is a worker a core, and more threads only fight."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)


def build_dataloader(
    dataset: VideoDataset | RawFramesDataset,
    batch_size: int,
    num_workers: int = 2,
    *,
    training: bool,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> DataLoader[dict[str, Any]]:
    """Build the loader of one process.

    The batches do not depend on ``num_workers``, and the global random generators are left alone.

    Args:
        dataset: what to load; its ``seed`` is set.
        batch_size: videos in a batch of one process.
        num_workers: loading processes; 0 loads in this one.
        training: shuffled full batches (call ``loader.sampler.set_epoch`` before each epoch); otherwise
            every sample exactly once, in order.
        seed: decides the order and the augmentation, together with epoch and index.
        rank, world_size: this process and the number of processes.

    Raises:
        ValueError: a number out of range, no ``inputs`` at the pipeline's end, or too few training videos.
    """
    for name, value, low in (
        ('batch_size', batch_size, 1),
        ('num_workers', num_workers, 0),
        ('seed', seed, 0),
        ('world_size', world_size, 1),
    ):
        if value < low:
            raise ValueError(f'{name} must be at least {low}, got {value}')
    if not 0 <= rank < world_size:
        raise ValueError(f'rank must be from 0 to world_size - 1 = {world_size - 1}, got {rank}')
    if 'inputs' not in dataset.pipeline.gives:
        raise ValueError("the pipeline does not give 'inputs': end it with PackInputs")
    dataset.seed = seed
    sampler: Sampler[Any]
    if training:
        sampler = EpochSampler(len(dataset), batch_size, seed, rank, world_size)
    else:
        sampler = ShardSampler(len(dataset), rank, world_size)
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=num_workers,
        collate_fn=collate,
        drop_last=training,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=num_workers > 0,
        worker_init_fn=init_worker,
        # Without its own generator the loader would draw from the global one at the start of every epoch.
        generator=torch.Generator().manual_seed(seed),
    )
