"""Layouts of features, compared with one loop over all positions."""

import itertools

import pytest
import torch
from torch import Tensor

from dsanet.models.backbones.feature_layout import AXES, FeatureLayout, first_tensor, fit_grid, replace_first

B, C, T, H, W = 2, 5, 3, 4, 2
PREFIX = 2
SHAPES = {
    'BCTHW': (B, C, T, H, W),
    'BTHWC': (B, T, H, W, C),
    'BMC': (B, PREFIX + T * H * W, C),
    'FCHW': (B * T, C, H, W),
    'FHWC': (B * T, H, W, C),
    'FMC': (B * T, PREFIX + H * W, C),
}


def index_of(axes: str, b: int, c: int, t: int, h: int, w: int) -> tuple[int, ...]:
    """Return where a value of (B, C, T, H, W) lies in a layout."""
    return {
        'BCTHW': (b, c, t, h, w),
        'BTHWC': (b, t, h, w, c),
        'BMC': (b, PREFIX + (t * H + h) * W + w, c),
        'FCHW': (b * T + t, c, h, w),
        'FHWC': (b * T + t, h, w, c),
        'FMC': (b * T + t, PREFIX + h * W + w, c),
    }[axes]


def make_layout(axes: str) -> FeatureLayout:
    return FeatureLayout(axes, (T, H, W), PREFIX if 'M' in axes else 0)


@pytest.mark.parametrize('axes', AXES)
def test_unpack_finds_each_value(axes: str) -> None:
    output = torch.randn(SHAPES[axes])
    expected = torch.zeros(B, C, T, H, W)
    for place in itertools.product(*map(range, expected.shape)):
        expected[place] = output[index_of(axes, *place)]
    assert torch.equal(make_layout(axes).unpack(output), expected)


@pytest.mark.parametrize('axes', AXES)
def test_pack_changes_all_but_prefix_tokens(axes: str) -> None:
    output, features = torch.randn(SHAPES[axes]), torch.randn(B, C, T, H, W)
    expected = output.clone()
    for place in itertools.product(*map(range, features.shape)):
        expected[index_of(axes, *place)] = features[place]
    packed = make_layout(axes).pack(features, output)
    assert torch.equal(packed, expected)
    if 'M' in axes:
        assert torch.equal(packed[:, :PREFIX], output[:, :PREFIX])


@pytest.mark.parametrize(
    ('positions', 'size', 'grid'),
    [
        (196, (224, 224), (14, 14)),
        (98, (224, 112), (14, 7)),
        (80, (240, 320), (8, 10)),  # stride 32: 7.5 x 10
        (32, (4, 8), (4, 8)),
        (1, (224, 224), (1, 1)),
        (197, (224, 224), None),
        (97, (224, 112), None),
        (0, (224, 224), None),
        (2, (224, 224), None),
    ],
)
def test_fit_grid(positions: int, size: tuple[int, int], grid: tuple[int, int] | None) -> None:
    assert fit_grid(positions, *size) == grid


def test_first_tensor_of_outputs() -> None:
    tokens, other = torch.zeros(1), torch.ones(1)
    assert first_tensor(tokens) is tokens
    assert first_tensor((tokens, (2, 4, 4))) is tokens
    for output in (None, (), ((2, 4, 4), tokens), [tokens]):
        assert first_tensor(output) is None
    assert replace_first(tokens, other) is other
    changed: tuple[Tensor, tuple[int, ...]] = replace_first((tokens, (2, 4, 4)), other)
    assert changed[0] is other
    assert changed[1] == (2, 4, 4)
