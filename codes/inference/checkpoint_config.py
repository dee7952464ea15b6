"""Load the config for a checkpoint: the stored one, or another one with its differences logged."""

import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dsanet.config.imports import import_modules
from dsanet.config.loading import find_differences, load_config, parse_option
from dsanet.config.schema import SECTIONS
from dsanet.datasets.classes import load_config_with_classes
from dsanet.models.weights.loading import get_class_names
from dsanet.utils.class_names import ClassNames, check_same_class_names

LOGGER = logging.getLogger(__name__)

_MAX_SHOWN = 8
_SHARED_SECTIONS = ('imports', 'model', 'test_dataloader', 'metrics')


def config_for_checkpoint(
    file: str | Path,
    content: Mapping[str, Any],
    config: str | Path | Mapping[str, Any] | None = None,
    options: Iterable[str] = (),
    imports: Iterable[str] = (),
) -> dict[str, Any]:
    """Return the config for testing or predicting with a checkpoint.

    Differences between ``config`` and the stored config of the checkpoint are logged. If ``config`` does not set
    ``num_classes``, the number comes from the checkpoint, or is counted in the test data.

    Args:
        file: the checkpoint, for messages.
        content: from ``read_checkpoint``.
        config: a config file, the name of one, or a loaded config; None for the stored config.
        options, imports: as for ``load_config``.
    """
    trained_with = content.get('config')
    if not isinstance(trained_with, Mapping):
        trained_with = None
    if config is None:
        if trained_with is None:
            raise ValueError(f'{file} has no config; pass the config that it was trained with (--config)')
        return _load_stored_config(file, trained_with, options, imports)
    if isinstance(config, Mapping):
        loaded = load_config(config, options, imports)
    else:
        known = _num_classes(content, trained_with)
        loaded = load_config_with_classes(config, options, imports, ['test_dataloader'], known)
    if trained_with is not None:
        differences = list(find_differences(_test_settings(trained_with), _test_settings(loaded)).values())
        for text in differences[:_MAX_SHOWN]:
            LOGGER.info('Config differs from the checkpoint: %s. Using the given config', text)
        if len(differences) > _MAX_SHOWN:
            LOGGER.info('%d more config values differ from the checkpoint', len(differences) - _MAX_SHOWN)
    return loaded


def class_names_for_checkpoint(
    file: str | Path, content: Mapping[str, Any], num_classes: int, data: ClassNames
) -> list[str] | None:
    """Return the class names of a checkpoint, or of the data that it is used with; None if both are unknown.

    Args:
        file: the checkpoint, for messages.
        content: from ``read_checkpoint``.
        num_classes: K of the model.
        data: class names of the data or of its config.

    Raises:
        ValueError: their names differ, or their number is not ``num_classes``.
    """
    trained = ClassNames(get_class_names(content), str(file))
    check_same_class_names(trained, data)
    known = data if trained.names is None else trained
    if known.names is None:
        return None
    if len(known.names) != num_classes:
        raise ValueError(f'{known.origin} has {len(known.names)} class names, but the model has {num_classes} classes')
    return list(known.names)


def config_to_share(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a stored config that testing and predicting need, without folders of this machine.

    Absolute paths are reduced to their last component, and ``pretrained`` is dropped, because the weights replace it.
    """
    shared = {name: _without_folders(config[name]) for name in _SHARED_SECTIONS if name in config}
    backbone = shared.get('model', {}).get('backbone', {})
    if 'pretrained' in backbone:
        backbone['pretrained'] = None
    return shared


def _without_folders(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_folders(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_without_folders(item) for item in value)
    return os.path.basename(value.rstrip('/')) if isinstance(value, str) and value.startswith(('/', '~')) else value


def _load_stored_config(
    file: str | Path, config: Mapping[str, Any], options: Iterable[str], imports: Iterable[str]
) -> dict[str, Any]:
    """Load the stored config of a checkpoint; errors name the checkpoint."""
    options, imports = list(options), list(imports)
    try:
        import_modules(config.get('imports', []))
    except ValueError as error:
        raise ValueError(f'{file} was trained with custom modules: {error}') from error
    import_modules(imports)
    for option in options:
        key = parse_option(option)[0]
        if len(key) == 1 and key[0] not in SECTIONS:
            raise KeyError(
                f'override {key[0]}: the settings in the stored config of {file} are already resolved; use full '
                'key paths, such as test_dataloader.dataset.data_root, or pass the config file with the checkpoint'
            )
    return load_config(config, options, imports)


def _test_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts of a config that determine the results of a test, which class weights of the loss do not."""
    model = config.get('model')
    head = model.get('cls_head') if isinstance(model, Mapping) else None
    loss = head.get('loss') if isinstance(head, Mapping) else None
    if isinstance(model, Mapping) and isinstance(head, Mapping) and isinstance(loss, Mapping):
        loss = {key: value for key, value in loss.items() if key != 'class_weights'}
        model = {**model, 'cls_head': {**head, 'loss': loss}}
    return {
        'model': model,
        'test_dataloader': {'dataset': config.get('test_dataloader', {}).get('dataset')},
        'metrics': config.get('metrics'),
    }


def _num_classes(content: Mapping[str, Any], config: Mapping[str, Any] | None) -> int | None:
    """Return the number of classes of a checkpoint from its config or class names, or None."""
    if config is not None:
        number: Any = config
        for key in ('model', 'cls_head', 'num_classes'):
            number = number.get(key) if isinstance(number, Mapping) else None
        return number if isinstance(number, int) else None
    names = get_class_names(content)
    return None if names is None else len(names)
