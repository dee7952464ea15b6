import colorsys

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from dsanet.datasets.transforms import ColorJitter, RandAugment

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
