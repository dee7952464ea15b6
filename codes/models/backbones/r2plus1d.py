"""R(2+1)D: each 3D convolution is split into a spatial and a temporal one, with a norm and a ReLU between them.

A Closer Look at Spatiotemporal Convolutions for Action Recognition, Tran et al., CVPR 2018, arXiv 1711.11248.
"""

from torch import Tensor, nn

from dsanet.config.registry import MODELS
from dsanet.models.backbones.residual import ResidualBackbone, Triple, conv3d, stochastic_depth_rates
from dsanet.models.backbones.resnet_i3d import BasicBlock3d

SIZES = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}  # depth: blocks in each of the four stages
STYLES = ('torchvision', 'mmaction2')


class Conv2Plus1d(nn.Module):
    """A spatial convolution, a norm, a ReLU and a temporal convolution (section 3.5).

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        mid_channels: channels between the two.
        kernel: kernel size of the 3D convolution that is replaced.
        stride: stride of the 3D convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, mid_channels: int, kernel: Triple, stride: Triple) -> None:
        super().__init__()
        self.spatial = conv3d(in_channels, mid_channels, (1, *kernel[1:]), (1, *stride[1:]))
        self.norm = nn.BatchNorm3d(mid_channels)
        self.relu = nn.ReLU(inplace=True)
        self.temporal = conv3d(mid_channels, out_channels, (kernel[0], 1, 1), (stride[0], 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.temporal(self.relu(self.norm(self.spatial(x))))


def compute_mid_channels(in_channels: int, out_channels: int, pixels: int = 9) -> int:
    """Return the mid channels for which both convolutions together have as many parameters as a 3D one (section 3.5).

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        pixels: height x width of the kernel; its length is 3 frames.
    """
    return 3 * pixels * in_channels * out_channels // (pixels * in_channels + 3 * out_channels)


class BasicBlock2Plus1d(BasicBlock3d):
    """A basic block of two (2+1)D convolutions; ``style`` as in :class:`R2Plus1D`."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: Triple,
        style: str,
        activation_checkpointing: bool,
        stochastic_depth: float,
    ) -> None:
        super().__init__(
            in_channels,
            channels,
            stride,
            activation_checkpointing=activation_checkpointing,
            stochastic_depth=stochastic_depth,
        )
        kernel = (3, 3, 3)
        first = compute_mid_channels(in_channels, channels)
        second = first if style == 'torchvision' else compute_mid_channels(channels, channels)
        self.conv1 = Conv2Plus1d(in_channels, channels, first, kernel, stride)  # type: ignore[assignment]
        self.conv2 = Conv2Plus1d(channels, channels, second, kernel, (1, 1, 1))  # type: ignore[assignment]
        if style == 'mmaction2' and self.downsample is not None:
            width = compute_mid_channels(in_channels, channels, pixels=1)
            shortcut = Conv2Plus1d(in_channels, channels, width, (1, 1, 1), stride)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm3d(channels))


@MODELS.register_module()
class R2Plus1D(ResidualBackbone):
    """R(2+1)D with four stages; the last three halve time, height and width.

    Args:
        depth: 10, 18 or 34.
        base_channels: channels of the stem; each stage doubles them.
        style: 'torchvision' or 'mmaction2', whose weights are not compatible. 'torchvision': both convolutions of a
            block have the same mid channels, the stem has 45, and there is no pooling. 'mmaction2': each convolution
            has the mid channels of the paper's formula, shortcuts are also split, the stem has a 3x3 pooling, and the
            norms after a convolution have an epsilon of 1e-3.
        frozen_stages, norm_eval, partial_bn, stochastic_depth, activation_checkpointing, pretrained: see
            :class:`ResNet_I3D`.
    """

    def __init__(
        self,
        depth: int,
        base_channels: int = 64,
        style: str = 'torchvision',
        frozen_stages: int = -1,
        norm_eval: bool = False,
        partial_bn: bool = False,
        stochastic_depth: float = 0.0,
        activation_checkpointing: bool = False,
        pretrained: str | None = None,
    ) -> None:
        super().__init__(frozen_stages, norm_eval, partial_bn, pretrained)
        if depth not in SIZES:
            raise ValueError(f'depth={depth!r} must be one of {", ".join(map(str, SIZES))}')
        if style not in STYLES:
            raise ValueError(f'style={style!r} must be one of {", ".join(STYLES)}')
        if base_channels < 1:
            raise ValueError(f'base_channels={base_channels!r} must be at least 1')
        width = 45 if style == 'torchvision' else compute_mid_channels(3, base_channels, pixels=49)
        self.conv1 = Conv2Plus1d(3, base_channels, width, (3, 7, 7), (1, 2, 2))
        self.bn1 = nn.BatchNorm3d(base_channels)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)) if style == 'mmaction2' else None
        in_channels = base_channels
        rates = iter(stochastic_depth_rates(stochastic_depth, sum(SIZES[depth])))
        for i, size in enumerate(SIZES[depth]):
            channels = base_channels * 2**i
            blocks = []
            for j in range(size):
                stride = (2, 2, 2) if i > 0 and j == 0 else (1, 1, 1)
                blocks.append(
                    BasicBlock2Plus1d(in_channels, channels, stride, style, activation_checkpointing, next(rates))
                )
                in_channels = channels
            self.add_module(f'layer{i + 1}', nn.Sequential(*blocks))
        self.out_channels = in_channels
        if style == 'mmaction2':
            for name, module in self.named_modules():
                if isinstance(module, nn.BatchNorm3d) and not name.endswith('.norm'):
                    module.eps = 1e-3
        self.init_convolutions()
        self.train()

    @property
    def stem(self) -> list[nn.Module]:
        """Convolution and norm before the stages."""
        return [self.conv1, self.bn1]

    def forward(self, x: Tensor) -> Tensor:
        """Map snippets (N*V*U, 3, T, H, W) to (N*V*U, out_channels, T / 8, H / 16, W / 16), or H / 32 if pooled."""
        x = self.relu(self.bn1(self.conv1(x)))
        if self.maxpool is not None:
            x = self.maxpool(x)
        for stage in self.stages:
            x = stage(x)
        return x
