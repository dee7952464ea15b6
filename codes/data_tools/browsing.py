"""Load the samples of a config as the network sees them, together with the frames before augmentation."""

import itertools
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from dsanet.data_tools.visualization import NetworkInput, fit_into, height_of
from dsanet.datasets.loader import identity_collate
from dsanet.datasets.transforms.base import Record, Transform
from dsanet.datasets.workers import WatchedLoader, init_worker
from dsanet.utils.files import write_atomically
from dsanet.utils.machine_faults import MachineError
from dsanet.utils.signals import block_sigint

SHEET_HEIGHT = 1800  # pixels; a sheet has at least one sample of any height


class OutputFiles:
    """The files of a call in its output folder, which replace those of the last call for the same split and epoch.

    ``browse.json`` lists the files of all calls, so that files of the user are not removed.

    Args:
        folder: output folder, which need not exist.
        prefix: start of the file names, such as 'train_epoch1'; the rest is a number.
        suffix: '.png' or '.mp4'.

    Raises:
        ValueError: the folder has files with such names that no call listed, which would mix with the new ones.
    """

    def __init__(self, folder: Path, prefix: str, suffix: str) -> None:
        self.folder = folder
        self.prefix = prefix
        self.suffix = suffix
        self.names: list[str] = []
        self._list = folder / 'browse.json'
        listed: Any = []
        if self._list.is_file():
            try:
                listed = json.loads(self._list.read_bytes())
            except ValueError:
                listed = None
        is_own = isinstance(listed, list) and all(isinstance(name, str) for name in listed)
        pattern = re.compile(rf'{prefix}_\d+\{suffix}')
        found = [file.name for file in sorted(folder.glob('*')) if pattern.fullmatch(file.name) and file.is_file()]
        unknown = [name for name in found if name not in listed] if is_own else [self._list.name, *found]
        if unknown:
            raise ValueError(
                f'--out {folder} has files that dsanet browse did not write and that would mix with its own: '
                f'{", ".join(unknown)}. Move them away, or choose another --out'
            )
        self._old = found
        self._others = [name for name in listed if not pattern.fullmatch(name)]  # of other splits or epochs

    def remove_old(self) -> None:
        """Remove the files of the last call."""
        for name in self._old:
            (self.folder / name).unlink(missing_ok=True)

    def add(self, number: str) -> Path:
        """List a file, before it is written, and return its path."""
        self.names.append(f'{self.prefix}_{number}{self.suffix}')
        write_atomically(json.dumps([*self._others, *self.names]).encode(), self._list)
        return self.folder / self.names[-1]


class RecordTap(Transform):
    """A transform that stores the frame indices and frames of a record without changing it.

    Args:
        seen: dict to store them in.
        cell: size in pixels of the stored frames.
    """

    def __init__(self, seen: dict[str, Any], cell: int) -> None:
        self.seen = seen
        self.cell = cell

    def __call__(self, record: Record) -> Record:
        indices = record['frame_indices']
        self.seen |= {'frame_indices': indices.copy(), 'num_frames': record['num_frames']}
        first = record['frames'][:: indices.shape[-1]]  # of each snippet
        small = np.stack([fit_into(frame, self.cell, self.cell) for frame in first])
        self.seen['whole'] = small.reshape(*indices.shape[:2], self.cell, self.cell, 3)  # (G, U, h, w, 3)
        return record


class WatchedSamples(Dataset[dict[str, Any]]):
    """Samples of a dataset, with their frames before augmentation.

    Args:
        dataset: dataset of ``build_loader``; a :class:`RecordTap` is inserted into its pipeline.
        keys: keys of the samples.
        cell: size in pixels of the frames before augmentation.
    """

    def __init__(self, dataset: Any, keys: Sequence[Any], cell: int) -> None:
        self.dataset = dataset
        self.keys = keys
        self.seen: dict[str, Any] = {}
        for part in getattr(dataset, 'datasets', [dataset]):
            steps = part.pipeline.transforms
            decoded = next(i for i, step in enumerate(steps) if 'frames' in step.provides)
            steps.insert(decoded + 1, RecordTap(self.seen, cell))

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, number: int) -> dict[str, Any]:
        try:
            sample = self.dataset[self.keys[number]]
        except MachineError:
            raise
        except Exception as error:  # show the other samples
            return {'error': str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)}
        return {**sample, **self.seen}


def load_samples(dataset: Any, keys: Sequence[Any], cell: int, num_workers: int) -> Iterator[dict[str, Any]]:
    """Yield samples with their frames before augmentation, or a dict with ``error`` if a sample cannot be read.

    Args:
        dataset, keys, cell: see :class:`WatchedSamples`.
        num_workers: number of processes that load samples.

    Raises:
        MachineError: a worker process ended unexpectedly, for example for lack of memory, or does not respond.
    """
    watched = WatchedSamples(dataset, keys, cell)
    workers = min(num_workers, len(keys))
    items = WatchedLoader(watched, None, num_workers=workers, worker_init_fn=init_worker, collate_fn=identity_collate)
    with block_sigint():
        loaded = iter(items)
    yield from loaded


def choose_keys(
    loader: DataLoader[Any], epoch: int | None, num: int, indices: Sequence[int] = (), classes: Sequence[str] = ()
) -> list[Any]:
    """Return the keys of the samples to show, in the order of the loader.

    Args:
        loader: loader of the config.
        epoch: training epoch from 1; None for validation and test.
        num: maximum number of samples; of each class if ``classes`` are given.
        indices: indices of samples in the dataset, instead of the first ``num``.
        classes: names or numbers of classes to show; all by default.
    """
    dataset: Any = loader.dataset
    sampler: Any = loader.sampler
    if epoch is not None:
        sampler.set_epoch(epoch - 1)
    for index in indices:
        if not 0 <= index < len(dataset):
            raise ValueError(f'--index {index} is out of range, must be 0 to {len(dataset) - 1}')
    if indices:
        return [index if epoch is None else (epoch - 1, index) for index in indices]
    keys: Iterator[Any] = iter(sampler)
    if not classes:
        return list(itertools.islice(keys, num))
    names = {parse_class(name, dataset): name for name in classes}
    missing = dict.fromkeys(names, num)  # samples still to find, by label
    chosen = []
    for key in keys:
        labels = [k for k in dataset.records[key if epoch is None else key[1]].labels if missing.get(k)]
        if labels:
            chosen.append(key)
        for label in labels:
            missing[label] -= 1
        if not any(missing.values()):
            break
    absent = [names[label] for label, number in missing.items() if number == num]
    if absent:
        raise ValueError(f'no sample of class {" or ".join(absent)} in this epoch')
    return chosen


def parse_class(name: str, dataset: Any) -> int:
    """Return the label of a class, given by name or number."""
    if dataset.class_names is not None and name in dataset.class_names:
        return int(dataset.class_names.index(name))
    if name.isascii() and name.isdigit():
        return int(name)
    names = dataset.class_names
    expected = f'one of {", ".join(names)}' if names else 'a number, because the dataset has no class names'
    raise ValueError(f'--classes {name!r} is not a class; expected {expected}')


def label_text(label: Any, dataset: Any) -> str:
    """Return the labels of a sample as text."""
    labels = np.flatnonzero(label).tolist() if isinstance(label, np.ndarray) else [int(label)]
    names = dataset.class_names
    return ', '.join(f'{names[k]} ({k})' if names and k < len(names) else f'class {k}' for k in labels)


def describe_sample(item: dict[str, Any], dataset: Any, draw: str = '') -> list[str]:
    """Describe an item of :class:`WatchedSamples`; ``draw`` is its random seed, such as 'seed 0, epoch 1'."""
    record = dataset.records[item['index']]
    listed = dataset.label(item['index'])
    label = label_text(item['label'], dataset)
    if not np.array_equal(np.asarray(item['label'], np.float32), np.asarray(listed, np.float32)):
        label = f'{label}, mirrored; listed as {label_text(listed, dataset)}'
    shape = ' x '.join(map(str, item['inputs'].shape))
    instead = [f'replaces {bad["path"]}: {bad["reason"]}' for bad in item.get('bad', ())]
    return [
        label,
        f'{os.path.basename(record.source)}  {record.key}',
        f'index {item["index"]}{draw and f", {draw}"}; {item["num_frames"]} frames; inputs (V, U, C, T, H, W) {shape}',
        *instead,
    ]


def to_network_input(item: dict[str, Any], headings: Sequence[str]) -> NetworkInput:
    """Convert an item of :class:`WatchedSamples` for drawing."""
    frames = item['inputs'].permute(0, 1, 3, 4, 5, 2).numpy()  # (V, U, T, H, W, C)
    return NetworkInput(frames, item['whole'], item['frame_indices'], item['num_frames'], headings)


def sheets(samples: Sequence[NetworkInput], cell: int) -> Iterator[list[NetworkInput]]:
    """Distribute samples over sheets of limited height."""
    sheet: list[NetworkInput] = []
    for sample in samples:
        if sheet and sum(height_of(other, cell) for other in [*sheet, sample]) > SHEET_HEIGHT:
            yield sheet
            sheet = []
        sheet.append(sample)
    yield sheet
