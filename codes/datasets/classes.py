"""How many classes data have, for configs that leave it open: from class files, class folders, or labels in lists."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dsanet.config.loading import load_config, refers_to
from dsanet.config.schema import LOADERS
from dsanet.datasets.annotation import list_class_folders, parse_list_file, read_class_names

LOGGER = logging.getLogger(__name__)


class ClassCount(NamedTuple):
    """A number of classes and where it comes from.

    Attributes:
        number: K.
        origin: what says so, such as the path of a class file.
        is_complete: whether the origin names every class; a list need not have a video of each.
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
    """Load a config; where it leaves ``num_classes`` open, set it.

    Args:
        config, options, imports: as for ``load_config``.
        sections: names of the sections whose data are counted; absent ones are skipped.
        num_classes: the number if it is known, so that no data are read; None to count.

    Raises:
        FileNotFoundError, KeyError, TypeError, ValueError: as ``load_config`` and :func:`find_num_classes`.
    """
    options, imports = list(options), list(imports)
    loaded = load_config(config, options, imports)
    if not _is_open(loaded):
        return loaded
    if num_classes is None:
        num_classes, origin, _ = find_num_classes(loaded, sections)
        LOGGER.info('num_classes=%d (%s)', num_classes, origin)
    if refers_to(config, 'num_classes'):
        loaded = load_config(config, [*options, f'num_classes={num_classes}'], imports)
    if _is_open(loaded):  # the head does not refer to the setting
        loaded = load_config(config, [*options, f'model.cls_head.num_classes={num_classes}'], imports)
    return loaded


def compare_class_names(
    names: Sequence[str] | None, origin: object, others: Sequence[str] | None, other_origin: object
) -> None:
    """Refuse data whose labels mean other classes than those of other data, or of a checkpoint.

    Args:
        names, others: names by label; None if they are not known, and then anything fits.
        origin, other_origin: where they are from, for the message.

    Raises:
        ValueError: names both origins and the first class that differs.
    """
    if names is None or others is None or list(names) == list(others):
        return
    if len(names) != len(others):
        raise ValueError(f'{origin} has {len(names)} classes, but {other_origin} has {len(others)}')
    label = next(k for k, (name, other) in enumerate(zip(names, others, strict=True)) if name != other)
    raise ValueError(f'class {label} is {names[label]!r} in {origin}, but {others[label]!r} in {other_origin}')


def _is_open(config: Mapping[str, Any]) -> bool:
    return config['model'].get('cls_head', {}).get('num_classes', 0) is None


def find_num_classes(config: Mapping[str, Any], sections: Iterable[str]) -> ClassCount:
    """Find the number of classes that the data of a config have.

    Args:
        config: a resolved config.
        sections: names of the sections with a ``dataset`` to look at; absent ones are skipped.

    Returns:
        The count of a class file, of class folders or of ``classes``; if there are lists only, the largest label
        plus 1.

    Raises:
        FileNotFoundError: a class file, list or folder is missing.
        ValueError: two origins contradict each other, or nothing shows the number; names both, or the dataset.
    """
    counts = [
        count
        for section in sections
        if section in config
        for count in _count(config[section]['dataset'], f'{section}.dataset')
    ]
    complete = [count for count in counts if count.is_complete]
    for count in complete:
        if count.number != complete[0].number:
            raise ValueError(
                f'{complete[0].origin} has {complete[0].number} classes, but {count.origin} has {count.number}'
            )
    if not counts:
        raise ValueError('no dataset in the config shows the number of classes: set num_classes')
    return complete[0] if complete else max(counts)


def _count(dataset: Mapping[str, Any], path: str) -> list[ClassCount]:
    if 'datasets' in dataset:
        parts = enumerate(dataset['datasets'])
        return [count for i, part in parts for count in _count(part, f'{path}.datasets.{i}')]
    if dataset.get('classes') is not None:
        return [ClassCount(len(dataset['classes']), f'{path}.classes', True)]
    if dataset.get('class_file') is not None:
        return [ClassCount(len(read_class_names(dataset['class_file'])), dataset['class_file'], True)]
    if dataset.get('list_file') is not None:
        # The label is the last field of a line, with and without a number of frames.
        records = parse_list_file(dataset['list_file'])
        return [ClassCount(1 + max(max(record.labels) for record in records), dataset['list_file'], False)]
    if dataset.get('data_root') is not None:
        return [ClassCount(len(list_class_folders(dataset['data_root'])), dataset['data_root'], True)]
    raise ValueError(f'{path} ({dataset["type"]}) does not show how many classes there are: set num_classes')
