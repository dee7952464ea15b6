"""Weights into a model: our own, and those of other projects, whose layout is recognized by their keys."""

import logging
import re
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dsanet.config.registry import MODELS
from dsanet.models.weights.layouts import BACKBONE, HEAD, Layout, find_layout, strip_wrappers
from dsanet.utils.checkpoint_io import read_checkpoint

LOGGER = logging.getLogger(__name__)


def describe_difference(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> str:
    """Say in words how two state dicts differ: keys that are missing, keys that are unexpected, other shapes."""
    shapes = [
        f'{key} has shape {tuple(source[key].shape)} instead of {tuple(target[key].shape)}'
        for key in target
        if key in source and source[key].shape != target[key].shape
    ]
    missing, unexpected = ([k for k in one if k not in other] for one, other in ((target, source), (source, target)))
    parts = [
        f'{len(keys)} keys {what} ({_few(keys)})'
        for what, keys in (('missing', missing), ('unexpected', unexpected))
        if keys
    ]
    return '; '.join([*parts, _few(shapes)] if shapes else parts)


def _few(texts: list[str]) -> str:
    return ', '.join(texts[:4]) + (', ...' if len(texts) > 4 else '')


def find_state_dict(content: Mapping[str, Any]) -> tuple[dict[str, Tensor], bool]:
    """Find the weights in a checkpoint: under ``state_dict``, ``model`` or ``model_state``, or the whole of it.

    Averaged weights (``ema_state_dict``) go before ``state_dict``: they are what such a run was validated with.
    mmengine uses that name for the weights that are *not* averaged; there the keys are others, and it is passed over.

    Returns:
        The weights, and whether they are averaged ones.

    Raises:
        ValueError: there are none.
    """
    is_average = False
    for key in ('state_dict', 'model', 'model_state'):
        if isinstance(content.get(key), Mapping):
            plain, average = content[key], content.get('ema_state_dict')
            is_average = isinstance(average, Mapping) and plain.keys() <= average.keys()
            content = average if isinstance(average, Mapping) and is_average else plain
            break
    state = {k: v for k, v in content.items() if isinstance(v, Tensor)}
    if not state:
        raise ValueError(f'no weights among the keys {", ".join(map(repr, list(content)[:5]))}')
    return state, is_average


@dataclass(frozen=True)
class Weights:
    """The weights of a file, under our keys.

    Attributes:
        state: keys of a recognizer, ``backbone.*`` and ``cls_head.*``; others have no place in our models.
        layout: the layout that they were found in.
        is_average: whether they are averaged ones (EMA).
        class_names: names by class number, if the file has any.
        strides: temporal strides of the network that they come from, by our option; empty if they cannot be told.
    """

    state: dict[str, Tensor]
    layout: Layout
    is_average: bool
    class_names: list[str] | None
    strides: Mapping[str, int] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        """Layout, kind and what the network expects, in words."""
        average = ', averaged weights (EMA)' if self.is_average else ''
        expects = f'; trained with data_preprocessor {self.layout.expects}' if self.layout.expects else ''
        return f'layout: {self.layout.name}{average}{expects}'


def read_weights(
    file: str | Path,
    target: Set[str] = frozenset(),
    allow_pickle: bool = False,
    content: Mapping[str, Any] | None = None,
) -> Weights:
    """Read the weights of a file of any layout that we know.

    Args:
        file: a checkpoint.
        target: keys of the model that they are for, which decide where a network exists here twice.
        allow_pickle: as for :func:`read_checkpoint`.
        content: of the file, if it has been read already.

    Raises:
        FileNotFoundError, ValueError: as :func:`read_checkpoint`; there are no weights, or those of a network that we
            do not build.
    """
    content = read_checkpoint(file, allow_pickle) if content is None else content
    try:
        found, is_average = find_state_dict(content)
        found = strip_wrappers(found)
        layout = find_layout(found)
        state = layout.translate(found, target)
        strides = layout.find_strides(found) if layout.find_strides is not None else {}
    except ValueError as error:
        raise ValueError(f'{file}: {error}') from error
    return Weights(state, layout, is_average, class_names_of(content), strides)


def class_names_of(content: Mapping[str, Any]) -> list[str] | None:
    """Return the class names of a checkpoint by class number; None if it has none, or something else under that key."""
    names = content.get('class_names')
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def inflate(weight: Tensor, length: int) -> Tensor:
    """Make a 3D filter from a 2D one: repeat in time, divide by the length (arXiv 1705.07750, section 2.1).

    Args:
        weight: (out, in, height, width).
        length: kernel length in frames.

    Returns:
        (out, in, length, height, width); on a clip of equal frames it answers as the 2D filter does.
    """
    return weight.unsqueeze(2).repeat(1, 1, length, 1, 1) / length


@dataclass
class LoadReport:
    """What loading weights did, as lists of keys."""

    matched: list[str] = field(default_factory=list)
    inflated: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    reinitialized: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        parts = [f'{len(self.matched)} matched ({len(self.inflated)} of them inflated from 2D)']
        for name in ('missing', 'unexpected', 'reinitialized'):
            keys = getattr(self, name)
            parts.append(f'{len(keys)} {name}' + (f' ({_few(keys)})' if keys else ''))
        return ', '.join(parts)


def match_state_dict(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], LoadReport]:
    """Find the weights that fit a model, inflating flat filters.

    Args:
        source: weights under the keys of a recognizer.
        target: the state dict of a recognizer or of a backbone.

    Returns:
        What goes into the model, and a report.

    Raises:
        ValueError: a weight outside of the classifier has another shape, nothing of the backbone fits, or its first
            filter is not there: then it is another network, whatever else has the same name.
    """
    if not any(key.startswith(BACKBONE) for key in target):
        source = {key.removeprefix(BACKBONE): value for key, value in source.items()}
    report = LoadReport(unexpected=[key for key in source if key not in target])
    loaded = {}
    # A classifier of another size is the usual case of fine-tuning; any other difference in shape is a mistake. A bias
    # that would fit starts fresh with its weight.
    fresh = {
        key.rpartition('.')[0]
        for key, value in source.items()
        if key.startswith(HEAD) and key in target and value.shape != target[key].shape
    }
    for key, current in target.items():
        if key not in source:
            # Files from before PyTorch 0.4.1 do not count batches; only the average without momentum reads it.
            if not key.endswith('num_batches_tracked'):
                report.missing.append(key)
            continue
        if key.rpartition('.')[0] in fresh:
            report.reinitialized.append(key)
            continue
        value = source[key]
        if value.dim() == 4 and current.dim() == 5:
            value = inflate(value, current.shape[2])
            report.inflated.append(key)
        if value.shape != current.shape:
            raise ValueError(f'{key} has shape {tuple(value.shape)}, the model needs {tuple(current.shape)}')
        loaded[key] = value
        report.matched.append(key)
    if all(key.startswith(HEAD) for key in report.matched):
        what = 'only the classifier' if report.matched else f'none of its {len(source)} weights'
        shown = [[key for key in keys if not key.startswith(HEAD)][:3] for keys in (source, target)]
        raise ValueError(
            f'{what} fits the model; it has {", ".join(shown[0])}, ..., the model has {", ".join(shown[1])}, ...'
        )
    first = next((key for key, value in target.items() if value.dim() >= 4 and not key.startswith(HEAD)), None)
    if first in report.missing:
        raise ValueError(f'{len(report.matched)} weights fit, but not the first filter, {first}: it is another network')
    return loaded, report


def load_weights(
    model: nn.Module,
    file: str | Path,
    strict: bool = False,
    allow_pickle: bool = False,
    content: Mapping[str, Any] | None = None,
) -> LoadReport:
    """Load weights of any layout that ``layouts`` lists into a model.

    Args:
        model: a recognizer or a backbone; a recognizer also takes a file that holds a backbone alone.
        file: a checkpoint; averaged weights in it go before the others.
        strict: refuse missing, unexpected and reinitialized weights: for testing, where every weight counts.
        allow_pickle: as for :func:`read_checkpoint`.
        content: of the file, if it has been read already.

    Returns:
        What happened, which is also logged in one line.

    Raises:
        FileNotFoundError, ValueError: as :func:`read_weights`; no weight of the backbone matched; a weight has another
            shape (but for the classifier, which keeps its fresh values and is reported); with ``strict``, any
            difference.
    """
    target = model.state_dict()
    weights = read_weights(file, target.keys(), allow_pickle, content)
    try:
        loaded, report = match_state_dict(weights.state, target)
    except ValueError as error:
        raise ValueError(f'{file}: {error} ({weights.origin})') from error
    if strict and (report.missing or report.unexpected or report.reinitialized):
        sizes = ''.join(
            f'; {key} is {tuple(weights.state[key].shape)} there, {tuple(target[key].shape)} in the model'
            for key in report.reinitialized[:1]
        )
        hint = ': is num_classes of the config the one it was trained with?' if sizes else ''
        raise ValueError(f'{file} does not fit the model: {report}{sizes}{hint} ({weights.origin})')
    model.load_state_dict(loaded, strict=False)
    LOGGER.info('weights from %s: %s (%s)', file, report, weights.origin)
    random = [key for key in report.missing if not key.startswith(HEAD) and not _is_of_inserted_module(key)]
    if random:
        LOGGER.warning('%d weights of the network itself keep their random start, %s first', len(random), random[0])
    module = weights.layout.module
    if module and not any(type(part).__name__ == module for part in model.modules()):
        LOGGER.warning('the network of %s has a %s, this one has none', file, module)
    for text in check_input_assumptions(model, weights):
        LOGGER.warning('%s: %s', file, text)
    return report


def check_input_assumptions(model: nn.Module, weights: Weights) -> list[str]:
    """Say where a model treats its input otherwise than the network that weights of another layout come from.

    No shape of a weight shows it: such a model loads without a word, and answers badly.

    Args:
        model: a recognizer or a backbone; only the former can tell its normalization.
        weights: from :func:`read_weights`.
    """
    texts = []
    expected, preprocessor = weights.layout.expects, getattr(model, 'data_preprocessor', None)
    if expected is not None and preprocessor is not None:
        has = torch.stack([preprocessor.mean.cpu(), 1 / preprocessor.scale.cpu()])
        if not torch.allclose(has, torch.tensor(expected), atol=0.1):
            mean, std = (tuple(round(v, 3) for v in row) for row in has.tolist())
            texts.append(f'trained with data_preprocessor {expected}, this model has {mean=}, {std=}')
    backbone = getattr(model, 'backbone', model)
    options = {'conv1_stride_t': 'conv1', 'pool1_stride_t': 'maxpool', 'pool2_stride_t': 'pool2'}
    for option, wanted in weights.strides.items():
        stride = getattr(getattr(backbone, options[option], None), 'stride', (1, 1, 1))
        if len(stride) == 3 and stride[0] != wanted:
            texts.append(f'its network has backbone.{option}={wanted}, this one {stride[0]}')
    return texts


def _is_of_inserted_module(key: str) -> bool:
    """Say whether a weight belongs to a module that ``block_maker`` put in: it is called after its class."""
    modules = {name.lower() for name in MODELS.module_dict}
    return any(re.sub(r'_(\d+|after_\w+)$', '', part) in modules for part in key.split('.'))
