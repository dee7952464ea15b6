"""From samples to batches, on one process or many.

Legend: N videos in a batch, V views, U snippets, T frames a snippet, C channels, H and W pixels.
"""

import os
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Sampler

from dsanet.config.registry import configured_by
from dsanet.datasets.order import Places, count_repetitions, draw_epoch, plan_groups
from dsanet.datasets.transforms.base import check_count
from dsanet.datasets.video_datasets import VideoSamples


class EpochSampler(Sampler[tuple[int, ...]]):
    """Order of the training samples, a pure function of (seed, epoch): by default one permutation an epoch.

    Only full global batches are made, so every process has the same number of batches. Batch ``i`` of all
    processes together is always the ``i``-th piece of the permutation, however many processes share it.

    Args:
        num_samples: length of the dataset.
        batch_size: videos in a batch of one process.
        seed: first of the two numbers that the order is made from.
        rank, world_size: this process and the number of processes; process ``r`` takes samples
            ``r, r + world_size, ...`` of the permutation.
        repeat: how many times an epoch goes through the data.
        plan: groups of samples and their shares in an epoch, from ``plan_groups``; None for all samples equally.
        accumulate: batches of one process that make up one step; an epoch has whole steps only.

    Raises:
        ValueError: an epoch is smaller than one step.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        seed: int,
        rank: int,
        world_size: int,
        repeat: int = 1,
        plan: tuple[list[Places], npt.NDArray[np.float64]] | None = None,
        accumulate: int = 1,
    ) -> None:
        global_batch = batch_size * world_size * accumulate
        if num_samples * repeat < global_batch:
            steps = f' x accumulate={accumulate}' if accumulate > 1 else ''
            raise ValueError(
                f'training makes full batches only: one needs batch_size={batch_size} x {world_size} '
                f'process(es){steps} = {global_batch} videos, but the dataset has {num_samples}'
                f'{f" x repeat={repeat}" if repeat > 1 else ""}'
            )
        self.num_samples = num_samples
        self.repeat = repeat
        self.plan = plan
        self.num_used = num_samples * repeat // global_batch * global_batch
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.first = 0
        self.is_paused = False  # gives nothing, for start_workers

    def set_epoch(self, epoch: int, first: int = 0) -> None:
        """Choose what the next iteration gives.

        Args:
            epoch: from 0 on.
            first: samples of this process that are left out at the epoch's beginning, because a run that is resumed
                has had them.
        """
        self.epoch = epoch
        self.first = first

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        if self.is_paused:
            return
        rng = np.random.default_rng((self.seed, self.epoch))
        length = self.num_samples * self.repeat
        order = rng.permutation(length) % self.num_samples if self.plan is None else draw_epoch(*self.plan, length, rng)
        mine = slice(self.rank + self.first * self.world_size, self.num_used, self.world_size)
        # The epoch travels with the index: a persistent worker has no other way to learn of a new epoch.
        if self.repeat == 1 and self.plan is None:
            yield from ((self.epoch, index) for index in order[mine].tolist())
        else:
            times = count_repetitions(order)
            keys = zip(order[mine].tolist(), times[mine].tolist(), strict=True)
            yield from ((self.epoch, index, repetition) for index, repetition in keys)

    def __len__(self) -> int:
        return self.num_used // self.world_size


class ShardSampler(Sampler[int]):
    """Every sample exactly once, in whole batches, of which process ``r`` takes ``r, r + world_size, ...``.

    Batch ``i`` is always samples ``i * batch_size`` and following, however many processes share the work: kernels round
    differently in batches of different sizes, and so the scores stay the same to the last bit. There is no padding:
    processes may differ in length by one batch, and may have none; only the dataset's last batch may be smaller.

    Args:
        num_samples: length of the dataset.
        batch_size: samples in a batch of one process.
        rank, world_size: this process and the number of processes.
    """

    def __init__(self, num_samples: int, batch_size: int, rank: int, world_size: int) -> None:
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size
        self.done: frozenset[int] = frozenset()
        self.is_paused = False  # gives nothing, for start_workers

    def leave_out(self, batches: Iterable[int]) -> None:
        """Leave out the batches of these numbers from now on; the others are shared anew. The same in all processes."""
        self.done = frozenset(batches)

    @property
    def batches(self) -> list[range]:
        """The samples of each batch of this process."""
        starts = range(0, self.num_samples, self.batch_size)
        left = [start for number, start in enumerate(starts) if number not in self.done]
        mine = left[self.rank :: self.world_size]
        return [range(start, min(start + self.batch_size, self.num_samples)) for start in mine]

    def __iter__(self) -> Iterator[int]:
        return chain.from_iterable(() if self.is_paused else self.batches)

    def __len__(self) -> int:
        return sum(map(len, self.batches))


def collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Stack samples to a batch.

    Args:
        samples: what PackInputs leaves: ``inputs`` (V, U, C, T, H, W), ``label``, ``index``, ``path``.

    Returns:
        ``inputs`` uint8 (N, V, U, C, T, H, W) with the channels last in memory, as in the samples;
        ``label`` (N,) int64, or float32 (N, K) of multi-hot labels; ``index`` (N,) int64; ``path`` a list; ``bad`` has
        for each sample that stands in for bad ones the list of those, the one that was wanted first; it is empty unless
        ``on_error`` is 'resample'.

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
        'bad': [s['bad'] for s in samples if 'bad' in s],
    }


def identity_collate(item: Any) -> Any:
    """Return an item, for loaders that give items and not batches: by default they turn arrays into tensors."""
    return item


def init_worker(worker_id: int) -> None:
    """Keep a worker process to one thread for its work: there is a worker a core, and more threads only fight.

    Ctrl-C in a terminal and a scheduler's SIGTERM reach all processes of a job. The main process answers them when its
    iteration is done, for which it needs its workers, so they leave such signals to it: Ctrl-C always, SIGTERM if they
    were started by :func:`start_workers`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ()):
        threading.Thread(target=_end_for_the_parent, args=(os.getppid(),), daemon=True).start()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)


def _end_for_the_parent(parent: int) -> None:
    """End this process when its parent sends SIGTERM, as it does with workers that are stuck, and for nobody else.

    Of two signals that are pending at once the kernel keeps the first, so the parent's is lost if it comes in the
    instant before somebody else's is taken. Such a worker ends with the parent, see :func:`_kill_workers`.
    """
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)


def _kill_workers(workers: Sequence[BaseProcess]) -> None:
    """Kill what multiprocessing is about to send SIGTERM to, and would then wait for, when a process ends."""
    # torch's handler would report an error. It is restored for the program's other children.
    handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for worker in workers:
        worker.kill()
        worker.join()
    signal.signal(signal.SIGCHLD, handler or signal.SIG_DFL)  # None if C code installed it


def in_groups(batches: Any, size: int) -> Iterator[list[Any]]:
    """Yield lists of ``size`` batches, which divides their number."""
    group: list[Any] = []
    for batch in batches:
        group.append(batch)
        if len(group) == size:
            yield group
            group = []
    assert not group, 'the sampler gives whole steps'


def start_workers(loader: DataLoader[Any]) -> None:
    """Start a loader's worker processes before they have anything to do.

    They are forked, and a fork copies no other thread, but the locks that other threads hold at that moment. The
    threads of a process group take such locks at any time, CPython's own among them, and workers that were forked
    beside them did now and then wait for ever.

    Args:
        loader: from :func:`build_dataloader`.
    """
    if not loader.num_workers:
        return
    sampler: Any = loader.sampler
    sampler.is_paused = True
    # All threads of a worker must block SIGTERM for init_worker; libraries start some in the middle of a fork.
    to_block = {signal.SIGTERM} if hasattr(signal, 'sigwaitinfo') else set()  # not on macOS
    before = signal.pthread_sigmask(signal.SIG_BLOCK, to_block)
    try:
        iterator: Any = iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    sampler.is_paused = False
    # Only these workers: other children of the program end in their own way.
    Finalize(None, _kill_workers, (iterator._workers,), exitpriority=0)


@configured_by(
    'train_dataloader',
    'val_dataloader',
    'test_dataloader',
    given=('training', 'seed', 'rank', 'world_size', 'accumulate'),
)
def build_dataloader(
    dataset: VideoSamples,
    batch_size: int,
    num_workers: int = 2,
    class_balance: str | None = None,
    repeat: int = 1,
    on_error: str | None = None,
    max_bad_share: float = 0.2,
    *,
    training: bool,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
    accumulate: int = 1,
) -> DataLoader[dict[str, Any]]:
    """Build the loader of one process.

    The batches do not depend on ``num_workers``, and the global random generators are left alone.

    Args:
        dataset: what to load; its ``seed`` and what it does about bad samples are set.
        batch_size: videos in a batch of one process.
        num_workers: loading processes; 0 loads in this one.
        class_balance: None to take every video equally often; 'equal' to take every class equally often; 'square_root'
            for something in between, see ``plan_groups``.
        repeat: how many times an epoch of training goes through the data, each time augmented anew.
        on_error: what to do with a video that cannot be read: 'raise', or 'resample', in training only: take another
            one of the same class instead, and report it in the batch. None for 'resample' in training.
        max_bad_share: training stops when a larger share of the samples that an epoch gives to one process was bad.
        training: shuffled full batches (call ``loader.sampler.set_epoch`` before each epoch); otherwise
            every sample exactly once, in order.
        seed: decides the order and the augmentation, together with epoch and index.
        rank, world_size: this process and the number of processes.
        accumulate: batches that make up one step of the optimizer; an epoch of training has whole steps only.

    Raises:
        ValueError: a number out of range, no ``inputs`` at the pipeline's end, too few training videos, or an option
            of training in evaluation.
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
    check_count('repeat', repeat)
    if not 0 <= max_bad_share <= 1:
        raise ValueError(f'max_bad_share={max_bad_share} must lie between 0 and 1')
    if on_error not in (None, 'raise', 'resample'):
        raise ValueError(f"on_error={on_error!r} must be 'raise', 'resample' or None")
    if not training:
        changed = {
            'class_balance': class_balance is not None,
            'repeat': repeat != 1,
            'on_error': on_error == 'resample',
        }
        for name, is_changed in changed.items():
            if is_changed:
                raise ValueError(f'{name} is for training: evaluation takes every video exactly once')
    if 'inputs' not in dataset.provides:
        raise ValueError("the pipeline does not give 'inputs': end it with PackInputs")
    dataset.seed = seed
    dataset.on_error = on_error or ('resample' if training else 'raise')
    dataset.max_bad_share = max_bad_share
    sampler: Sampler[Any]
    if training:
        plan = plan_groups(dataset, class_balance)
        sampler = EpochSampler(len(dataset), batch_size, seed, rank, world_size, repeat, plan, accumulate)
    else:
        sampler = ShardSampler(len(dataset), batch_size, rank, world_size)
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
