"""What the residual backbones share: the block around a branch, and the network of four stages around its blocks.

Letters (see ``dsanet``): N videos, V views, U snippets, T frames, C channels, H x W pixels.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint
from torchvision.ops import StochasticDepth

from dsanet.models.backbones.base import Backbone
from dsanet.models.modules_maker.block_maker import InsertableBlock, modules_in_forward

Triple = tuple[int, int, int]  # time, height, width


def conv3d(in_channels: int, out_channels: int, kernel: Triple, stride: Triple = (1, 1, 1)) -> nn.Conv3d:
    """Return a convolution without bias whose padding keeps the size, but for the stride."""
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    return nn.Conv3d(in_channels, out_channels, kernel, stride, padding, bias=False)


class ResidualBlock(InsertableBlock):
    """The shortcut, the addition, stochastic depth and activation checkpointing around a residual branch.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: by how much the block shrinks time, height and width.
        activation_checkpointing: compute the activations again in the backward pass instead of keeping them.
        stochastic_depth: probability that training leaves out the branch of a snippet (arXiv 1603.09382).
    """

    expansion: int

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: Triple,
        activation_checkpointing: bool = False,
        stochastic_depth: float = 0.0,
    ) -> None:
        super().__init__()
        self.activation_checkpointing = activation_checkpointing
        self.relu = nn.ReLU(inplace=True)
        self.stochastic_depth = StochasticDepth(stochastic_depth, mode='row') if stochastic_depth else None
        self.downsample: nn.Module | None = None
        if stride != (1, 1, 1) or in_channels != out_channels:
            self.downsample = nn.Sequential(
                conv3d(in_channels, out_channels, (1, 1, 1), stride), nn.BatchNorm3d(out_channels)
            )

    def branch(self, x: Tensor) -> Tensor:
        """Compute the residual branch, all but the addition."""
        raise NotImplementedError(f'{type(self).__name__} has no residual branch')

    def _forward(self, x: Tensor) -> Tensor:
        x = self.apply_inserted('before_block', x)
        shortcut = x if self.downsample is None else self.downsample(x)
        branch = self.branch(x)
        if self.stochastic_depth is not None:
            branch = self.stochastic_depth(branch)
        return self.apply_inserted('after_block', self.relu(branch + shortcut))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N*V*U, C, T, H, W) to (N*V*U, C', T', H', W')."""
        if self.activation_checkpointing and self.training:
            if torch.compiler.is_compiling():  # it recomputes values only, and takes no contexts
                return checkpoint(self._forward, x, use_reentrant=False)
            # The second forward, in the backward pass, must not count the batch twice in the running statistics.
            contexts = lambda: (nullcontext(), frozen_statistics(self))  # noqa: E731
            return checkpoint(self._forward, x, use_reentrant=False, context_fn=contexts)
        return self._forward(x)


@contextmanager
def frozen_statistics(block: nn.Module) -> Iterator[None]:
    """Within this context batch norms in training mode leave their running statistics alone.

    They write to copies, which are thrown away. Nothing else is different from the first forward, because checkpointing
    compares what both save.

    Args:
        block: with its modules, and with those that hooks run behind them.
    """
    norms = [m for m in modules_in_forward(block) if isinstance(m, _BatchNorm) and m.training and m.track_running_stats]
    kept = [(norm, name, buffer) for norm in norms for name, buffer in norm.named_buffers(recurse=False)]
    for norm, name, buffer in kept:
        setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, name, buffer in kept:
            setattr(norm, name, buffer)


class ResidualBackbone(Backbone):
    """A stem and four stages, ``layer1`` to ``layer4``, with what fine-tuning asks for: freezing of parts and norms.

    A subclass builds ``stem``, the modules before the stages, and the stages.

    Args:
        frozen_stages: -1 trains all, 0 freezes the stem, k also the first k stages.
        norm_eval: keep all batch norms at their stored statistics in training.
        partial_bn: keep the batch norms of the stages frozen; the stem's and those of inserted modules train.
        pretrained: file with weights to start from.

    Raises:
        ValueError: ``frozen_stages`` outside of its range.
    """

    def __init__(self, frozen_stages: int, norm_eval: bool, partial_bn: bool, pretrained: str | None) -> None:
        super().__init__()
        if frozen_stages not in range(-1, 5):
            raise ValueError(f'frozen_stages={frozen_stages!r} must lie in -1 (none) to 4 (all)')
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.partial_bn = partial_bn
        self.pretrained = pretrained

    @property
    def stem(self) -> list[nn.Module]:
        """The modules before the stages that have weights."""
        raise NotImplementedError(f'{type(self).__name__} has no stem')

    @property
    def stages(self) -> list[nn.Sequential]:
        """The four stages."""
        return [getattr(self, f'layer{i}') for i in range(1, 5)]

    def init_convolutions(self) -> None:
        """Draw the weights of all convolutions (arXiv 1502.01852), as torchvision does."""
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode='fan_out', nonlinearity='relu')

    def train(self, mode: bool = True) -> 'ResidualBackbone':
        """Switch to training mode, but leave frozen parts and norms as in eval mode."""
        super().train(mode)
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        if self.partial_bn:
            for norm in self._norms_of_blocks():
                norm.eval().requires_grad_(False)
        if self.frozen_stages >= 0:
            for part in [*self.stem, *self.stages[: self.frozen_stages]]:
                part.eval().requires_grad_(False)
        return self

    def _norms_of_blocks(self) -> list[nn.Module]:
        """Return the batch norms of the stages, without those of the modules that were inserted."""
        norms: list[nn.Module] = []
        for block in self.modules():
            if isinstance(block, ResidualBlock):
                inserted = {name for names in block.inserted.values() for name in names}
                own = [child for name, child in block.named_children() if name not in inserted]
                norms += [m for child in own for m in child.modules() if isinstance(m, _BatchNorm)]
        return norms


def linear_rates(last: float, num_blocks: int) -> list[float]:
    """Return the stochastic depth of each block: rising in equal steps to ``last`` (arXiv 1603.09382, section 3).

    Raises:
        ValueError: ``last`` outside of [0, 1).
    """
    if not 0 <= last < 1:
        raise ValueError(f'stochastic_depth={last!r} must lie in [0, 1)')
    return [last * (i + 1) / num_blocks for i in range(num_blocks)]
