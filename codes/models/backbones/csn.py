"""CSN: residual networks whose 3x3x3 convolutions are channelwise, so that only 1x1x1 ones relate channels.

Video Classification with Channel-Separated Convolutional Networks, Tran et al., ICCV 2019, arXiv 1904.02811, section 3.

Letters (see ``dsanet``): N videos, V views, U snippets, T frames, C channels, H x W pixels.
"""

from torch import Tensor, nn

from dsanet.config.registry import MODELS
from dsanet.models.backbones.residual import ResidualBackbone, Triple, channelwise, conv3d
from dsanet.models.backbones.resnet_i3d import Bottleneck3d

SIZES = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}  # depth: blocks in each of the four stages
MODES = ('ir', 'ip')
NORM_EPS = 1e-3  # of the authors' weights


class CSNBottleneck(Bottleneck3d):
    """A bottleneck with a channelwise second convolution; ``mode`` as in :class:`CSN`."""

    def __init__(
        self, in_channels: int, channels: int, stride: Triple, mode: str, activation_checkpointing: bool
    ) -> None:
        super().__init__(in_channels, channels, stride, False, activation_checkpointing=activation_checkpointing)
        layers: list[nn.Module] = [channelwise(channels, (3, 3, 3), stride)]
        if mode == 'ip':
            layers = [conv3d(channels, channels, (1, 1, 1)), nn.BatchNorm3d(channels), *layers]
        self.conv2 = nn.Sequential(*layers)  # type: ignore[assignment]


@MODELS.register_module()
class CSN(ResidualBackbone):
    """ir-CSN and ip-CSN with four stages; the last three halve time, height and width.

    Args:
        depth: 50, 101 or 152.
        mode: 'ir': interaction-reduced, the 3x3x3 convolution of a block is channelwise. 'ip': interaction-preserved,
            a 1x1x1 convolution and a norm precede it.
        frozen_stages, norm_eval, partial_bn, activation_checkpointing, pretrained: see :class:`ResNet_I3D`.
    """

    def __init__(
        self,
        depth: int,
        mode: str = 'ir',
        frozen_stages: int = -1,
        norm_eval: bool = False,
        partial_bn: bool = False,
        activation_checkpointing: bool = False,
        pretrained: str | None = None,
    ) -> None:
        super().__init__(frozen_stages, norm_eval, partial_bn, pretrained)
        if depth not in SIZES:
            raise ValueError(f'depth={depth!r} must be one of {", ".join(map(str, SIZES))}')
        if mode not in MODES:
            raise ValueError(f'mode={mode!r} must be one of {", ".join(MODES)}')
        self.conv1 = conv3d(3, 64, (3, 7, 7), (1, 2, 2))
        self.bn1 = nn.BatchNorm3d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))
        in_channels = 64
        for i, size in enumerate(SIZES[depth]):
            channels = 64 * 2**i
            blocks = []
            for j in range(size):
                stride = (2, 2, 2) if i > 0 and j == 0 else (1, 1, 1)
                blocks.append(CSNBottleneck(in_channels, channels, stride, mode, activation_checkpointing))
                in_channels = channels * CSNBottleneck.expansion
            self.add_module(f'layer{i + 1}', nn.Sequential(*blocks))
        self.out_channels = in_channels
        for module in self.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.eps = NORM_EPS
        self.init_convolutions()
        self.train()

    @property
    def stem(self) -> list[nn.Module]:
        """Convolution and norm before the stages."""
        return [self.conv1, self.bn1]

    def forward(self, x: Tensor) -> Tensor:
        """Map snippets (N*V*U, 3, T, H, W) to (N*V*U, 2048, T / 8, H / 32, W / 32)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in self.stages:
            x = stage(x)
        return x
