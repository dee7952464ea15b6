"""Swin and MViT of torchvision in sizes that fit into tests."""

from torch import nn
from torchvision.models.video.mvit import MSBlockConfig, MViT
from torchvision.models.video.swin_transformer import SwinTransformer3d

from dsanet.models.backbones.base import Backbone
from dsanet.models.backbones.torchvision_video import TorchvisionVideo

CLIP = (2, 3, 4, 16, 32)  # (B, 3, T, H, W); a grid of 2 x 4 x 8 tokens in the first blocks of TinyMViT


class TinyMViT(TorchvisionVideo):
    """Three blocks with a class token; the second halves height and width."""

    probe_shape = (1, *CLIP[1:])

    def __init__(self) -> None:
        Backbone.__init__(self)
        self.name = 'mvit_tiny'
        settings = [
            MSBlockConfig(heads, width, out, [3, 3, 3], [3, 3, 3], [1, step, step], [1, 2, 2])
            for heads, width, out, step in ((1, 8, 8, 1), (2, 8, 16, 2), (2, 16, 16, 1))
        ]
        self.net = MViT((16, 32), 4, settings, True, False, True, True, num_classes=1)
        self.net.head = nn.Identity()
        self.out_channels = 16


class TinySwin(TorchvisionVideo):
    """Two stages of one block each."""

    probe_shape = (1, *CLIP[1:])

    def __init__(self) -> None:
        Backbone.__init__(self)
        self.name = 'swin3d_tiny'
        self.net = SwinTransformer3d([2, 4, 4], 8, [1, 1], [1, 2], [2, 2, 2], num_classes=1)
        self.net.head = nn.Identity()
        self.out_channels = 16
