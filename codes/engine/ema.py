"""An exponential moving average of a model's weights, which is validated instead of the weights themselves."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class WeightAverage:
    """The average of a model's weights over the steps of a training.

    The first update takes the weights as they are. Each further one, behind n others, moves the average by 1 - d
    towards the weights, with d = min(decay, (1 + n) / (10 + n)): a short average while the weights move fast, which
    forgets where they started. The statistics of batch norms are averaged alike, so that they lag behind exactly as
    the weights do; whole numbers, such as their count of batches, are copied.

    Args:
        model: the model, whose present weights are also the average until the first update.
        decay: share of the old average that stays in the long run; 0.999 averages over about 1000 steps.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self._averaged = AveragedModel(model, multi_avg_fn=self._move, use_buffers=True).requires_grad_(False)

    @property
    def model(self) -> nn.Module:
        """A model of the same kind with the averaged weights."""
        return self._averaged.module

    @property
    def num_updates(self) -> int:
        """n, how often the average was updated."""
        return int(self._averaged.n_averaged)  # lies on the CPU, so that no one waits for the GPU

    def update(self, model: nn.Module) -> None:
        """Count in the model's weights and buffers as they are now."""
        self._averaged.update_parameters(model)

    def _move(self, averaged: Sequence[Tensor], current: Sequence[Tensor], _num_updates: Any) -> None:
        """Move tensors of one type towards the current ones."""
        if averaged[0].is_floating_point():
            n = self.num_updates
            decay = min(self.decay, (1 + n) / (10 + n))
            get_ema_multi_avg_fn(decay)(list(averaged), list(current), n)
        else:
            torch._foreach_copy_(list(averaged), list(current))

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs: ``ema_state_dict``, with the model's keys, and ``ema_updates``."""
        return {'ema_state_dict': self.model.state_dict(), 'ema_updates': self.num_updates}

    def load(self, content: Mapping[str, Any]) -> None:
        """Take up the state in a checkpoint; without one the average starts anew from the checkpoint's weights.

        Raises:
            RuntimeError: the weights are of another model.
        """
        self.model.load_state_dict(content.get('ema_state_dict', content['state_dict']))
        self._averaged.n_averaged.fill_(content.get('ema_updates', 0))
