"""The test data of a recognizer's config, or a selection of them, decoded once."""

import logging
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from dsanet.config.loading import read_section
from dsanet.config.registry import DATASETS, build
from dsanet.config.schema import RuntimeCfg
from dsanet.datasets.classes import class_names_of
from dsanet.datasets.workers import WatchedLoader
from dsanet.engine.evaluator import EXPECTED_ERRORS, progress_bar
from dsanet.engine.preparation import build_loader
from dsanet.inference.recognizer import Recognizer
from dsanet.utils.class_names import ClassNames, check_same_class_names
from dsanet.utils.text import strip_worker_traceback

LOGGER = logging.getLogger(__name__)

MIN_PER_CLASS = 4  # videos of a class in a selection


def build_test_loader(recognizer: Recognizer, max_videos: int | None = None) -> WatchedLoader:
    """Build the loader of the config's ``test_dataloader``, as a test does, with the views of the recognizer.

    Args:
        recognizer: its config names the data.
        max_videos: the largest number of videos, see :func:`choose_videos`; None for all of them.

    Raises:
        FileNotFoundError, ValueError: the data cannot be read, or their classes are not those of the model.
    """
    runtime: RuntimeCfg = read_section(recognizer.config, 'runtime', RuntimeCfg)
    section = recognizer.config['test_dataloader']
    if 'datasets' not in section['dataset']:  # the pipelines of a mixture stay as they are
        section = {**section, 'dataset': {**section['dataset'], 'pipeline': recognizer.steps}}
    loader = build_loader(section, 'test_dataloader', runtime)
    dataset: Any = loader.dataset
    names = class_names_of(dataset, 'test')
    dataset.check_labels(recognizer.model.num_classes)
    if recognizer.class_names != [str(k) for k in range(recognizer.model.num_classes)]:  # not numbers for unknown names
        check_same_class_names(ClassNames(recognizer.class_names, 'the checkpoint'), names)
    if max_videos is None or len(dataset) <= max_videos:
        return loader
    labels = dataset.labels if dataset.labels.ndim == 1 else dataset.labels.argmax(axis=1)  # the first of several
    return WatchedLoader(
        dataset,
        batch_size=loader.batch_size,
        sampler=choose_videos(labels, max_videos),
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        multiprocessing_context=loader.multiprocessing_context,
        worker_init_fn=loader.worker_init_fn,
        generator=loader.generator,
    )


def choose_videos(labels: npt.NDArray[np.int64], max_videos: int) -> list[int]:
    """Return the indices of an equal number of videos of each class, spread evenly over its list, in ascending order.

    With many classes, they are from fewer classes, also spread evenly, so that a class has at least
    ``MIN_PER_CLASS`` videos if it has so many: the differences within a class are then known, too.

    Args:
        labels: class numbers of the n videos.
        max_videos: at least one; no more videos are chosen.
    """
    classes, counts = np.unique(labels, return_counts=True)
    number = _largest_number(counts, max_videos)
    least = min(MIN_PER_CLASS, int(counts.max()))
    if number < least:
        selections = [_spread(np.arange(len(classes)), m) for m in range(len(classes), 0, -1)]
        fitting = (one for one in selections if np.minimum(counts[one], least).sum() <= max_videos)
        places = next(fitting, selections[-1])
        classes, number = classes[places], _largest_number(counts[places], max_videos)
    chosen: list[int] = []
    for k in classes:
        chosen += _spread(np.flatnonzero(labels == k), number)
    return sorted(chosen)


def _largest_number(counts: npt.NDArray[np.int64], max_videos: int) -> int:
    """Return the largest number of videos per class, of which there are ``counts``, with at most ``max_videos``."""
    numbers = np.arange(max_videos + 1)
    totals = np.minimum(numbers[:, None], counts).sum(axis=1)  # (max_videos + 1,)
    return int(numbers[totals <= max_videos].max())


def _spread(values: npt.NDArray[Any], number: int) -> list[int]:
    """Return at most ``number`` values at equal distances, from the middle of as many parts."""
    count = min(number, len(values))
    chosen: list[int] = values[((np.arange(count) + 0.5) * len(values) / count).astype(int)].tolist()
    return chosen


def read_batches(loader: WatchedLoader) -> Iterator[Mapping[str, Any]]:
    """Yield the batches of a loader.

    Raises:
        ValueError: a video cannot be read; the error names it.
        OSError: an error of the machine.
    """
    try:
        yield from progress_bar(loader, 'videos')
    except EXPECTED_ERRORS as error:
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            raise
        raise ValueError(strip_worker_traceback(error)) from error


def read_labeled_batches(loader: WatchedLoader) -> Iterator[tuple[Tensor, list[str], list[int]]]:
    """Yield inputs, names and class numbers of the batches of a loader; -1 for videos that may have several classes.

    Raises:
        ValueError, OSError: as for :func:`read_batches`.
    """
    for batch in read_batches(loader):
        label = batch['label']
        yield batch['inputs'], batch['path'], label.tolist() if label.dim() == 1 else [-1] * len(label)


def check_control(model: Recognizer, control: Recognizer) -> None:
    """Check that a control has the classes of a model; log a warning if its frames are sampled differently.

    Raises:
        ValueError: the classes differ.
    """
    classes = model.class_names, control.class_names
    if classes[0] != classes[1]:
        number, pair = next(
            ((k, pair) for k, pair in enumerate(zip(*classes, strict=False)) if pair[0] != pair[1]), (None, None)
        )
        first = f'; class {number} is {pair[0]!r} and {pair[1]!r}' if pair is not None else ''
        sizes = ' and '.join(str(len(names)) for names in classes)
        raise ValueError(f'the model and the control have different classes ({sizes}{first})')
    if model.steps != control.steps:
        LOGGER.warning('The test pipeline of the control differs; both are tested with the pipeline of the model')


def check_same_test_videos(model: Mapping[str, Any], control: Mapping[str, Any]) -> None:
    """Check that two models were trained with the same test videos, by their file names and labels.

    A control that has seen the test videos of the model in training would look better than it is. If the lists cannot
    be read here, as after training on another machine, that is logged as a warning.

    Args:
        model: the config of the model's training.
        control: that of the control.

    Raises:
        ValueError: the test videos differ.
    """
    sections = [config['test_dataloader']['dataset'] for config in (model, control)]
    if _without_pipelines(sections[0]) == _without_pipelines(sections[1]):
        return
    try:
        datasets = [build(section, DATASETS, 'test_dataloader.dataset') for section in sections]
    except (OSError, ValueError) as error:
        LOGGER.warning('Cannot check whether model and control have the same test videos: %s', error)
        return
    first, second = (
        {(PurePath(record.path).stem, record.span, record.labels) for record in dataset.records} for dataset in datasets
    )
    if first != second:
        example = min(str(name) for name, _, _ in first ^ second)
        raise ValueError(
            f'the control was trained with other test videos than the model: {len(second)} and {len(first)} videos, '
            f'{len(first & second)} in both, but not {example!r}; train the control with the lists of the model'
        )


def _without_pipelines(section: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a dataset that choose its videos and labels."""
    settings = {key: value for key, value in section.items() if key not in ('pipeline', 'weights')}
    if 'datasets' in settings:
        settings['datasets'] = [_without_pipelines(part) for part in settings['datasets']]
    return settings
