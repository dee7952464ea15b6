"""Optimizers, their parameter groups, and learning-rate schedules.

Optimizers are torch's own. A schedule is a pure function of the iteration, so that a resumed run needs no state to go
on with the right learning rate.
"""

import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from dsanet.config.arguments import nearest
from dsanet.config.registry import OPTIMIZERS, SCHEDULES, build
from dsanet.config.schema import ParametersCfg, TrainCfg

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


@dataclass
class ParameterGroup:
    """Trainable parameters that are treated alike.

    Args:
        lr_multiplier: what the optimizer's learning rate is multiplied with.
        decays: whether the optimizer's weight decay holds.
        names: the parameters, in the model's order.
    """

    lr_multiplier: float
    decays: bool
    names: list[str] = field(default_factory=list)


def _end_of_match(key: Sequence[str], name: Sequence[str]) -> int:
    """Return behind how many parts of a name the last occurrence of a key ends; 0 if it does not occur.

    ``dsa`` also stands for ``dsa_2``, the second one in a block, and ``dsa_after_layer2``, behind a submodule.
    """

    def matches(end: int) -> bool:
        parts = name[end - len(key) : end]
        return all(re.fullmatch(rf'{re.escape(k)}(_\d+|_after_\w+)?', p) for k, p in zip(key, parts, strict=True))

    return next((end for end in range(len(name), len(key) - 1, -1) if matches(end)), 0)


def group_parameters(model: nn.Module, cfg: ParametersCfg) -> list[ParameterGroup]:
    """Sort a model's trainable parameters into as few groups as ``cfg`` needs.

    Args:
        model: its frozen parameters are in no group.
        cfg: which parameters are treated differently.

    Returns:
        The groups, ordered by their first parameter.

    Raises:
        KeyError: a key of ``lr_multipliers`` matches no trainable parameter.
    """
    names = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    of_norms = {id(p) for m in model.modules() if isinstance(m, NORMS) for p in m.parameters(recurse=False)}
    keys = {tuple(key.strip('.').split('.')): (key, value) for key, value in cfg.lr_multipliers.items()}
    for parts, (key, _) in keys.items():
        if not any(_end_of_match(parts, name.split('.')) for name in names):
            raise KeyError(
                f'parameters.lr_multipliers has {key!r}, which is in the name of no trainable parameter.'
                f'{nearest(".".join(parts), _runs_of_parts(names))} Names: {", ".join(list(names)[:3])}, ...'
            )
    groups: dict[tuple[float, bool], ParameterGroup] = {}
    for name, parameter in names.items():
        ends = [(_end_of_match(parts, name.split('.')), len(parts), value) for parts, (_, value) in keys.items()]
        multiplier, decays = float(max((e for e in ends if e[0]), default=(0, 0, 1.0))[2]), True
        if id(parameter) in of_norms:
            decays = cfg.decay_norms
        elif name.endswith(('.bias', '_bias', '_bias_table')):  # attention's in_proj_bias, Swin's biases by position
            multiplier, decays = multiplier * cfg.bias_lr_multiplier, cfg.decay_biases
        groups.setdefault((multiplier, decays), ParameterGroup(multiplier, decays)).names.append(name)
    return list(groups.values())


def _runs_of_parts(names: Sequence[str] | Mapping[str, Any]) -> list[str]:
    """Return everything that would match one of the names, each once."""
    split = [name.split('.') for name in names]
    runs = (parts[i:j] for parts in split for i in range(len(parts)) for j in range(i + 1, len(parts) + 1))
    return list(dict.fromkeys('.'.join(run) for run in runs))


def build_optimizer(cfg: Mapping[str, Any], model: nn.Module, parameters: ParametersCfg) -> torch.optim.Optimizer:
    """Build the optimizer of a config for a model's trainable parameters.

    Args:
        cfg: the section ``optimizer``.
        model: what is trained.
        parameters: the section ``parameters``. Where it says anything, a log line tells what became of it.

    Raises:
        KeyError, ValueError: as ``build`` and :func:`group_parameters`.
    """
    groups = group_parameters(model, parameters)
    of_name = dict(model.named_parameters())
    params = [{'params': [of_name[name] for name in group.names]} for group in groups]
    optimizer: torch.optim.Optimizer = build(cfg, OPTIMIZERS, 'optimizer', params=params)
    texts = []
    for options, group in zip(optimizer.param_groups, groups, strict=True):
        options['lr'] *= group.lr_multiplier
        if not group.decays:
            options['weight_decay'] = 0.0
        texts.append(
            f'{len(group.names)} with lr {options["lr"]:.4g} (x{group.lr_multiplier:g}) and '
            f'weight_decay {options["weight_decay"]:.4g} ({group.names[0]}{", ..." * (len(group.names) > 1)})'
        )
    if parameters != ParametersCfg():
        LOGGER.info('trainable parameters in %d groups: %s', len(groups), '; '.join(texts))
    return optimizer


class OptimizerState:
    """State of an optimizer in a form that does not depend on its parameter groups.

    torch numbers parameters by group; here they are numbered in the order of the model's trainable parameters, so that
    a resumed run may group them differently.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
        self.optimizer = optimizer
        place = {id(p): i for i, p in enumerate(p for p in model.parameters() if p.requires_grad)}
        self._numbers = [[place[id(p)] for p in group['params']] for group in optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Return the optimizer's state with renumbered parameters."""
        state = self.optimizer.state_dict()
        pairs = zip(state['param_groups'], self._numbers, strict=True)
        flat = [number for group in self._numbers for number in group]
        return {
            'state': {flat[i]: value for i, value in state['state'].items()},
            'param_groups': [{**group, 'params': numbers} for group, numbers in pairs],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned, except for groups, learning rates and weight decay.

        Raises:
            ValueError: the number of parameters differs.
        """
        before, now = (
            sum(map(len, groups)) for groups in ([g['params'] for g in state['param_groups']], self._numbers)
        )
        if before != now:
            raise ValueError(f'the optimizer had {before} parameters and now has {now}')
        pairs = zip(self.optimizer.param_groups, self._numbers, strict=True)
        groups = [{**group, 'params': numbers} for group, numbers in pairs]
        self.optimizer.load_state_dict({'state': state['state'], 'param_groups': groups})


class Schedule:
    """Linear warm-up by iteration, then what a subclass's :meth:`decay` says.

    Args:
        warmup_epochs: length of the warm-up, in epochs; may be a fraction; 0 for none.
        warmup_start_factor: share of the base learning rate that the warm-up begins with.

    Raises:
        ValueError: an argument outside of its range.
    """

    def __init__(self, warmup_epochs: float = 0, warmup_start_factor: float = 0.01) -> None:
        if warmup_epochs < 0 or not 0 <= warmup_start_factor <= 1:
            raise ValueError(
                f'warmup_epochs={warmup_epochs} must be at least 0 and '
                f'warmup_start_factor={warmup_start_factor} lie in [0, 1]'
            )
        self.warmup_epochs = warmup_epochs
        self.warmup_start_factor = warmup_start_factor

    def decay(self, epoch: float, max_epochs: int) -> float:
        """Return the factor at a fractional epoch, without warm-up."""
        raise NotImplementedError(f'{type(self).__name__} has no decay')

    def factor(self, epoch: float, max_epochs: int) -> float:
        """Return what the base learning rate is multiplied with.

        The warm-up rises toward the value that the decay has at that moment, so that there is no jump at its end.

        Args:
            epoch: position in the training in epochs, iteration / iterations an epoch, 0-based.
            max_epochs: length of the training.
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
        milestones: epochs, ascending: the first epoch (0-based) that uses the lower rate.
        gamma: the factor.
        warmup_epochs: see :class:`Schedule`.
        warmup_start_factor: see :class:`Schedule`.

    Raises:
        ValueError: milestones that do not ascend.
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
            raise ValueError(f'milestones={milestones!r} must ascend')
        self.milestones = tuple(milestones)
        self.gamma = gamma

    def decay(self, epoch: float, max_epochs: int) -> float:
        return self.gamma ** sum(epoch >= milestone for milestone in self.milestones)


@SCHEDULES.register_module()
class CosineSchedule(Schedule):
    """Half a cosine from the base learning rate to ``final_factor`` of it (SGDR, arXiv 1608.03983, without restarts).

    Args:
        final_factor: share of the base learning rate at the end.
        warmup_epochs: see :class:`Schedule`; the cosine starts behind it.
        warmup_start_factor: see :class:`Schedule`.

    Raises:
        ValueError: ``final_factor`` outside of [0, 1].
    """

    def __init__(self, final_factor: float = 0.0, warmup_epochs: float = 0, warmup_start_factor: float = 0.01) -> None:
        super().__init__(warmup_epochs, warmup_start_factor)
        if not 0 <= final_factor <= 1:
            raise ValueError(f'final_factor={final_factor} must lie in [0, 1]')
        self.final_factor = final_factor

    def decay(self, epoch: float, max_epochs: int) -> float:
        length = max(max_epochs - self.warmup_epochs, 1e-8)
        progress = min(max((epoch - self.warmup_epochs) / length, 0), 1)
        return self.final_factor + (1 - self.final_factor) * (1 + math.cos(math.pi * progress)) / 2


def scale_learning_rate(optimizer: torch.optim.Optimizer, cfg: TrainCfg, videos: int) -> None:
    """Scale the learning rate to the videos an iteration if that is wanted, and say so; or say that it does not fit.

    The rule is linear (arXiv 1706.02677, section 2.1).

    Args:
        optimizer: its rates are multiplied.
        cfg: the section ``train_cfg``.
        videos: in an iteration, of all processes together.
    """
    if cfg.base_batch_size is None or cfg.base_batch_size == videos:
        return
    factor, rate = videos / cfg.base_batch_size, optimizer.defaults['lr']
    if not cfg.scale_lr:
        text = 'the learning rate %.4g is for %d videos an iteration, and here are %d: --scale-lr would make it %.4g'
        LOGGER.warning(text, rate, cfg.base_batch_size, videos, rate * factor)
        return
    optimizer.defaults['lr'] *= factor
    for group in optimizer.param_groups:
        group['lr'] *= factor
    text = 'learning rate %.4g for %d videos an iteration scaled to %.4g for %d (x %.4g)'
    LOGGER.info(text, rate, cfg.base_batch_size, optimizer.defaults['lr'], videos, factor)


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Give every parameter group its base learning rate times ``factor``; returns the rate without any multiplier.

    The base rate is kept in the group as ``base_lr``, which the first call records.
    """
    for group in optimizer.param_groups:
        group.setdefault('base_lr', group['lr'])
        group['lr'] = group['base_lr'] * factor
    return optimizer.defaults['lr'] * factor
