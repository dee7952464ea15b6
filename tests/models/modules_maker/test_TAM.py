import pytest
import torch
from torch import Tensor, nn

from dsanet.models.modules_maker.TAM import TAM


def normalize(norm: nn.BatchNorm1d, values: Tensor) -> Tensor:
    """A batch norm in eval mode, over the channels of one row."""
    return (values - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias


def slow_tam(module: TAM, x: Tensor) -> Tensor:
    """TAM in eval mode by the paper's formulas, one snippet, channel and frame at a time."""
    linear1, norm1, _, linear2, _ = module.generate
    conv1, norm2, _, conv2, _ = module.gate
    length, reach = module.kernel_size, module.kernel_size // 2
    batch, channels, frames = x.shape[:3]
    out = torch.zeros_like(x)
    for b in range(batch):
        pooled = torch.tensor([[x[b, c, t].mean() for t in range(frames)] for c in range(channels)])  # (C, T)
        gated = torch.zeros_like(x[b])
        for t in range(frames):
            hidden = torch.zeros(conv1.out_channels)
            for k in range(length):
                if 0 <= t + k - reach < frames:
                    hidden = hidden + conv1.weight[:, :, k] @ pooled[:, t + k - reach]
            hidden = normalize(norm2, hidden).clamp(min=0)
            gate = 1 / (1 + (-(conv2.weight[:, :, 0] @ hidden)).exp())  # (C,)
            for c in range(channels):
                gated[c, t] = gate[c] * x[b, c, t]
        for c in range(channels):
            hidden = normalize(norm1, linear1.weight @ pooled[c]).clamp(min=0)
            exponents = (linear2.weight @ hidden).exp()
            theta = exponents / exponents.sum()
            for t in range(frames):
                for k in range(length):
                    if 0 <= t + k - reach < frames:
                        out[b, c, t] += theta[k] * gated[c, t + k - reach]
    return out


def make_tam(channels: int = 8, **options: object) -> TAM:
    """A module in eval mode with random statistics and weights."""
    module = TAM(channels, **{'frames_per_snippet': 4, **options}).eval()
    for norm in (module.generate[1], module.gate[1]):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    nn.init.normal_(module.gate[3].weight)
    return module


@pytest.mark.parametrize(
    'options',
    [
        {},
        {'frames_per_snippet': 8},
        {'frames_per_snippet': 5, 'kernel_size': 5},
        {'frames_per_snippet': 2, 'kernel_size': 7},
        {'frames_per_snippet': 3, 'kernel_size': 1},
        {'frames_per_snippet': 1},
    ],
)
@torch.no_grad()
def test_tam_equals_slow_loop(options: dict) -> None:
    module = make_tam(**options)
    x = torch.randn(3, 8, module.frames_per_snippet, 2, 3) + torch.randn(3, 8, module.frames_per_snippet, 1, 1)
    torch.testing.assert_close(module(x), slow_tam(module, x), rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_tam_kernels_sum_to_one() -> None:
    module = make_tam()
    module.gate[3].weight.zero_()  # every gate is 1 / 2
    y = module(torch.ones(1, 8, 4, 2, 2))[0, :, :, 0, 0]  # (C, T)
    torch.testing.assert_close(y[:, 1:3], torch.full((8, 2), 0.5))
    assert (y[:, 0] < 0.5).all()
    assert (y[:, 3] < 0.5).all()


def test_tam_output_keeps_dtype_under_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    # As under autocast on CUDA.
    monkeypatch.setattr(nn.Softmax, 'forward', lambda self, values: values.float().softmax(self.dim))
    module = make_tam()
    with torch.autocast('cpu', torch.bfloat16):
        assert module(torch.randn(2, 8, 4, 3, 3, dtype=torch.bfloat16)).dtype == torch.bfloat16


@pytest.mark.parametrize('training', [True, False])
def test_tam_gradients_are_correct(training: bool) -> None:
    module = make_tam(4, frames_per_snippet=2).double().train(training)
    x = torch.randn(2, 4, 2, 1, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(module, (x,))


def test_tam_gradients_reach_every_weight() -> None:
    module = TAM(8, frames_per_snippet=4)
    module(torch.randn(4, 8, 4, 3, 3)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())


def test_tam_works_with_channels_last() -> None:
    module = make_tam()
    x = torch.randn(2, 8, 4, 3, 3)
    torch.testing.assert_close(module(x.contiguous(memory_format=torch.channels_last_3d)), module(x))


@pytest.mark.parametrize(('channels', 'frames', 'length'), [(64, 8, 3), (128, 16, 3), (64, 8, 5), (10, 4, 3)])
def test_tam_parameters_by_hand(channels: int, frames: int, length: int) -> None:
    module = TAM(channels, frames_per_snippet=frames, kernel_size=length)
    generate = frames * 2 * frames + 2 * 2 * frames + 2 * frames * length
    narrow = channels // 4
    gate = channels * narrow * length + 2 * narrow + narrow * channels
    assert sum(p.numel() for p in module.parameters()) == generate + gate


def test_tam_counts_its_multiply_adds() -> None:
    # Two snippets, 64 channels to 16 and back along 8 frames; gate and kernel: 1 + 3 products per value.
    macs = TAM(64).num_macs(torch.empty(2, 64, 8, 14, 14, device='meta'))
    generate = 2 * 64 * (8 * 16 + 16 * 3)
    gate = 2 * 8 * (64 * 16 * 3 + 16 * 64)
    assert macs == generate + gate + 4 * 2 * 64 * 8 * 14 * 14


@pytest.mark.parametrize(
    ('channels', 'options', 'text'),
    [
        (8, {'frames_per_snippet': 0}, 'frames_per_snippet=0'),
        (8, {'kernel_size': 2}, 'kernel_size=2 '),
        (8, {'kernel_size': -1}, 'kernel_size=-1 '),
        (3, {}, 'in_channels=3 .*4'),
    ],
)
def test_tam_invalid_options_raise(channels: int, options: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        TAM(channels, **options)


def test_tam_wrong_number_of_frames_raises() -> None:
    with pytest.raises(ValueError, match='8 .*frames_per_snippet=4'):
        make_tam()(torch.randn(1, 8, 8, 2, 2))
