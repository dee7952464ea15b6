import pytest
import torch
from torch import Tensor, nn

from dsanet.models.modules_maker.MVF import MVF
from dsanet.models.summary import count_macs


def slow_mvf(module: MVF, x: Tensor) -> Tensor:
    """MVF in eval mode, one value at a time."""
    out = x.clone()
    norm = module.bn
    _, _, frames, height, width = x.shape
    for b in range(x.shape[0]):
        for c in range(module.channels):
            taps = [conv.weight[c].flatten() for conv in (module.conv_t, module.conv_h, module.conv_w)]
            for t in range(frames):
                for h in range(height):
                    for w in range(width):
                        y = torch.zeros(())
                        for k in range(3):
                            if 0 <= t + k - 1 < frames:
                                y = y + taps[0][k] * x[b, c, t + k - 1, h, w]
                            if 0 <= h + k - 1 < height:
                                y = y + taps[1][k] * x[b, c, t, h + k - 1, w]
                            if 0 <= w + k - 1 < width:
                                y = y + taps[2][k] * x[b, c, t, h, w + k - 1]
                        deviation = (norm.running_var[c] + norm.eps).sqrt()
                        y = (y - norm.running_mean[c]) / deviation * norm.weight[c] + norm.bias[c]
                        out[b, c, t, h, w] = y * (y + 3).clamp(0, 6) / 6
    return out


def make_mvf(channels: int = 8, **options: object) -> MVF:
    """A module in eval mode with random statistics and weights."""
    module = MVF(channels, **{'channel_ratio': 0.5, **options}).eval()
    module.bn.running_mean.normal_()
    module.bn.running_var.uniform_(0.5, 2)
    nn.init.normal_(module.bn.weight)
    nn.init.normal_(module.bn.bias)
    return module


@pytest.mark.parametrize(('channel_ratio', 'fused'), [(0.25, 1), (0.5, 2), (0.7, 2), (1.0, 4)])
@torch.no_grad()
def test_mvf_equals_slow_loop(channel_ratio: float, fused: int) -> None:
    module = make_mvf(4, channel_ratio=channel_ratio)
    assert module.channels == fused
    x = torch.randn(2, 4, 3, 2, 4)
    torch.testing.assert_close(module(x), slow_mvf(module, x), rtol=1e-5, atol=1e-6)


def test_mvf_fuses_an_eighth_of_channels_by_default() -> None:
    assert MVF(256).channels == 32


def test_mvf_leaves_other_channels_and_input_unchanged() -> None:
    module = make_mvf(channel_ratio=0.25)
    x = torch.randn(2, 8, 3, 4, 4)
    before = x.clone()
    y = module(x)
    assert torch.equal(y[:, 2:], x[:, 2:])
    assert not torch.equal(y[:, :2], x[:, :2])
    assert torch.equal(x, before)


@pytest.mark.parametrize('training', [True, False])
def test_mvf_gradients_are_correct(training: bool) -> None:
    module = make_mvf(4).double().train(training)
    x = torch.randn(2, 4, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(module, (x,))


def test_mvf_gradients_reach_every_weight() -> None:
    module = MVF(8, channel_ratio=1.0)
    module(torch.randn(2, 8, 3, 4, 4)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())


def test_mvf_works_with_channels_last() -> None:
    module = make_mvf()
    x = torch.randn(2, 8, 3, 4, 4)
    torch.testing.assert_close(module(x.contiguous(memory_format=torch.channels_last_3d)), module(x))


def test_mvf_initial_weights_are_as_in_the_release() -> None:
    module = MVF(2048, channel_ratio=1.0)
    for conv in (module.conv_t, module.conv_h, module.conv_w):
        assert conv.weight.std().item() == pytest.approx((2 / (3 * 2048)) ** 0.5, rel=0.05)


def test_mvf_has_nine_weights_per_fused_channel() -> None:
    module = MVF(128, channel_ratio=0.25)
    assert sum(p.numel() for p in module.parameters()) == 32 * (9 + 2)
    shapes = {name: tuple(p.shape) for name, p in module.named_parameters()}
    assert shapes['conv_t.weight'] == (32, 1, 3, 1, 1)
    assert shapes['conv_h.weight'] == (32, 1, 1, 3, 1)
    assert shapes['conv_w.weight'] == (32, 1, 1, 1, 3)


def test_mvf_costs_nine_macs_per_fused_value() -> None:
    macs = count_macs(MVF(128).to('meta').eval(), torch.empty(2, 128, 8, 14, 14, device='meta'))
    assert macs == 9 * 2 * 16 * 8 * 14 * 14


@pytest.mark.parametrize('channel_ratio', [0, 1.5, -0.5, 0.1])
def test_mvf_invalid_channel_ratio_raises(channel_ratio: float) -> None:
    with pytest.raises(ValueError, match=rf'channel_ratio={channel_ratio} .*in_channels=8'):
        MVF(8, channel_ratio=channel_ratio)
