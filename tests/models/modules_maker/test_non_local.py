import copy

import pytest
import torch
from torch import Tensor, nn

from dsanet.models.modules_maker.non_local import MODES, NonLocal3d
from dsanet.models.summary import count_macs


def pool_pixels(x: Tensor) -> Tensor:
    """The maximum of each 2 x 2 pixels of (C, T, H, W)."""
    rows = torch.maximum(x[:, :, 0::2], x[:, :, 1::2])
    return torch.maximum(rows[..., 0::2], rows[..., 1::2])


def slow_non_local(module: NonLocal3d, x: Tensor, mode: str = 'embedded_gaussian', sub_sample: bool = True) -> Tensor:
    """Section 3 of the paper in eval mode, one snippet and one pair of positions at a time."""
    parts = dict(module.named_parameters())
    suffix = '.0' if sub_sample else ''
    out = torch.empty_like(x)
    for b in range(len(x)):

        def linear(name: str, frames: Tensor) -> Tensor:
            weight, bias = parts[f'{name}.conv.weight'].flatten(1), parts[f'{name}.conv.bias']
            return (weight @ frames.flatten(1) + bias[:, None]).unflatten(1, frames.shape[1:])  # (C', T, H, W)

        theta = phi = x[b]
        if mode != 'gaussian':
            theta, phi = linear('theta', x[b]), linear(f'phi{suffix}', x[b])
        g = linear(f'g{suffix}', x[b])
        if sub_sample:
            phi, g = pool_pixels(phi), pool_pixels(g)
        theta, phi, g = theta.flatten(1), phi.flatten(1), g.flatten(1)
        answers = []
        for i in range(theta.shape[1]):
            pairs = []
            for j in range(phi.shape[1]):
                if mode == 'concatenation':
                    weight = parts['concat_project.conv.weight'].flatten()
                    pairs.append((weight @ torch.cat([theta[:, i], phi[:, j]])).clamp(min=0))
                else:
                    pairs.append(theta[:, i] @ phi[:, j])
            f = torch.stack(pairs)
            f = f.softmax(0) if 'gaussian' in mode else f / len(f)
            answers.append(sum(f[j] * g[:, j] for j in range(len(f))))
        y = torch.stack(answers, dim=1)  # (C', T*H*W)
        z = module.conv_out.conv.weight.flatten(1) @ y
        norm = module.conv_out.norm
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        z = (z - norm.running_mean[:, None]) * scale[:, None] + norm.bias[:, None]
        out[b] = x[b] + z.unflatten(1, x.shape[2:])
    return out


def make_non_local(channels: int = 6, **options: object) -> NonLocal3d:
    """A module in eval mode with random statistics and weights."""
    module = NonLocal3d(channels, **options).eval()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    norm = module.conv_out.norm
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    return module


@pytest.mark.parametrize('sub_sample', [True, False])
@pytest.mark.parametrize('mode', MODES)
@torch.no_grad()
def test_non_local_equals_slow_loop(mode: str, sub_sample: bool) -> None:
    module = make_non_local(mode=mode, sub_sample=sub_sample)
    x = torch.randn(2, 6, 2, 4, 2)
    torch.testing.assert_close(module(x), slow_non_local(module, x, mode, sub_sample), rtol=1e-4, atol=1e-5)


def test_copy_of_non_local_is_independent() -> None:
    module = make_non_local(mode='concatenation')
    x = torch.randn(1, 6, 2, 2, 2)
    clone = copy.deepcopy(module)
    expected = module(x)
    nn.init.zeros_(module.g[0].conv.weight)
    nn.init.zeros_(module.concat_project.conv.weight)
    assert torch.equal(clone(x), expected)
    assert not torch.equal(module(x), expected)


@pytest.mark.parametrize(('reduction', 'width'), [(1, 6), (2, 3), (4, 1), (6, 1)])
@torch.no_grad()
def test_non_local_reduction_sets_the_inner_width(reduction: int, width: int) -> None:
    module = make_non_local(reduction=reduction)
    assert module.theta.conv.weight.shape == (width, 6, 1, 1, 1)
    x = torch.randn(1, 6, 2, 2, 2)
    torch.testing.assert_close(module(x), slow_non_local(module, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('mode', MODES)
def test_non_local_starts_as_identity(mode: str, training: bool) -> None:
    x = torch.randn(2, 6, 2, 4, 4)
    assert torch.equal(NonLocal3d(6, mode=mode).train(training)(x), x)


@pytest.mark.parametrize('sub_sample', [True, False])
@pytest.mark.parametrize('mode', MODES)
def test_non_local_gradients_are_correct(mode: str, sub_sample: bool) -> None:
    module = make_non_local(4, mode=mode, sub_sample=sub_sample).double()
    x = torch.randn(1, 4, 1, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(module, (x,))


@torch.no_grad()
@pytest.mark.parametrize('mode', MODES)
def test_non_local_works_with_channels_last(mode: str) -> None:
    module = make_non_local(mode=mode)
    x = torch.randn(2, 6, 2, 4, 4)
    last = x.contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(module(last), module(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ('mode', 'projections', 'extra'),
    [('embedded_gaussian', 3, 0), ('dot_product', 3, 0), ('gaussian', 1, 0), ('concatenation', 3, 2 * 32)],
)
def test_non_local_parameters_by_hand(mode: str, projections: int, extra: int) -> None:
    module = NonLocal3d(64, mode=mode)
    assert sum(p.numel() for p in module.parameters()) == projections * (64 * 32 + 32) + 32 * 64 + 2 * 64 + extra


def test_non_local_sub_sampling_quarters_the_cost() -> None:
    """Per snippet: four 1x1x1 convolutions and two products between all positions and the sampled ones."""
    positions = 4 * 6 * 6
    for sub_sample, seen in ((False, positions), (True, positions // 4)):
        module = NonLocal3d(64, sub_sample=sub_sample).to('meta').eval()
        macs = count_macs(module, torch.empty(2, 64, 4, 6, 6, device='meta'))
        assert macs == 2 * (4 * 64 * 32 * positions + 2 * 32 * positions * seen)


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        ({'mode': 'gauss'}, "mode='gauss' .*embedded_gaussian, dot_product, gaussian, concatenation"),
        ({'reduction': 0}, 'reduction=0 .*in_channels=6'),
        ({'reduction': 7}, 'reduction=7 .*in_channels=6'),
    ],
)
def test_non_local_invalid_options_raise(options: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        NonLocal3d(6, **options)
