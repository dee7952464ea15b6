"""What a shared model keeps of its training run: the names of the data, and the epoch and metrics of its weights."""

import os
from collections.abc import Mapping
from typing import Any

KEY = 'run'
_LOADERS = {'train_data': 'train_dataloader', 'val_data': 'val_dataloader'}


def find_run_facts(checkpoint: Mapping[str, Any], with_metrics: bool = True) -> dict[str, Any]:
    """Return the facts of a checkpoint of a run, or those in a shared file.

    Args:
        checkpoint: from ``read_checkpoint``. The facts in a shared file have the key 'run'.
        with_metrics: False for weights that differ from the validated ones, such as those in half precision.

    Returns:
        ``train_data`` and ``val_data``, names without folders; ``epoch`` and ``metrics`` of the validation of these
        weights. Unknown facts are left out.
    """
    stored = checkpoint.get(KEY)
    if isinstance(stored, Mapping):
        names = {key: stored[key] for key in _LOADERS if isinstance(stored.get(key), str)}
        epoch, found = stored.get('epoch'), stored.get('metrics')
    else:
        names = {key: _data_names(checkpoint, loader) for key, loader in _LOADERS.items()}
        epoch, found = checkpoint.get('epoch'), checkpoint.get('best')
        # The best validation may be that of earlier weights.
        if isinstance(found, Mapping) and (found.get('epoch') != epoch or checkpoint.get('iteration')):
            found = None
    facts: dict[str, Any] = {key: name for key, name in names.items() if name}
    metrics = _numbers(found)
    if metrics and isinstance(epoch, int) and with_metrics:
        facts |= {'epoch': epoch, 'metrics': metrics}
    return facts


def _numbers(found: Any) -> dict[str, float]:
    if not isinstance(found, Mapping):
        return {}
    return {str(key): float(value) for key, value in found.items() if key != 'epoch' and isinstance(value, int | float)}


def _data_names(checkpoint: Mapping[str, Any], loader: str) -> str:
    """Return the names of the datasets of a loader in the config of a run; empty if unknown."""
    config: Any = checkpoint.get('config')
    for key in (loader, 'dataset'):
        config = config.get(key) if isinstance(config, Mapping) else None
    if not isinstance(config, Mapping):
        return ''
    names = []
    for part in config.get('datasets', [config]):
        root, file = (path if isinstance(path := part.get(key), str) else '' for key in ('data_root', 'list_file'))
        # data_root may be a folder of videos next to the list.
        folder = os.path.dirname(file) or root.rstrip('/')
        name = '/'.join(filter(None, (os.path.basename(folder), os.path.basename(file))))
        names += [name] if name else []
    return ', '.join(names)
