import socket
from collections.abc import Iterator
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from dsanet.engine.preparation import place_model
from dsanet.utils import distributed
from tests.as_processes import set_variables

GROUP = {'RANK': '0', 'WORLD_SIZE': '4', 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': '1'}


@pytest.mark.parametrize(('requested', 'available'), [(2, 2), (1, 8), (4, 0)])
def test_enough_gpus_or_none_are_accepted(requested: int, available: int) -> None:
    distributed.check_device_count(requested, available)


def test_more_processes_than_gpus_are_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, RANK=0, WORLD_SIZE=4, LOCAL_WORLD_SIZE=4)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 1)
    with pytest.raises(ValueError, match=r'\b4 GPUs.*\b1\b'):
        distributed.find_device()


def test_rank_is_known_before_process_group(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, RANK=3, WORLD_SIZE=4, LOCAL_RANK=1, LOCAL_WORLD_SIZE=2)
    assert (distributed.rank(), distributed.world_size()) == (3, 4)
    assert (distributed.local_rank(), distributed.local_world_size()) == (1, 2)
    monkeypatch.delenv('LOCAL_WORLD_SIZE')
    assert distributed.local_rank() == 1


@pytest.mark.parametrize(
    ('variables', 'parts'),
    [
        ({'RANK': '0'}, ('RANK=0', 'WORLD_SIZE')),
        ({'RANK': '0', 'WORLD_SIZE': '4'}, ('WORLD_SIZE=4', 'MASTER_ADDR', 'MASTER_PORT')),
        ({'RANK': '0', 'WORLD_SIZE': '4', 'MASTER_ADDR': '', 'MASTER_PORT': '1'}, ('MASTER_ADDR',)),
        ({**GROUP, 'RANK': 'x'}, ("RANK='x'", ' 3;')),
        ({**GROUP, 'RANK': '4'}, ("RANK='4'", ' 3;')),
        ({**GROUP, 'RANK': '-1'}, ("RANK='-1'", ' 3;')),
        ({**GROUP, 'WORLD_SIZE': 'four'}, ("WORLD_SIZE='four'",)),
        ({**GROUP, 'LOCAL_RANK': '2', 'LOCAL_WORLD_SIZE': '2'}, ("LOCAL_RANK='2'",)),
        ({**GROUP, 'TORCHELASTIC_RESTART_COUNT': 'x'}, ('TORCHELASTIC_RESTART_COUNT',)),
    ],
)
def test_leftover_variables_are_refused(
    variables: dict, parts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match='unset') as error:
        _ = distributed.rank(), distributed.local_rank(), distributed.is_restart()
    assert all(part in str(error.value) for part in parts)


def test_local_variables_alone_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ('LOCAL_RANK', 'LOCAL_WORLD_SIZE', 'MASTER_PORT'):
        monkeypatch.setenv(name, 'x')
    assert (distributed.rank(), distributed.local_rank(), distributed.local_world_size()) == (0, 0, 1)


def test_empty_variables_count_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*GROUP, 'TORCHELASTIC_RESTART_COUNT'):
        monkeypatch.setenv(name, '')
    assert (distributed.rank(), distributed.world_size(), distributed.is_restart()) == (0, 1, False)
    distributed.init_process_group()
    assert distributed.store() is None


@pytest.mark.parametrize('port', ['abc', '99999', '-1'])
def test_port_that_is_none_is_refused(port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**GROUP, 'MASTER_PORT': port}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"MASTER_PORT='{port}'"):
        distributed.init_process_group()


def test_unknown_host_is_reported_at_once(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def getaddrinfo(*_: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, 'Name or service not known')

    for name, value in GROUP.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(socket, 'getaddrinfo', getaddrinfo)
    with pytest.raises(ConnectionError, match=r'127.0.0.1:1: Name or service not known.*unset RANK'):
        distributed.init_process_group()
    assert capfd.readouterr().err == ''


def test_missing_processes_are_an_error_without_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, RANK=0, WORLD_SIZE=2)
    with pytest.raises(ConnectionError, match='WORLD_SIZE=2.*unset RANK'):
        distributed.init_process_group(timeout_minutes=0.001)


def test_single_process_needs_no_group() -> None:
    device = distributed.find_device()
    distributed.init_process_group()
    model = nn.Linear(2, 2)
    assert device.type in ('cpu', 'cuda')
    assert (distributed.rank(), distributed.world_size()) == (0, 1)
    assert distributed.wrap_ddp(model, device) is model
    assert distributed.all_gather_object('x') == ['x']
    assert distributed.all_reduce_mean(torch.tensor(3.0)) == 3
    distributed.broadcast_buffers(nn.BatchNorm1d(2))
    distributed.destroy_process_group()


@pytest.fixture
def group(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> object:
    """A process group with one member, so that distributed code runs in this process."""
    set_variables(monkeypatch, RANK=0, WORLD_SIZE=1)
    distributed.init_process_group(timeout_minutes=1)
    yield distributed.find_device()
    distributed.destroy_process_group()


def test_group_wraps_model_and_gathers(group: torch.device) -> None:
    wrapped = distributed.wrap_ddp(nn.Linear(2, 2).to(group), group)
    assert isinstance(wrapped, nn.parallel.DistributedDataParallel)
    assert distributed.all_gather_object({'a': 1}) == [{'a': 1}]
    assert distributed.gather_object({'a': 1}) == [{'a': 1}]
    assert distributed.compute_on_main(lambda: {'a': 1}) == {'a': 1}
    with pytest.raises(KeyError, match='of the function'):
        distributed.compute_on_main(lambda: {}['of the function'])
    value = torch.tensor(3.0)
    assert distributed.all_reduce_mean(value) == 3
    distributed.broadcast_buffers(nn.BatchNorm1d(2))
    distributed.barrier()
    distributed.destroy_process_group()
    assert not dist.is_initialized()


def test_buffers_are_sent_in_one_operation_a_type(group: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(*[nn.BatchNorm1d(i) for i in (1, 2, 3)])
    sent = []

    def broadcast(values: Tensor, src: int) -> None:
        sent.append((values.clone(), src))
        values += torch.arange(len(values))  # of another process

    monkeypatch.setattr(dist, 'broadcast', broadcast)
    distributed.broadcast_buffers(model)
    assert [(values.tolist(), src) for values, src in sent] == [
        ([0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 1, 1], 0),
        ([0, 0, 0], 0),
    ]
    assert model[2].running_mean.tolist() == [6, 7, 8]
    assert model[2].running_var.tolist() == [10, 11, 12]
    assert [norm.num_batches_tracked.item() for norm in model] == [0, 1, 2]


@pytest.fixture
def every_warning() -> Iterator[None]:
    """Let torch repeat the same warning."""
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(before)


def backward_with_strides(model: nn.Module, layer: nn.Conv3d, strides: tuple[int, ...]) -> None:
    """Run a step in which the gradient of the weights of a layer has these strides."""

    def restride(grad: Tensor) -> Tensor:
        return torch.empty_strided(grad.shape, strides).copy_(grad)

    layer.weight.register_post_accumulate_grad_hook(lambda weight: setattr(weight, 'grad', restride(weight.grad)))
    model(torch.randn(2, layer.in_channels, 4, 4, 4)).sum().backward()


@pytest.mark.usefixtures('every_warning')
@pytest.mark.parametrize(
    ('shape', 'strides'),
    [
        ((8, 4, 1, 1, 1), (4, 1, 1, 1, 1)),
        ((8, 1, 3, 1, 1), (3, 3, 1, 1, 1)),
        ((8, 1, 3, 3, 3), (27, 27, 9, 3, 1)),
    ],
)
def test_equivalent_strides_do_not_warn(group: torch.device, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
    groups = 8 if shape[1] == 1 else 1
    layer = nn.Conv3d(shape[1] * groups, shape[0], shape[2:], groups=groups)
    place_model(layer, group)
    assert layer.weight.stride() != strides
    backward_with_strides(distributed.wrap_ddp(layer, group), layer, strides)


@pytest.mark.usefixtures('every_warning')
def test_other_memory_order_still_warns(group: torch.device) -> None:
    layer = nn.Conv3d(4, 8, (3, 1, 1))
    place_model(layer, group)
    wrapped = distributed.wrap_ddp(layer, group)
    with pytest.warns(UserWarning, match=r'Grad strides .*\ngrad.sizes\(\) = \[8, 4, 3, 1, 1\]'):
        backward_with_strides(wrapped, layer, (12, 3, 1, 1, 1))


def test_timeout_reaches_the_process_group(group: torch.device) -> None:
    options = dist.group.WORLD._get_backend(torch.device('cpu')).options
    assert options._timeout == timedelta(minutes=1)


@pytest.mark.parametrize(('count', 'expected'), [(None, False), ('0', False), ('2', True)])
def test_restart_is_recognized(count: str | None, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if count is not None:
        monkeypatch.setenv('TORCHELASTIC_RESTART_COUNT', count)
    assert distributed.is_restart() is expected
