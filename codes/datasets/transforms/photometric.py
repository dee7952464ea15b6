"""Color augmentation, RandAugment and RandomErasing."""

from collections.abc import Sequence

import numpy as np
import torch

from dsanet.config.registry import TRANSFORMS
from dsanet.datasets.transforms.base import Record, Transform, check_count, check_number
from dsanet.datasets.transforms.boxes import draw_area_box

# Of the channels R, G, B of ImageNet, in gray levels.
_MEAN = np.array([123.675, 116.28, 103.53], np.float32)
_STD = np.array([58.395, 57.12, 57.375], np.float32)
_ERASED_RATIOS = (0.3, 1 / 0.3)  # aspect ratios


@TRANSFORMS.register_module()
class ColorJitter(Transform):
    """Change brightness, contrast, saturation and hue in random order, identically in all frames of a video.

    Args:
        brightness, contrast, saturation: scaled by a factor from [max(0, 1 - value), 1 + value]; 0 for no change.
        hue: shifted by a fraction of the color circle from [-hue, hue], at most 0.5; 0 for no change.
    """

    requires = ('frames', 'rng')
    provides = ('frames',)

    def __init__(self, brightness: float = 0, contrast: float = 0, saturation: float = 0, hue: float = 0) -> None:
        strengths = {'brightness': brightness, 'contrast': contrast, 'saturation': saturation, 'hue': hue}
        for name, value in strengths.items():
            if value < 0:
                raise ValueError(f'{name} must be at least 0, got {value}')
        if hue > 0.5:
            raise ValueError(f'hue must be between 0 and 0.5, got {hue}')
        if not any(strengths.values()):
            raise ValueError('brightness, contrast, saturation and hue are all 0; set at least one of them')
        self.strengths = {name: value for name, value in strengths.items() if value > 0}

    def __call__(self, record: Record) -> Record:
        from torchvision.transforms.v2 import functional  # imported here because it takes seconds

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
    """Apply a few of 14 operations, drawn once per video, to all its frames (RandAugment, arXiv 1909.13719).

    Besides changes of color, the operations are shears, shifts and rotations, which leave black corners; one of them is
    the identity. Uses torchvision's implementation. It may harm classes that differ in direction or place.

    Args:
        num_ops: number of operations in a row; the same one may be drawn twice.
        magnitude: strength, 0 to 30. At 30, frames are rotated by 30 degrees, shifted by 45% of their side or 90%
            brighter, and proportionally less below. The sign is random.
    """

    requires = ('frames', 'rng')
    provides = ('frames',)

    def __init__(self, num_ops: int = 2, magnitude: int = 9) -> None:
        self.num_ops = check_count('num_ops', num_ops)
        self.magnitude = check_count('magnitude', magnitude, low=0)
        if magnitude > 30:
            raise ValueError(f'magnitude must be from 0 to 30, got {magnitude}')

    def __call__(self, record: Record) -> Record:
        from torchvision.transforms import v2  # imported here because it takes seconds

        rng: np.random.Generator = record['rng']
        frames = torch.from_numpy(np.ascontiguousarray(record['frames'])).permute(0, 3, 1, 2)  # (V*U*T, 3, H, W)
        # torchvision uses torch's global generator: seed it for this record, and restore its state.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(rng.integers(2**63)))
            frames = v2.RandAugment(self.num_ops, self.magnitude)(frames)
        record['frames'] = frames.permute(0, 2, 3, 1).contiguous().numpy()  # (V*U*T, H, W, 3)
        return record


@TRANSFORMS.register_module()
class RandomErasing(Transform):
    """Fill a rectangle with noise, the same rectangle in all frames of a video (arXiv 1708.04896).

    As in timm's mode 'pixel', each pixel of each frame is drawn from a normal distribution with mean and standard
    deviation of ImageNet, so it is about standard normal after the normalization.

    Args:
        prob: share of the videos with a rectangle.
        area_range: area of the rectangle, as a share of the frame's. Its aspect ratio is between 0.3 and 1 / 0.3. If
            ten drawn rectangles do not fit, there is none.
    """

    requires = ('frames', 'rng')
    provides = ('frames',)

    def __init__(self, prob: float = 0.25, area_range: Sequence[float] = (0.02, 1 / 3)) -> None:
        self.prob = check_number('prob', prob, 0, 1)
        if len(area_range) != 2 or not 0 < area_range[0] <= area_range[1] <= 1:
            raise ValueError(f'area_range={area_range!r} must be two ascending numbers in (0, 1]')
        self.area_range = area_range[0], area_range[1]

    def __call__(self, record: Record) -> Record:
        rng: np.random.Generator = record['rng']
        if rng.random() >= self.prob:
            return record
        frames = record['frames']
        box = draw_area_box(frames.shape[1], frames.shape[2], self.area_range, _ERASED_RATIOS, rng)
        if box is None:
            return record
        top, left, height, width = box
        noise = rng.standard_normal((len(frames), height, width, 3), np.float32) * _STD + _MEAN
        frames = frames.copy()  # they may be kept elsewhere
        frames[:, top : top + height, left : left + width] = noise.round().clip(0, 255)
        record['frames'] = frames
        return record
