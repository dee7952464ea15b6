import pytest
import torch
from torch import Tensor, nn

from dsanet.models.modules_maker.temporal_shift import TemporalShift
from dsanet.models.summary import count_macs


def slow_shift(x: Tensor, fold: int) -> Tensor:
    """The shift of the paper, one snippet, channel and frame at a time."""
    out = torch.zeros_like(x)
    for b in range(x.shape[0]):
        for c in range(x.shape[1]):
            for t in range(x.shape[2]):
                source = t + 1 if c < fold else t - 1 if c < 2 * fold else t
                if 0 <= source < x.shape[2]:
                    out[b, c, t] = x[b, c, source]
    return out


@pytest.mark.parametrize(
    ('channels', 'shift_div', 'fold'), [(16, 8, 2), (8, 8, 1), (9, 4, 2), (4, 2, 2), (5, 2, 2), (12, 5, 2)]
)
@pytest.mark.parametrize('frames', [2, 3, 5])
def test_shift_equals_slow_loop(channels: int, shift_div: int, fold: int, frames: int) -> None:
    x = torch.randn(3, channels, frames, 2, 3)
    assert torch.equal(TemporalShift(channels, shift_div=shift_div)(x), slow_shift(x, fold))


def test_shift_moves_an_eighth_each_way_by_default() -> None:
    assert TemporalShift(64).fold == 8
    assert TemporalShift(64, shift_div=4).fold == 16


def test_shift_by_hand() -> None:
    """Four channels of the frames 1, 2, 3: one from the next frame, one from the previous, two unchanged."""
    frames = torch.tensor([1.0, 2.0, 3.0])
    x = frames.expand(1, 4, 3)[..., None, None]  # (N*V*U, C, T, H, W)
    expected = torch.tensor([[2.0, 3.0, 0.0], [0.0, 1.0, 2.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    assert torch.equal(TemporalShift(4, shift_div=4)(x)[0, :, :, 0, 0], expected)


def test_shift_does_not_change_its_input() -> None:
    x = torch.randn(2, 8, 3, 2, 2)
    before = x.clone()
    TemporalShift(8)(x)
    assert torch.equal(x, before)


def test_shift_gradients_are_correct() -> None:
    x = torch.randn(2, 4, 3, 1, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(TemporalShift(4, shift_div=4), (x,))


def test_shift_works_with_channels_last() -> None:
    x = torch.randn(2, 8, 3, 4, 4)
    last = x.contiguous(memory_format=torch.channels_last_3d)
    assert torch.equal(TemporalShift(8)(last), TemporalShift(8)(x))


def test_shift_has_no_parameters_and_no_macs() -> None:
    assert not TemporalShift(64).state_dict()
    pair = nn.Sequential(TemporalShift(64), nn.Conv3d(64, 5, 1, device='meta'))
    assert count_macs(pair, torch.empty(2, 64, 8, 14, 14, device='meta')) == 64 * 5 * 2 * 8 * 14 * 14


@pytest.mark.parametrize('shift_div', [0, 1, 9])
def test_shift_div_out_of_range_raises(shift_div: int) -> None:
    with pytest.raises(ValueError, match=f'shift_div={shift_div} .*in_channels=8'):
        TemporalShift(8, shift_div=shift_div)


def test_shift_of_a_single_frame_raises() -> None:
    with pytest.raises(ValueError, match='num_snippets=1, frames_per_snippet=8'):
        TemporalShift(8)(torch.randn(8, 8, 1, 2, 2))
