"""An exponential moving average of a model's weights, which is validated instead of the weights themselves."""

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class WeightAverage:
    """The average of a model's weights over the steps of a training.

    The first update takes the weights as they are. Each further one, behind n others, moves the average by 1 - d
    toward the weights, with d = min(decay, (1 + n) / (10 + n)): a short average while the weights move fast, which
    forgets where they started. The statistics of batch norms are averaged alike, so that they lag behind exactly as
    the weights do; whole numbers, such as their count of batches, are copied.

    Args:
        model: the model, whose present weights are also the average until the first update.
        decay: share of the old average that stays in the long run; 0.999 averages over about 1000 steps.

    Attributes:
        model: a model of the same kind with the averaged weights.
        num_updates: n, how often the average was updated.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).requires_grad_(False)
        # A plain number: torch's AveragedModel has a tensor, and copies it to the GPU in each update, which waits.
        self.num_updates = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Count in the model's weights and buffers as they are now."""
        n = self.num_updates
        decay = min(self.decay, (1 + n) / (10 + n))
        for averaged, current in _pairs_by_type(self.model, model):
            if n and averaged[0].is_floating_point():
                get_ema_multi_avg_fn(decay)(averaged, current, n)
            else:
                torch._foreach_copy_(averaged, current)
        self.num_updates += 1

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs: ``ema_state_dict``, with the model's keys, and ``ema_updates``."""
        return {'ema_state_dict': self.model.state_dict(), 'ema_updates': self.num_updates}

    def load(self, content: Mapping[str, Any]) -> None:
        """Take up the state in a checkpoint; without one the average starts anew from the checkpoint's weights.

        Raises:
            RuntimeError: the weights are of another model.
        """
        self.model.load_state_dict(content.get('ema_state_dict', content['state_dict']))
        self.num_updates = content.get('ema_updates', 0)


def _pairs_by_type(averaged: nn.Module, current: nn.Module) -> Iterable[tuple[list[Tensor], list[Tensor]]]:
    """Return parameters and buffers of two models, those of one data type in lists of their own."""
    groups: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
    for one, two in zip(_tensors_of(averaged), _tensors_of(current), strict=True):
        group = groups.setdefault(one.dtype, ([], []))
        group[0].append(one)
        group[1].append(two)
    return groups.values()


def _tensors_of(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]
