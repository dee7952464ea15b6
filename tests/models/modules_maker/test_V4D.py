import itertools

import pytest
import torch
from torch import Tensor, nn

from dsanet.models.modules_maker.V4D import V4D
from dsanet.models.summary import count_macs


def slow_v4d(module: V4D, x: Tensor, kernel_size: tuple[int, ...]) -> Tensor:
    """A residual 4D convolution, one output position and one tap at a time."""
    channels, num_snippets, sizes = x.shape[1], module.num_snippets, x.shape[2:]
    # The weights of tap k along the snippets are the k-th block of input channels.
    weight = module.conv.weight.unflatten(1, (kernel_size[0], channels))  # (C, L, C, kT, kH, kW)
    out = x.clone()
    for start in range(0, len(x), num_snippets):
        for u, t, h, w in itertools.product(range(num_snippets), *map(range, sizes)):
            for taps in itertools.product(*map(range, kernel_size)):
                at = [p + k - length // 2 for p, k, length in zip((u, t, h, w), taps, kernel_size, strict=True)]
                if all(0 <= p < size for p, size in zip(at, (num_snippets, *sizes), strict=True)):
                    k, a, b, c = taps
                    out[start + u, :, t, h, w] += weight[:, k, :, a, b, c] @ x[start + at[0], :, at[1], at[2], at[3]]
    return out


def make_v4d(channels: int = 4, **options: object) -> V4D:
    """A module with random weights instead of zeros."""
    module = V4D(channels, **{'num_snippets': 3, **options})
    nn.init.normal_(module.conv.weight)
    return module


@pytest.mark.parametrize(
    ('num_snippets', 'kernel_size'),
    [(3, (3, 3, 1, 1)), (4, (3, 1, 1, 1)), (2, (3, 3, 3, 3)), (3, (5, 1, 1, 3)), (1, (3, 3, 1, 1)), (3, (1, 3, 3, 1))],
)
@torch.no_grad()
def test_v4d_equals_slow_loop(num_snippets: int, kernel_size: tuple[int, ...]) -> None:
    module = make_v4d(num_snippets=num_snippets, kernel_size=kernel_size)
    x = torch.randn(2 * num_snippets, 4, 2, 2, 3)
    torch.testing.assert_close(module(x), slow_v4d(module, x, kernel_size), rtol=1e-4, atol=1e-5)


def test_v4d_by_hand() -> None:
    """One channel, one frame, the snippets 1, 10, 100, taps 0.5, 0.3, 0.2; the input is added."""
    module = V4D(1, num_snippets=3, kernel_size=(3, 1, 1, 1))
    with torch.no_grad():
        module.conv.weight.copy_(torch.tensor([0.5, 0.3, 0.2]).reshape(1, 3, 1, 1, 1))
    x = torch.tensor([1.0, 10.0, 100.0]).reshape(3, 1, 1, 1, 1)  # (N*V*U, C, T, H, W)
    torch.testing.assert_close(module(x).flatten(), torch.tensor([1 + 2.3, 10 + 23.5, 100 + 35.0]))


def test_v4d_starts_as_identity_with_gradient() -> None:
    module = V4D(4)
    x = torch.randn(8, 4, 2, 3, 3)
    y = module(x)
    assert torch.equal(y, x)
    y.square().sum().backward()
    assert module.conv.weight.grad.abs().sum() > 0


@torch.no_grad()
def test_v4d_mixes_neighbors_within_a_view() -> None:
    module = make_v4d(num_snippets=4)
    x = torch.randn(8, 4, 2, 3, 3)
    changed = x.clone()
    changed[3] = torch.randn(4, 2, 3, 3)  # the last snippet of the first view
    different = (module(x) != module(changed)).flatten(1).any(1)
    assert different.tolist() == [False, False, True, True, False, False, False, False]


@pytest.mark.parametrize('kernel_size', [(3, 3, 1, 1), (3, 1, 3, 1)])
def test_v4d_gradients_are_correct(kernel_size: tuple[int, ...]) -> None:
    module = make_v4d(2, num_snippets=2, kernel_size=kernel_size).double()
    x = torch.randn(4, 2, 2, 2, 1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(module, (x,))


@torch.no_grad()
def test_v4d_works_with_channels_last() -> None:
    module = make_v4d()
    x = torch.randn(6, 4, 2, 3, 3)
    last = x.contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(module(last), module(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ('channels', 'kernel_size'), [(8, (3, 3, 1, 1)), (8, (3, 1, 1, 1)), (4, (3, 3, 3, 3)), (4, (5, 3, 1, 1))]
)
def test_v4d_costs_of_a_4d_convolution(channels: int, kernel_size: tuple[int, ...]) -> None:
    module = V4D(channels, kernel_size=kernel_size)
    size = kernel_size[0] * kernel_size[1] * kernel_size[2] * kernel_size[3]
    assert sum(p.numel() for p in module.parameters()) == channels * channels * size
    macs = count_macs(module.to('meta'), torch.empty(8, channels, 2, 5, 6, device='meta'))
    assert macs == channels * channels * size * 8 * 2 * 5 * 6


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        ({'num_snippets': 0}, 'num_snippets=0'),
        ({'kernel_size': (3, 3, 1)}, r'kernel_size=\(3, 3, 1\)'),
        ({'kernel_size': (3, 2, 1, 1)}, r'kernel_size=\(3, 2, 1, 1\)'),
        ({'kernel_size': (3, 3, 1, -1)}, r'kernel_size=\(3, 3, 1, -1\)'),
    ],
)
def test_v4d_invalid_options_raise(options: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        V4D(4, **options)


def test_v4d_incomplete_view_raises() -> None:
    with pytest.raises(ValueError, match='6 .*num_snippets=4'):
        V4D(4)(torch.randn(6, 4, 1, 1, 1))
