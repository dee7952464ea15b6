"""C2D: the image ResNet applied to each frame, the backbone of TSN, TRN, TSM, TAM and MVFNet.

Deep Residual Learning, He et al., arXiv 1512.03385, with the stride in the 3x3 convolution as in torchvision; as a
backbone for videos: Temporal Segment Networks, Wang et al., arXiv 1608.00859.
"""

from dsanet.config.registry import MODELS
from dsanet.models.backbones.resnet_i3d import ResNet_I3D


@MODELS.register_module()
class ResNet(ResNet_I3D):
    """A residual network whose filters have a length of one frame, so frames are processed independently.

    Args:
        depth: 10, 18, 34, 50, 101 or 152.
        base_channels: channels of the stem; each stage doubles them.
        frozen_stages, norm_eval, partial_bn, activation_checkpointing, pretrained: see :class:`ResNet_I3D`.
    """

    def __init__(
        self,
        depth: int,
        base_channels: int = 64,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        partial_bn: bool = False,
        activation_checkpointing: bool = False,
        pretrained: str | None = None,
    ) -> None:
        super().__init__(
            depth,
            base_channels,
            inflate=(0, 0, 0, 0),
            frozen_stages=frozen_stages,
            norm_eval=norm_eval,
            partial_bn=partial_bn,
            activation_checkpointing=activation_checkpointing,
            pretrained=pretrained,
        )
