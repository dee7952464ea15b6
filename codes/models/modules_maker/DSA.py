"""Dynamic Segment Aggregation: snippets of one video exchange information inside the backbone.

DSANet: Dynamic Segment Aggregation Network for Video-Level Representation Learning, Wu et al., ACM MM 2021,
arXiv 2105.12085, abstract and figure 2. Details that are not given there are as in the authors' release of 2021.

A video is divided into U snippets, and one 3D network with shared weights processes each snippet separately. DSA adds
information from the neighboring snippets. For each video and channel, a small network generates a kernel of length L
from the U pooled values of the channel; the snippets are then convolved with that kernel::

    p[c]    = mean of x[., c, ., ., .] over frames and pixels          U values, one per snippet
    theta   = softmax(W2 relu(BN(W1 p[c])))                            L weights that sum to 1
    y[u, c] = sum over k of theta[k] * x[u + k - L // 2, c]            snippets outside the video are zero

Letters (see ``dsanet``): N videos, V views, U snippets, T frames, C channels, H x W pixels, L kernel length.
"""

import torch
from torch import Tensor, nn

from dsanet.config.registry import MODELS


@MODELS.register_module()
class DSA(nn.Module):
    """Convolve each channel along the snippets of a view with a kernel that is generated from the view.

    Args:
        in_channels: C, channels of the input.
        num_snippets: U, snippets of one view, which are consecutive in the batch dimension.
        kernel_size: L, kernel length along the snippets; odd. The release uses 3.
        expansion: width of the kernel generator's hidden layer, in multiples of U (alpha in the release).
        channel_ratio: share of the channels that are aggregated, the first ``int(C * channel_ratio)``; the others are
            not changed (beta).
        residual: add the input to the aggregated channels. The release does so only after a whole block.

    The kernel generator has ``U * expansion * (U + 2 + L)`` parameters for any number of channels, because all
    channels share it. Its batch norm has one row per video and channel.
    """

    tap_index: Tensor

    def __init__(
        self,
        in_channels: int,
        num_snippets: int = 4,
        kernel_size: int = 3,
        expansion: int = 2,
        channel_ratio: float = 1 / 8,
        residual: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(num_snippets, int) or num_snippets < 1:
            raise ValueError(f'num_snippets={num_snippets!r} must be an integer >= 1')
        if not isinstance(kernel_size, int) or kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f'kernel_size={kernel_size!r} must be an odd integer: 1, 3, 5, ...')
        if kernel_size > 2 * num_snippets - 1:
            raise ValueError(
                f'kernel_size={kernel_size} must be at most {2 * num_snippets - 1} for num_snippets={num_snippets}'
            )
        if not isinstance(expansion, int) or expansion < 1:
            raise ValueError(f'expansion={expansion!r} must be an integer >= 1')
        if not 0 < channel_ratio <= 1:
            raise ValueError(f'channel_ratio={channel_ratio!r} must be in (0, 1]')
        if int(in_channels * channel_ratio) < 1:
            raise ValueError(
                f'channel_ratio={channel_ratio} selects no channel of in_channels={in_channels}; '
                f'minimum {1 / in_channels:g}'
            )
        self.num_snippets = num_snippets
        self.kernel_size = kernel_size
        self.channels = int(in_channels * channel_ratio)
        self.residual = residual
        hidden = num_snippets * expansion
        self.generate = nn.Sequential(
            nn.Linear(num_snippets, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, kernel_size, bias=False),
            nn.Softmax(dim=-1),
        )
        # Index of the kernel weight from snippet j to snippet u: j - u + L // 2, or L for the zero after the kernel.
        snippet = torch.arange(num_snippets)
        tap = snippet[None, :] - snippet[:, None] + kernel_size // 2  # (U, U)
        self.register_buffer('tap_index', tap.where((tap >= 0) & (tap < kernel_size), kernel_size), persistent=False)

    def extra_repr(self) -> str:
        return f'num_snippets={self.num_snippets}, channels={self.channels}, residual={self.residual}'

    def forward(self, x: Tensor) -> Tensor:
        """Aggregate along the snippets of each view.

        Args:
            x: features (N*V*U, C, T, H, W), with the U snippets of a view consecutive and in time order.

        Returns:
            Features of the same shape.
        """
        if x.shape[0] % self.num_snippets:
            raise ValueError(f'{x.shape[0]} snippets are not a multiple of num_snippets={self.num_snippets}')
        is_last = x.stride(1) == 1
        active, passive = x, None
        if self.channels < x.shape[1]:
            # Not two slices, whose gradients would be filled up with zeros and added.
            active, passive = x.split([self.channels, x.shape[1] - self.channels], dim=1)
        snippets = active.contiguous().unflatten(0, (-1, self.num_snippets))  # (N*V, U, C1, T, H, W)
        kernel = self.make_kernel(snippets)
        mixed = self.aggregate(snippets, kernel).flatten(0, 1)  # (N*V*U, C1, T, H, W)
        # Channels-last features stay channels-last, as the next convolution wants them.
        mixed = mixed.contiguous(memory_format=torch.channels_last_3d if is_last else torch.contiguous_format)
        if self.residual:
            mixed = mixed + active
        return mixed if passive is None else torch.cat([mixed, passive], dim=1)

    def make_kernel(self, snippets: Tensor) -> Tensor:
        """Generate one kernel for each view and channel from its pooled values.

        Args:
            snippets: (N*V, U, C1, T, H, W).

        Returns:
            Positive weights (N*V, C1, L) that sum to 1 along L.
        """
        pooled = snippets.mean(dim=(3, 4, 5)).transpose(1, 2)  # (N*V, C1, U)
        kernel = self.generate(pooled.flatten(0, 1))  # (N*V*C1, L)
        return kernel.unflatten(0, pooled.shape[:2])  # (N*V, C1, L)

    def aggregate(self, snippets: Tensor, kernel: Tensor) -> Tensor:
        """Convolve the snippets with each kernel: as a sum of shifted snippets if compiled, which becomes one loop over
        the data; otherwise as a product with a banded U x U matrix.

        A grouped convolution would need N*V*C1 groups, which is slow and not supported by exporters.

        Args:
            snippets: (N*V, U, C1, T, H, W).
            kernel: (N*V, C1, L).

        Returns:
            (N*V, U, C1, T, H, W); snippet u is sum_k kernel[k] * snippets[u + k - L // 2].
        """
        if torch.compiler.is_compiling() and not torch.compiler.is_exporting():
            ends = self.kernel_size // 2
            padded = nn.functional.pad(snippets, (0, 0) * 4 + (ends, ends))  # (N*V, U + L - 1, C1, T, H, W)
            weights = kernel.transpose(1, 2)[..., None, None, None].unbind(1)  # L of (N*V, C1, 1, 1, 1)
            shifted = [padded[:, k : k + self.num_snippets] * weight[:, None] for k, weight in enumerate(weights)]
            return torch.stack(shifted).sum(0)  # (N*V, U, C1, T, H, W)
        band = nn.functional.pad(kernel, (0, 1))[..., self.tap_index]  # (N*V, C1, U, U)
        return torch.einsum('ncuj,njcthw->nucthw', band, snippets)  # (N*V, U, C1, T, H, W)

    def num_macs(self, x: Tensor) -> int:
        """Return the multiply-adds for an input (N*V*U, C, T, H, W): the generator and L per aggregated value."""
        active = x[:, : self.channels]
        rows = active.shape[0] // self.num_snippets * self.channels
        weights = sum(layer.weight.numel() for layer in self.generate if isinstance(layer, nn.Linear))
        return rows * weights + self.kernel_size * active.numel()
