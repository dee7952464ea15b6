"""Find the class names of a dataset, and their number for configs with ``num_classes=None``."""

import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from dsanet.config.loading import load_config, refers_to
from dsanet.config.schema import LOADERS
from dsanet.datasets.annotation import choose_class_names, list_class_folders, parse_list_file, read_class_names
from dsanet.utils.class_names import ClassNames, check_same_class_names

LOGGER = logging.getLogger(__name__)


class ClassCount(NamedTuple):
    """A number of classes and its source.

    Attributes:
        number: number of classes, K.
        origin: the source, such as the path of a class file.
        is_complete: True if the source names every class; a list file need not have a video of each class.
    """

    number: int
    origin: str
    is_complete: bool


def load_config_with_classes(
    config: str | Path,
    options: Iterable[str] = (),
    imports: Iterable[str] = (),
    sections: Iterable[str] = LOADERS,
    num_classes: int | None = None,
) -> dict[str, Any]:
    """Load a config; if its head has ``num_classes=None``, set it to the number of classes of the data.

    Args:
        config, options, imports: see ``load_config``.
        sections: sections with a dataset, such as ``train_dataloader``; missing ones are skipped.
        num_classes: the number to set, without reading data; None to count.
    """
    options, imports = list(options), list(imports)
    loaded = load_config(config, options, imports)
    if not _needs_num_classes(loaded):
        return loaded
    if num_classes is None:
        num_classes, origin, _ = find_num_classes(loaded, sections)
        LOGGER.info('num_classes=%d (from %s)', num_classes, origin)
    if refers_to(config, 'num_classes'):
        loaded = load_config(config, [*options, f'num_classes={num_classes}'], imports)
    if _needs_num_classes(loaded):  # the head does not refer to the setting
        loaded = load_config(config, [*options, f'model.cls_head.num_classes={num_classes}'], imports)
    return loaded


def _needs_num_classes(config: Mapping[str, Any]) -> bool:
    return config['model'].get('cls_head', {}).get('num_classes', 0) is None


def class_names_of(dataset: Any, name: str) -> ClassNames:
    """Return the class names of a dataset; ``name``, such as 'training', describes it if their source is unknown."""
    return ClassNames(dataset.class_names, getattr(dataset, 'classes_from', None) or f'the {name} data')


def find_class_names(dataset: Mapping[str, Any], path: str) -> ClassNames:
    """Return the class names of a dataset in a config, without reading its list and without requiring its files.

    Args:
        dataset: the config of the dataset.
        path: its path in the config, such as ``test_dataloader.dataset``.
    """
    if 'datasets' in dataset:
        parts = [find_class_names(part, f'{path}.datasets.{i}') for i, part in enumerate(dataset['datasets'])]
        return next((part for part in parts if part.names is not None), ClassNames(None, path))
    names: list[str] | None = None
    origin = path
    has_class_folders = dataset['type'] in ('VideoDataset', 'RawFramesDataset') and dataset.get('list_file') is None
    with suppress(OSError):  # the data may be on another machine
        if dataset.get('class_file') is not None:
            origin = dataset['class_file']
            names = read_class_names(origin)
        elif has_class_folders and dataset.get('data_root') is not None:
            origin = dataset['data_root']
            with suppress(ValueError):  # an empty mount point
                names = list_class_folders(origin)
    if names is not None and dataset.get('classes') is not None:
        names = choose_class_names(names, dataset['classes'])
    return ClassNames(names, origin)


def find_num_classes(config: Mapping[str, Any], sections: Iterable[str]) -> ClassCount:
    """Find the number of classes of the data of a config.

    Args:
        config: a resolved config.
        sections: sections with a ``dataset``; missing ones are skipped.

    Returns:
        The number of names in a class file, of class folders or of ``classes``. If there are only list files: the
        largest label + 1.
    """
    datasets = {f'{section}.dataset': config[section]['dataset'] for section in sections if section in config}
    named = [names for path, one in datasets.items() if (names := find_class_names(one, path)).names is not None]
    for other in named[1:]:
        check_same_class_names(named[0], other)
    counts = [count for path, one in datasets.items() for count in _count_classes(one, path)]
    complete = [count for count in counts if count.is_complete]
    for count in complete:
        if count.number != complete[0].number:
            raise ValueError(
                f'{complete[0].origin} has {complete[0].number} classes, but {count.origin} has {count.number}'
            )
    if not counts:
        raise ValueError('no dataset in the config defines the number of classes; set num_classes')
    return complete[0] if complete else max(counts)


def _count_classes(dataset: Mapping[str, Any], path: str) -> list[ClassCount]:
    if 'datasets' in dataset:
        parts = enumerate(dataset['datasets'])
        return [count for i, part in parts for count in _count_classes(part, f'{path}.datasets.{i}')]
    if dataset.get('classes') is not None:
        return [ClassCount(len(dataset['classes']), f'{path}.classes', True)]
    if dataset.get('class_file') is not None:
        return [ClassCount(len(read_class_names(dataset['class_file'])), dataset['class_file'], True)]
    if dataset.get('list_file') is not None:
        # The label is the last field of a line, with and without a number of frames.
        records = parse_list_file(dataset['list_file'])
        return [ClassCount(1 + int(records.labels.max()), dataset['list_file'], False)]
    if dataset.get('data_root') is not None:
        return [ClassCount(len(list_class_folders(dataset['data_root'])), dataset['data_root'], True)]
    raise ValueError(f'{path} ({dataset["type"]}) does not define the number of classes; set num_classes')
