"""Multi-View Fusion: depthwise convolutions of a snippet along time, height and width.

MVFNet: Multi-View Fusion Network for Efficient Video Recognition, Wu et al., AAAI 2021, arXiv 2012.06977, abstract;
other details are as in the authors' release. For the first ``int(C * channel_ratio)`` channels::

    y = hardswish(BN(conv_t(x) + conv_h(x) + conv_w(x)))

Each convolution is depthwise and has a kernel of length 3 along T, H or W.

Letters (see ``dsanet``): N videos, V views, U snippets, T frames, C channels, H x W pixels.
"""

import torch
from torch import Tensor, nn

from dsanet.config.registry import MODELS


@MODELS.register_module()
class MVF(nn.Module):
    """Sum of depthwise convolutions along time, height and width, for a part of the channels.

    Args:
        in_channels: C, channels of the input.
        channel_ratio: share of the channels that are fused (alpha in the paper); the others are not changed.
    """

    def __init__(self, in_channels: int, channel_ratio: float = 1 / 8) -> None:
        super().__init__()
        if not 0 < channel_ratio <= 1 or int(in_channels * channel_ratio) < 1:
            raise ValueError(
                f'channel_ratio={channel_ratio!r} must be in (0, 1] and select at least 1 channel '
                f'of in_channels={in_channels}'
            )
        self.channels = channels = int(in_channels * channel_ratio)
        self.conv_t = nn.Conv3d(channels, channels, (3, 1, 1), padding=(1, 0, 0), groups=channels, bias=False)
        self.conv_h = nn.Conv3d(channels, channels, (1, 3, 1), padding=(0, 1, 0), groups=channels, bias=False)
        self.conv_w = nn.Conv3d(channels, channels, (1, 1, 3), padding=(0, 0, 1), groups=channels, bias=False)
        self.bn = nn.BatchNorm3d(channels)
        self.activation = nn.Hardswish(inplace=True)
        for conv in (self.conv_t, self.conv_h, self.conv_w):
            nn.init.normal_(conv.weight, std=(2 / (3 * channels)) ** 0.5)  # as released: fan out of a dense kernel

    def extra_repr(self) -> str:
        return f'channels={self.channels}'

    def forward(self, x: Tensor) -> Tensor:
        """Fuse features (N*V*U, C, T, H, W); return the same shape."""
        active, passive = x[:, : self.channels], x[:, self.channels :]
        fused = self.conv_t(active) + self.conv_h(active) + self.conv_w(active)
        return torch.cat([self.activation(self.bn(fused)), passive], dim=1)
