import colorsys

import numpy as np
import pytest

from codes.datasets.transforms import ColorJitter

FRAMES = np.random.default_rng(0).integers(60, 180, (4, 6, 8, 3), np.uint8)


def jitter(frames=FRAMES, seed=0, **strengths):
    return ColorJitter(**strengths)({'frames': frames, 'rng': np.random.default_rng(seed)})['frames']


def drawn(seed, low, high):
    """Return the factor that a jitter with one strength draws."""
    rng = np.random.default_rng(seed)
    rng.permutation(['one'])
    return rng.uniform(low, high)


def test_brightness_scales_all_pixels_by_one_factor():
    expected = np.clip(FRAMES * drawn(3, 0.6, 1.4), 0, 255)
    assert jitter(seed=3, brightness=0.4) == pytest.approx(expected, abs=1)


def test_contrast_scales_the_distance_to_the_mean_grey():
    factor = drawn(3, 0.5, 1.5)
    for frame, result in zip(FRAMES, jitter(seed=3, contrast=0.5), strict=True):
        grey = (frame @ np.array([0.299, 0.587, 0.114])).mean()
        assert result == pytest.approx(np.clip(grey + factor * (frame - grey), 0, 255), abs=1.5)


def test_saturation_scales_the_distance_to_grey():
    factor = drawn(3, 0.5, 1.5)
    grey = FRAMES @ np.array([0.299, 0.587, 0.114])
    expected = np.clip(grey[..., None] + factor * (FRAMES - grey[..., None]), 0, 255)
    assert jitter(seed=3, saturation=0.5) == pytest.approx(expected, abs=1.5)


def test_hue_turns_the_colour_circle():
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


def test_the_order_of_the_changes_is_drawn():
    frames = np.full((1, 2, 2, 3), (0, 100, 250), np.uint8)
    results = {jitter(frames, seed, brightness=0.9, contrast=0.9).tobytes() for seed in range(10)}
    assert len(results) == 10
    orders = {tuple(np.random.default_rng(seed).permutation(['brightness', 'contrast'])) for seed in range(10)}
    assert len(orders) == 2


@pytest.mark.parametrize('name', ['brightness', 'contrast', 'saturation', 'hue'])
def test_negative_strength_is_refused(name):
    with pytest.raises(ValueError, match=f'{name} must be at least 0, got -0.1'):
        ColorJitter(**{name: -0.1})


def test_useless_settings_are_refused():
    with pytest.raises(ValueError, match='hue must be at most 0.5, half of the colour circle, got 0.7'):
        ColorJitter(hue=0.7)
    with pytest.raises(ValueError, match='are all 0: there is nothing to change'):
        ColorJitter()
