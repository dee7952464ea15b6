"""Weights of timm's image networks, for the backbone ``TimmFrames``.

timm has hundreds of networks, so their keys do not say which one it is: a file is timm's if most of its keys are keys
of the network in the model.
"""

from collections.abc import Mapping, Set

from torch import Tensor

_PREFIX = 'backbone.net.'


def is_for_timm_frames(state: Mapping[str, Tensor], target: Set[str]) -> bool:
    """Return whether weights, without a ``backbone.`` prefix, are of the network in ``TimmFrames``.

    Args:
        state: the weights.
        target: keys of the model to load into; networks for clips, with 3D filters, also have names after ``net.``.
    """
    if not target or any(value.dim() == 5 for value in state.values()):
        return False
    found = sum(f'net.{key}' in target or f'{_PREFIX}{key}' in target for key in state)
    return 2 * found > len(state)


def from_timm(state: Mapping[str, Tensor], target: Set[str]) -> dict[str, Tensor]:
    """Translate timm's keys; a classifier, which the model does not have, keeps its name."""
    names = {key: key.removeprefix('backbone.') for key in state}
    return {
        _PREFIX + name if f'net.{name}' in target or _PREFIX + name in target else key: state[key]
        for key, name in names.items()
    }
