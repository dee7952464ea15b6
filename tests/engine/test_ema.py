from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dsanet.engine.ema import WeightAverage


def make_model() -> nn.Module:
    return nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1)).double()


def set_numbers(model: nn.Module, number: float) -> None:
    """Set weight, statistics and batch count."""
    model[0].weight.data.fill_(number)
    model[1].running_mean.fill_(10 * number)
    model[1].running_var.fill_(100 * number)
    model[1].num_batches_tracked.fill_(int(number))


def test_average_of_three_steps_by_hand() -> None:
    model = make_model()
    set_numbers(model, 7)  # forgotten in the first update
    average = WeightAverage(model, decay=0.2)
    expected = []
    for number in (1, 2, 4):
        set_numbers(model, number)
        average.update(model)
        expected.append(average.model[0].weight.item())
    second = 1 * 2 / 11 + 2 * 9 / 11  # the decay is (1 + 1) / (10 + 1), below 0.2
    third = second * 0.2 + 4 * 0.8  # (1 + 2) / (10 + 2) is above 0.2
    assert expected == pytest.approx([1, second, third], rel=1e-12)
    assert average.num_updates == 3
    assert average.model[1].running_mean.item() == pytest.approx(10 * third)
    assert average.model[1].running_var.item() == pytest.approx(100 * third)
    assert average.model[1].num_batches_tracked.item() == 4
    assert model[0].weight.item() == 4


def test_average_is_a_separate_frozen_model() -> None:
    model = make_model()
    average = WeightAverage(model, decay=0.9)
    assert not any(p.requires_grad for p in average.model.parameters())
    assert all(p.requires_grad for p in model.parameters())
    assert average.model.state_dict().keys() == model.state_dict().keys()
    weight = average.model[0].weight.item()
    set_numbers(model, 5)
    assert average.model[0].weight.item() == weight


def test_average_continues_bit_identically_from_state() -> None:
    torch.manual_seed(1)
    model = make_model()
    average = WeightAverage(model, decay=0.9)
    for _ in range(3):
        model[0].weight.data.normal_()
        average.update(model)
    other = WeightAverage(make_model(), decay=0.9)
    other.load_state_dict({'state_dict': model.state_dict(), **average.state_dict()})
    assert other.num_updates == 3
    model[0].weight.data.normal_()
    for each in (average, other):
        each.update(model)
    assert torch.equal(average.model[0].weight, other.model[0].weight)


def test_restart_sets_average_to_the_weights() -> None:
    average = WeightAverage(make_model(), decay=0.9)
    average.update(make_model())
    model = make_model()
    set_numbers(model, 3)
    average.restart(model)
    assert (average.num_updates, average.model[0].weight.item()) == (0, 3)
    set_numbers(model, 8)
    average.update(model)
    assert average.model[0].weight.item() == 8


def test_average_equals_torchs_bit_by_bit() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv1d(3, 5, 3), nn.BatchNorm1d(5), nn.Linear(4, 7).double())
    average = WeightAverage(model, decay=0.25)
    theirs = AveragedModel(model, use_buffers=True)
    for decay in (0.0, 2 / 11, 0.25, 0.25):  # min(0.25, (1 + n) / (10 + n)) from n = 1 on
        for value in model.state_dict().values():
            value.copy_(100 * torch.randn(value.shape))
        theirs.multi_avg_fn = get_ema_multi_avg_fn(decay)
        theirs.update_parameters(model)
        average.update(model)
    expected = theirs.module.state_dict()
    assert average.model.state_dict().keys() == expected.keys()
    for name, value in average.model.state_dict().items():
        if value.is_floating_point():
            assert torch.equal(value, expected[name]), name
        else:
            assert torch.equal(value, model.state_dict()[name])


class Devices(TorchDispatchMode):
    """Records the devices of the inputs and outputs of all operations."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        leaves = tree_leaves((args, kwargs, result))
        self.seen |= {leaf.device.type for leaf in leaves if isinstance(leaf, Tensor)}
        return result


def test_update_copies_nothing_between_devices() -> None:
    model = make_model().to('meta')  # in place of a GPU
    average = WeightAverage(model, decay=0.9)
    with Devices() as devices:
        for _ in range(3):
            average.update(model)
    assert devices.seen == {'meta'}


def test_state_of_other_model_is_refused() -> None:
    average = WeightAverage(make_model(), decay=0.9)
    with pytest.raises(RuntimeError, match='0.weight'):
        average.load_state_dict({'ema_state_dict': nn.Linear(1, 1).state_dict(), 'ema_updates': 1})
