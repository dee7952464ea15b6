"""Data loading, testing, and lists of videos."""

import gc
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.utils.data import Dataset

from dsanet.benchmarks.measuring import (
    Result,
    descendants,
    free_memory,
    measure,
    process_cpu_s,
    rollup_mb,
    seconds,
    status_mb,
)
from dsanet.benchmarks.models import without_weight_files
from dsanet.config.loading import read_section
from dsanet.config.registry import DATASETS, MODELS, build
from dsanet.config.schema import RuntimeCfg
from dsanet.datasets.loader import ShardSampler, identity_collate
from dsanet.datasets.workers import WatchedLoader, init_worker, start_workers
from dsanet.engine.evaluator import predict
from dsanet.engine.preparation import build_loader, place_model

Config = dict[str, Any]


def _worker_processes(loader: WatchedLoader) -> list[int]:
    return descendants([worker.pid for worker in loader.workers if worker.pid is not None])


@contextmanager
def _started(loader: WatchedLoader) -> Iterator[Callable[[], float]]:
    """Start the workers, and end them; yields a clock of the CPU seconds of this process and of them."""
    start_workers(loader)
    try:
        yield lambda: time.process_time() + sum(map(process_cpu_s, _worker_processes(loader)))
    finally:
        loader.kill_workers()


def benchmark_data(name: str, config: Config, repeats: int, warmup: int, num_samples: int) -> list[Result]:
    """Measure the training pipeline of a config: in this process, and with the loader's workers.

    Args:
        name: of the config.
        config: a checked config.
        repeats, warmup: as for ``measure``.
        num_samples: samples of a repeat, rounded down to whole batches, but at least one batch.

    Returns:
        Results with ``samples``, ``samples_per_s`` (median, wall time), ``cpu_s_per_sample`` (minimum), and of the
        loader with workers ``workers``, ``worker_pss_mb`` and ``worker_peak_mb``, the largest proportional set size and
        the largest peak of the resident memory of a worker; None where unknown.

    Raises:
        FileNotFoundError, ValueError: as in training, if there are no data.
    """
    runtime: RuntimeCfg = read_section(config, 'runtime', RuntimeCfg)
    loader = build_loader(config['train_dataloader'], 'train_dataloader', runtime)
    dataset, sampler = loader.dataset, loader.sampler
    assert loader.batch_size is not None, 'training loaders make batches'
    num_batches = max(1, min(num_samples, len(sampler)) // loader.batch_size)  # type: ignore[arg-type]
    count = num_batches * loader.batch_size
    sampler.num_used = count  # type: ignore[attr-defined]
    epoch = iter(range(10**9))

    def load_here() -> None:
        number = next(epoch)
        for index in range(count):
            dataset[number, index % len(dataset)]  # type: ignore[arg-type]

    results = measure({f'{name} data, this process': load_here}, repeats, warmup)
    results[0].facts['workers'] = 0
    if loader.num_workers:
        pss: list[float] = []

        def load() -> None:
            sampler.set_epoch(next(epoch))  # type: ignore[attr-defined]
            for _ in loader:
                pass
            pss.extend(value for worker in _worker_processes(loader) if (value := rollup_mb('Pss', worker)) is not None)

        with _started(loader) as cpu_clock:
            [result] = measure({f'{name} data, data workers': load}, repeats, warmup, None, cpu_clock)
            peaks = [status_mb('VmHWM', process) for process in _worker_processes(loader)]
        result.facts |= {
            'workers': loader.num_workers,
            'worker_pss_mb': max(pss, default=None),
            'worker_peak_mb': max((peak for peak in peaks if peak is not None), default=None),
        }
        results.append(result)
    for result in results:
        _add_rates(result, count)
    return results


def _add_rates(result: Result, count: int) -> None:
    result.facts |= {
        'samples': count,
        'samples_per_s': count / max(median(result.wall_s), 1e-9),
        'cpu_s_per_sample': seconds(result) / count,
    }


def benchmark_test(name: str, config: Config, repeats: int, warmup: int, device: torch.device) -> list[Result]:
    """Measure the scoring of all validation data with random weights, as after an epoch of training.

    Args:
        name, config, repeats, warmup: as for :func:`benchmark_data`.
        device: where to run the model.

    Returns:
        One result, with ``samples``, ``samples_per_s`` and ``cpu_s_per_sample``. CPU seconds are those of this process
        and of the data workers.

    Raises:
        FileNotFoundError, ValueError: as in training, if there are no data.
    """
    runtime: RuntimeCfg = read_section(config, 'runtime', RuntimeCfg)
    section = next((one for one in ('val_dataloader', 'test_dataloader') if one in config), None)
    if section is None:
        raise ValueError('the config has neither val_dataloader nor test_dataloader')
    loader = build_loader(config[section], section, runtime)
    with _started(loader) as cpu_clock:
        model = build(without_weight_files(config)['model'], MODELS, 'model')
        place_model(model, device)
        number = len(loader.dataset)  # type: ignore[arg-type]
        functions = {f'{name} test': lambda: predict(model, loader, device, runtime.amp)}
        [result] = measure(functions, repeats, warmup, device, cpu_clock)
    _add_rates(result, number)
    result.facts['workers'] = loader.num_workers
    return [result]


class _Touched(Dataset[float | None]):
    """Reads all records of a dataset, in parts, as a data worker does in an epoch; an item is its private memory.

    Args:
        dataset: the dataset, which the worker shares with the main process.
    """

    parts = 10

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __getitem__(self, part: int) -> float | None:
        for index in range(part, len(self.dataset), self.parts):
            record = self.dataset.records[index]
            _ = record.path, record.key
        if part == self.parts - 1:
            gc.collect()
        return rollup_mb('Private_Dirty')


def benchmark_lists(name: str, config: Config, repeats: int, warmup: int, num_lines: int) -> list[Result]:
    """Measure building a dataset from a generated list, with the dataset type of a config's training data.

    Args:
        name, config, repeats, warmup: as for :func:`benchmark_data`.
        num_lines: lines of the list.

    Returns:
        One result, with ``lines``, ``list_mb``, the memory that one dataset adds to this process, and
        ``worker_private_mb``, the memory that a forked worker does not share after it has read all records and
        collected garbage.

    Raises:
        ValueError: the dataset is neither of videos nor of frames.
    """
    section = config['train_dataloader']['dataset']
    section = section.get('datasets', [section])[0]
    if section['type'] not in ('VideoDataset', 'RawFramesDataset'):
        raise ValueError(
            f'train_dataloader.dataset.type={section["type"]!r} has no list; allowed: VideoDataset, RawFramesDataset'
        )
    has_frames = section['type'] == 'RawFramesDataset'
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, 'list.txt')
        file.write_text(''.join(_generate_lines(num_lines, has_frames)))
        cfg = {'type': section['type'], 'pipeline': section['pipeline'], 'list_file': str(file)}
        free_memory()
        before = rollup_mb('Pss')
        dataset = build(cfg, DATASETS, 'train_dataloader.dataset')
        free_memory()
        after = rollup_mb('Pss')
        facts: dict[str, Any] = {
            'lines': len(dataset),
            'list_mb': None if after is None or before is None else after - before,
            'worker_private_mb': _worker_private_mb(dataset),
        }
        del dataset
        functions = {f'{name} list': lambda: build(cfg, DATASETS, 'train_dataloader.dataset')}
        [result] = measure(functions, repeats, warmup)
    result.facts |= facts
    return [result]


def _generate_lines(number: int, has_frames: bool) -> Iterator[str]:
    """Yield lines of a list with paths as long as those of Kinetics."""
    frames = '300 ' if has_frames else ''
    ending = '' if has_frames else '.mp4'
    for index in range(number):
        label = index * 7919 % 700
        yield f'train/class_{label:03d}_of_kinetics/{index:011d}_000010_000020{ending} {frames}{label}\n'


def _worker_private_mb(dataset: Any) -> float | None:
    """Return the memory that a forked data worker does not share after it has read all records; None if unknown."""
    if rollup_mb('Private_Dirty') is None:
        return None
    loader = WatchedLoader(
        _Touched(dataset),
        batch_size=None,
        sampler=ShardSampler(_Touched.parts, 1, 0, 1),
        num_workers=1,
        collate_fn=identity_collate,
        worker_init_fn=init_worker,
        multiprocessing_context='fork',
        persistent_workers=True,
    )
    start_workers(loader)
    try:
        return list(loader)[-1]
    finally:
        loader.kill_workers()
