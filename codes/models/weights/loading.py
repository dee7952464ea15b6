"""Load weights into a model: our own, or those of other projects, whose layout is recognized by their keys."""

import logging
import re
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dsanet.config.registry import MODELS
from dsanet.models.modules_maker.block_maker import is_insertable
from dsanet.models.weights.layouts import TIMM, Layout, Normalization
from dsanet.models.weights.renaming import BACKBONE, HEAD
from dsanet.models.weights.state_dicts import find_state_dict, strip_prefix
from dsanet.models.weights.vision_transformers import check_config_of_transformers
from dsanet.utils.checkpoint_io import read_checkpoint
from dsanet.utils.class_names import ClassNames, check_same_class_names

LOGGER = logging.getLogger(__name__)


def describe_difference(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> str:
    """Describe the differences of two state dicts: missing keys, unexpected keys, shapes."""
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


@dataclass(frozen=True)
class Weights:
    """The weights of a file with our keys.

    Attributes:
        state: weights with the keys of a recognizer, ``backbone.*`` and ``cls_head.*``; others are not used.
        layout: layout of the file.
        is_average: whether the weights are averaged (EMA).
        name: their key in the file; empty if it has nothing else.
        class_names: names by class number, if the file has any.
        strides: temporal strides of the source network by our option; empty if they are unknown.
    """

    state: dict[str, Tensor]
    layout: Layout
    is_average: bool
    name: str
    class_names: list[str] | None
    strides: Mapping[str, int] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        """Description of the layout and the expected input."""
        average = f', averaged weights (EMA) {self.name!r}' if self.is_average else ''
        if self.name not in ('', 'state_dict') and not self.is_average:
            average = f', weights {self.name!r}'
        expects = f'; trained with data_preprocessor {self.layout.expects}' if self.layout.expects else ''
        return f'layout: {self.layout.name}{average}{expects}'


def read_weights(
    file: str | Path,
    target: Set[str] = frozenset(),
    allow_pickle: bool = False,
    content: Mapping[str, Any] | None = None,
) -> Weights:
    """Read the weights of a file in any known layout.

    Args:
        file: a checkpoint.
        target: keys of the model to load into, for networks with two implementations here.
        allow_pickle: as for :func:`read_checkpoint`.
        content: of the file, if it has been read already.
    """
    content = read_checkpoint(file, allow_pickle) if content is None else content
    try:
        found = find_state_dict(content)
        bare, layout = strip_prefix(found.state, target)
        state = layout.translate(bare, target)
        strides = layout.find_strides(bare) if layout.find_strides is not None else {}
    except ValueError as error:
        raise ValueError(f'{file}: {error}') from error
    return Weights(state, layout, found.is_average, found.name, get_class_names(content), strides)


def get_class_names(content: Mapping[str, Any]) -> list[str] | None:
    """Return the class names of a checkpoint by class number, or None if it has no valid ones."""
    names = content.get('class_names')
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def inflate(weight: Tensor, length: int) -> Tensor:
    """Make a 3D filter from a 2D one: repeat in time and divide by the length (arXiv 1705.07750, section 2.1).

    Args:
        weight: (out, in, height, width).
        length: kernel length in frames.

    Returns:
        (out, in, length, height, width), with the output of the 2D filter on a clip of equal frames; float32 for
        weights in half precision.
    """
    weight = weight.to(torch.promote_types(weight.dtype, torch.float32))
    return weight.unsqueeze(2).repeat(1, 1, length, 1, 1) / length


@dataclass
class LoadReport:
    """The result of loading weights, as lists of keys."""

    matched: list[str] = field(default_factory=list)
    inflated: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    reinitialized: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        parts = [f'{len(self.matched)} matched ({len(self.inflated)} inflated from 2D)']
        for name in ('missing', 'unexpected', 'reinitialized'):
            keys = getattr(self, name)
            parts.append(f'{len(keys)} {name}' + (f' ({_few(keys)})' if keys else ''))
        return ', '.join(parts)


def match_state_dict(
    source: Mapping[str, Tensor], target: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], LoadReport]:
    """Select the weights that match a model, and inflate 2D filters.

    Args:
        source: weights with the keys of a recognizer.
        target: state dict of a recognizer or of a backbone.

    Returns:
        The weights to load, and a report.
    """
    if not any(key.startswith(BACKBONE) for key in target):
        source = {key.removeprefix(BACKBONE): value for key, value in source.items()}
    report = LoadReport(unexpected=[key for key in source if key not in target])
    loaded = {}
    # A classifier of another size is normal in fine-tuning; any other difference in shape is an error. A bias is
    # reinitialized together with its weight, even if its shape matches.
    reinitialized = {
        key.rpartition('.')[0]
        for key, value in source.items()
        if key.startswith(HEAD) and key in target and value.shape != target[key].shape
    }
    for key, current in target.items():
        if key not in source:
            # Files from before PyTorch 0.4.1 do not have it; it is used only by norms without momentum.
            if not key.endswith('num_batches_tracked'):
                report.missing.append(key)
            continue
        if key.rpartition('.')[0] in reinitialized:
            report.reinitialized.append(key)
            continue
        value = source[key]
        if value.dim() == 4 and current.dim() == 5:
            value = inflate(value, current.shape[2])
            report.inflated.append(key)
        if value.shape != current.shape:
            raise ValueError(f'{key} has shape {tuple(value.shape)}, but the model has {tuple(current.shape)}')
        # torch would read quantized numbers as weights and drop the imaginary part, or fail.
        if current.is_floating_point() and not (value.is_floating_point() and value.layout == torch.strided):
            raise ValueError(f'{key} is {value.dtype} ({value.layout}), but must be dense and floating-point')
        loaded[key] = value
        report.matched.append(key)
    if all(key.startswith(HEAD) for key in report.matched):
        what = 'only the classifier matches' if report.matched else f'none of {len(source)} weights matches'
        shown = [[key for key in keys if not key.startswith(HEAD)][:3] for keys in (source, target)]
        raise ValueError(f'{what} the model. File: {", ".join(shown[0])}, ...; model: {", ".join(shown[1])}, ...')
    first = next((key for key, value in target.items() if value.dim() >= 4 and not key.startswith(HEAD)), None)
    if first in report.missing:
        raise ValueError(
            f'weights of another network: {len(report.matched)} match, but the first filter {first} does not'
        )
    return loaded, report


def load_weights(
    model: nn.Module,
    file: str | Path,
    strict: bool = False,
    allow_pickle: bool = False,
    content: Mapping[str, Any] | None = None,
    classes: ClassNames | None = None,
) -> LoadReport:
    """Load weights of any known layout into a model.

    A classifier of another size keeps its initial values; the report lists it as reinitialized.

    Args:
        model: a recognizer or a backbone; a recognizer accepts a file with a backbone only.
        file: a checkpoint; averaged weights in it are preferred.
        strict: raise on missing, unexpected or reinitialized weights, as testing needs all of them.
        allow_pickle: as for :func:`read_checkpoint`.
        content: of the file, if it has been read already.
        classes: classes of the model's data; a classifier for other ones is an error. None to skip this check.

    Returns:
        The report, which is also logged.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not readable or does not match the model or its classes.
    """
    target = model.state_dict()
    weights = read_weights(file, target.keys(), allow_pickle, content)
    try:
        loaded, report = match_state_dict(weights.state, target)
    except ValueError as error:
        raise ValueError(f'{file}: {error} ({weights.origin})') from error
    if strict and (report.missing or report.unexpected or report.reinitialized):
        sizes = ''.join(
            f'; {key} has shape {tuple(weights.state[key].shape)}, but the model has {tuple(target[key].shape)}; '
            'set num_classes as in training'
            for key in report.reinitialized[:1]
        )
        raise ValueError(f'{file} does not match the model: {report}{sizes} ({weights.origin})')
    if classes is not None and any(key.startswith(HEAD) for key in report.matched):
        _check_classes(ClassNames(weights.class_names, str(file)), classes)
    model.load_state_dict(loaded, strict=False)
    LOGGER.info('Loaded weights from %s: %s (%s)', file, report, weights.origin)
    random = [key for key in report.missing if not key.startswith(HEAD) and not is_of_inserted_module(key)]
    if random:
        LOGGER.warning(
            '%d backbone weights are missing from %s and are randomly initialized (e.g. %s)',
            len(random),
            file,
            random[0],
        )
    module = weights.layout.module
    if module and not any(type(part).__name__ == module for part in model.modules()):
        LOGGER.warning('%s is from a network with %s; this model has none', file, module)
    for text in (*check_input_assumptions(model, weights), *check_config_of_transformers(model, file)):
        LOGGER.warning('%s: %s', file, text)
    return report


def _check_classes(trained: ClassNames, classes: ClassNames) -> None:
    """Raise a ValueError if a classifier was trained for different classes, even if their number is the same."""
    try:
        check_same_class_names(trained, classes)
    except ValueError as error:
        raise ValueError(
            f'{error}. Number the classes as in {trained.origin}, or load it without its classifier: '
            f'--cfg-options model.backbone.pretrained={trained.origin}'
        ) from error


def check_input_assumptions(model: nn.Module, weights: Weights) -> list[str]:
    """Compare normalization and temporal strides of a model with those of the weights' source network.

    They do not change the shape of any weight, so a wrong model would load without an error and predict badly.

    Args:
        model: a recognizer or a backbone; a backbone has no normalization.
        weights: from :func:`read_weights`.

    Returns:
        One text per difference.
    """
    texts = []
    expected, preprocessor = weights.layout.expects, getattr(model, 'data_preprocessor', None)
    backbone: Any = getattr(model, 'backbone', model)
    if weights.layout is TIMM and hasattr(backbone, 'normalization'):
        expected = Normalization(*backbone.normalization)
    if expected is not None and preprocessor is not None:
        has = torch.stack([preprocessor.mean.cpu(), 1 / preprocessor.scale.cpu()])
        if not torch.allclose(has, torch.tensor(expected), atol=0.1):
            mean, std = (tuple(round(v, 3) for v in row) for row in has.tolist())
            texts.append(f'trained with data_preprocessor {expected}, but this model has {mean=}, {std=}')
    options = {'conv1_stride_t': 'conv1', 'pool1_stride_t': 'maxpool', 'pool2_stride_t': 'pool2'}
    for option, wanted in weights.strides.items():
        stride = getattr(getattr(backbone, options[option], None), 'stride', (1, 1, 1))
        if len(stride) == 3 and stride[0] != wanted:
            texts.append(f'trained with backbone.{option}={wanted}, but this model has {stride[0]}')
    for option, value in weights.layout.options.items():
        if getattr(backbone, option, value) != value:
            texts.append(f'trained with backbone.{option}={value!r}, but this model has {getattr(backbone, option)!r}')
    return texts


def is_of_inserted_module(key: str) -> bool:
    """Return whether a weight belongs to a module inserted by ``block_maker``, whose name is that of its class."""
    classes = {name.lower(): cls for name, cls in MODELS.module_dict.items()}
    names = (re.sub(r'_(\d+|after_\w+)$', '', part) for part in key.split('.'))
    return any(name in classes and is_insertable(classes[name]) for name in names)
