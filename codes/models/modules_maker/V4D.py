"""4D residual block: a convolution along snippets and time, with more parameters than DSA.

V4D: 4D Convolutional Neural Networks for Video-level Representation Learning, Zhang et al., ICLR 2020,
arXiv 2002.07442, implemented from descriptions of the paper. The snippets u of a video are a fourth dimension::

    y[u] = x[u] + sum over k of conv3d_k(x[u + k - L // 2])       snippets outside the video are zero

Letters (see ``dsanet``): N videos, V views, U snippets, T frames, C channels, H x W pixels, L kernel length.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dsanet.config.registry import MODELS


@MODELS.register_module()
class V4D(nn.Module):
    """Add a 4D convolution over snippets, frames, height and width to the input.

    Args:
        in_channels: C, channels of the input and of the output.
        num_snippets: U, snippets of one view, which are consecutive in the batch dimension.
        kernel_size: lengths along U, T, H and W; odd. The paper uses (3, 3, 1, 1).

    The ``C * C * product(kernel_size)`` parameters are initialized to zero, so the block starts as the identity and
    can be inserted into pretrained networks. The initialization of the paper is not known to us; its parameter counts
    show that the block has no further layers.
    """

    def __init__(self, in_channels: int, num_snippets: int = 4, kernel_size: Sequence[int] = (3, 3, 1, 1)) -> None:
        super().__init__()
        if num_snippets < 1:
            raise ValueError(f'num_snippets={num_snippets!r} must be at least 1')
        if len(kernel_size) != 4 or any(length < 1 or length % 2 == 0 for length in kernel_size):
            raise ValueError(f'kernel_size={kernel_size!r} must be four odd numbers, along U, T, H and W')
        self.num_snippets = num_snippets
        self.length = kernel_size[0]
        kernel = (kernel_size[1], kernel_size[2], kernel_size[3])
        padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
        # The 4D convolution is one 3D convolution over the concatenated channels of L neighbors: the sum over k is a
        # sum over input channels.
        self.conv = nn.Conv3d(self.length * in_channels, in_channels, kernel, padding=padding, bias=False)
        nn.init.zeros_(self.conv.weight)

    def extra_repr(self) -> str:
        return f'num_snippets={self.num_snippets}'

    def forward(self, x: Tensor) -> Tensor:
        """Convolve along the snippets of each view.

        Args:
            x: features (N*V*U, C, T, H, W), with the U snippets of a view consecutive and in time order.

        Returns:
            Features of the same shape.
        """
        if x.shape[0] % self.num_snippets:
            raise ValueError(f'{x.shape[0]} snippets are not a multiple of num_snippets={self.num_snippets}')
        snippets, reach = x.unflatten(0, (-1, self.num_snippets)), self.length // 2  # (N*V, U, C, T, H, W)
        padded = nn.functional.pad(snippets, (0,) * 8 + (reach, reach))  # (N*V, U + L - 1, C, T, H, W)
        neighbors = [padded[:, k : k + self.num_snippets] for k in range(self.length)]
        stacked = torch.cat(neighbors, dim=2).flatten(0, 1)  # (N*V*U, L*C, T, H, W)
        return x + self.conv(stacked)
