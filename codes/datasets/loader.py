"""From samples to batches, in one process or many.

Legend: N videos in a batch, V views, U snippets, T frames per snippet, C channels, H and W pixels.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Sampler, get_worker_info

from dsanet.config.registry import configured_by
from dsanet.datasets.order import Places, count_repetitions, draw_epoch, plan_groups
from dsanet.datasets.transforms.base import check_count
from dsanet.datasets.video_datasets import VideoSamples
from dsanet.datasets.web_videos import StreamLoader, WebVideoDataset
from dsanet.datasets.workers import TIME_LIMIT_S, WatchedLoader, init_worker
from dsanet.utils.machine_faults import check_spare_files
from dsanet.utils.processes import MAX_PROCESSES
from dsanet.utils.text import count_noun


class EpochSampler(Sampler[tuple[int, ...]]):
    """Order of the training samples, a pure function of (seed, epoch): by default one permutation per epoch.

    Only full global batches are made, so every process has the same number of batches. Batch ``i`` of all processes
    together is always piece ``i`` of the permutation, on any number of processes.

    Args:
        num_samples: length of the dataset.
        batch_size: videos in a batch of one process.
        seed: with the epoch, decides the order.
        rank, world_size: this process and the number of processes; process ``r`` takes samples
            ``r, r + world_size, ...`` of the permutation.
        repeat: number of passes through the data per epoch.
        plan: groups of samples and their shares of an epoch, from ``plan_groups``; None for all samples equally.
        accumulate: batches of one process per step; an epoch has whole steps only.
        clips_per_video: samples of a video that follow each other, as its repetitions; a batch has all of them.

    Raises:
        ValueError: an epoch is smaller than one step, or ``batch_size`` is not a multiple of ``clips_per_video``.
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
        clips_per_video: int = 1,
    ) -> None:
        if batch_size % clips_per_video:
            raise ValueError(f'{batch_size=} must be a multiple of {clips_per_video=}, the clips of a video in a batch')
        global_batch = batch_size * world_size * accumulate
        if num_samples * repeat * clips_per_video < global_batch:
            steps = f' x accumulate={accumulate}' if accumulate > 1 else ''
            repeats = f' x repeat={repeat}' if repeat > 1 else ''
            repeats += f' x clips_per_video={clips_per_video}' if clips_per_video > 1 else ''
            processes = count_noun(world_size, 'process', 'es')
            raise ValueError(
                f'training requires full batches: batch_size={batch_size} x {processes}{steps} = '
                f'{global_batch} videos, but the dataset has {num_samples}{repeats}'
            )
        self.num_samples = num_samples
        self.repeat = repeat
        self.plan = plan
        self.clips_per_video = clips_per_video
        self.num_used = num_samples * repeat * clips_per_video // global_batch * global_batch
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.first = 0
        self.is_paused = False  # yields nothing, for start_workers

    def set_epoch(self, epoch: int, first: int = 0) -> None:
        """Choose the samples of the next iteration over the sampler.

        Args:
            epoch: number of the epoch, from 0.
            first: number of samples of this process to skip, because the run that is resumed has used them.
        """
        self.epoch = epoch
        self.first = first

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        if self.is_paused:
            return
        rng = np.random.default_rng((self.seed, self.epoch))
        length = self.num_samples * self.repeat
        order = rng.permutation(length) % self.num_samples if self.plan is None else draw_epoch(*self.plan, length, rng)
        clips = self.clips_per_video
        mine = slice(self.rank + self.first // clips * self.world_size, self.num_used // clips, self.world_size)
        # The index carries the epoch: a persistent worker has no other way to learn it.
        if self.repeat == 1 and self.plan is None and clips == 1:
            yield from ((self.epoch, index) for index in order[mine].tolist())
        else:
            times = count_repetitions(order)
            keys = zip(order[mine].tolist(), times[mine].tolist(), strict=True)
            yield from ((self.epoch, index, number * clips + clip) for index, number in keys for clip in range(clips))

    def __len__(self) -> int:
        return self.num_used // self.world_size


class ShardSampler(Sampler[int]):
    """Every sample exactly once, in whole batches, of which process ``r`` takes ``r, r + world_size, ...``.

    Batch ``i`` always holds samples ``i * batch_size`` and following, on any number of processes: kernels round
    differently in batches of different sizes, so this keeps scores bit-identical. There is no padding: processes may
    differ in length by one batch, and may have none; only the last batch of the dataset may be smaller.

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
        self.is_paused = False  # yields nothing, for start_workers

    def skip_batches(self, numbers: Iterable[int]) -> None:
        """Skip the batches with these numbers, the same in all processes; the others are divided again."""
        self.done = frozenset(numbers)

    @property
    def batches(self) -> list[range]:
        """The samples of each batch of this process."""
        starts = range(0, self.num_samples, self.batch_size)
        remaining = [start for number, start in enumerate(starts) if number not in self.done]
        mine = remaining[self.rank :: self.world_size]
        return [range(start, min(start + self.batch_size, self.num_samples)) for start in mine]

    def __iter__(self) -> Iterator[int]:
        return chain.from_iterable(() if self.is_paused else self.batches)

    def __len__(self) -> int:
        return sum(map(len, self.batches))


def collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Stack samples to a batch.

    Args:
        samples: from PackInputs: ``inputs`` (V, U, C, T, H, W), ``label``, ``index``, ``path``.

    Returns:
        ``inputs`` uint8 (N, V, U, C, T, H, W), channels-last in memory, as in the samples; ``label`` (N,) int64, or
        float32 (N, K) of multi-hot labels; ``index`` (N,) int64; ``path``, a list; ``bad``, for each sample that
        replaces bad ones the list of those, starting with the requested one; empty unless ``on_error`` is 'resample'.

    Raises:
        ValueError: the samples differ in shape; names two of them.
        MachineError: in a data worker, there are too many open files to send the batch.
    """
    if get_worker_info() is not None:  # sending a tensor takes two descriptors; errors there would only be printed
        check_spare_files(10)
    first = samples[0]
    for sample in samples:
        if sample['inputs'].shape != first['inputs'].shape:
            raise ValueError(
                f'inputs of a batch must have one shape (V, U, C, T, H, W), got {tuple(first["inputs"].shape)} for '
                f'{first["path"]} and {tuple(sample["inputs"].shape)} for {sample["path"]}; '
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
    """Return the item unchanged; the default of a DataLoader without batches turns arrays into tensors."""
    return item


def in_groups(batches: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Yield lists of ``size`` batches; their number must be a multiple of it."""
    group: list[Any] = []
    for batch in batches:
        group.append(batch)
        if len(group) == size:
            yield group
            group = []
    assert not group, 'the sampler yields whole steps'


@configured_by(
    'train_dataloader',
    'val_dataloader',
    'test_dataloader',
    given=('training', 'seed', 'rank', 'world_size', 'accumulate', 'time_limit'),
)
def build_dataloader(
    dataset: VideoSamples,
    batch_size: int,
    num_workers: int = 2,
    class_balance: str | None = None,
    repeat: int = 1,
    on_error: str | None = None,
    max_bad_share: float = 0.2,
    clips_per_video: int = 1,
    *,
    training: bool,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
    accumulate: int = 1,
    time_limit: float = TIME_LIMIT_S,
) -> WatchedLoader:
    """Build the loader of one process.

    The batches do not depend on ``num_workers``, and the global random generators are not used.

    Args:
        dataset: its ``seed``, ``on_error`` and ``max_bad_share`` are set.
        batch_size: videos in a batch of one process; with ``clips_per_video``, clips.
        num_workers: worker processes; 0 to load in this process.
        class_balance: None to take every video equally often; 'equal' to take every class equally often; 'square_root'
            for something in between, see ``plan_groups``.
        repeat: passes through the data per training epoch, each with its own augmentation.
        on_error: what to do if a video cannot be read: 'raise', or in training 'resample': replace it by another one of
            the same class, and report it in the batch. None for 'resample' in training and 'raise' otherwise.
        max_bad_share: training stops if a larger share of an epoch's samples of one process is bad.
        clips_per_video: clips of a video that follow each other in a training batch, with their own snippets and
            augmentation. They are decoded together, which takes less time than ``repeat``; an epoch is longer by this
            factor, too.
        training: shuffled full batches (call ``loader.sampler.set_epoch`` before each epoch); otherwise every sample
            exactly once, in order.
        seed: with epoch and index, decides order and augmentation.
        rank, world_size: this process and the number of processes.
        accumulate: batches per optimizer step; a training epoch has whole steps only.
        time_limit: seconds to wait for a batch from the data workers.

    Raises:
        ValueError: a number is out of range, the pipeline does not provide ``inputs``, there are too few training
            videos, or an option is for training only.
    """
    for name, value, low in (
        ('batch_size', batch_size, 1),
        ('num_workers', num_workers, 0),
        ('seed', seed, 0),
        ('world_size', world_size, 1),
    ):
        if value < low:
            raise ValueError(f'{name} must be at least {low}, got {value}')
    if num_workers > MAX_PROCESSES:
        raise ValueError(f'num_workers={num_workers} must be at most {MAX_PROCESSES}; each one is a process')
    if not 0 <= rank < world_size:
        raise ValueError(f'rank must be from 0 to world_size - 1 = {world_size - 1}, got {rank}')
    check_count('repeat', repeat)
    check_count('clips_per_video', clips_per_video)
    if not 0 <= max_bad_share <= 1:
        raise ValueError(f'max_bad_share={max_bad_share} must be between 0 and 1')
    if on_error not in (None, 'raise', 'resample'):
        raise ValueError(f"on_error={on_error!r} must be 'raise', 'resample' or None")
    if not training:
        changed = {
            'class_balance': class_balance is not None,
            'repeat': repeat != 1,
            'clips_per_video': clips_per_video != 1,
            'on_error': on_error == 'resample',
        }
        for name, is_changed in changed.items():
            if is_changed:
                raise ValueError(f'{name} is for training only: evaluation uses every video exactly once')
    if 'inputs' not in dataset.provides:
        raise ValueError("the pipeline does not provide 'inputs': end it with PackInputs")
    dataset.seed = seed
    dataset.on_error = on_error or ('resample' if training else 'raise')
    dataset.max_bad_share = max_bad_share
    sampler: Sampler[Any] | None
    is_stream = isinstance(dataset, WebVideoDataset)
    if isinstance(dataset, WebVideoDataset):
        if not training or class_balance is not None or repeat != 1 or clips_per_video != 1:
            raise ValueError(
                'WebVideoDataset is a stream, which is for train_dataloader only, without class_balance, repeat and '
                'clips_per_video; use VideoDataset'
            )
        dataset.divide(batch_size, num_workers, rank, world_size, accumulate)
        sampler = None
    elif training:
        plan = plan_groups(dataset, class_balance)
        sampler = EpochSampler(
            len(dataset), batch_size, seed, rank, world_size, repeat, plan, accumulate, clips_per_video
        )
    else:
        sampler = ShardSampler(len(dataset), batch_size, rank, world_size)
    loader = (StreamLoader if is_stream else WatchedLoader)(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=num_workers,
        collate_fn=collate,
        drop_last=training,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=num_workers > 0,
        multiprocessing_context='fork' if num_workers > 0 and sys.platform == 'linux' else None,
        worker_init_fn=init_worker,
        # Without a generator of its own, the loader would use the global one at the start of every epoch.
        generator=torch.Generator().manual_seed(seed),
    )
    loader.time_limit = time_limit
    if isinstance(dataset, WebVideoDataset):  # torch refuses samplers for streams, and changes of the attribute
        vars(loader)['sampler'] = dataset.position
    return loader
