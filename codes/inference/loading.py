"""What it takes to use a checkpoint: its config, or another one and how that differs."""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dsanet.config.imports import import_modules
from dsanet.config.loading import find_differences, load_config, parse_option
from dsanet.config.schema import SECTIONS
from dsanet.datasets.classes import load_config_with_classes
from dsanet.models.weights.loading import class_names_of

LOGGER = logging.getLogger(__name__)

_MOST_SHOWN = 8


def config_for_checkpoint(
    file: str | Path,
    content: Mapping[str, Any],
    config: str | Path | Mapping[str, Any] | None = None,
    options: Iterable[str] = (),
    imports: Iterable[str] = (),
) -> dict[str, Any]:
    """Return the config to test or predict with.

    Where a given config differs from the one that the checkpoint was trained with, the differences are logged. If it
    leaves ``num_classes`` open, the number is that of the checkpoint, or is counted in the test data.

    Args:
        file: the checkpoint, for messages.
        content: from ``read_checkpoint``.
        config: a config file, the name of one, or a loaded config; None for the config that the checkpoint holds.
        options, imports: as for ``load_config``.

    Raises:
        FileNotFoundError, KeyError, TypeError, ValueError: as ``load_config``; or there is no config.
    """
    trained_with = content.get('config')
    if not isinstance(trained_with, Mapping):
        trained_with = None
    if config is None:
        if trained_with is None:
            raise ValueError(f'{file} holds weights without a config: give the config that they belong to')
        return _load_held_config(file, trained_with, options, imports)
    if isinstance(config, Mapping):
        loaded = load_config(config, options, imports)
    else:
        known = _num_classes(content, trained_with)
        loaded = load_config_with_classes(config, options, imports, ['test_dataloader'], known)
    if trained_with is not None:
        differences = list(find_differences(_what_decides(trained_with), _what_decides(loaded)).values())
        for text in differences[:_MOST_SHOWN]:
            LOGGER.info('config differs from that of the checkpoint: %s', text)
        if len(differences) > _MOST_SHOWN:
            LOGGER.info('config differs from that of the checkpoint in %d more places', len(differences) - _MOST_SHOWN)
    return loaded


def _load_held_config(
    file: str | Path, config: Mapping[str, Any], options: Iterable[str], imports: Iterable[str]
) -> dict[str, Any]:
    """Load the config that a checkpoint holds, with errors that say whose it is."""
    options, imports = list(options), list(imports)
    try:
        import_modules([*config.get('imports', []), *imports])
    except ValueError as error:
        raise ValueError(f'{file} was trained with parts from outside: {error}') from error
    for option in options:
        key = parse_option(option)[0]
        if len(key) == 1 and key[0] not in SECTIONS:
            raise KeyError(
                f'override {key[0]}: the config that {file} holds has no settings any more; override the places, such '
                'as test_dataloader.dataset.data_root, or give the config beside the checkpoint'
            )
    return load_config(config, options, imports)


def _what_decides(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts of a config that the results of a test depend on."""
    return {
        'model': config.get('model'),
        'test_dataloader': {'dataset': config.get('test_dataloader', {}).get('dataset')},
        'metrics': config.get('metrics'),
    }


def _num_classes(content: Mapping[str, Any], config: Mapping[str, Any] | None) -> int | None:
    """Return the number of classes of a checkpoint, as far as it holds more than weights."""
    if config is not None:
        return config['model'].get('cls_head', {}).get('num_classes')
    names = class_names_of(content)
    return None if names is None else len(names)
