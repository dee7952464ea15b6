"""Non-local block: attention over all positions of a snippet, in time and space.

Non-local Neural Networks, Wang et al., CVPR 2018, arXiv 1711.07971; the implementation is mmcv's.
"""

import functools

import torch
from torch import Tensor, nn

from dsanet.config.registry import MODELS

MODES = ('embedded_gaussian', 'dot_product', 'gaussian', 'concatenation')


@MODELS.register_module()
class NonLocal3d(nn.Module):
    """Attention over all T * H * W positions of a snippet, added to the input.

    Its last norm is initialized to zero, so the block starts as the identity and can be inserted into pretrained
    networks.

    Args:
        in_channels: C, channels of the input.
        reduction: factor by which the channels are reduced inside the block.
        mode: similarity of two positions: 'embedded_gaussian', 'dot_product', 'gaussian' or 'concatenation'
            (section 3.2).
        sub_sample: pool keys and values 2 x 2, which reduces the cost by about four (section 3.3).
    """

    _block: nn.Module

    def __init__(
        self, in_channels: int, reduction: int = 2, mode: str = 'embedded_gaussian', sub_sample: bool = True
    ) -> None:
        if mode not in MODES:
            raise ValueError(f'mode={mode!r} must be one of {", ".join(MODES)}')
        if not 1 <= reduction <= in_channels:
            raise ValueError(f'reduction={reduction!r} must be between 1 and in_channels={in_channels}')
        super().__init__()
        from mmcv.cnn.bricks import non_local  # imported here because it takes seconds

        block = non_local.NonLocal3d(
            in_channels,
            reduction=reduction,
            mode=mode,
            sub_sample=sub_sample,
            use_scale=False,
            norm_cfg={'type': 'BN3d'},
        )
        if mode == 'concatenation':
            block.concatenation = functools.partial(_compare, block.concat_project)
        # The layers have the names of mmcv's block, so that its checkpoints load.
        for name, layer in block.named_children():
            self.add_module(name, layer)
        object.__setattr__(self, '_block', block)  # not a submodule, because its layers are

    def forward(self, x: Tensor) -> Tensor:
        """Add to each position a weighted sum over all positions of its snippet.

        Args:
            x: features (N*V*U, C, T, H, W).

        Returns:
            Features of the same shape.
        """
        result: Tensor = self._block(x)
        return result


def _compare(project: nn.Module, theta: Tensor, phi: Tensor) -> Tensor:
    """Compare two positions with a linear layer; without mmcv's in-place division, which autograd does not support.

    Args:
        project: a layer from 2*C' to one channel.
        theta: (N*V*U, C', T*H*W, 1).
        phi: (N*V*U, C', 1, P), of the P keys.

    Returns:
        Weights (N*V*U, T*H*W, P).
    """
    positions, keys = theta.shape[2], phi.shape[3]
    pairs = torch.cat([theta.expand(-1, -1, -1, keys), phi.expand(-1, -1, positions, -1)], dim=1)
    weights: Tensor = project(pairs).squeeze(1) / keys  # (N*V*U, T*H*W, P)
    return weights
