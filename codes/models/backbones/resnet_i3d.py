"""ResNet-I3D: a 2D residual network with filters inflated in time.

Quo Vadis, Action Recognition? Carreira and Zisserman, arXiv 1705.07750 (inflation); the slow pathway of SlowFast,
Feichtenhofer et al., arXiv 1812.03982 (inflate the late stages only, keep all frames), the base of the 2021 release of
DSANet. The keys of the state dict are those of torchvision's ResNets, so image weights load by name.

Letters (see ``dsanet``): N videos, V views, U snippets, T frames, C channels, H x W pixels.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from dsanet.config.registry import MODELS
from dsanet.models.backbones.residual import ResidualBackbone, ResidualBlock, Triple, conv3d, stochastic_depth_rates
from dsanet.models.modules_maker.block_maker import expand_flags


class BasicBlock3d(ResidualBlock):
    """Two 3x3 convolutions; if inflated, both are 3x3x3 for any ``inflate_style``, as in the 2021 release."""

    expansion = 1

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: Triple = (1, 1, 1),
        inflate: bool = True,
        inflate_style: str = '3x1x1',
        activation_checkpointing: bool = False,
        stochastic_depth: float = 0.0,
    ) -> None:
        out_channels = channels * self.expansion
        super().__init__(in_channels, out_channels, stride, activation_checkpointing, stochastic_depth)
        kernel: Triple = (3, 3, 3) if inflate else (1, 3, 3)
        self.conv1 = conv3d(in_channels, channels, kernel, stride)
        self.bn1 = nn.BatchNorm3d(channels)
        self.conv2 = conv3d(channels, channels, kernel)
        self.bn2 = nn.BatchNorm3d(channels)
        self.place_channels = {
            'before_block': in_channels,
            'before_conv1': in_channels,
            'before_conv2': channels,
            'before_add': channels,
            'after_block': channels,
        }

    def branch(self, x: Tensor) -> Tensor:
        x = self.apply_inserted('before_conv1', x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.apply_inserted('before_conv2', x)
        x = self.bn2(self.conv2(x))
        return self.apply_inserted('before_add', x)


class Bottleneck3d(ResidualBlock):
    """1x1, 3x3, 1x1 convolutions; if inflated, the first is 3x1x1 or the second 3x3x3."""

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: Triple = (1, 1, 1),
        inflate: bool = True,
        inflate_style: str = '3x1x1',
        activation_checkpointing: bool = False,
        stochastic_depth: float = 0.0,
    ) -> None:
        out_channels = channels * self.expansion
        super().__init__(in_channels, out_channels, stride, activation_checkpointing, stochastic_depth)
        length1 = 3 if inflate and inflate_style == '3x1x1' else 1
        length2 = 3 if inflate and inflate_style == '3x3x3' else 1
        self.conv1 = conv3d(in_channels, channels, (length1, 1, 1))
        self.bn1 = nn.BatchNorm3d(channels)
        self.conv2 = conv3d(channels, channels, (length2, 3, 3), stride)
        self.bn2 = nn.BatchNorm3d(channels)
        self.conv3 = conv3d(channels, out_channels, (1, 1, 1))
        self.bn3 = nn.BatchNorm3d(out_channels)
        self.place_channels = {
            'before_block': in_channels,
            'before_conv1': in_channels,
            'before_conv2': channels,
            'before_conv3': channels,
            'before_add': out_channels,
            'after_block': out_channels,
        }

    def branch(self, x: Tensor) -> Tensor:
        x = self.apply_inserted('before_conv1', x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.apply_inserted('before_conv2', x)
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.apply_inserted('before_conv3', x)
        x = self.bn3(self.conv3(x))
        return self.apply_inserted('before_add', x)


# depth: (block, blocks in each of the four stages)
ARCHITECTURES: dict[int, tuple[type[BasicBlock3d] | type[Bottleneck3d], tuple[int, ...]]] = {
    10: (BasicBlock3d, (1, 1, 1, 1)),
    18: (BasicBlock3d, (2, 2, 2, 2)),
    34: (BasicBlock3d, (3, 4, 6, 3)),
    50: (Bottleneck3d, (3, 4, 6, 3)),
    101: (Bottleneck3d, (3, 4, 23, 3)),
    152: (Bottleneck3d, (3, 8, 36, 3)),
}
INFLATE_STYLES = ('3x1x1', '3x3x3')


def make_stage(
    block: type[BasicBlock3d] | type[Bottleneck3d],
    in_channels: int,
    channels: int,
    stride: Triple,
    inflated: Sequence[bool],
    inflate_style: str,
    activation_checkpointing: bool,
    stochastic_depth: Sequence[float],
) -> nn.Sequential:
    """Return a stage of residual blocks, the first of which has the stride.

    Args:
        block: class of the blocks.
        in_channels: channels of the input.
        channels: channels inside the blocks; the output has ``block.expansion`` times as many.
        stride: along time, height and width.
        inflated: for each block, whether it has a temporal kernel.
        inflate_style, activation_checkpointing: see :class:`ResNet_I3D`.
        stochastic_depth: drop probability of each block.
    """
    blocks = []
    for j, (flag, rate) in enumerate(zip(inflated, stochastic_depth, strict=True)):
        block_stride = stride if j == 0 else (1, 1, 1)
        blocks.append(block(in_channels, channels, block_stride, flag, inflate_style, activation_checkpointing, rate))
        in_channels = channels * block.expansion
    return nn.Sequential(*blocks)


@MODELS.register_module()
class ResNet_I3D(ResidualBackbone):
    """A 3D residual network.

    The defaults are those of the 2021 release: only the late stages are inflated, and the number of frames is kept.
    With them the class is SlowOnly (arXiv 1812.03982); with temporal kernels and strides in stem and pooling it is I3D
    (arXiv 1705.07750).

    Args:
        depth: 10, 18, 34, 50, 101 or 152. 10 has one block per stage, for small experiments.
        base_channels: channels of the stem; each stage doubles them.
        inflate: blocks with a temporal kernel length of 3: one entry per stage, each 0, 1 or a flag per block.
        inflate_style: '3x1x1' inflates the first convolution of a bottleneck, '3x3x3' the second.
        conv1_kernel_t: temporal kernel length of the 7x7 stem convolution; odd.
        conv1_stride_t: its temporal stride.
        pool1_kernel_t: temporal kernel length of the 3x3 pooling after the stem; odd.
        pool1_stride_t: its temporal stride.
        pool2_stride_t: stride and kernel length of a temporal pooling after the first stage; 1 for none.
        frozen_stages: -1 freezes nothing, 0 the stem, k also the first k stages: weights and statistics, including
            modules inserted into their blocks. The initial weights should include these modules.
        norm_eval: use the stored statistics of all batch norms in training, including those of inserted modules.
        partial_bn: freeze the batch norms of the stages, but not those of the stem and of inserted modules.
        stochastic_depth: probability of dropping the last block's branch of a snippet in training; it decreases
            linearly toward the first block (arXiv 1603.09382).
        activation_checkpointing: recompute a block's activations in the backward pass instead of storing them; results
            are bit-identical. Measured on a CPU with depth 101 and 8 snippets of 8 x 112 x 112: 1.3 instead of 2.2 GB
            beyond weights and gradients, 20% more CPU time (50% with 4 snippets).
        pretrained: file with initial weights, such as torchvision's image ResNet, which is inflated. Loaded by
            ``Recognizer3D.init_weights``.
    """

    def __init__(
        self,
        depth: int,
        base_channels: int = 64,
        inflate: Sequence[int | Sequence[int]] = (0, 0, 1, 1),
        inflate_style: str = '3x1x1',
        conv1_kernel_t: int = 1,
        conv1_stride_t: int = 1,
        pool1_kernel_t: int = 1,
        pool1_stride_t: int = 1,
        pool2_stride_t: int = 1,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        partial_bn: bool = False,
        stochastic_depth: float = 0.0,
        activation_checkpointing: bool = False,
        pretrained: str | None = None,
    ) -> None:
        super().__init__(frozen_stages, norm_eval, partial_bn, pretrained)
        if depth not in ARCHITECTURES:
            raise ValueError(f'depth={depth!r} must be one of {", ".join(map(str, ARCHITECTURES))}')
        if inflate_style not in INFLATE_STYLES:
            raise ValueError(f'inflate_style={inflate_style!r} must be one of {", ".join(INFLATE_STYLES)}')
        for name, kernel in (('conv1_kernel_t', conv1_kernel_t), ('pool1_kernel_t', pool1_kernel_t)):
            if kernel < 1 or kernel % 2 == 0:
                raise ValueError(f'{name}={kernel!r} must be odd')
        sizes_from_1 = {
            'base_channels': base_channels,
            'conv1_stride_t': conv1_stride_t,
            'pool1_stride_t': pool1_stride_t,
            'pool2_stride_t': pool2_stride_t,
        }
        for name, number in sizes_from_1.items():
            if number < 1:
                raise ValueError(f'{name}={number!r} must be at least 1')
        block, sizes = ARCHITECTURES[depth]
        inflated = expand_flags(inflate, sizes, 'inflate')

        self.conv1 = conv3d(3, base_channels, (conv1_kernel_t, 7, 7), (conv1_stride_t, 2, 2))
        self.bn1 = nn.BatchNorm3d(base_channels)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool3d((pool1_kernel_t, 3, 3), (pool1_stride_t, 2, 2), (pool1_kernel_t // 2, 1, 1))
        self.pool2 = nn.MaxPool3d((pool2_stride_t, 1, 1)) if pool2_stride_t > 1 else None
        in_channels = base_channels
        rates = iter(stochastic_depth_rates(stochastic_depth, sum(sizes)))
        for i, flags in enumerate(inflated):
            channels = base_channels * 2**i
            stride = (1, 2, 2) if i > 0 else (1, 1, 1)
            options = (inflate_style, activation_checkpointing, [next(rates) for _ in flags])
            self.add_module(f'layer{i + 1}', make_stage(block, in_channels, channels, stride, flags, *options))
            in_channels = channels * block.expansion
        self.out_channels = in_channels
        self.init_convolutions()
        self.train()

    @property
    def stem(self) -> list[nn.Module]:
        """Convolution and norm before the stages."""
        return [self.conv1, self.bn1]

    def forward(self, x: Tensor) -> Tensor:
        """Compute features.

        Args:
            x: normalized snippets (N*V*U, 3, T, H, W).

        Returns:
            (N*V*U, out_channels, T', H / 32, W / 32).
        """
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i == 0 and self.pool2 is not None:
                x = self.pool2(x)
        return x
