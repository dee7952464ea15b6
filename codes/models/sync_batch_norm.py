"""Batch norm with the statistics of the whole batch, over all processes, on GPUs and on CPUs.

A batch norm of one process sees that process's videos alone, so a run on more processes with smaller batches is another
training. With the statistics of all processes it is the same one, to rounding. torch's ``nn.SyncBatchNorm`` does this
on GPUs; on the CPU it refuses tensors, and DistributedDataParallel refuses it (torch 2.14), so norms of our own do.
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
    """What makes a batch norm one over all processes; stands before the class whose input it takes.

    In eval mode, and in one process, it is bit for bit the ordinary batch norm. The processes' batches may differ in
    size; those with more positions count more. Weight and bias get the gradients of a process's own batch, which
    DistributedDataParallel averages.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalize (B, C, ...); returns the same shape.

        Raises:
            ValueError: in training, less than two values a channel in all processes together.
        """
        if not self.training or distributed.world_size() == 1:
            return super().forward(input)
        self._check_input_dim(input)
        count, mean, var = global_statistics(input)
        if count < 2:
            raise ValueError(f'batch norm needs more than one value a channel; all processes together have {count}')
        if self.track_running_stats:
            self._move_running_statistics(mean, var * (count / (count - 1)))
        input = _ThroughStatistics.apply(input, mean, (var + self.eps).rsqrt(), count)
        return F.batch_norm(input, mean, var, self.weight, self.bias, training=False, eps=self.eps)

    @torch.no_grad()
    def _move_running_statistics(self, mean: Tensor, var: Tensor) -> None:
        """Count one batch in; without a momentum all batches count alike."""
        assert self.running_mean is not None, 'a norm that tracks statistics has a running mean'
        assert self.running_var is not None, 'a norm that tracks statistics has a running variance'
        assert self.num_batches_tracked is not None, 'a norm that tracks statistics counts its batches'
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
    """Return the number of values a channel in all processes, their mean (C,) and their variance (C,), which is biased.

    Each process sends its own three, which are joined with the deviations of the processes' means (Chan et al., 1983),
    so that a mean far from zero costs no digits. The result has the same bits in all processes.

    Args:
        x: (B, C, ...); B may be 0.
    """
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    own_count = x.numel() // x.shape[1]
    own_mean = wide.mean(_all_but_channels(x)) if own_count else wide.new_zeros(x.shape[1])
    own_var = (wide - _along_channels(own_mean, x)).square().sum(_all_but_channels(x)) / max(own_count, 1)
    own = torch.cat([own_mean.new_tensor([own_count]), own_mean, own_var]).double()
    everyone = [torch.empty_like(own) for _ in range(distributed.world_size())]
    dist.all_gather(everyone, own)
    counts, means, variances = torch.stack(everyone).split([1, x.shape[1], x.shape[1]], dim=1)  # one row a process
    count = counts.sum()
    mean = (counts * means).sum(0) / count
    var = (counts * (variances + (means - mean).square())).sum(0) / count
    return int(count), mean.to(wide.dtype), var.to(wide.dtype)


class _ThroughStatistics(torch.autograd.Function):
    """The identity before a normalization by given statistics; its gradient adds that they depend on the input.

    With z the normalized input and g the gradient of fixed statistics, the whole gradient is g - mean(g) - z mean(g z),
    the means over all positions of all processes (arXiv 1502.03167, section 3).
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
    """Return values (C,) in a shape that broadcasts with x (B, C, ...)."""
    return values.view(-1, *[1] * (x.dim() - 2))  # (C, 1, ...)


ON_CPU = {nn.BatchNorm1d: SyncBatchNorm1d, nn.BatchNorm2d: SyncBatchNorm2d, nn.BatchNorm3d: SyncBatchNorm3d}


def convert_sync_batch_norm(model: nn.Module, device: torch.device) -> nn.Module:
    """Turn the batch norms of a model into those over all processes, in place.

    The same modules go on as another class, so weights, statistics, momentum, training flags, hooks, keys of the state
    dict and whatever else refers to them stay as they are. Norms of other classes are left alone.

    Args:
        model: with ``BatchNorm1d``, ``BatchNorm2d`` or ``BatchNorm3d`` anywhere inside, or one of these.
        device: where the model is trained; it need not be there yet. On a GPU norms become ``nn.SyncBatchNorm``.

    Returns:
        The model.
    """
    norm: Any
    for norm in model.modules():
        if type(norm) in ON_CPU and device.type == 'cpu':
            norm.__class__ = ON_CPU[type(norm)]
        elif type(norm) in ON_CPU:
            norm.__class__ = nn.SyncBatchNorm
            norm.process_group = None  # the attribute that it has beyond the others': all processes
    return model
