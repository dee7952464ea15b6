"""Colour augmentation."""

import numpy as np
import torch

from codes.datasets.transforms.base import Record, Transform
from codes.registry import TRANSFORMS


@TRANSFORMS.register_module()
class ColorJitter(Transform):
    """Change brightness, contrast, saturation and hue, in random order, alike for all frames of a video.

    Args:
        brightness, contrast, saturation: each is scaled by a factor drawn from
            [max(0, 1 - value), 1 + value]; 0 leaves it as it is.
        hue: it is shifted by a part of the colour circle drawn from [-hue, hue]; at most 0.5.
            0 leaves it as it is.

    Raises:
        ValueError: a negative value, a hue above 0.5, or nothing to change.
    """

    needs = ('frames', 'rng')
    gives = ('frames',)

    def __init__(self, brightness: float = 0, contrast: float = 0, saturation: float = 0, hue: float = 0) -> None:
        strengths = {'brightness': brightness, 'contrast': contrast, 'saturation': saturation, 'hue': hue}
        for name, value in strengths.items():
            if value < 0:
                raise ValueError(f'{name} must be at least 0, got {value}')
        if hue > 0.5:
            raise ValueError(f'hue must be at most 0.5, half of the colour circle, got {hue}')
        if not any(strengths.values()):
            raise ValueError('brightness, contrast, saturation and hue are all 0: there is nothing to change')
        self.strengths = {name: value for name, value in strengths.items() if value > 0}

    def __call__(self, record: Record) -> Record:
        from torchvision.transforms.v2 import functional  # here, because it takes seconds that few runs need to spend

        rng: np.random.Generator = record['rng']
        frames = torch.from_numpy(np.ascontiguousarray(record['frames'])).permute(0, 3, 1, 2)  # (V*U*T, 3, H, W)
        for name in rng.permutation(list(self.strengths)).tolist():
            strength = self.strengths[name]
            low = -strength if name == 'hue' else max(0.0, 1 - strength)
            high = strength if name == 'hue' else 1 + strength
            frames = getattr(functional, f'adjust_{name}')(frames, rng.uniform(low, high))
        record['frames'] = frames.permute(0, 2, 3, 1).contiguous().numpy()  # (V*U*T, H, W, 3)
        return record
