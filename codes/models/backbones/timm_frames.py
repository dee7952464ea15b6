"""Image networks of timm as backbones that process each frame separately.

PyTorch Image Models, Wightman, https://github.com/huggingface/pytorch-image-models; as backbones for videos: Temporal
Segment Networks, Wang et al., arXiv 1608.00859.

Letters (see ``dsanet``): N videos, V views, U snippets, T frames, C channels, H x W pixels.
"""

import inspect
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dsanet.config.arguments import nearest
from dsanet.config.registry import MODELS
from dsanet.models.backbones.base import Backbone
from dsanet.models.backbones.feature_layout import FeatureLayout, fit_grid, has_proportions

# Of torch, for frames that are too small or do not fit the positions; the last two on the meta device, the last one for
# torch 2.7.
_SIZE_ERRORS = 'must match the size|Kernel size|Attempting to broadcast|Output size is too small'


def _create_network(name: str) -> Any:
    """Create a network without classifier; vision transformers with any image size that their patches divide."""
    try:
        import timm  # imported here because it is optional, and slow
    except ImportError as error:
        raise ValueError(f'TimmFrames requires timm ({error}); pip install timm') from error
    if not timm.is_model(name):
        names = timm.list_models()
        raise ValueError(f'name={name!r} is not a model of timm {timm.__version__}.{nearest(name, names)}')
    with torch.device('meta'):
        options = inspect.signature(type(timm.create_model(name, num_classes=0)).__init__).parameters
    dynamic: dict[str, Any] = {'dynamic_img_size': True} if 'dynamic_img_size' in options else {}
    return timm.create_model(name, num_classes=0, **dynamic)


@MODELS.register_module()
class TimmFrames(Backbone):
    """An image network of timm without its classifier, with timm's pooling, applied to each frame.

    The features of a frame are what timm's classifier gets: averages, a class token or the result of layers after the
    pooling. Frames are processed independently, except for inserted modules. These are inserted after named submodules,
    such as ``after='net.layer2'`` in ResNets, ``'net.stages.2'`` in ConvNeXt, ``'net.blocks.4'`` in EfficientNet,
    MobileNet and ViT, ``'net.layers.1'`` in Swin. They get (B, C, T, H, W) for any layout of the network; class tokens
    are not changed. A temporal shift as in TSM belongs into a residual branch, as after ``'net.layer1.0.act1'``.

    Args:
        name: such as 'resnet18', 'convnext_atto' or 'vit_tiny_patch16_224'. With a tag, as in
            'vit_small_patch14_dinov2.lvd142m', frames are compared with the normalization of its weights.
        pretrained: file with timm's weights of this model. Loaded by ``Recognizer3D.init_weights``.
    """

    is_pooled = True

    def __init__(self, name: str, pretrained: str | None = None) -> None:
        super().__init__()
        self.name = name
        self.pretrained = pretrained
        self.net = _create_network(name)
        self.out_channels = self.net.head_hidden_size
        size = self.net.pretrained_cfg['input_size'][1:]
        self.probe_shape = (1, 3, 2, *size)
        self._clip: tuple[int, ...] = self.probe_shape[2:]  # (T, H, W) of the latest input

    @property
    def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of R, G, B in [0, 255] that timm's weights of this model expect."""
        mean, std = (self.net.pretrained_cfg[key] for key in ('mean', 'std'))
        return tuple(round(255 * value, 3) for value in mean), tuple(round(255 * value, 3) for value in std)

    @property
    def cam_layer(self) -> str:
        """The last stage or block; with a class token the input of the last attention."""
        info = getattr(self.net, 'feature_info', None)
        name = f'net.{info[-1]["module"]}' if info else ''
        if getattr(self.net, 'global_pool', None) == 'token':
            name = f'{name}.norm1'  # after the last attention only the class token reaches the scores
        return name if name in dict(self.named_modules()) else ''

    def feature_layout(self, submodule: str, shape: Sequence[int]) -> FeatureLayout | None:
        """Return the layout of an output: (B*T, C, H, W), (B*T, H, W, C), or tokens (B*T, tokens, C)."""
        if not submodule:
            return super().feature_layout(submodule, shape)
        frames, height, width = self._clip
        if len(shape) == 4:
            layouts = {'FCHW': shape[2:], 'FHWC': shape[1:3]}
            if getattr(self.net, 'output_fmt', 'NCHW') == 'NHWC':
                layouts = dict(reversed(layouts.items()))
            for axes, (rows, columns) in layouts.items():
                if has_proportions(rows, columns, height, width):
                    return FeatureLayout(axes, (frames, rows, columns))
        if len(shape) == 3:
            for num_prefix_tokens in (getattr(self.net, 'num_prefix_tokens', 0), 0):
                grid = fit_grid(shape[1] - num_prefix_tokens, height, width)
                if grid is not None:
                    return FeatureLayout('FMC', (frames, *grid), num_prefix_tokens)
        return None

    def forward(self, x: Tensor) -> Tensor:
        """Map snippets (N*V*U, 3, T, H, W) to pooled features (N*V*U, out_channels, T, 1, 1)."""
        self._clip = tuple(x.shape[2:])
        frames = x.transpose(1, 2).flatten(0, 1)  # (N*V*U*T, 3, H, W)
        try:
            pooled = self.net.forward_head(self.net.forward_features(frames), pre_logits=True)  # (N*V*U*T, C)
        except (AssertionError, RuntimeError) as error:  # timm asserts the sizes that some networks accept
            if isinstance(error, RuntimeError) and not re.search(_SIZE_ERRORS, str(error)):
                raise
            size, own = (' x '.join(map(str, shape[-2:])) for shape in (x.shape, self.probe_shape))
            raise ValueError(
                f'{self.name} does not accept frames of {size} pixels ({error}); its own size is {own}'
            ) from error
        features = pooled.unflatten(0, (-1, self._clip[0])).transpose(1, 2)  # (N*V*U, C, T)
        return features[..., None, None]
