from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from dsanet.models.modules_maker.DSA import DSA


def slow_dsa(module: DSA, x: Tensor) -> Tensor:
    """DSA in eval mode, one video, channel and snippet at a time."""
    num_snippets, length = module.num_snippets, module.kernel_size
    linear1, norm, _, linear2, _ = module.generate
    out = x.clone()
    for start in range(0, len(x), num_snippets):
        for c in range(module.channels):
            pooled = torch.stack([x[start + u, c].mean() for u in range(num_snippets)])  # (U,)
            hidden = linear1.weight @ pooled
            hidden = (hidden - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias
            theta = (linear2.weight @ hidden.clamp(min=0)).softmax(dim=0)
            for u in range(num_snippets):
                y = torch.zeros_like(x[start, c])
                for k in range(length):
                    source = u + k - length // 2
                    if 0 <= source < num_snippets:
                        y = y + theta[k] * x[start + source, c]
                out[start + u, c] = y + x[start + u, c] if module.residual else y
    return out


def make_dsa(**options: object) -> DSA:
    """A module in eval mode with random statistics and weights."""
    module = DSA(8, **{'channel_ratio': 0.5, **options}).eval()
    norm = module.generate[1]
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return module


def fix_kernel(module: DSA, theta: list[float]) -> None:
    """Make the generator return ``theta`` for every input."""
    linear2 = module.generate[3]
    bias = torch.tensor(theta).clamp(min=1e-30).log()
    module.generate = nn.Sequential(*list(module.generate)[:-2], _Constant(bias), nn.Softmax(dim=-1))
    assert linear2.out_features == len(theta), 'the test gave a kernel of the wrong length'


class _Constant(nn.Module):
    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        return self.value.expand(len(x), -1)


@pytest.mark.parametrize(
    'options',
    [
        {},
        {'num_snippets': 5, 'kernel_size': 5},
        {'num_snippets': 2, 'kernel_size': 3},
        {'num_snippets': 1, 'kernel_size': 1},
        {'num_snippets': 4, 'kernel_size': 7},
        {'expansion': 4, 'channel_ratio': 1.0},
        {'channel_ratio': 1 / 8, 'residual': True},
    ],
)
def test_dsa_equals_slow_loop(options: dict) -> None:
    module = make_dsa(**options)
    x = torch.randn(3 * module.num_snippets, 8, 2, 3, 4)
    torch.testing.assert_close(module(x), slow_dsa(module, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('options', [{}, {'num_snippets': 5, 'kernel_size': 5}, {'num_snippets': 1, 'kernel_size': 1}])
def test_compiled_form_equals_the_eager_one(options: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    module = make_dsa(**options).double().eval()
    x = torch.randn(3 * module.num_snippets, 8, 2, 3, 4, dtype=torch.double, requires_grad=True)
    weights = torch.randn_like(x)
    results = []
    for is_compiling in (False, True):
        monkeypatch.setattr(torch.compiler, 'is_compiling', lambda value=is_compiling: value)
        y = module(x)
        results.append([y, *torch.autograd.grad((y * weights).sum(), [x, *module.parameters()])])
    torch.testing.assert_close(*results)


class _Copies(TorchDispatchMode):
    """Counts concatenations and tensors filled up with zeros."""

    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += function in (torch.ops.aten.cat.default, torch.ops.aten.slice_backward.default)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize('options', [{}, {'channel_ratio': 1.0}, {'channel_ratio': 1.0, 'residual': True}])
@pytest.mark.parametrize('order', [torch.contiguous_format, torch.channels_last_3d])
def test_memory_format_stays(order: torch.memory_format, options: dict) -> None:
    x = torch.randn(8, 8, 2, 3, 4).to(memory_format=order).requires_grad_()
    y = make_dsa(**options)(x)
    y.sum().backward()
    assert y.is_contiguous(memory_format=order)
    assert x.grad is not None
    assert x.grad.is_contiguous(memory_format=order)


@pytest.mark.parametrize(('ratio', 'copies'), [(1.0, 0), (0.5, 2)])  # of features and gradients
def test_channels_beside_are_copied_once(ratio: float, copies: int) -> None:
    module = make_dsa(channel_ratio=ratio)
    x = torch.randn(4, 8, 2, 3, 4, requires_grad=True)
    with _Copies() as mode:
        module(x).sum().backward()
    assert mode.count == copies


def test_dsa_with_known_kernel_by_hand() -> None:
    module = DSA(1, num_snippets=3, kernel_size=3, channel_ratio=1.0).eval()
    fix_kernel(module, [0.5, 0.3, 0.2])
    x = torch.tensor([1.0, 10.0, 100.0]).reshape(3, 1, 1, 1, 1)  # (N*V*U, C, T, H, W)
    # u=0: 0.3*1 + 0.2*10;  u=1: 0.5*1 + 0.3*10 + 0.2*100;  u=2: 0.5*10 + 0.3*100
    torch.testing.assert_close(module(x).flatten(), torch.tensor([2.3, 23.5, 35.0]))


def test_dsa_with_center_kernel_is_identity() -> None:
    module = make_dsa()
    fix_kernel(module, [0, 1, 0])
    x = torch.randn(8, 8, 2, 3, 3)
    torch.testing.assert_close(module(x), x, rtol=0, atol=0)


def test_dsa_leaves_other_channels_unchanged() -> None:
    module = make_dsa(channel_ratio=0.25, residual=True)
    x = torch.randn(8, 8, 2, 3, 3)
    y = module(x)
    assert torch.equal(y[:, 2:], x[:, 2:])
    assert not torch.isclose(y[:, :2], x[:, :2]).any()


def test_dsa_kernels_sum_to_one() -> None:
    module = make_dsa(channel_ratio=1.0)
    ones = torch.ones(4, 8, 1, 1, 1)
    y = module(ones).flatten(1)  # (U, C)
    torch.testing.assert_close(y[1:3], torch.ones(2, 8))
    assert (y[0] < 1).all()
    assert (y[3] < 1).all()


def test_dsa_does_not_mix_videos() -> None:
    module = make_dsa()
    x = torch.randn(8, 8, 2, 3, 3)
    changed = x.clone()
    changed[4:] = torch.randn(4, 8, 2, 3, 3)
    assert torch.equal(module(x)[:4], module(changed)[:4])


def test_dsa_depends_on_snippet_order() -> None:
    module = make_dsa()
    x = torch.randn(4, 8, 2, 3, 3)
    assert not torch.allclose(module(x.flip(0)).mean(0), module(x).mean(0), atol=1e-4)


def test_dsa_gradients_are_correct() -> None:
    module = DSA(4, num_snippets=3, channel_ratio=0.5, residual=True).double()
    x = torch.randn(6, 4, 1, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(module, (x,))


def test_dsa_gradients_reach_every_weight() -> None:
    module = DSA(8)
    module(torch.randn(8, 8, 2, 3, 3)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())


@pytest.mark.parametrize(('expansion', 'params'), [(1, 36), (2, 72), (4, 144), (8, 288)])
def test_dsa_parameters_depend_on_expansion_not_channels(expansion: int, params: int) -> None:
    for channels in (8, 256):
        module = DSA(channels, num_snippets=4, kernel_size=3, expansion=expansion)
        assert sum(p.numel() for p in module.parameters()) == params


def test_dsa_counts_its_multiply_adds() -> None:
    # One video, 16 of 128 channels, 4 snippets of 8 x 28 x 28: generator 16 * (4*8 + 8*3), sums 3 per value.
    macs = DSA(128).num_macs(torch.empty(4, 128, 8, 28, 28, device='meta'))
    assert macs == 16 * (4 * 8 + 8 * 3) + 3 * 4 * 16 * 8 * 28 * 28


@pytest.mark.parametrize('options', [{}, {'channel_ratio': 1.0}, {'channel_ratio': 1.0, 'residual': True}])
def test_dsa_is_equal_with_channels_last(options: dict) -> None:
    module = make_dsa(**options)
    x, weights = torch.randn(2, 8, 8, 2, 3, 3)
    results = []
    for order in (torch.contiguous_format, torch.channels_last_3d):
        features = x.to(memory_format=order).requires_grad_()
        y = module(features)
        results.append([y, *torch.autograd.grad((y * weights).sum(), [features, *module.parameters()])])
    torch.testing.assert_close(*results)


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        ({'num_snippets': 0}, 'num_snippets=0'),
        ({'kernel_size': 4}, 'kernel_size=4'),
        ({'kernel_size': 9}, 'kernel_size=9 .*7.*num_snippets=4'),
        ({'expansion': 1.5}, 'expansion=1.5'),
        ({'channel_ratio': 0}, r'channel_ratio=0 .*\(0, 1\]'),
        ({'channel_ratio': 1.5}, r'channel_ratio=1.5 .*\(0, 1\]'),
        ({'channel_ratio': 0.05}, 'channel_ratio=0.05 .*in_channels=8'),
    ],
)
def test_dsa_invalid_options_raise(options: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        DSA(8, **options)


def test_dsa_incomplete_view_raises() -> None:
    with pytest.raises(ValueError, match='6 .*num_snippets=4'):
        DSA(8)(torch.randn(6, 8, 1, 1, 1))
