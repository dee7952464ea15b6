"""Base classes of residual backbones: the residual block and the network of four stages.

Letters (see ``dsanet``): N videos, V views, U snippets, T frames, C channels, H x W pixels.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from dsanet.models.backbones.base import Backbone
from dsanet.models.modules_maker.block_maker import InsertableBlock, modules_in_forward

Triple = tuple[int, int, int]  # time, height, width


def conv3d(in_channels: int, out_channels: int, kernel: Triple, stride: Triple = (1, 1, 1)) -> nn.Conv3d:
    """Return a convolution without bias, with padding that keeps the size at stride 1."""
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    return nn.Conv3d(in_channels, out_channels, kernel, stride, padding, bias=False)


class ResidualBlock(InsertableBlock):
    """Shortcut, addition, stochastic depth and activation checkpointing of a residual block.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: of the block, along time, height and width.
        activation_checkpointing: recompute the activations in the backward pass instead of storing them.
        stochastic_depth: probability of dropping the branch of a snippet in training (arXiv 1603.09382).
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
        self.stochastic_depth: nn.Module | None = None
        if stochastic_depth:
            from torchvision.ops import StochasticDepth  # imported here because it takes seconds

            self.stochastic_depth = StochasticDepth(stochastic_depth, mode='row')
        self.downsample: nn.Module | None = None
        if stride != (1, 1, 1) or in_channels != out_channels:
            self.downsample = nn.Sequential(
                conv3d(in_channels, out_channels, (1, 1, 1), stride), nn.BatchNorm3d(out_channels)
            )

    def branch(self, x: Tensor) -> Tensor:
        """Compute the residual branch, without the addition."""
        raise NotImplementedError(f'{type(self).__name__} does not implement branch')

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
            return run_checkpointed(self, self._forward, x)
        return self._forward(x)


def run_checkpointed(block: nn.Module, function: Callable[..., Tensor], *arguments: Any) -> Tensor:
    """Run a forward pass whose activations are recomputed in the backward pass instead of being stored.

    Args:
        block: the block; running statistics of its batch norms are updated once.
        function: its forward pass.
        arguments: of the function.
    """
    if torch.compiler.is_compiling():  # buffers are not updated twice then, and context_fn is not supported
        return checkpoint(function, *arguments, use_reentrant=False)
    # The recomputation in the backward pass must not update the running statistics again.
    contexts = lambda: (nullcontext(), frozen_statistics(block))  # noqa: E731
    return checkpoint(function, *arguments, use_reentrant=False, context_fn=contexts)


@contextmanager
def frozen_statistics(block: nn.Module) -> Iterator[None]:
    """Keep the running statistics of a block's batch norms unchanged in this context.

    The norms update copies, which are discarded. Otherwise the forward pass is the same as the first, because
    checkpointing compares the tensors that both save.

    Args:
        block: a block; modules inserted after its submodules are included.
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
    """A stem and four stages, ``layer1`` to ``layer4``, with freezing of stages and norms for fine-tuning.

    A subclass builds ``stem``, the modules before the stages, and the stages.

    Args:
        frozen_stages: -1 freezes nothing, 0 the stem, k also the first k stages.
        norm_eval: use the stored statistics of all batch norms in training.
        partial_bn: freeze the batch norms of the stages, but not those of the stem and of inserted modules.
        pretrained: file with initial weights.
    """

    def __init__(self, frozen_stages: int, norm_eval: bool, partial_bn: bool, pretrained: str | None) -> None:
        super().__init__()
        if frozen_stages not in range(-1, 5):
            raise ValueError(f'frozen_stages={frozen_stages!r} must be between -1 (none) and 4 (all)')
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.partial_bn = partial_bn
        self.pretrained = pretrained

    @property
    def stem(self) -> list[nn.Module]:
        """The modules before the stages that have weights."""
        raise NotImplementedError(f'{type(self).__name__} does not implement stem')

    @property
    def stages(self) -> list[nn.Sequential]:
        """The four stages."""
        return [getattr(self, f'layer{i}') for i in range(1, 5)]

    @property
    def cam_layer(self) -> str:
        """The last stage, whose output is that of the backbone."""
        return 'layer4'

    def init_convolutions(self) -> None:
        """Initialize all convolutions (arXiv 1502.01852) as torchvision does."""
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode='fan_out', nonlinearity='relu')

    def train(self, mode: bool = True) -> 'ResidualBackbone':
        """Switch to training mode, except frozen stages and norms, which stay in eval mode."""
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
        """Return the batch norms of the stages, without those of inserted modules."""
        norms: list[nn.Module] = []
        for block in self.modules():
            if isinstance(block, ResidualBlock):
                inserted = {name for names in block.inserted.values() for name in names}
                own = [child for name, child in block.named_children() if name not in inserted]
                norms += [m for child in own for m in child.modules() if isinstance(m, _BatchNorm)]
        return norms


def stochastic_depth_rates(last: float, num_blocks: int) -> list[float]:
    """Return the drop probability of each block, linearly increasing to ``last`` (arXiv 1603.09382, section 3)."""
    if not 0 <= last < 1:
        raise ValueError(f'stochastic_depth={last!r} must be in [0, 1)')
    return [last * (i + 1) / num_blocks for i in range(num_blocks)]
