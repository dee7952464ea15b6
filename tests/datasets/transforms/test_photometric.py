import colorsys

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from dsanet.datasets.transforms import ColorJitter, RandAugment, RandomErasing
from dsanet.models.data_preprocessor import DataPreprocessor

FRAMES = np.random.default_rng(0).integers(60, 180, (4, 6, 8, 3), np.uint8)


def jitter(frames=FRAMES, seed=0, **strengths):
    return ColorJitter(**strengths)({'frames': frames, 'rng': np.random.default_rng(seed)})['frames']


def drawn(seed, low, high):
    """Return the factor that ColorJitter draws if only one strength is set."""
    rng = np.random.default_rng(seed)
    rng.permutation(['one'])
    return rng.uniform(low, high)


def test_brightness_scales_all_pixels_by_one_factor():
    expected = np.clip(FRAMES * drawn(3, 0.6, 1.4), 0, 255)
    assert jitter(seed=3, brightness=0.4) == pytest.approx(expected, abs=1)


def test_contrast_scales_distance_to_mean_gray():
    factor = drawn(3, 0.5, 1.5)
    for frame, result in zip(FRAMES, jitter(seed=3, contrast=0.5), strict=True):
        gray = (frame @ np.array([0.299, 0.587, 0.114])).mean()
        assert result == pytest.approx(np.clip(gray + factor * (frame - gray), 0, 255), abs=1.5)


def test_saturation_scales_the_distance_to_gray():
    factor = drawn(3, 0.5, 1.5)
    gray = FRAMES @ np.array([0.299, 0.587, 0.114])
    expected = np.clip(gray[..., None] + factor * (FRAMES - gray[..., None]), 0, 255)
    assert jitter(seed=3, saturation=0.5) == pytest.approx(expected, abs=1.5)


def test_hue_is_rotated():
    shift = drawn(3, -0.5, 0.5)
    result = jitter(seed=3, hue=0.5)
    for place in np.ndindex(FRAMES.shape[:3]):
        hue, saturation, value = colorsys.rgb_to_hsv(*(FRAMES[place] / 255))
        expected = np.array(colorsys.hsv_to_rgb((hue + shift) % 1, saturation, value)) * 255
        assert result[place] == pytest.approx(expected, abs=2)


def test_all_frames_get_the_same_factors():
    same = np.repeat(FRAMES[:1], 5, axis=0)
    result = jitter(same, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.2)
    assert (result == result[:1]).all()
    assert (result != same).any()
    assert result.dtype == np.uint8
    assert result.shape == same.shape


def test_order_of_color_operations_is_random():
    frames = np.full((1, 2, 2, 3), (0, 100, 250), np.uint8)
    results = {jitter(frames, seed, brightness=0.9, contrast=0.9).tobytes() for seed in range(10)}
    assert len(results) == 10
    orders = {tuple(np.random.default_rng(seed).permutation(['brightness', 'contrast'])) for seed in range(10)}
    assert len(orders) == 2


def test_color_jitter_checks_its_options():
    for name in ('brightness', 'contrast', 'saturation', 'hue'):
        with pytest.raises(ValueError, match=rf'{name} .*\b0\b.*-0\.1'):
            ColorJitter(**{name: -0.1})
    with pytest.raises(ValueError, match=r'hue .*\b0\.5\b.*\b0\.7\b'):
        ColorJitter(hue=0.7)
    with pytest.raises(ValueError, match=r'brightness, contrast, saturation.*hue.*\b0\b'):
        ColorJitter()


def rand_augment(frames=FRAMES, seed=0, **options):
    return RandAugment(**options)({'frames': frames, 'rng': np.random.default_rng(seed)})['frames']


def frame_by_frame(seed, num_ops, magnitude):
    """Apply torchvision's RandAugment to each frame, with the same random numbers."""
    results = []
    for frame in FRAMES:
        torch.manual_seed(int(np.random.default_rng(seed).integers(2**63)))
        result = v2.RandAugment(num_ops, magnitude)(torch.from_numpy(frame).permute(2, 0, 1))
        results.append(result.permute(1, 2, 0).numpy())
    return np.stack(results)


@pytest.mark.parametrize(('num_ops', 'magnitude'), [(1, 30), (2, 9), (3, 20)])
def test_rand_augment_transforms_all_frames_alike(num_ops, magnitude):
    changed = 0
    for seed in range(40):
        result = rand_augment(seed=seed, num_ops=num_ops, magnitude=magnitude)
        assert (result == frame_by_frame(seed, num_ops, magnitude)).all()
        assert (result.dtype, result.shape) == (np.uint8, FRAMES.shape)
        changed += (result != FRAMES).any()
    assert changed > 25


def test_rand_augment_does_not_use_global_generator():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = [rand_augment(seed=seed).tobytes() for seed in range(10)]
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert [rand_augment(seed=seed).tobytes() for seed in range(10)] == first
    assert len(set(first)) > 5


@pytest.mark.parametrize(
    ('options', 'tokens'),
    [
        (dict(num_ops=0), r'num_ops .*\b1\b.*\b0\b'),
        (dict(magnitude=-1), r'magnitude .*\b0\b.*-1\b'),
        (dict(magnitude=31), r'magnitude .*\b0\b.*\b30\b.*\b31\b'),
    ],
)
def test_rand_augment_checks_its_options(options, tokens):
    with pytest.raises(ValueError, match=tokens):
        RandAugment(**options)


def erased_boxes(number, frames, **options):
    """Return the boxes that are erased in ``number`` videos, None for none, and the last result."""
    erase = RandomErasing(**options)
    boxes, result = [], frames
    for seed in range(number):
        result = erase({'frames': frames, 'rng': np.random.default_rng(seed)})['frames']
        rows, columns = ((result != frames).any(axis=(0, *axes)).nonzero()[0] for axes in ((2, 3), (1, 3)))
        boxes.append((rows[0], columns[0], np.ptp(rows) + 1, np.ptp(columns) + 1) if len(rows) else None)
    return boxes, result


def test_erased_share_area_and_ratio_equal_torchvision():
    frames = np.full((2, 60, 100, 3), 255, np.uint8)
    boxes, _ = erased_boxes(600, frames, prob=0.25)
    found = np.array([box for box in boxes if box is not None])
    assert abs(len(found) - 150) < 4 * np.sqrt(600 * 0.25 * 0.75)
    areas = found[:, 2] * found[:, 3] / 6000
    assert areas.min() > 0.018
    assert areas.max() < 0.35
    assert areas.mean() == pytest.approx((0.02 + 1 / 3) / 2, abs=0.03)
    ratios = np.log(found[:, 3] / found[:, 2])
    assert abs(ratios).max() < np.log(1 / 0.3) + 0.2
    assert ratios.mean() == pytest.approx(0, abs=0.25)
    oracle = v2.RandomErasing(p=1.0, scale=(0.02, 1 / 3), ratio=(0.3, 1 / 0.3), value=0)
    torch.manual_seed(0)
    theirs = [(oracle(torch.ones(3, 60, 100)) == 0).float().mean().item() for _ in range(150)]
    assert areas.mean() == pytest.approx(np.mean(theirs), abs=0.03)


def test_erased_rectangle_is_the_same_in_all_frames():
    frames = np.full((5, 24, 32, 3), 255, np.uint8)
    boxes, result = erased_boxes(20, frames, prob=1, area_range=(0.2, 0.3))
    top, left, height, width = boxes[-1]
    inside = result[:, top : top + height, left : left + width]
    assert ((inside != 255).mean(axis=(1, 2, 3)) > 0.9).all(), 'noise in every frame'
    outside = result.copy()
    outside[:, top : top + height, left : left + width] = 255
    assert (outside == 255).all()
    assert (frames == 255).all(), 'the given frames are unchanged'
    assert not np.array_equal(inside[0], inside[1])


def test_erased_pixels_are_normal_after_normalization():
    frames = np.zeros((30, 64, 64, 3), np.uint8)
    boxes, result = erased_boxes(1, frames, prob=1, area_range=(0.3, 0.3))
    top, left, height, width = boxes[0]
    inside = result[:, top : top + height, left : left + width].reshape(-1, 3)
    normalized = DataPreprocessor()(torch.from_numpy(inside.T.copy())[:, None, None]).flatten(1)
    limits = DataPreprocessor()(torch.tensor([0, 255], dtype=torch.uint8).expand(3, 1, 1, 2)).flatten(1)  # (3, 2)
    noise = torch.randn(300_000, generator=torch.Generator().manual_seed(0))
    clipped = noise.clamp(limits[:, :1], limits[:, 1:])  # (3, len)
    for found, expected in ((normalized.mean(1), clipped.mean(1)), (normalized.std(1), clipped.std(1))):
        assert found.tolist() == pytest.approx(expected.tolist(), abs=0.02)


@pytest.mark.parametrize('options', [dict(prob=1.5), dict(area_range=(0.5, 0.2)), dict(area_range=(0, 0.2))])
def test_wrong_erasing_options_raise(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        RandomErasing(**options)
