"""Optimizers, their parameter groups, and learning-rate schedules.

The optimizers are those of torch. A schedule is a pure function of the iteration, so it has no state to resume.
"""

import inspect
import logging
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dsanet.config.arguments import nearest
from dsanet.config.registry import OPTIMIZERS, SCHEDULES, build, get_class
from dsanet.config.schema import ParametersCfg, TrainCfg
from dsanet.models.backbones.base import Backbone
from dsanet.models.modules_maker.block_maker import modules_inserted_after
from dsanet.models.weights.loading import is_of_inserted_module

LOGGER = logging.getLogger(__name__)

OPTIMIZERS.register_module(module=torch.optim.SGD)
OPTIMIZERS.register_module(module=torch.optim.AdamW)

NORMS = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.SyncBatchNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.RMSNorm,
)


def _end_of_match(key: Sequence[str], name: Sequence[str]) -> int:
    """Return the index after the last occurrence of a key in the parts of a name; 0 if it does not occur.

    ``dsa`` also matches ``dsa_2``, the second one in a block, and ``dsa_after_layer2``, one after a submodule.
    """

    def matches(end: int) -> bool:
        parts = name[end - len(key) : end]
        return all(re.fullmatch(rf'{re.escape(k)}(_\d+|_after_\w+)?', p) for k, p in zip(key, parts, strict=True))

    return next((end for end in range(len(name), len(key) - 1, -1) if matches(end)), 0)


def group_parameters(model: nn.Module, cfg: ParametersCfg) -> dict[tuple[float, bool], list[str]]:
    """Split the trainable parameters of a model into groups with the same options.

    Args:
        model: its frozen parameters are not in any group.
        cfg: options by name and type of the parameters.

    Returns:
        The names by (learning-rate multiplier, whether weight decay applies), in the order of the model.
    """
    names = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    of_norms = {id(p) for m in model.modules() if isinstance(m, NORMS) for p in m.parameters(recurse=False)}
    keys = {tuple(key.strip('.').split('.')): (key, value) for key, value in cfg.lr_multipliers.items()}
    for parts, (key, _) in keys.items():
        if not any(_end_of_match(parts, name.split('.')) for name in names):
            if is_of_inserted_module(key.strip('.')) and not any(map(is_of_inserted_module, names)):
                # A control without the modules has the same config otherwise.
                LOGGER.info('parameters.lr_multipliers: %r has no effect, because no module is inserted', key)
                continue
            raise KeyError(
                f'parameters.lr_multipliers: {key!r} does not match any trainable parameter.'
                f'{nearest(".".join(parts), _matching_keys(names))} Parameters: {", ".join(list(names)[:3])}, ...'
            )
    by_layer = layer_multipliers(model, cfg.layer_decay) if cfg.layer_decay != 1 else {}
    groups: dict[tuple[float, bool], list[str]] = {}
    for name, parameter in names.items():
        ends = [(_end_of_match(parts, name.split('.')), len(parts), value) for parts, (_, value) in keys.items()]
        multiplier, decays = float(max((e for e in ends if e[0]), default=(0, 0, 1.0))[2]), True
        multiplier *= by_layer.get(name, 1.0)
        if id(parameter) in of_norms:
            decays = cfg.decay_norms
        elif name.endswith(('.bias', '_bias', '_bias_table')):  # in_proj_bias of attention, relative positions of Swin
            multiplier, decays = multiplier * cfg.bias_lr_multiplier, cfg.decay_biases
        groups.setdefault((multiplier, decays), []).append(name)
    return groups


def layer_multipliers(model: nn.Module, layer_decay: float) -> dict[str, float]:
    """Return the factor of the learning rate of each parameter of the backbone, see ``ParametersCfg.layer_decay``.

    Raises:
        ValueError: the backbone does not say which layers it has.
    """
    backbone = getattr(model, 'backbone', None)
    num_layers = len(backbone.layers_in_order) if isinstance(backbone, Backbone) else 0
    if backbone is None or not num_layers:
        raise ValueError(
            f'parameters.layer_decay={layer_decay} requires a backbone with layers, and {type(backbone).__name__} has '
            'none; define its property layers_in_order, or use parameters.lr_multipliers'
        )
    depths = backbone.layer_depths()
    for inserted, submodule in modules_inserted_after(backbone).items():
        depth = _depth_at_end(backbone, submodule, depths)
        depths |= {f'{inserted}.{name}': depth for name, _ in backbone.get_submodule(inserted).named_parameters()}
    return {f'backbone.{name}': layer_decay ** (num_layers + 1 - depth) for name, depth in depths.items()}


def _depth_at_end(backbone: Backbone, submodule: str, depths: Mapping[str, int]) -> int:
    """Return the depth of the last parameter of a submodule, or if it has none, of the last one before it."""
    depth, is_reached = 0, False
    for name, module in backbone.named_modules():
        is_inside = name == submodule or name.startswith(f'{submodule}.')
        if is_reached and not is_inside:
            break
        is_reached |= is_inside
        for own, _ in module.named_parameters(recurse=False):
            depth = depths[f'{name}.{own}'.strip('.')]
    return depth


def _matching_keys(names: Iterable[str]) -> list[str]:
    """Return every key that would match one of the names."""
    split = [name.split('.') for name in names]
    keys = (parts[i:j] for parts in split for i in range(len(parts)) for j in range(i + 1, len(parts) + 1))
    return list(dict.fromkeys('.'.join(key) for key in keys))


def build_optimizer(cfg: Mapping[str, Any], model: nn.Module, parameters: ParametersCfg) -> torch.optim.Optimizer:
    """Build the optimizer for the trainable parameters of a model, with a fused step where torch has one."""
    groups = group_parameters(model, parameters)
    of_name = dict(model.named_parameters())
    params = [{'params': [of_name[name] for name in names]} for names in groups.values()]
    if _can_be_fused(get_class(cfg, OPTIMIZERS, 'optimizer'), cfg):
        cfg = {**cfg, 'fused': True}
    optimizer: torch.optim.Optimizer = build(cfg, OPTIMIZERS, 'optimizer', params=params)
    texts = []
    for options, ((multiplier, decays), names) in zip(optimizer.param_groups, groups.items(), strict=True):
        options['lr'] *= multiplier
        if not decays:
            options['weight_decay'] = 0.0
        texts.append(
            f'{len(names)} with lr {options["lr"]:.4g} (x{multiplier:g}) and '
            f'weight_decay {options["weight_decay"]:.4g} ({names[0]}{", ..." * (len(names) > 1)})'
        )
    if parameters != ParametersCfg():
        LOGGER.info('Trainable parameters in %d groups: %s', len(groups), '; '.join(texts))
    return optimizer


def _can_be_fused(cls: Any, cfg: Mapping[str, Any]) -> bool:
    """Return whether an optimizer has a fused step, and the config says nothing about how a step is computed."""
    return 'fused' in inspect.signature(cls).parameters and not _EXECUTION_FLAGS & set(cfg)


def match_layouts(optimizer: torch.optim.Optimizer) -> None:
    """Store gradients in the memory format of their parameters, if they are not.

    Fused steps on the CPU ignore strides: with other strides, they silently combine the wrong values.
    """
    for group in optimizer.param_groups:
        for parameter in group['params']:
            if parameter.grad is not None and parameter.grad.stride() != parameter.stride():
                parameter.grad = _like(parameter, parameter.grad)


def _like(parameter: Tensor, value: Tensor) -> Tensor:
    """Return a value in the memory format of a parameter of the same shape."""
    return torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)


class OptimizerState:
    """State of an optimizer in a form that does not depend on its parameter groups.

    torch numbers parameters by group; here they are numbered in the order of the model's trainable parameters, so that
    a resumed run may group them differently.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
        self.optimizer = optimizer
        parameters = [p for p in model.parameters() if p.requires_grad]
        place = {id(p): i for i, p in enumerate(parameters)}
        self._shapes = [p.shape for p in parameters]
        self._numbers = [[place[id(p)] for p in group['params']] for group in optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Return the optimizer's state with renumbered parameters."""
        state = self.optimizer.state_dict()
        pairs = zip(state['param_groups'], self._numbers, strict=True)
        flat = [number for group in self._numbers for number in group]
        return {
            'type': type(self.optimizer).__name__,
            'state': {flat[i]: value for i, value in state['state'].items()},
            'param_groups': [{**group, 'params': numbers} for group, numbers in pairs],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned, except for groups, learning rates and weight decay.

        The state of another optimizer, or of one with another flag such as ``amsgrad``, has other content: then the
        optimizer starts without state, and a warning is logged.

        Raises:
            ValueError: the state is of another number of parameters, or has impossible values.
        """
        before, now = (
            sum(map(len, groups)) for groups in ([g['params'] for g in state['param_groups']], self._numbers)
        )
        if before != now:
            raise ValueError(f'the optimizer had {before} parameters and now has {now}')
        pairs = zip(self.optimizer.param_groups, self._numbers, strict=True)
        groups = [{**group, 'params': numbers} for group, numbers in pairs]
        if change := self._find_change(state):
            LOGGER.warning('Optimizer: %s; its state (such as momentum) is reset', change)
            return
        for number, values in state['state'].items():
            self._check(number, values)
        self.optimizer.load_state_dict({'state': state['state'], 'param_groups': groups})
        for parameter, values in self.optimizer.state.items():  # see match_layouts
            for name, value in values.items():
                if name in _LIKE_PARAMETER and value is not None:
                    values[name] = _like(parameter, value)

    def _check(self, number: Any, values: Any) -> None:
        """Check the state of a parameter, which torch would load in any case, to fail in the first step."""
        is_known = type(number) is int and 0 <= number < len(self._shapes)
        if not is_known or not isinstance(values, Mapping):
            raise ValueError(f'the optimizer state of parameter {number!r} is not valid: {str(values)[:40]!r}')
        for name, value in values.items():
            shape = torch.Size() if name == 'step' else self._shapes[number] if name in _LIKE_PARAMETER else None
            is_empty = value is None and name == 'momentum_buffer'  # before the first step
            if shape is not None and not is_empty and getattr(value, 'shape', None) != shape:
                found = f'shape {tuple(value.shape)}' if isinstance(value, torch.Tensor) else repr(value)[:40]
                raise ValueError(f'{name} of parameter {number} must be a tensor of shape {tuple(shape)}, got {found}')

    def _find_change(self, state: Mapping[str, Any]) -> str:
        """Return a change of the type or of a flag; empty if there is none."""
        was, now = state.get('type'), type(self.optimizer).__name__
        if was not in (None, now):
            return f'type was {was} and is {now}'
        before, after = state['param_groups'][0], self.optimizer.param_groups[0]
        for name, value in after.items():
            is_flag = isinstance(value, bool) and isinstance(before.get(name), bool) and name not in _EXECUTION_FLAGS
            if is_flag and before[name] != value:
                return f'{name} was {before[name]} and is {value}'
        return ''


_LIKE_PARAMETER = {'momentum_buffer', 'exp_avg', 'exp_avg_sq', 'max_exp_avg_sq'}  # these states have its shape
_EXECUTION_FLAGS = {'capturable', 'differentiable', 'foreach', 'fused'}  # how a step is computed, not what


class Schedule:
    """Base class of learning-rate schedules: linear warm-up, then :meth:`decay`.

    Args:
        warmup_epochs: length of the warm-up in epochs, may be fractional; 0 for none.
        warmup_start_factor: factor of the base learning rate at the start of the warm-up.
    """

    def __init__(self, warmup_epochs: float = 0, warmup_start_factor: float = 0.01) -> None:
        if warmup_epochs < 0 or not 0 <= warmup_start_factor <= 1:
            raise ValueError(
                f'warmup_epochs={warmup_epochs} must be at least 0, and '
                f'warmup_start_factor={warmup_start_factor} must be in [0, 1]'
            )
        self.warmup_epochs = warmup_epochs
        self.warmup_start_factor = warmup_start_factor

    def decay(self, epoch: float, max_epochs: int) -> float:
        """Return the factor at a fractional epoch, without warm-up."""
        raise NotImplementedError(f'{type(self).__name__} does not implement decay')

    def factor(self, epoch: float, max_epochs: int) -> float:
        """Return the factor of the base learning rate.

        During the warm-up, the factor of the decay is multiplied by a linear ramp that ends at 1.

        Args:
            epoch: position in epochs, iteration / iterations per epoch, 0-based.
            max_epochs: length of training in epochs.
        """
        factor = self.decay(epoch, max_epochs)
        if epoch < self.warmup_epochs:
            progress = epoch / self.warmup_epochs
            factor *= self.warmup_start_factor + (1 - self.warmup_start_factor) * progress
        return factor


@SCHEDULES.register_module()
class StepSchedule(Schedule):
    """Multiply the learning rate by ``gamma`` at each milestone.

    Args:
        milestones: ascending epochs (0-based), each the first one with the lower rate.
        gamma: factor at each milestone.
        warmup_epochs: see :class:`Schedule`.
        warmup_start_factor: see :class:`Schedule`.
    """

    def __init__(
        self,
        milestones: Sequence[int],
        gamma: float = 0.1,
        warmup_epochs: float = 0,
        warmup_start_factor: float = 0.01,
    ) -> None:
        super().__init__(warmup_epochs, warmup_start_factor)
        if list(milestones) != sorted(set(milestones)):
            raise ValueError(f'milestones={milestones!r} must be in ascending order')
        self.milestones = tuple(milestones)
        self.gamma = gamma

    def decay(self, epoch: float, max_epochs: int) -> float:
        return self.gamma ** sum(epoch >= milestone for milestone in self.milestones)


@SCHEDULES.register_module()
class CosineSchedule(Schedule):
    """Cosine decay of the learning rate (SGDR, arXiv 1608.03983, without restarts).

    Args:
        final_factor: factor of the base learning rate at the end.
        warmup_epochs: see :class:`Schedule`; the decay starts after it.
        warmup_start_factor: see :class:`Schedule`.
    """

    def __init__(self, final_factor: float = 0.0, warmup_epochs: float = 0, warmup_start_factor: float = 0.01) -> None:
        super().__init__(warmup_epochs, warmup_start_factor)
        if not 0 <= final_factor <= 1:
            raise ValueError(f'final_factor={final_factor} must be in [0, 1]')
        self.final_factor = final_factor

    def decay(self, epoch: float, max_epochs: int) -> float:
        length = max(max_epochs - self.warmup_epochs, 1e-8)
        progress = min(max((epoch - self.warmup_epochs) / length, 0), 1)
        return self.final_factor + (1 - self.final_factor) * (1 + math.cos(math.pi * progress)) / 2


def scale_learning_rate(optimizer: torch.optim.Optimizer, cfg: TrainCfg, videos: int) -> None:
    """Scale the learning rate linearly with the batch size (arXiv 1706.02677, section 2.1), or warn if it does not fit.

    Args:
        videos: batch size of one iteration, summed over all processes.
    """
    if cfg.base_batch_size is None or cfg.base_batch_size == videos:
        return
    factor, rate = videos / cfg.base_batch_size, optimizer.defaults['lr']
    if not cfg.scale_lr:
        text = 'lr=%.4g is tuned for batch size %d, but batch size is %d; use --scale-lr to scale it to %.4g'
        LOGGER.warning(text, rate, cfg.base_batch_size, videos, rate * factor)
        return
    optimizer.defaults['lr'] *= factor
    for group in optimizer.param_groups:
        group['lr'] *= factor
    text = 'Scaled lr=%.4g for batch size %d to lr=%.4g for batch size %d (x%.4g)'
    LOGGER.info(text, rate, cfg.base_batch_size, optimizer.defaults['lr'], videos, factor)


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Set the learning rate of each group to its base rate times ``factor``.

    The first call stores the current rate of each group as ``base_lr``.

    Returns:
        The learning rate of a group without multiplier.
    """
    for group in optimizer.param_groups:
        group.setdefault('base_lr', group['lr'])
        group['lr'] = group['base_lr'] * factor
    return optimizer.defaults['lr'] * factor
