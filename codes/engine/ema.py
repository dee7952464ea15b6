"""Exponential moving average of a model's weights: validated instead of them, and saved with them."""

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class WeightAverage:
    """Exponential moving average (EMA) of a model's weights.

    The first update copies the weights. Update n + 1 moves the average by 1 - d toward the weights, with
    d = min(decay, (1 + n) / (10 + n)): a short average at first, which soon forgets the initial weights. Batch norm
    statistics are averaged in the same way, so that they fit the averaged weights; integers, such as batch counts, are
    copied.

    Args:
        model: the model; its current weights are the average until the first update.
        decay: share of the old average kept per step after many updates; 0.999 averages over about 1000 steps.

    Attributes:
        model: a copy of the model with the averaged weights.
        num_updates: number of updates, n.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).requires_grad_(False)
        # A plain number: torch's AveragedModel keeps a tensor and copies it to the GPU in each update, which blocks.
        self.num_updates = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Update the average with the model's current weights and buffers."""
        n = self.num_updates
        decay = min(self.decay, (1 + n) / (10 + n))
        for averaged, current in _pairs_by_type(self.model, model):
            if n and averaged[0].is_floating_point():
                get_ema_multi_avg_fn(decay)(averaged, current, n)
            else:
                torch._foreach_copy_(averaged, current)
        self.num_updates += 1

    def restart(self, model: nn.Module) -> None:
        """Set the average to the model's current weights and the number of updates to 0."""
        self.load_state_dict({'ema_state_dict': model.state_dict(), 'ema_updates': 0})

    def state_dict(self) -> dict[str, Any]:
        """Return ``ema_state_dict``, with the model's keys, and ``ema_updates``."""
        return {'ema_state_dict': self.model.state_dict(), 'ema_updates': self.num_updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned.

        Raises:
            RuntimeError: the weights are of another model.
        """
        self.model.load_state_dict(state['ema_state_dict'])
        self.num_updates = state['ema_updates']


def _pairs_by_type(averaged: nn.Module, current: nn.Module) -> Iterable[tuple[list[Tensor], list[Tensor]]]:
    """Return the parameters and buffers of two models in a pair of lists per data type."""
    groups: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
    for one, two in zip(_tensors_of(averaged), _tensors_of(current), strict=True):
        group = groups.setdefault(one.dtype, ([], []))
        group[0].append(one)
        group[1].append(two)
    return groups.values()


def _tensors_of(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]
