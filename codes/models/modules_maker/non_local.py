"""Non-local block: attention over all positions of a snippet, in time and space.

Non-local Neural Networks, Wang et al., CVPR 2018, arXiv 1711.07971; the implementation is mmcv's.
"""

import torch
from mmcv.cnn.bricks.non_local import NonLocal3d as MmcvNonLocal3d
from torch import Tensor

from dsanet.config.registry import MODELS

MODES = ('embedded_gaussian', 'dot_product', 'gaussian', 'concatenation')


@MODELS.register_module()
class NonLocal3d(MmcvNonLocal3d):
    """Attention over all T * H * W positions of a snippet, added to the input (N*V*U, C, T, H, W).

    Its last norm is initialized to zero, so the block starts as the identity and can be inserted into pretrained
    networks.

    Args:
        in_channels: C, channels of the input.
        reduction: factor by which the channels are reduced inside the block.
        mode: similarity of two positions: 'embedded_gaussian', 'dot_product', 'gaussian' or 'concatenation'
            (section 3.2).
        sub_sample: pool keys and values 2 x 2, which reduces the cost by about four (section 3.3).
    """

    def __init__(
        self, in_channels: int, reduction: int = 2, mode: str = 'embedded_gaussian', sub_sample: bool = True
    ) -> None:
        if mode not in MODES:
            raise ValueError(f'mode={mode!r} must be one of {", ".join(MODES)}')
        if not 1 <= reduction <= in_channels:
            raise ValueError(f'reduction={reduction!r} must be between 1 and in_channels={in_channels}')
        super().__init__(
            in_channels,
            reduction=reduction,
            mode=mode,
            sub_sample=sub_sample,
            use_scale=False,
            norm_cfg={'type': 'BN3d'},
        )

    def concatenation(self, theta_x: Tensor, phi_x: Tensor) -> Tensor:
        """Compare two positions with a linear layer; without mmcv's in-place division, which autograd does not support.

        Args:
            theta_x: (N*V*U, C', T*H*W, 1).
            phi_x: (N*V*U, C', 1, P), of the P keys.

        Returns:
            Weights (N*V*U, T*H*W, P).
        """
        positions, keys = theta_x.shape[2], phi_x.shape[3]
        thetas, phis = theta_x.expand(-1, -1, -1, keys), phi_x.expand(-1, -1, positions, -1)
        pairs = torch.cat([thetas, phis], dim=1)  # (N*V*U, 2*C', T*H*W, P)
        return self.concat_project(pairs).squeeze(1) / keys  # (N*V*U, T*H*W, P)
