"""Normalization of uint8 frames on the device."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dsanet.config.registry import MODELS


@MODELS.register_module()
class DataPreprocessor(nn.Module):
    """Move frames to the device and normalize them there.

    uint8 frames have a quarter of the bytes of float frames, so they are converted after the transfer.

    Args:
        mean: of the channels R, G, B, in [0, 255]. The default is ImageNet's.
        std: standard deviation of the channels, in the same unit.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self,
        mean: Sequence[float] = (123.675, 116.28, 103.53),
        std: Sequence[float] = (58.395, 57.12, 57.375),
    ) -> None:
        super().__init__()
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError(f'mean={mean!r}, std={std!r}: both must have three values, and std must be positive')
        # Not in the state dict: they belong to the config, and weights of other projects do not have them.
        self.register_buffer('mean', torch.tensor(mean), persistent=False)
        self.register_buffer('scale', 1 / torch.tensor(std), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Normalize a batch.

        Args:
            inputs: uint8 (..., C, T, H, W) with three channels, on any device.

        Returns:
            float32 of the same shape on the module's device, in channels-last memory format.
        """
        if inputs.dtype != torch.uint8:
            raise ValueError(f'frames must be uint8, got {inputs.dtype}; the model itself normalizes them')
        frames = inputs.to(self.mean.device, non_blocking=True).movedim(-4, -1)  # (..., T, H, W, C)
        frames = (frames.contiguous().float() - self.mean) * self.scale
        return frames.movedim(-1, -4)  # (..., C, T, H, W)
