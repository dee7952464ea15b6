"""Video models of torchvision as backbones."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from dsanet.config.arguments import nearest
from dsanet.config.registry import MODELS
from dsanet.models.backbones.base import Backbone
from dsanet.models.backbones.feature_layout import FeatureLayout, fit_grid

S3D_MIN_SIZE = (13, 209, 209)  # T, H, W; smaller clips are too small for the last pooling, 2 x 7 x 7


def _split_classifier(net: nn.Module) -> int:
    """Remove the classifier of a torchvision model and return the number of its input features."""
    for name in ('fc', 'head', 'classifier'):
        if not hasattr(net, name):
            continue
        layers = [m for m in getattr(net, name).modules() if isinstance(m, nn.Linear | nn.Conv3d)]
        assert len(layers) == 1, f'classifier {name} of {type(net).__name__} must have one layer'
        setattr(net, name, nn.Identity())
        return layers[0].in_features if isinstance(layers[0], nn.Linear) else layers[0].in_channels
    raise AssertionError(f'{type(net).__name__} has no classifier named fc, head or classifier')


@MODELS.register_module()
class TorchvisionVideo(Backbone):
    """A video model of torchvision without its classifier, with torchvision's pooling.

    Modules such as DSA are inserted after named submodules: ``module_cfg=dict(type='DSA', after='net.layer2', ...)``.
    Features of the ResNets and S3D are (B, C, T, H, W), those of Swin (B, T, H, W, C), those of MViT's blocks, such as
    ``net.blocks.3``, a class token and T*H*W tokens. Inserted modules get (B, C, T, H, W) everywhere; the class token
    is not changed, so a module after MViT's last block has no effect. MViT accepts clips of one size only, that of its
    weights (mvit_v2_s: 16 x 224 x 224), also in tests; S3D accepts clips of at least 13 x 209 x 209.

    Args:
        name: such as 'r3d_18', 'mc3_18', 'r2plus1d_18', 's3d', 'mvit_v2_s' or 'swin3d_t'.
        stochastic_depth: probability of dropping the last block's branch in training; None for torchvision's default.
            Swin and MViT only.
        pretrained: file with torchvision's weights of this model. Loaded by ``Recognizer3D.init_weights``.
    """

    is_pooled = True

    def __init__(self, name: str, stochastic_depth: float | None = None, pretrained: str | None = None) -> None:
        super().__init__()
        from torchvision import models  # imported here because it is slow

        names = models.list_models(module=models.video)
        if name not in names:
            raise ValueError(f'name={name!r} must be one of {", ".join(names)}.{nearest(name, names)}')
        self.name = name
        self.pretrained = pretrained
        self.net = models.get_model(name, weights=None)
        self.out_channels = _split_classifier(self.net)
        if stochastic_depth is not None:
            self._scale_stochastic_depth(stochastic_depth)

    def _scale_stochastic_depth(self, last: float) -> None:
        """Scale the drop probabilities so that the last is ``last``, which Swin's constructor does not support."""
        if not 0 <= last < 1:
            raise ValueError(f'stochastic_depth={last!r} must be in [0, 1)')
        from torchvision.ops import StochasticDepth  # imported here because it takes seconds

        drops = [module for module in self.net.modules() if isinstance(module, StochasticDepth)]
        if not drops:
            raise ValueError(f'stochastic_depth={last} is not supported by name={self.name!r}')
        largest = max(drop.p for drop in drops)
        for drop in drops:
            drop.p *= last / largest

    @property
    def layers_in_order(self) -> list[nn.Module]:
        """The blocks of all stages, without the merging layers of Swin."""
        if self.name.startswith('mvit'):
            return list(self.net.get_submodule('blocks'))
        if self.name == 's3d':
            parts = self.net.get_submodule('features').children()
            return [part for part in parts if any(True for _ in part.parameters())]
        if self.name.startswith('swin3d'):
            stages = [part for part in self.net.get_submodule('features') if isinstance(part, nn.Sequential)]
        else:
            stages = [self.net.get_submodule(f'layer{number}') for number in range(1, 5)]
        return [block for stage in stages for block in stage]

    @property
    def cam_layer(self) -> str:
        """The last submodule with positions in time and space; in MViT the input of the last attention."""
        if self.name.startswith('mvit'):
            # After the last attention only the class token reaches the scores.
            return f'net.blocks.{len(self.net.get_submodule("blocks")) - 1}.norm1'
        if self.name.startswith('swin3d'):
            return 'net.norm'
        return 'net.features' if self.name == 's3d' else 'net.layer4'

    def feature_layout(self, submodule: str, shape: Sequence[int]) -> FeatureLayout | None:
        """Return the layout of an output: (B, C, T, H, W); in Swin and MViT as described above."""
        if len(shape) == 5:
            channels_first = ('', 'net.patch_embed.proj', 'net.avgpool')
            is_last = self.name.startswith('swin3d') and submodule not in channels_first
            return FeatureLayout('BTHWC' if is_last else 'BCTHW')
        if not self.name.startswith('mvit') or len(shape) != 3:
            return None
        places: Any = self.net.pos_encoding
        frames, (height, width) = places.temporal_size, places.spatial_size  # all blocks keep the number of frames
        grid = fit_grid((shape[1] - 1) // frames, height, width)
        if grid is None or frames * grid[0] * grid[1] != shape[1] - 1:
            return None
        return FeatureLayout('BMC', (frames, *grid), num_prefix_tokens=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map snippets (N*V*U, 3, T, H, W) to pooled features (N*V*U, out_channels, 1, 1, 1)."""
        size = tuple(x.shape[2:])
        if self.name.startswith('mvit') and size != self.probe_shape[2:]:
            required = ' x '.join(map(str, self.probe_shape[2:]))
            raise ValueError(f'{self.name} requires clips of {required} (T, H, W), got {size}')
        if self.name == 's3d' and any(n < minimum for n, minimum in zip(size, S3D_MIN_SIZE, strict=True)):
            raise ValueError(f'{self.name} requires clips of at least {S3D_MIN_SIZE} (T, H, W), got {size}')
        return self.net(x)[..., None, None, None]
