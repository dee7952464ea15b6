"""SlowFast: a slow pathway over few frames and a light fast pathway over all of them, with lateral connections.

SlowFast Networks for Video Recognition, Feichtenhofer et al., ICCV 2019, arXiv 1812.03982, section 3 and table 1.

Letters (see ``dsanet``): N videos, V views, U snippets, T frames, C channels, H x W pixels.
"""

import torch
from torch import Tensor, nn

from dsanet.config.registry import MODELS
from dsanet.models.backbones.residual import ResidualBackbone, conv3d
from dsanet.models.backbones.resnet_i3d import ARCHITECTURES, make_stage

FAST_DIVISOR = 8  # 1 / beta of the paper: the fast pathway has an eighth of the channels
LATERAL_RATIO = 2  # a lateral connection doubles the channels of the fast pathway
SLOW_SAMPLINGS = ('stride', 'linspace')


class Pathway(nn.Module):
    """Stem and stages of one pathway, a ResNet whose stages also get the channels of the lateral connections.

    Args:
        depth: as for :class:`SlowFast`.
        base_channels: channels of the stem; each stage doubles them.
        kernel_t: temporal kernel length of the stem.
        inflate: for each stage, whether its blocks have a temporal kernel.
        lateral_channels: additional input channels of each stage.
        activation_checkpointing: as for :class:`SlowFast`.
    """

    def __init__(
        self,
        depth: int,
        base_channels: int,
        kernel_t: int,
        inflate: tuple[bool, bool, bool, bool],
        lateral_channels: list[int],
        activation_checkpointing: bool,
    ) -> None:
        super().__init__()
        block, sizes = ARCHITECTURES[depth]
        self.conv1 = conv3d(3, base_channels, (kernel_t, 7, 7), (1, 2, 2))
        self.bn1 = nn.BatchNorm3d(base_channels)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))
        in_channels = base_channels
        for i, (size, flag, extra) in enumerate(zip(sizes, inflate, lateral_channels, strict=True)):
            channels = base_channels * 2**i
            stride = (1, 2, 2) if i > 0 else (1, 1, 1)
            options = ([flag] * size, '3x1x1', activation_checkpointing, [0.0] * size)
            stage = make_stage(block, in_channels + extra, channels, stride, *options)
            self.add_module(f'layer{i + 1}', stage)
            in_channels = channels * block.expansion
        self.out_channels = in_channels

    @property
    def stem(self) -> list[nn.Module]:
        """Convolution and norm before the stages."""
        return [self.conv1, self.bn1]

    @property
    def stages(self) -> list[nn.Sequential]:
        """The four stages."""
        return [getattr(self, f'layer{i}') for i in range(1, 5)]

    def forward_stem(self, x: Tensor) -> Tensor:
        """Map frames (B, 3, T, H, W) to features (B, base_channels, T, H / 4, W / 4)."""
        return self.maxpool(self.relu(self.bn1(self.conv1(x))))


@MODELS.register_module()
class SlowFast(ResidualBackbone):
    """Two residual networks over one clip: slow frames with many channels, all frames with few channels.

    Features of the fast pathway are added to the input of each stage of the slow one. The output is that of both
    pathways; the fast one is averaged over the frames of each slow frame, which does not change the mean over time.
    Modules such as DSA are inserted into the blocks of the slow pathway, or with ``after`` into any part, such as
    'fast_path.layer2' or 'laterals.1'.

    Args:
        depth: 10, 18, 34, 50, 101 or 152, of both pathways.
        base_channels: channels of the slow stem, a multiple of 8; each stage doubles them.
        speed_ratio: the slow pathway has T / speed_ratio frames: alpha in the paper.
        lateral_kernel_t: temporal kernel length of the lateral connections; odd.
        lateral_norm: whether a norm and a ReLU follow their convolutions; False for mmaction2's weights.
        slow_sampling: the frames of the slow pathway. 'stride': every ``speed_ratio``-th, as in the paper and in
            mmaction2. 'linspace': evenly spaced from the first to the last frame, as in PySlowFast and PyTorchVideo.
        frozen_stages, norm_eval, partial_bn, activation_checkpointing, pretrained: see :class:`ResNet_I3D`; the first
            three apply to both pathways.
    """

    def __init__(
        self,
        depth: int,
        base_channels: int = 64,
        speed_ratio: int = 8,
        lateral_kernel_t: int = 5,
        lateral_norm: bool = True,
        slow_sampling: str = 'stride',
        frozen_stages: int = -1,
        norm_eval: bool = False,
        partial_bn: bool = False,
        activation_checkpointing: bool = False,
        pretrained: str | None = None,
    ) -> None:
        super().__init__(frozen_stages, norm_eval, partial_bn, pretrained)
        if depth not in ARCHITECTURES:
            raise ValueError(f'depth={depth!r} must be one of {", ".join(map(str, ARCHITECTURES))}')
        if base_channels < 1 or base_channels % FAST_DIVISOR:
            raise ValueError(f'base_channels={base_channels!r} must be a multiple of {FAST_DIVISOR}')
        if speed_ratio < 1:
            raise ValueError(f'speed_ratio={speed_ratio!r} must be at least 1')
        if lateral_kernel_t < 1 or lateral_kernel_t % 2 == 0:
            raise ValueError(f'lateral_kernel_t={lateral_kernel_t!r} must be odd')
        if slow_sampling not in SLOW_SAMPLINGS:
            raise ValueError(f'slow_sampling={slow_sampling!r} must be one of {", ".join(SLOW_SAMPLINGS)}')
        self.speed_ratio = speed_ratio
        self.lateral_norm = lateral_norm
        self.slow_sampling = slow_sampling
        self.probe_shape = (1, 3, 2 * speed_ratio, 224, 224)
        expansion = ARCHITECTURES[depth][0].expansion
        width = base_channels // FAST_DIVISOR
        fast_channels = [width, *(width * 2**i * expansion for i in range(3))]  # inputs of the stages
        lateral_channels = [LATERAL_RATIO * channels for channels in fast_channels]
        late, all_stages = (False, False, True, True), (True, True, True, True)
        self.slow_path = Pathway(depth, base_channels, 1, late, lateral_channels, activation_checkpointing)
        self.fast_path = Pathway(depth, width, 5, all_stages, [0] * 4, activation_checkpointing)
        self.laterals = nn.ModuleList()
        for channels in fast_channels:
            out = LATERAL_RATIO * channels
            layers: list[nn.Module] = [conv3d(channels, out, (lateral_kernel_t, 1, 1), (speed_ratio, 1, 1))]
            if lateral_norm:
                layers += [nn.BatchNorm3d(out), nn.ReLU(inplace=True)]
            self.laterals.append(nn.Sequential(*layers))
        self.out_channels = self.slow_path.out_channels + self.fast_path.out_channels
        self.init_convolutions()
        self.train()

    @property
    def stem(self) -> list[nn.Module]:
        """Convolutions and norms of both pathways before the stages."""
        return [*self.slow_path.stem, *self.fast_path.stem]

    @property
    def stages(self) -> list[nn.Sequential]:
        """The four stages of the slow pathway, for the insertion of modules."""
        return self.slow_path.stages

    def layer_depths(self) -> dict[str, int]:
        """Return the depth of each parameter: in the fast pathway that of the same block of the slow one, and in a
        lateral connection that of the block before it.
        """
        depths = super().layer_depths()
        for name in depths:
            path, *rest = name.split('.')
            if path == 'fast_path':
                depths[name] = depths['.'.join(['slow_path', *rest])]
            elif path == 'laterals':
                depths[name] = sum(len(stage) for stage in self.stages[: int(rest[0])])
        return depths

    @property
    def cam_layer(self) -> str:
        """The output, because no submodule has the features of both pathways."""
        return ''

    def _frozen_parts(self) -> list[nn.Module]:
        k = self.frozen_stages
        return [*self.stem, *self.slow_path.stages[:k], *self.fast_path.stages[:k], *self.laterals[:k]]

    def _slow_frames(self, x: Tensor) -> Tensor:
        """Select the frames of the slow pathway: (B, 3, T / speed_ratio, H, W)."""
        frames = x.shape[2]
        if frames % self.speed_ratio:
            raise ValueError(f'frames_per_snippet={frames} must be a multiple of speed_ratio={self.speed_ratio}')
        if self.slow_sampling == 'stride':
            return x[:, :, :: self.speed_ratio]
        number = frames // self.speed_ratio
        return x[:, :, [i * (frames - 1) // max(number - 1, 1) for i in range(number)]]

    def forward(self, x: Tensor) -> Tensor:
        """Compute features.

        Args:
            x: normalized snippets (N*V*U, 3, T, H, W).

        Returns:
            (N*V*U, out_channels, T / speed_ratio, H / 32, W / 32), the channels of the slow pathway first.
        """
        slow = self.slow_path.forward_stem(self._slow_frames(x))
        fast = self.fast_path.forward_stem(x)
        stages = zip(self.slow_path.stages, self.fast_path.stages, self.laterals, strict=True)
        for slow_stage, fast_stage, lateral in stages:
            slow = slow_stage(torch.cat([slow, lateral(fast)], dim=1))
            fast = fast_stage(fast)
        fast = nn.functional.avg_pool3d(fast, (self.speed_ratio, 1, 1))
        return torch.cat([slow, fast], dim=1)
