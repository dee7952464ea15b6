"""Find the weights in a checkpoint, and remove the prefixes that wrappers have added to their keys."""

import logging
import re
from collections.abc import Iterator, Mapping, Set
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dsanet.models.weights.layouts import BACKBONE, UNKNOWN, Layout, State, find_layout

LOGGER = logging.getLogger(__name__)

# In this order, because a checkpoint may also hold a second network, such as that of a loss.
_NAMES = (
    *('state_dict', 'model', 'model_state', 'model_state_dict', 'module', 'net', 'network', 'weights', 'params'),
    'encoder',  # of V-JEPA 2, besides its predictor
)
_AVERAGE = re.compile(r'(^|[._])(ema|swa|avg|averaged?|shadow|target_encoder)([._]|$)')
_OTHER = re.compile(r'optim|sched|scaler|rng|random|criterion|loss')
_MAX_DEPTH = 3  # of weights inside other dicts


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

    Averaged weights are preferred, because runs are validated with them; if they or other weights of the same network
    are not used, a warning names them. With ``steps`` among them, they are of mmengine, which swaps the two dicts:
    the others are averaged.

    Raises:
        ValueError: there are no weights, or several dicts of weights, none of which has a usual name.
    """
    found = dict(_find_dicts(content))
    averages = {name: state for name, state in found.items() if _AVERAGE.search(name.lower())}
    depth = min((name.count('.') for name in found), default=0)
    outer = [name for name in found if name.count('.') == depth]
    choices = [name for name in outer if name not in averages] or outer
    if not choices:
        keys = ', '.join(map(repr, list(content)[:5]))
        raise ValueError(f'no weights found; {f"its keys are {keys}" if keys else "it is empty"}')
    usual = (name for end in _NAMES for name in choices if name.rpartition('.')[2] == end)
    name = next(usual, '' if '' in choices else None)
    if name is None and len(choices) > 1:
        raise ValueError(
            f'several dicts of weights: {", ".join(map(repr, choices))}; save the one to load with torch.save'
        )
    name = choices[0] if name is None else name
    chosen = FoundWeights(strip_wrappers(found[name]), name, name in averages)
    for key, state in averages.items():
        if key != name and 'steps' not in state and chosen.state.keys() <= (average := strip_wrappers(state)).keys():
            chosen = FoundWeights(average, key, True)
            break
    for key, state in found.items():
        unused = key not in (name, chosen.name)
        if unused and key in averages and 'steps' in state:
            continue
        # Another network, such as a teacher, may have the same keys.
        if unused and (
            key in averages or (not chosen.is_average and chosen.state.keys() <= strip_wrappers(state).keys())
        ):
            LOGGER.warning('Using the weights %r; %r is not used', chosen.name, key)
    for key in content:
        if _AVERAGE.search(str(key).lower()) and isinstance(content[key], list | tuple):
            LOGGER.warning('Using the weights %r; %r is not used, because it has no names', chosen.name, key)
    return chosen


def _find_dicts(
    content: Mapping[str, Any], prefix: str = '', depth: int = 0
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield the name and the tensors of each dict that may be weights; nested names are joined by dots."""
    inner = {
        f'{prefix}{key}': value
        for key, value in content.items()
        if isinstance(value, Mapping) and not _OTHER.search(str(key).lower())
    }
    sizes = [len(_tensors(value)) for value in inner.values()]
    if depth == 0 and len(_tensors(content)) > max(sizes, default=0):
        yield '', _tensors(content)
    for name, value in inner.items():
        if state := _tensors(value):
            yield name, state
        if depth < _MAX_DEPTH:
            yield from _find_dicts(value, f'{name}.', depth + 1)


def _tensors(value: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Return the tensors of a dict; empty if there are none."""
    return {key: item for key, item in value.items() if isinstance(key, str) and isinstance(item, Tensor)}


def strip_prefix(state: dict[str, Tensor], target: Set[str]) -> tuple[dict[str, Tensor], Layout]:
    """Strip the prefix of the model, such as Lightning's ``model.``, if the rest fits better.

    If not all keys have the prefix, the others belong to something else, such as a loss; they are logged and removed.

    Args:
        state: the weights.
        target: keys of the model to load into; empty if unknown: then the rest must have a known layout.

    Returns:
        The weights and their layout.

    Raises:
        ValueError: two prefixes fit equally well, and it is not one that marks averaged weights.
    """
    options = [state]
    while len(prefixes := {key.partition('.')[0] for key in options[-1]}) == 1 and all('.' in k for k in options[-1]):
        options.append({key.partition('.')[2]: value for key, value in options[-1].items()})
    layouts = [find_layout(option) for option in options]
    fits = [(_count(*pair, target), pair[1] is not UNKNOWN) for pair in zip(options, layouts, strict=True)]
    best = fits.index(max(fits))
    if fits[best][0] or not target:
        return options[best], layouts[best]
    parts = {
        prefix: {k.removeprefix(f'{prefix}.'): v for k, v in options[-1].items() if k.startswith(f'{prefix}.')}
        for prefix in sorted(prefixes)
    }
    counts = {prefix: _count(part, find_layout(part), target) for prefix, part in parts.items()}
    fitting = [prefix for prefix, count in counts.items() if count and count == max(counts.values())]
    fitting = [prefix for prefix in fitting if _AVERAGE.search(prefix.lower())] or fitting
    if len(fitting) > 1:
        raise ValueError(f'several networks fit the model: {", ".join(fitting)}; save the one to load with torch.save')
    if not fitting:
        return options[best], layouts[best]
    chosen = parts[fitting[0]]
    LOGGER.warning('Using the weights %r; not using %d others', f'{fitting[0]}.*', len(options[-1]) - len(chosen))
    return chosen, find_layout(chosen)


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
