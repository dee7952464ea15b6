"""Optimisers and learning-rate schedules.

Optimisers are torch's own. A schedule is a pure function of the iteration, so that a resumed run needs no state to go
on with the right learning rate.
"""

import math
from collections.abc import Sequence

import torch

from codes.registry import OPTIMIZERS, SCHEDULES

OPTIMIZERS.register_module(module=torch.optim.SGD)
OPTIMIZERS.register_module(module=torch.optim.AdamW)


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

        The warm-up rises towards the value that the decay has at that moment, so that there is no jump at its end.

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


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Give every parameter group its base learning rate times ``factor``; returns the first group's rate.

    The base rate is kept in the group as ``base_lr``, which the first call records.
    """
    for group in optimizer.param_groups:
        group.setdefault('base_lr', group['lr'])
        group['lr'] = group['base_lr'] * factor
    return optimizer.param_groups[0]['lr']
