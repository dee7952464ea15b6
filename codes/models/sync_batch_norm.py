"""Batch norm with the statistics of all processes, on GPUs and CPUs.

An ordinary batch norm uses the videos of its own process only, so a run on more processes with smaller batches gives
different results. With the statistics of all processes the results are equal, up to rounding. On GPUs this is torch's
``nn.SyncBatchNorm``, which does not support CPUs (torch 2.14); this module does.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from dsanet.utils import distributed


class _SyncOnCpu(_BatchNorm):
    """Mixin for a batch norm with the statistics of all processes; comes before the batch norm class.

    In eval mode or with one process it is bit-identical to the ordinary batch norm. Batches of the processes can have
    different sizes, and are weighted by size. Weight and bias have the gradients of this process's batch,
    which DistributedDataParallel averages.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalize (B, C, ...); return the same shape."""
        if not self.training or distributed.world_size() == 1:
            return super().forward(input)
        self._check_input_dim(input)
        count, mean, var = global_statistics(input)
        if count < 2:
            raise ValueError(f'batch norm needs at least two values per channel in all processes together, got {count}')
        if self.track_running_stats:
            self._update_running_statistics(mean, var * (count / (count - 1)))
        input = _StatisticsGradient.apply(input, mean, (var + self.eps).rsqrt(), count)
        return F.batch_norm(input, mean, var, self.weight, self.bias, training=False, eps=self.eps)

    @torch.no_grad()
    def _update_running_statistics(self, mean: Tensor, var: Tensor) -> None:
        """Update the statistics with one batch; without momentum they are the mean over all batches."""
        assert self.running_mean is not None, 'running_mean is missing although track_running_stats is set'
        assert self.running_var is not None, 'running_var is missing although track_running_stats is set'
        assert self.num_batches_tracked is not None, 'num_batches_tracked is missing'
        self.num_batches_tracked.add_(1)
        share = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        for running, new in ((self.running_mean, mean), (self.running_var, var)):
            running.mul_(1 - share).add_(new.to(running.dtype), alpha=share)


class SyncBatchNorm1d(_SyncOnCpu, nn.BatchNorm1d):
    """``nn.BatchNorm1d`` over all processes."""


class SyncBatchNorm2d(_SyncOnCpu, nn.BatchNorm2d):
    """``nn.BatchNorm2d`` over all processes."""


class SyncBatchNorm3d(_SyncOnCpu, nn.BatchNorm3d):
    """``nn.BatchNorm3d`` over all processes."""


@torch.no_grad()
def global_statistics(x: Tensor) -> tuple[int, Tensor, Tensor]:
    """Return count per channel, mean (C,) and biased variance (C,) of the values in all processes.

    The statistics of the processes are combined as in Chan et al. (1983), so that a mean far from zero loses no
    precision. The result is bit-identical in all processes.

    Args:
        x: (B, C, ...); B can be 0.
    """
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    own_count = x.numel() // x.shape[1]
    own_mean = wide.mean(_all_but_channels(x)) if own_count else wide.new_zeros(x.shape[1])
    own_var = (wide - _along_channels(own_mean, x)).square().sum(_all_but_channels(x)) / max(own_count, 1)
    own = torch.cat([own_mean.new_tensor([own_count]), own_mean, own_var]).double()
    everyone = [torch.empty_like(own) for _ in range(distributed.world_size())]
    dist.all_gather(everyone, own)
    counts, means, variances = torch.stack(everyone).split([1, x.shape[1], x.shape[1]], dim=1)  # one row per process
    count = counts.sum()
    mean = (counts * means).sum(0) / count
    var = (counts * (variances + (means - mean).square())).sum(0) / count
    return int(count), mean.to(wide.dtype), var.to(wide.dtype)


class _StatisticsGradient(torch.autograd.Function):
    """Identity before the normalization; its backward adds the gradient through the statistics.

    With z the normalized input and g the gradient for constant statistics, the full gradient is
    g - mean(g) - z mean(g z), with means over all positions of all processes (arXiv 1502.03167, section 3).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, mean: Tensor, inverse_std: Tensor, count: int) -> Tensor:
        ctx.save_for_backward(x, mean, inverse_std)
        ctx.count = count
        return x.view_as(x)  # (B, C, ...)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, inverse_std = ctx.saved_tensors
        normalized = (x - _along_channels(mean, x)) * _along_channels(inverse_std, x)
        dims = _all_but_channels(x)
        sums = torch.stack([grad.to(mean.dtype).sum(dims), (grad * normalized).sum(dims)])  # (2, C)
        dist.all_reduce(sums)
        of_grad, of_product = sums / ctx.count
        whole = grad - _along_channels(of_grad, x) - normalized * _along_channels(of_product, x)
        return whole.to(grad.dtype), None, None, None


def _all_but_channels(x: Tensor) -> list[int]:
    return [0, *range(2, x.dim())]


def _along_channels(values: Tensor, x: Tensor) -> Tensor:
    """Reshape values (C,) for broadcasting with x (B, C, ...)."""
    return values.view(-1, *[1] * (x.dim() - 2))  # (C, 1, ...)


CPU_CLASSES = {nn.BatchNorm1d: SyncBatchNorm1d, nn.BatchNorm2d: SyncBatchNorm2d, nn.BatchNorm3d: SyncBatchNorm3d}


def convert_sync_batch_norm(model: nn.Module, device: torch.device) -> nn.Module:
    """Convert ``BatchNorm1d``, ``2d`` and ``3d`` to batch norms over all processes, in place.

    Only the class of the modules changes, so weights, statistics, options, hooks, state dict keys and references to
    the modules are kept. Subclasses and other norms are not changed.

    Args:
        model: a model or a batch norm.
        device: the device for training. On a GPU the norms become ``nn.SyncBatchNorm``.

    Returns:
        The model.
    """
    norm: Any
    for norm in model.modules():
        if type(norm) in CPU_CLASSES and device.type == 'cpu':
            norm.__class__ = CPU_CLASSES[type(norm)]
        elif type(norm) in CPU_CLASSES:
            norm.__class__ = nn.SyncBatchNorm
            norm.process_group = None  # the only additional attribute; None for all processes
    return model
