"""Whether a run can go on from a checkpoint, and how it will differ from the one that wrote it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from codes.config import find_differences
from codes.engine.checkpoint import describe_difference

_NEEDED: dict[str, type | tuple[type, ...]] = {
    'state_dict': Mapping,
    'optimizer': Mapping,
    'scaler': Mapping,
    'epoch': int,
    'validated': bool,
    'best': (Mapping, type(None)),
    'iterations_per_epoch': int,
    'config': Mapping,
}

# Sections that decide how a training goes.
_SECTIONS = ('model', 'train_dataloader', 'optimizer', 'parameters', 'schedule', 'train_cfg', 'runtime')


def check_is_of_a_run(file: Path, content: Mapping[str, Any]) -> None:
    """Refuse a checkpoint that holds no run.

    Raises:
        ValueError: what it lacks, or what is no such thing.
    """
    if lacking := [key for key in _NEEDED if key not in content]:
        raise ValueError(
            f'{file} holds weights, but not a run to resume (no {", ".join(lacking)}); '
            'use --load-from to start from weights'
        )
    wrong = [key for key, kind in _NEEDED.items() if not isinstance(content[key], kind)]
    wrong += [key for key in ('epoch', 'iteration') if content.get(key, 0) < 0] if not wrong else []
    if wrong or content['iterations_per_epoch'] < 1:
        names = ', '.join(f'{key}={str(content[key])[:40]!r}' for key in wrong or ['iterations_per_epoch'])
        raise ValueError(f'{file} is no checkpoint of a run: {names} cannot be')


def find_changes(
    content: Mapping[str, Any], config: Mapping[str, Any], iterations_per_epoch: int, world_size: int
) -> list[str]:
    """Name everything because of which a resumed run cannot end as the interrupted one would have.

    Args:
        content: the checkpoint.
        config: of the run now.
        iterations_per_epoch, world_size: of the run now.

    Returns:
        Texts such as ``optimizer.lr was 0.1 and is 0.2``.
    """
    numbers = {'iterations_per_epoch': iterations_per_epoch, 'world_size': world_size}
    changes = find_differences({name: content.get(name) for name in numbers}, numbers)
    for section in _SECTIONS:
        changes |= find_differences(content['config'].get(section, {}), config.get(section, {}), section)
    return list(changes.values())


def describe_misfit(
    content: Mapping[str, Any], target: Mapping[str, Tensor], changes: Sequence[str], error: Exception
) -> str:
    """Say why a checkpoint does not fit, without torch's own many lines: its weights, then its config.

    Args:
        content: the checkpoint.
        target: state dict of the model that it does not fit.
        changes: from :func:`find_changes`.
        error: what loading it raised; told where the weights do not differ.
    """
    source = content['state_dict']
    is_state = isinstance(source, Mapping) and all(isinstance(value, Tensor) for value in source.values())
    weights = describe_difference(source, target) if is_state else ''
    told = [change for change in changes if change.startswith(('model.', 'optimizer.', 'parameters.'))]
    return '; '.join([weights or (str(error).strip() or type(error).__name__).splitlines()[0], *told[:4]])
