"""Temporal Adaptive Module: convolve the frames of a snippet with a kernel generated from the snippet.

TAM: Temporal Adaptive Module for Video Recognition, Liu et al., ICCV 2021, arXiv 2005.06803, section 3. With p[c, t]
the mean of x[c, t] over the pixels, a global branch generates a kernel of length L for each channel, and a local branch
a weight for each frame and channel::

    theta[c]  = softmax(W2 relu(BN(W1 p[c])))                                   W1: T to 2T, W2: 2T to L
    gate      = sigmoid(conv1(relu(BN(conv3(p)))))                              along T, C to C/4 to C channels
    y[c, t]   = sum over k of theta[c, k] * (gate * x)[c, t + k - L // 2]       frames outside are zero

DSA applies the global branch to the snippets of a video instead of the frames of a snippet.

Letters (see ``dsanet``): N videos, V views, U snippets, T frames, C channels, H x W pixels, L kernel length.
"""

import torch
from torch import Tensor, nn

from dsanet.config.registry import MODELS


@MODELS.register_module()
class TAM(nn.Module):
    """Weight the frames of each channel, then convolve them with a generated kernel.

    Args:
        in_channels: C, channels of the input; at least 4.
        frames_per_snippet: T at the place of the module: T of the data divided by the temporal strides before it.
        kernel_size: L, kernel length along the frames; odd.
    """

    # As in the paper: width of the global branch in multiples of T, and channel reduction of the local branch.
    expansion = 2
    reduction = 4

    def __init__(self, in_channels: int, frames_per_snippet: int = 8, kernel_size: int = 3) -> None:
        super().__init__()
        if frames_per_snippet < 1:
            raise ValueError(f'frames_per_snippet={frames_per_snippet!r} must be at least 1')
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f'kernel_size={kernel_size!r} must be an odd integer: 1, 3, 5, ...')
        if in_channels < self.reduction:
            raise ValueError(f'in_channels={in_channels} must be at least {self.reduction}, the reduction ratio')
        self.frames_per_snippet = frames_per_snippet
        self.kernel_size = kernel_size
        hidden = frames_per_snippet * self.expansion
        self.generate = nn.Sequential(
            nn.Linear(frames_per_snippet, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, kernel_size, bias=False),
            nn.Softmax(dim=-1),
        )
        narrow = in_channels // self.reduction
        self.gate = nn.Sequential(
            nn.Conv1d(in_channels, narrow, kernel_size, padding=kernel_size // 2, bias=False),
            nn.BatchNorm1d(narrow),
            nn.ReLU(inplace=True),
            nn.Conv1d(narrow, in_channels, 1, bias=False),
            nn.Sigmoid(),
        )

    def extra_repr(self) -> str:
        return f'frames_per_snippet={self.frames_per_snippet}, kernel_size={self.kernel_size}'

    def forward(self, x: Tensor) -> Tensor:
        """Convolve the frames of each snippet.

        Args:
            x: features (N*V*U, C, T, H, W).

        Returns:
            Features of the same shape.
        """
        frames, reach = x.shape[2], self.kernel_size // 2
        if frames != self.frames_per_snippet:
            raise ValueError(f'features have {frames} frames instead of frames_per_snippet={self.frames_per_snippet}')
        pooled = x.mean(dim=(3, 4))  # (N*V*U, C, T)
        kernel = self.generate(pooled.flatten(0, 1)).unflatten(0, pooled.shape[:2])  # (N*V*U, C, L)
        kernel = kernel.to(x.dtype)  # softmax returns float32 under autocast on CUDA
        gated = self.gate(pooled)[..., None, None] * x  # (N*V*U, C, T, H, W)
        padded = nn.functional.pad(gated, (0, 0, 0, 0, reach, reach))  # (N*V*U, C, T + L - 1, H, W)
        taps = (kernel[:, :, k, None, None, None] * padded[:, :, k : k + frames] for k in range(self.kernel_size))
        return sum(taps, start=torch.zeros_like(x))  # (N*V*U, C, T, H, W)

    def num_macs(self, x: Tensor) -> int:
        """Return the multiply-adds for an input (N*V*U, C, T, H, W): both branches, and L + 1 per value."""
        batch, channels, frames = x.shape[:3]
        generator = sum(layer.weight.numel() for layer in self.generate if isinstance(layer, nn.Linear))
        gate = sum(layer.weight.numel() for layer in self.gate if isinstance(layer, nn.Conv1d))
        return batch * (channels * generator + frames * gate) + (self.kernel_size + 1) * x.numel()
