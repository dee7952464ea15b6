"""Any of torchvision's video models as a backbone, so that the weights of its ecosystem can be used."""

from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from dsanet.config.arguments import nearest
from dsanet.config.registry import MODELS
from dsanet.models.backbones.base import Backbone

S3D_LEAST = (13, 209, 209)  # T, H, W for which its last pooling, over 2 x 7 x 7, has something to pool


def _split_classifier(net: nn.Module) -> int:
    """Take the classifier out of a torchvision model; returns the number of features that it read."""
    for name in ('fc', 'head', 'classifier'):
        if not hasattr(net, name):
            continue
        layers = [m for m in getattr(net, name).modules() if isinstance(m, nn.Linear | nn.Conv3d)]
        assert len(layers) == 1, f'the classifier {name} of {type(net).__name__} is expected to have one layer'
        setattr(net, name, nn.Identity())
        return layers[0].in_features if isinstance(layers[0], nn.Linear) else layers[0].in_channels
    raise AssertionError(f'{type(net).__name__} is expected to have a classifier called fc, head or classifier')


@MODELS.register_module()
class TorchvisionVideo(Backbone):
    """A video model of torchvision without its classifier, pooled as torchvision pools it.

    DSA and its siblings go behind named submodules: ``module_cfg=dict(type='DSA', after='net.layer2', ...)``. The
    ResNets and S3D yield features (B, C, T, H, W) everywhere, Swin (B, T, H, W, C), which is turned round; MViT yields
    tokens behind its first convolution ``net.conv_proj``. MViT takes clips of one size only, that of
    its weights (mvit_v2_s: 16 x 224 x 224), in tests too; S3D none smaller than 13 x 209 x 209.

    Args:
        name: such as 'r3d_18', 'mc3_18', 'r2plus1d_18', 's3d', 'mvit_v2_s' or 'swin3d_t'.
        stochastic_depth: probability that training leaves out the last block's branch; None for torchvision's
            default. Swin and MViT only.
        pretrained: file with torchvision's weights of this model. Read by ``Recognizer3D.init_weights``, not here.

    Raises:
        ValueError: torchvision has no such video model, or it has no stochastic depth.
    """

    is_pooled = True

    def __init__(self, name: str, stochastic_depth: float | None = None, pretrained: str | None = None) -> None:
        super().__init__()
        from torchvision import models  # here, because it takes a moment that few runs need to spend

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
        """Keep the steps from block to block, but let them end at ``last``: Swin's constructor does not take it."""
        if not 0 <= last < 1:
            raise ValueError(f'stochastic_depth={last!r} must lie in [0, 1)')
        drops = [module for module in self.net.modules() if isinstance(module, StochasticDepth)]
        if not drops:
            raise ValueError(f'stochastic_depth={last} does not go with name={self.name!r}, which has none')
        largest = max(drop.p for drop in drops)
        for drop in drops:
            drop.p *= last / largest

    def is_channels_last(self, submodule: str) -> bool:
        """Say whether a submodule yields (B, T, H, W, C): in Swin all but the first convolution and the pooling."""
        channels_first = ('net.patch_embed.proj', 'net.avgpool')
        return self.name.startswith('swin3d') and submodule not in channels_first

    def forward(self, x: Tensor) -> Tensor:
        """Map snippets (N*V*U, 3, T, H, W) to pooled features (N*V*U, out_channels, 1, 1, 1).

        Raises:
            ValueError: a size that the network does not take.
        """
        size = tuple(x.shape[2:])
        if self.name.startswith('mvit') and size != (16, 224, 224):
            raise ValueError(f'{self.name} takes clips of 16 x 224 x 224 (T, H, W) only, got {size}')
        if self.name == 's3d' and any(n < least for n, least in zip(size, S3D_LEAST, strict=True)):
            raise ValueError(f'{self.name} takes clips from {S3D_LEAST} (T, H, W) on, got {size}')
        return self.net(x)[..., None, None, None]
