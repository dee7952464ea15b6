"""Temporal shift: frames of a snippet exchange channels with their neighbors, without parameters or multiply-adds.

TSM: Temporal Shift Module for Efficient Video Understanding, Lin et al., ICCV 2019, arXiv 1811.08383, section 3::

    y[t, c] = x[t + 1, c]   for the first C // shift_div channels
    y[t, c] = x[t - 1, c]   for the next C // shift_div
    y[t, c] = x[t, c]       for the others; frames outside the snippet are zero

Letters (see ``dsanet``): N videos, V views, U snippets, T frames, C channels, H x W pixels.
"""

import torch
from torch import Tensor, nn

from dsanet.config.registry import MODELS


@MODELS.register_module()
class TemporalShift(nn.Module):
    """Shift a part of the channels one frame back, and a part one frame ahead, within each snippet.

    Args:
        in_channels: C, channels of the input.
        shift_div: 1 / shift_div of the channels is shifted in each direction; the paper uses 8.
    """

    def __init__(self, in_channels: int, shift_div: int = 8) -> None:
        super().__init__()
        if not 2 <= shift_div <= in_channels:
            raise ValueError(f'shift_div={shift_div!r} must be between 2 and in_channels={in_channels}')
        self.fold = in_channels // shift_div

    def extra_repr(self) -> str:
        return f'fold={self.fold}'

    def forward(self, x: Tensor) -> Tensor:
        """Shift features along T.

        Args:
            x: (N*V*U, C, T, H, W), T at least 2.

        Returns:
            Features of the same shape.
        """
        if x.shape[2] < 2:
            raise ValueError(
                'temporal shift requires at least 2 frames per snippet, got 1; for 8 frames set num_snippets=1, '
                'frames_per_snippet=8'
            )
        fold = self.fold
        y = torch.zeros_like(x)
        y[:, :fold, :-1] = x[:, :fold, 1:]
        y[:, fold : 2 * fold, 1:] = x[:, fold : 2 * fold, :-1]
        y[:, 2 * fold :] = x[:, 2 * fold :]
        return y
