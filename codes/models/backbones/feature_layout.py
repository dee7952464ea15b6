"""How features lie in the outputs of a network's submodules, and their conversion to (B, C, T, H, W) and back.

Letters (see ``dsanet``): T frames, C channels, H x W pixels; here also B = N*V*U snippets, F = B*T frames of all
snippets, and M tokens, the positions of a snippet or frame in one axis.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# Positions of the axes; F = B*T in networks that process each frame separately, M tokens.
AXES = ('BCTHW', 'BTHWC', 'BMC', 'FCHW', 'FHWC', 'FMC')


@dataclass(frozen=True)
class FeatureLayout:
    """The layout of features in a tensor.

    Attributes:
        axes: one of ``AXES``.
        grid: (T, H, W) of the positions; unused with 'BCTHW' and 'BTHWC', whose shape is enough.
        num_prefix_tokens: number of tokens before those of the grid, such as a class token.
    """

    axes: str = 'BCTHW'
    grid: tuple[int, int, int] = (1, 1, 1)
    num_prefix_tokens: int = 0

    def __post_init__(self) -> None:
        assert self.axes in AXES, f'axes={self.axes!r} must be one of {", ".join(AXES)}'

    @property
    def is_channels_last(self) -> bool:
        """Whether the channels are the last axis."""
        return self.axes.endswith('C')

    def unpack(self, output: Tensor) -> Tensor:
        """Return the features (B, C, T, H, W) in an output, without prefix tokens."""
        x = output
        if 'M' in self.axes:
            grid = self.grid if self.axes == 'BMC' else self.grid[1:]
            x = x[:, self.num_prefix_tokens :].unflatten(1, grid)  # (B, T, H, W, C) or (F, H, W, C)
        if self.axes.startswith('F'):
            x = x.unflatten(0, (-1, self.grid[0]))  # (B, T, H, W, C) or (B, T, C, H, W)
        return x if self.axes == 'BCTHW' else x.movedim(-1 if self.is_channels_last else 2, 1)  # (B, C, T, H, W)

    def pack(self, features: Tensor, output: Tensor) -> Tensor:
        """Return features (B, C, T, H, W) in this layout, with the prefix tokens of ``output``."""
        if self.axes == 'BCTHW':
            return features
        x = features.movedim(1, -1 if self.is_channels_last else 2)  # (B, T, H, W, C) or (B, T, C, H, W)
        if self.axes.startswith('F'):
            x = x.flatten(0, 1)  # (F, H, W, C) or (F, C, H, W)
        if 'M' in self.axes:
            x = x.flatten(1, -2)  # (B, M, C) or (F, M, C)
        return torch.cat([output[:, : self.num_prefix_tokens], x], dim=1) if self.num_prefix_tokens else x


def fit_grid(num_positions: int, height: int, width: int) -> tuple[int, int] | None:
    """Return (H, W) of a number of positions with the proportions of a height and width; None if there is none."""
    rows = round((num_positions * height / width) ** 0.5)
    if rows < 1 or num_positions % rows:
        return None
    columns = num_positions // rows
    return (rows, columns) if has_proportions(rows, columns, height, width) else None


def has_proportions(rows: int, columns: int, height: int, width: int) -> bool:
    """Return whether a grid has the proportions of a height and width, up to rounding by one position."""
    return abs(rows * width - columns * height) < max(height, width)


def first_tensor(output: Any) -> Tensor | None:
    """Return an output, or the first item of a tuple, such as tokens and their grid; None if that is not a tensor."""
    first = output[0] if isinstance(output, tuple) and output else output
    return first if isinstance(first, Tensor) else None


def replace_first(output: Any, tensor: Tensor) -> Any:
    """Return an output with another tensor in the place of that of :func:`first_tensor`."""
    return tensor if isinstance(output, Tensor) else (tensor, *output[1:])
