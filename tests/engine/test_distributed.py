import pytest
import torch
from torch import nn

from codes.engine import distributed


def test_more_gpus_than_present_are_refused_with_both_numbers() -> None:
    with pytest.raises(ValueError, match='8 GPUs were asked for, but this machine has 2'):
        distributed.check_device_count(asked=8, present=2)


@pytest.mark.parametrize(('asked', 'present'), [(2, 2), (1, 8), (4, 0)])
def test_enough_gpus_or_none_at_all_are_fine(asked: int, present: int) -> None:
    distributed.check_device_count(asked, present)


def test_setup_refuses_too_many_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '4')
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 1)
    with pytest.raises(ValueError, match='4 GPUs were asked for, but this machine has 1'):
        distributed.setup()


def test_one_process_needs_no_group() -> None:
    device = distributed.setup()
    model = nn.Linear(2, 2)
    assert device.type in ('cpu', 'cuda')
    assert (distributed.rank(), distributed.world_size()) == (0, 1)
    assert distributed.wrap(model, device) is model
    assert distributed.gather('x') == ['x']
    assert distributed.mean_over_processes(torch.tensor(3.0)) == 3
    distributed.broadcast_buffers(nn.BatchNorm1d(2))
    distributed.teardown()


@pytest.fixture
def group(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> object:
    """A process group of one, so that the code of many runs in this process."""
    for name, value in {'WORLD_SIZE': '1', 'RANK': '0', 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': '0'}.items():
        monkeypatch.setenv(name, value)
    device = distributed.setup(timeout_minutes=1)
    yield device
    distributed.teardown()


def test_a_group_wraps_the_model_and_gathers_in_order(group: torch.device) -> None:
    wrapped = distributed.wrap(nn.Linear(2, 2).to(group), group)
    assert isinstance(wrapped, nn.parallel.DistributedDataParallel)
    assert distributed.gather({'a': 1}) == [{'a': 1}]
    value = torch.tensor(3.0)
    assert distributed.mean_over_processes(value) == 3
    distributed.broadcast_buffers(nn.BatchNorm1d(2))
