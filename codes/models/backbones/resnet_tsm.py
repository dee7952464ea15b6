"""TSM: the image ResNet with temporal shifts between the frames of a snippet.

TSM: Temporal Shift Module for Efficient Video Understanding, Lin et al., ICCV 2019, arXiv 1811.08383.
"""

from dsanet.config.registry import MODELS
from dsanet.models.backbones.resnet import ResNet
from dsanet.models.modules_maker.block_maker import insert_modules

# Place of the shift: inside the residual branch (figure 3b of the paper) or before the whole block (3a).
SHIFT_PLACES = {'blockres': 'before_conv1', 'block': 'before_block'}


@MODELS.register_module()
class ResNetTSM(ResNet):
    """A :class:`ResNet` with a :class:`TemporalShift` in its residual blocks.

    The shift is within the T frames of a snippet. With 'blockres', only every second block of the networks with 101 and
    152 layers shifts, as in the authors' code.

    Args:
        depth: 10, 18, 34, 50, 101 or 152.
        base_channels: channels of the stem; each stage doubles them.
        shift_div: 1 / shift_div of the channels is shifted in each direction.
        shift_place: 'blockres' or 'block'.
        frozen_stages, norm_eval, partial_bn, activation_checkpointing, pretrained: see :class:`ResNet_I3D`.
    """

    def __init__(
        self,
        depth: int,
        base_channels: int = 64,
        shift_div: int = 8,
        shift_place: str = 'blockres',
        frozen_stages: int = -1,
        norm_eval: bool = False,
        partial_bn: bool = False,
        activation_checkpointing: bool = False,
        pretrained: str | None = None,
    ) -> None:
        if shift_place not in SHIFT_PLACES:
            raise ValueError(f'shift_place={shift_place!r} must be one of {", ".join(SHIFT_PLACES)}')
        super().__init__(
            depth, base_channels, frozen_stages, norm_eval, partial_bn, activation_checkpointing, pretrained
        )
        every = 2 if shift_place == 'blockres' and len(self.stages[2]) >= 23 else 1
        blocks = [[int(j % every == 0) for j in range(len(stage))] for stage in self.stages]
        place = SHIFT_PLACES[shift_place]
        insert_modules(self, {'type': 'TemporalShift', 'shift_div': shift_div, 'place': place, 'blocks': blocks})
