import errno
import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from codes.engine import distributed
from codes.engine.preparation import place_model


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
        distributed.find_device()


def test_number_of_processes_is_known_before_they_join(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {'WORLD_SIZE': '4', 'RANK': '3'}.items():
        monkeypatch.setenv(name, value)
    assert (distributed.rank(), distributed.world_size()) == (3, 4)


def test_one_process_needs_no_group() -> None:
    device = distributed.find_device()
    distributed.join()
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
    distributed.join(timeout_minutes=1)
    yield distributed.find_device()
    distributed.teardown()


def test_a_group_wraps_the_model_and_gathers_in_order(group: torch.device) -> None:
    wrapped = distributed.wrap(nn.Linear(2, 2).to(group), group)
    assert isinstance(wrapped, nn.parallel.DistributedDataParallel)
    assert distributed.gather({'a': 1}) == [{'a': 1}]
    value = torch.tensor(3.0)
    assert distributed.mean_over_processes(value) == 3
    distributed.broadcast_buffers(nn.BatchNorm1d(2))
    distributed.barrier()
    distributed.teardown()
    assert not dist.is_initialized()


@pytest.fixture
def every_warning() -> Iterator[None]:
    """Let torch warn of the same thing more than once."""
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(before)


def backward_with_strides(model: nn.Module, layer: nn.Conv3d, strides: tuple[int, ...]) -> None:
    """Run a step in which the gradient of a layer's filters comes in the memory order that these strides say."""

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
def test_strides_that_mean_the_same_memory_are_no_warning(
    group: torch.device, shape: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    groups = 8 if shape[1] == 1 else 1
    layer = nn.Conv3d(shape[1] * groups, shape[0], shape[2:], groups=groups)
    place_model(layer, group)
    assert layer.weight.stride() != strides
    backward_with_strides(distributed.wrap(layer, group), layer, strides)


@pytest.mark.usefixtures('every_warning')
def test_gradients_in_another_memory_order_are_still_warned_of(group: torch.device) -> None:
    layer = nn.Conv3d(4, 8, (3, 1, 1))
    place_model(layer, group)
    wrapped = distributed.wrap(layer, group)
    with pytest.warns(UserWarning, match=r'Grad strides .*\ngrad.sizes\(\) = \[8, 4, 3, 1, 1\]'):
        backward_with_strides(wrapped, layer, (12, 3, 1, 1, 1))


def test_the_group_waits_as_long_as_it_was_told(group: torch.device) -> None:
    options = dist.group.WORLD._get_backend(torch.device('cpu')).options
    assert options._timeout == timedelta(minutes=1)


@pytest.mark.parametrize(('count', 'expected'), [(None, False), ('0', False), ('2', True)])
def test_restarts_are_recognised(count: str | None, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if count is not None:
        monkeypatch.setenv('TORCHELASTIC_RESTART_COUNT', count)
    assert distributed.is_restart() is expected


# -- when a process fails ----------------------------------------------------------------------------------------------

GLOO = (
    '[/pytorch/gloo/transport/tcp/pair.cc:561] Connection closed by peer [10.0.0.2]:60632. This is typically caused by'
)


@pytest.mark.parametrize(
    ('error', 'expected'),
    [
        (RuntimeError(GLOO), True),
        (RuntimeError('[..] Timed out waiting 6000ms for recv, Gloo says'), True),
        (RuntimeError('Application timeout caused pair closure'), True),
        (dist.DistBackendError('NCCL error'), True),
        (RuntimeError('the loss became nan'), False),
        (ValueError('gloo is no backend'), False),
    ],
)
def test_lost_contact_is_told_from_own_errors(error: Exception, expected: bool) -> None:
    assert distributed.has_lost_contact(error) is expected


@pytest.fixture
def member(monkeypatch: pytest.MonkeyPatch) -> dist.Store:
    """The store of process 1 of 4."""
    store = dist.HashStore()
    monkeypatch.setattr(distributed, '_STORE', store)
    monkeypatch.setenv('RANK', '1')
    monkeypatch.setenv('WORLD_SIZE', '4')
    monkeypatch.setattr(distributed.signal, 'signal', lambda *_: None)  # it would outlive the test
    return store


def test_who_lost_contact_names_who_failed_and_who_is_silent(member: dist.Store) -> None:
    member.set('end of 0', 'ValueError: boom')
    member.set('end of 2', '')
    text = distributed.explain_lost_contact(RuntimeError(GLOO), patience=0.2)
    assert text == (
        'process 1 lost contact with the others: Connection closed by peer [10.0.0.2]:60632; '
        'process 0 failed: ValueError: boom; no sign of life from process 3'
    )
    assert member.get('end of 1') == b''  # a sign of life for the others


def test_a_store_that_does_not_answer_is_not_waited_for(member: dist.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    class CutOff:
        def set(self, *_: object) -> None:
            time.sleep(20)

    monkeypatch.setattr(distributed, '_STORE', CutOff())
    monkeypatch.setattr(distributed, 'PATIENCE', 0.2)
    started = time.monotonic()
    text = distributed.explain_lost_contact(RuntimeError(GLOO))
    assert time.monotonic() - started < 10
    assert text.endswith('; the machine of process 0 is out of reach')


def test_calls_give_their_value_or_their_error_or_are_given_up() -> None:
    assert distributed.in_time(lambda: 3, seconds=20) == 3
    with pytest.raises(LookupError, match='boom'):
        distributed.in_time(lambda: fail(LookupError('boom')), seconds=20)
    with pytest.raises(TimeoutError, match='no answer within 0.1 seconds'):
        distributed.in_time(lambda: time.sleep(5), seconds=0.1)


def test_who_lost_contact_waits_for_the_words_of_others(member: dist.Store) -> None:
    member.set('end of 0', '')
    member.set('end of 2', '')
    threading.Timer(0.3, lambda: member.set('end of 3', 'KeyError: x')).start()
    started = time.monotonic()
    assert distributed.last_words(patience=20) == {0: '', 2: '', 3: 'KeyError: x'}
    assert time.monotonic() - started < 10  # no longer than it takes


def test_messages_reach_the_launcher_and_the_other_processes(
    member: dist.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('TORCHELASTIC_ERROR_FILE', str(tmp_path / 'error.json'))
    distributed.leave_message('KeyError: x', 'Traceback ...')
    message = json.loads((tmp_path / 'error.json').read_text())['message']
    assert message['message'] == 'KeyError: x'
    assert message['extraInfo']['py_callstack'] == 'Traceback ...'
    assert abs(int(message['extraInfo']['timestamp']) - time.time()) < 10
    assert member.get('end of 1') == b'KeyError: x'


def test_message_that_does_not_fit_the_disk_leaves_no_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setenv('TORCHELASTIC_ERROR_FILE', str(tmp_path / 'error.json'))
    monkeypatch.setattr(os, 'fsync', fail)
    distributed.leave_message('KeyError: x', 'Traceback ...')
    assert os.listdir(tmp_path) == []


def fail(error: Exception) -> None:
    raise error


def test_a_single_process_fails_as_python_does(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger('codes'), 'propagate', True)
    with pytest.raises(LookupError, match='boom'):
        distributed.run_tool(lambda: fail(LookupError('boom')))
    assert 'Traceback' in caplog.text  # for the log file
    assert caplog.records[0].file_only


def test_ctrl_c_is_a_line_and_its_status(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger('codes'), 'propagate', True)

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as end:
        distributed.run_tool(interrupt)
    assert end.value.code == 130
    assert caplog.messages == ['stopped by SIGINT']


@pytest.mark.parametrize(
    ('error', 'shown', 'lost'),
    [(LookupError('boom'), 'Traceback', False), (RuntimeError(GLOO), 'process 1 lost contact with the others', True)],
)
def test_one_of_many_hands_its_error_over_and_ends(
    error: Exception, shown: str, lost: bool, member: dist.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('TORCHELASTIC_ERROR_FILE', str(tmp_path / 'error.json'))
    monkeypatch.setattr(os, '_exit', lambda status: fail(SystemExit(status)))
    monkeypatch.setattr(logging, 'shutdown', lambda: None)
    for other in (0, 2, 3):
        member.set(f'end of {other}', '')
    with pytest.raises(SystemExit, match='^1$'):
        distributed.run_tool(lambda: fail(error))
    extra = json.loads((tmp_path / 'error.json').read_text())['message']['extraInfo']
    assert extra['py_callstack'].startswith(shown)
    assert extra['lost_contact'] is lost
