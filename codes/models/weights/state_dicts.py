"""Find the weights in a checkpoint, and remove the prefixes that wrappers have added to their keys."""

import logging
import re
from collections.abc import Mapping, Set
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dsanet.models.weights.layouts import BACKBONE, UNKNOWN, Layout, State, find_layout

LOGGER = logging.getLogger(__name__)

# In this order, because a checkpoint may also hold a second network, such as that of a loss.
_NAMES = ('state_dict', 'model', 'model_state', 'model_state_dict', 'module', 'net', 'network', 'weights', 'params')
_OUR_AVERAGE = 'ema_state_dict'
_AVERAGE = re.compile(r'(^|_)(ema|swa|avg|averaged?)(_|$)')
_OTHER = re.compile(r'optim|sched|scaler|rng|random|criterion|loss')


class FoundWeights(NamedTuple):
    """The weights of a checkpoint.

    Attributes:
        state: the weights, without the prefixes of wrappers.
        name: their key in the checkpoint; empty if the file has nothing else.
        is_average: whether they are averaged.
    """

    state: dict[str, Tensor]
    name: str
    is_average: bool


def strip_wrappers(state: State) -> dict[str, Tensor]:
    """Remove what DistributedDataParallel, ``torch.compile`` and ``AveragedModel`` add to the keys."""
    return {
        key.removeprefix('module.').replace('_orig_mod.', ''): value
        for key, value in state.items()
        if key != 'n_averaged'
    }


def find_state_dict(content: Mapping[str, Any]) -> FoundWeights:
    """Find the weights in a checkpoint: under a usual name, as the only dict of tensors, or the whole content.

    Averaged weights are preferred, because runs are validated with them. Under the name ``ema_state_dict`` mmengine
    saves weights that are *not* averaged, with other keys; these are ignored.

    Raises:
        ValueError: there are no weights, or several dicts of weights, none of which has a usual name.
    """
    averages, others = {}, {}
    for key, value in content.items():
        if state := _tensors(value):
            if _AVERAGE.search(str(key).lower()):
                averages[key] = state
            elif not _OTHER.search(str(key).lower()):
                others[key] = state
    whole = _tensors(content)
    name = next((name for name in _NAMES if name in others), None)
    if name is None and len(whole) > max(map(len, others.values()), default=0):
        name, others[''] = '', whole
    choices = others or averages
    if not choices:
        return _find_nested(content)
    if name is None and len(choices) > 1:
        raise ValueError(
            f'several dicts of weights: {", ".join(map(repr, choices))}; save the one to load with torch.save'
        )
    name = next(iter(choices)) if name is None else name
    found = FoundWeights(strip_wrappers(choices[name]), name, name in averages)
    for key, state in averages.items():
        average = strip_wrappers(state)
        is_ours = key == _OUR_AVERAGE
        if choices[name].keys() <= state.keys() if is_ours else found.state.keys() <= average.keys():
            return FoundWeights(average, key, True)
        if not is_ours:
            LOGGER.warning('Using the weights %r, because the averaged weights %r have different keys', name, key)
    return found


def _tensors(value: Any) -> dict[str, Tensor]:
    """Return the tensors of a dict; empty if there are none."""
    items = value.items() if isinstance(value, Mapping) else ()
    return {key: item for key, item in items if isinstance(key, str) and isinstance(item, Tensor)}


def _find_nested(content: Mapping[str, Any]) -> FoundWeights:
    """Find the weights two levels down."""
    nested = [
        key
        for key, value in content.items()
        if isinstance(value, Mapping) and any(map(_tensors, value.values())) and not _OTHER.search(str(key).lower())
    ]
    if len(nested) != 1:
        raise ValueError(f'no weights found, keys: {", ".join(map(repr, list(content)[:5]))}')
    found = find_state_dict(content[nested[0]])
    return found._replace(name=f'{nested[0]}.{found.name}')


def strip_prefix(state: dict[str, Tensor], target: Set[str]) -> tuple[dict[str, Tensor], Layout]:
    """Strip the prefix that all keys share, such as Lightning's ``model.``, if the rest fits better.

    Args:
        state: the weights.
        target: keys of the model to load into; empty if unknown: then the rest must have a known layout.

    Returns:
        The weights and their layout.
    """
    options = [state]
    while len({key.partition('.')[0] for key in options[-1]}) == 1 and all('.' in key for key in options[-1]):
        options.append({key.partition('.')[2]: value for key, value in options[-1].items()})
    layouts = [find_layout(option) for option in options]
    fits = [(_count(*pair, target), pair[1] is not UNKNOWN) for pair in zip(options, layouts, strict=True)]
    best = fits.index(max(fits))
    return options[best], layouts[best]


def to_half(state: State) -> dict[str, Tensor]:
    """Return weights in float16, and integers as they are.

    Raises:
        ValueError: a weight is too large for float16.
    """
    half = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    for key, value in half.items():
        if value.is_floating_point() and not torch.equal(value.isfinite(), state[key].isfinite()):
            raise ValueError(f'{key} has a value of {state[key].abs().max():g}; float16 stores values up to 65504')
    return half


def _count(state: dict[str, Tensor], layout: Layout, target: Set[str]) -> int:
    """Return how many weights have a name of the model."""
    try:
        keys = layout.translate(state, target).keys() if target else set()
    except ValueError:  # a network that is not supported
        return 0
    return len((keys | {key.removeprefix(BACKBONE) for key in keys}) & target)
