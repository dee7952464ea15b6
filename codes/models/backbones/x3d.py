"""X3D: a small network of channelwise convolutions, expanded step by step from an image network.

X3D: Expanding Architectures for Efficient Video Recognition, Feichtenhofer, CVPR 2020, arXiv 2004.04730, section 3 and
tables 1 to 3; squeeze and excitation, Hu et al., arXiv 1709.01507; swish, Ramachandran et al., arXiv 1710.05941.

Letters (see ``dsanet``): N videos, V views, U snippets, T frames, C channels, H x W pixels.
"""

import math

from torch import Tensor, nn

from dsanet.config.registry import MODELS
from dsanet.models.backbones.residual import ResidualBackbone, ResidualBlock, Triple, channelwise, conv3d

STAGES = ((1, 24), (2, 48), (5, 96), (3, 192))  # blocks before the expansion of the depth, channels
EXPANSION = 2.25  # of the channels inside a block
STEM_CHANNELS = 24
FEATURE_CHANNELS = 2048


class SqueezeExcitation(nn.Module):
    """Scale each channel by a gate that is computed from the means of all channels (arXiv 1709.01507, section 3).

    The inner channels are a sixteenth, rounded to a multiple of 8, but not by more than 10% down.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(8, int(channels / 16 + 4) // 8 * 8)
        if inner < 0.9 * channels / 16:
            inner += 8
        self.fc1 = nn.Conv3d(channels, inner, 1)
        self.relu = nn.ReLU(inplace=True)
        self.fc2 = nn.Conv3d(inner, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Scale features (B, C, T, H, W)."""
        means = x.mean(dim=(2, 3, 4), keepdim=True)  # (B, C, 1, 1, 1)
        return x * self.fc2(self.relu(self.fc1(means))).sigmoid()


class X3DBlock(ResidualBlock):
    """A 1x1x1, a channelwise 3x3x3 and a 1x1x1 convolution, with swish after the second.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: of the second convolution.
        has_se: whether squeeze and excitation follows the norm of the second convolution.
        activation_checkpointing: as for :class:`X3D`.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: Triple, has_se: bool, activation_checkpointing: bool
    ) -> None:
        super().__init__(in_channels, out_channels, stride, activation_checkpointing)
        inner = int(EXPANSION * out_channels)
        self.conv1 = conv3d(in_channels, inner, (1, 1, 1))
        self.bn1 = nn.BatchNorm3d(inner)
        self.conv2 = channelwise(inner, (3, 3, 3), stride)
        self.bn2 = nn.BatchNorm3d(inner)
        self.se = SqueezeExcitation(inner) if has_se else None
        self.swish = nn.SiLU(inplace=True)
        self.conv3 = conv3d(inner, out_channels, (1, 1, 1))
        self.bn3 = nn.BatchNorm3d(out_channels)
        self.place_channels = {
            'before_block': in_channels,
            'before_conv1': in_channels,
            'before_conv2': inner,
            'before_conv3': inner,
            'before_add': out_channels,
            'after_block': out_channels,
        }

    def branch(self, x: Tensor) -> Tensor:
        x = self.apply_inserted('before_conv1', x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.apply_inserted('before_conv2', x)
        x = self.bn2(self.conv2(x))
        if self.se is not None:
            x = self.se(x)
        x = self.apply_inserted('before_conv3', self.swish(x))
        x = self.bn3(self.conv3(x))
        return self.apply_inserted('before_add', x)


@MODELS.register_module()
class X3D(ResidualBackbone):
    """X3D-XS, S, M and L, which differ in depth and in the size of their clips.

    The backbone includes the two layers before the classifier: ``conv5``, and after the pooling ``lin5``. So the
    classifier of a head is that of the paper, and all other weights are loaded for fine-tuning.

    Args:
        depth_factor: expansion of the depth, gamma_d in the paper: 2.2 for XS, S and M, 5.0 for L.
        frozen_stages, norm_eval, partial_bn, activation_checkpointing, pretrained: see :class:`ResNet_I3D`.
    """

    is_pooled = True

    def __init__(
        self,
        depth_factor: float = 2.2,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        partial_bn: bool = False,
        activation_checkpointing: bool = False,
        pretrained: str | None = None,
    ) -> None:
        super().__init__(frozen_stages, norm_eval, partial_bn, pretrained)
        if depth_factor <= 0:
            raise ValueError(f'depth_factor={depth_factor!r} must be greater than 0; 2.2 for XS, S and M, 5.0 for L')
        self.conv1_s = conv3d(3, STEM_CHANNELS, (1, 3, 3), (1, 2, 2))
        self.conv1_t = channelwise(STEM_CHANNELS, (5, 1, 1))
        self.bn1 = nn.BatchNorm3d(STEM_CHANNELS)
        self.relu = nn.ReLU(inplace=True)
        in_channels = STEM_CHANNELS
        for i, (size, channels) in enumerate(STAGES):
            blocks = []
            for j in range(math.ceil(size * depth_factor)):
                stride = (1, 2, 2) if j == 0 else (1, 1, 1)
                blocks.append(X3DBlock(in_channels, channels, stride, j % 2 == 0, activation_checkpointing))
                in_channels = channels
            self.add_module(f'layer{i + 1}', nn.Sequential(*blocks))
        inner = int(EXPANSION * in_channels)
        self.conv5 = nn.Sequential(conv3d(in_channels, inner, (1, 1, 1)), nn.BatchNorm3d(inner), nn.ReLU(inplace=True))
        self.pool = nn.AdaptiveAvgPool3d(1)
        self.lin5 = conv3d(inner, FEATURE_CHANNELS, (1, 1, 1))
        self.out_channels = FEATURE_CHANNELS
        self.init_convolutions()
        self.train()

    @property
    def stem(self) -> list[nn.Module]:
        """Convolutions and norm before the stages."""
        return [self.conv1_s, self.conv1_t, self.bn1]

    @property
    def cam_layer(self) -> str:
        """The last layer before the pooling."""
        return 'conv5'

    def forward(self, x: Tensor) -> Tensor:
        """Map snippets (N*V*U, 3, T, H, W) to pooled features (N*V*U, 2048, 1, 1, 1)."""
        x = self.relu(self.bn1(self.conv1_t(self.conv1_s(x))))
        for stage in self.stages:
            x = stage(x)
        return self.relu(self.lin5(self.pool(self.conv5(x))))
