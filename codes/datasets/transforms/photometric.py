"""Color augmentation; and RandAugment, which draws from changes of color and of place alike."""

import numpy as np
import torch

from dsanet.config.registry import TRANSFORMS
from dsanet.datasets.transforms.base import Record, Transform, check_count


@TRANSFORMS.register_module()
class ColorJitter(Transform):
    """Change brightness, contrast, saturation and hue, in random order, alike for all frames of a video.

    Args:
        brightness, contrast, saturation: each is scaled by a factor drawn from
            [max(0, 1 - value), 1 + value]; 0 leaves it as it is.
        hue: it is shifted by a part of the color circle drawn from [-hue, hue]; at most 0.5.
            0 leaves it as it is.

    Raises:
        ValueError: a negative value, a hue above 0.5, or nothing to change.
    """

    requires = ('frames', 'rng')
    provides = ('frames',)

    def __init__(self, brightness: float = 0, contrast: float = 0, saturation: float = 0, hue: float = 0) -> None:
        strengths = {'brightness': brightness, 'contrast': contrast, 'saturation': saturation, 'hue': hue}
        for name, value in strengths.items():
            if value < 0:
                raise ValueError(f'{name} must be at least 0, got {value}')
        if hue > 0.5:
            raise ValueError(f'hue must be at most 0.5, half of the color circle, got {hue}')
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


@TRANSFORMS.register_module()
class RandAugment(Transform):
    """Do a few of 14 changes, drawn once and done alike to all frames of a video (RandAugment, arXiv 1909.13719).

    Beside changes of color these are shears, shifts and rotations, which leave black corners; one is to change
    nothing. The implementation is torchvision's. Classes that differ in direction or place may suffer from it.

    Args:
        num_ops: how many changes, one after the other; the same one may be drawn twice.
        magnitude: how strong they are, from 0 to 30. At 30 frames are turned by 30 degrees, shifted by 45 % of their
            side, or 90 % brighter; in between in proportion. The sign is drawn.

    Raises:
        ValueError: ``num_ops`` is below 1, or ``magnitude`` not from 0 to 30.
    """

    requires = ('frames', 'rng')
    provides = ('frames',)

    def __init__(self, num_ops: int = 2, magnitude: int = 9) -> None:
        self.num_ops = check_count('num_ops', num_ops)
        self.magnitude = check_count('magnitude', magnitude, low=0)
        if magnitude > 30:
            raise ValueError(f'magnitude must be from 0 to 30, got {magnitude}')

    def __call__(self, record: Record) -> Record:
        from torchvision.transforms import v2  # here, because it takes seconds that few runs need to spend

        rng: np.random.Generator = record['rng']
        frames = torch.from_numpy(np.ascontiguousarray(record['frames'])).permute(0, 3, 1, 2)  # (V*U*T, 3, H, W)
        # torchvision draws from torch's global generator: it gets this record's seed, and then its old state back.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(rng.integers(2**63)))
            frames = v2.RandAugment(self.num_ops, self.magnitude)(frames)
        record['frames'] = frames.permute(0, 2, 3, 1).contiguous().numpy()  # (V*U*T, H, W, 3)
        return record
