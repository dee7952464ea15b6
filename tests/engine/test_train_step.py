import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from dsanet.engine import train_step
from dsanet.engine.train_step import Stepper, StepResult
from dsanet.engine.trainer import Trainer
from dsanet.utils import distributed
from tests.engine.conftest import DEVICE, EMA, make_config
from tests.models.test_sync_batch_norm import run_processes

Batch = Mapping[str, Any]


def take_step(stepper: Stepper, *batches: Batch) -> StepResult:
    return stepper.update(stepper.backward(batches, 0))


def make_stepper(data: Path, work_dir: Path, **changes: dict) -> tuple[Stepper, Batch]:
    """Return a stepper at its start, with the full learning rate, and the first batch."""
    trainer = Trainer(make_config(data, **changes), work_dir, DEVICE)
    return trainer.stepper, next(iter(trainer.train_loader))


def copy_state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def assert_equal(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> None:
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert torch.equal(value, two[name]), name


def test_average_follows_the_steps(data: Path, tmp_path: Path) -> None:
    stepper, batch = make_stepper(data, tmp_path, train_cfg=EMA)
    names = ('cls_head.fc_cls.weight', 'backbone.bn1.running_mean')
    seen = []
    for _ in range(3):
        assert take_step(stepper, batch) is StepResult.UPDATED
        seen.append([stepper.model.state_dict()[name].clone() for name in names])
    for i, name in enumerate(names):
        first, second, third = (values[i] for values in seen)
        two = first * 2 / 11 + second * 9 / 11
        assert torch.allclose(stepper.average.model.state_dict()[name], two * 0.25 + third * 0.75, atol=1e-7)


def test_gradients_are_clipped_to_the_limit(data: Path, tmp_path: Path) -> None:
    stepper, batch = make_stepper(data, tmp_path, train_cfg={'clip_grad_norm': 0.01})
    assert stepper.backward([batch], 0)['grad_norm'] > 0.01
    norm = torch.stack([p.grad.norm() for p in stepper.model.parameters()]).norm()
    assert norm.item() == pytest.approx(0.01, rel=1e-3)


def test_scale_lr_scales_the_base_rate(data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, 'dsanet'):
        stepper, _ = make_stepper(data, tmp_path, train_cfg={'base_batch_size': 16, 'scale_lr': True})
        assert stepper.set_learning_rate(0) == pytest.approx(0.0125 * 0.01)  # 4 videos instead of 16
        assert stepper.optimizer.param_groups[0]['base_lr'] == 0.0125
        stepper, _ = make_stepper(data, tmp_path, train_cfg={'base_batch_size': 16})
        assert stepper.optimizer.param_groups[0]['lr'] == 0.05
        make_stepper(data, tmp_path, train_cfg={'base_batch_size': 4, 'scale_lr': True})
    scaled, warned = (message for message in caplog.messages if '0.0125' in message)
    assert '16' in scaled
    assert '--scale-lr' in warned


@pytest.mark.parametrize('find', [False, True])
def test_find_unused_parameters_is_passed_on(
    data: Path, tmp_path: Path, find: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []
    monkeypatch.setattr(distributed, 'wrap_ddp', lambda model, _device, find: (given.append(find), model)[1])
    make_stepper(data, tmp_path, runtime={'find_unused_parameters': find})[0].start()
    assert given == [find]


def test_iterations_and_processes_have_different_seeds() -> None:
    draws = set()
    for place in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0, 0, 1)]:
        train_step.seed_iteration(*place)
        draws.add(torch.rand(1).item())
    assert len(draws) == 5
    train_step.seed_iteration(1, 0, 0)
    drawn = torch.rand(1)
    assert drawn.item() in draws
    torch.manual_seed(int(np.random.SeedSequence((1, 0, 0)).generate_state(1, np.uint64)[0]))
    assert torch.rand(1) == drawn


# -- the gradient ------------------------------------------------------------------------------------------------------


def halves(batch: Batch) -> Sequence[Batch]:
    return [{name: batch[name][part] for name in ('inputs', 'label')} for part in (slice(0, 2), slice(2, 4))]


# Weights that differ between the two halves of the batch below, which has the classes 0, 2, 1, 1.
CLASS_WEIGHTS = (1.0, 1.0, 10.0, 1.0, 1.0, 1.0, 1.0, 1.0)
LOSSES = {
    'plain': {'type': 'CrossEntropyLoss'},
    'weights': {'type': 'CrossEntropyLoss', 'class_weights': CLASS_WEIGHTS},
    'weights and smoothing': {'type': 'CrossEntropyLoss', 'label_smoothing': 0.1, 'class_weights': CLASS_WEIGHTS},
    'focal': {'type': 'FocalLoss', 'class_weights': CLASS_WEIGHTS},
}


def make_exact(data: Path, work_dir: Path, loss: str) -> tuple[Stepper, Batch]:
    """Return a stepper in float64, without clipping, whose loss adds up over videos, and a batch of four."""
    cls_head = {'type': 'I3DClsHead', 'num_classes': 8, 'in_channels': 32, 'dropout': 0.0, 'loss': LOSSES[loss]}
    stepper, batch = make_stepper(data, work_dir, model={'cls_head': cls_head}, train_cfg={'clip_grad_norm': None})
    stepper.model.double()
    stepper.model.cls_head.criterion.float()  # as the scores are
    # In training mode batch norms would differ, because they see one batch at a time.
    stepper.model.eval()
    stepper.model.data_preprocessor.register_forward_hook(lambda _module, _args, frames: frames.double())
    stepper.start()
    return stepper, {**batch, 'label': torch.tensor([0, 2, 1, 1])}


def gradients_of(stepper: Stepper, *batches: Batch) -> dict[str, Tensor]:
    """Return the mean gradient of some batches by name, and their mean loss."""
    loss = stepper.backward(batches, 0)['loss']
    return {'loss': loss, **{name: p.grad.clone() for name, p in stepper.model.named_parameters()}}


@pytest.mark.parametrize('loss', LOSSES)
def test_accumulated_gradient_equals_that_of_large_batch(data: Path, tmp_path: Path, loss: str) -> None:
    stepper, batch = make_exact(data, tmp_path, loss)
    whole = gradients_of(stepper, batch)
    torch.testing.assert_close(gradients_of(stepper, *halves(batch)), whole, rtol=1e-6, atol=1e-9)


def half_of_a_process(data: Path, work_dir: Path, inputs: Tensor) -> dict[str, dict[str, Tensor]]:
    """Return the gradients of one of two processes, which has half of the batch, with each loss."""
    found = {}
    for loss in LOSSES:
        stepper, batch = make_exact(data, work_dir, loss)
        found[loss] = gradients_of(stepper, halves({**batch, 'inputs': inputs})[distributed.rank()])
    return found


@pytest.mark.sweep
def test_two_processes_have_gradient_of_large_batch(data: Path, tmp_path: Path) -> None:
    inputs = make_exact(data, tmp_path, 'plain')[1]['inputs']
    shares = run_processes(2, tmp_path / 'run', partial(half_of_a_process, data, tmp_path, inputs))
    for loss in LOSSES:
        stepper, batch = make_exact(data, tmp_path, loss)
        whole = gradients_of(stepper, {**batch, 'inputs': inputs})
        mean = (shares[0][loss].pop('loss') + shares[1][loss].pop('loss')) / 2
        torch.testing.assert_close(mean, whole.pop('loss'), rtol=1e-6, atol=1e-9)
        for share in shares:
            torch.testing.assert_close(share[loss], whole, rtol=1e-6, atol=1e-9)


@pytest.fixture
def seeds(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """The arguments of all calls of ``seed_iteration``."""
    calls: list[tuple] = []
    monkeypatch.setattr(train_step, 'seed_iteration', lambda *args: calls.append(args))
    return calls


def test_accumulated_batches_have_different_dropout(data: Path, tmp_path: Path, seeds: list[tuple]) -> None:
    stepper, batch = make_stepper(data, tmp_path, runtime={'seed': 5})
    stepper.backward(halves(batch), 7)
    assert seeds == [(5, 7, 0, 0), (5, 7, 0, 1)]


@pytest.fixture
def group() -> Iterator[None]:
    """A process group of this process alone."""
    dist.init_process_group('gloo', store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_gradients_are_exchanged_after_last_batch_only(
    data: Path, tmp_path: Path, group: None, seeds: list[tuple]
) -> None:
    stepper, batch = make_stepper(data, tmp_path)
    stepper.start()
    exchanges = []

    def exchange(_state: object, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
        exchanges.append(seeds[-1][-1])
        done: torch.futures.Future[Tensor] = torch.futures.Future()
        done.set_result(bucket.buffer())
        return done

    stepper._callable.register_comm_hook(None, exchange)
    stepper.backward([*halves(batch), *halves(batch)], 0)
    assert [index for *_, index in seeds] == [0, 1, 2, 3]
    assert set(exchanges) == {3}


def test_warm_up_changes_nothing(data: Path, tmp_path: Path) -> None:
    stepper, batch = make_stepper(data, tmp_path)
    passes = []
    stepper.model.register_forward_hook(lambda *_args: passes.append(1))
    before = copy_state(stepper.model)
    expected = gradients_of(stepper, batch)
    after = copy_state(stepper.model)
    stepper._skip_step()
    assert_equal(before, stepper.model.state_dict())
    stepper._needs_warm_up = True  # as with three processes
    assert_equal(expected, gradients_of(stepper, batch))
    assert_equal(after, stepper.model.state_dict())
    assert (len(passes), stepper._needs_warm_up) == (3, False)
    assert not stepper.optimizer.state


class _HostReads(TorchDispatchMode):
    """Counts the values that are read from the device, which wait for it."""

    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


def test_step_waits_for_the_device_once(data: Path, tmp_path: Path) -> None:
    stepper, batch = make_stepper(data, tmp_path, train_cfg=EMA)
    take_step(stepper, batch)
    with _HostReads() as reads:
        scalars = stepper.backward([batch], 1)
        assert reads.count == 0
        stepper.update(scalars)
    assert reads.count == 1


# -- skipped steps -----------------------------------------------------------------------------------------------------


def fill(parameter: nn.Parameter, value: float) -> Callable[[], None]:
    """Set a parameter to a value; the returned function undoes it."""
    kept = parameter.data.clone()
    parameter.data.fill_(value)
    return lambda: parameter.data.copy_(kept)


def test_nonfinite_step_leaves_no_trace(data: Path, tmp_path: Path) -> None:
    stepper, batch = make_stepper(data, tmp_path, train_cfg=EMA)
    take_step(stepper, batch)
    before, average = copy_state(stepper.model), copy_state(stepper.average.model)
    momentum = [s['momentum_buffer'].clone() for s in stepper.optimizer.state.values()]
    undo = fill(stepper.model.backbone.conv1.weight, math.inf)
    scalars = stepper.backward([batch], 1)
    assert not stepper.model.backbone.bn1.running_mean.isfinite().all()
    assert stepper.update(scalars) is StepResult.NON_FINITE
    undo()
    assert_equal(before, stepper.model.state_dict())
    assert_equal(average, stepper.average.model.state_dict())
    after = [s['momentum_buffer'] for s in stepper.optimizer.state.values()]
    assert all(torch.equal(a, b) for a, b in zip(momentum, after, strict=True))
    assert all(p.grad is None for p in stepper.model.parameters())


def test_fp16_overflow_leaves_no_trace(data: Path, tmp_path: Path) -> None:
    stepper, batch = make_stepper(data, tmp_path, runtime={'amp': 'fp16'}, train_cfg=EMA)
    assert take_step(stepper, batch) is StepResult.UPDATED
    assert stepper.average.num_updates == 1
    before, average = copy_state(stepper.model), copy_state(stepper.average.model)
    stepper.scaler = torch.amp.GradScaler('cpu', init_scale=1e38)
    assert take_step(stepper, batch) is StepResult.OVERFLOW  # the scaler looks for the right scale
    assert stepper.scaler.get_scale() < 1e38
    assert stepper.average.num_updates == 1
    assert_equal(before, stepper.model.state_dict())  # with running statistics
    assert_equal(average, stepper.average.model.state_dict())


@pytest.mark.parametrize(('scale', 'result'), [(1.0, StepResult.NON_FINITE), (2.0**16, StepResult.OVERFLOW)])
def test_fp16_gradient_is_nonfinite_at_smallest_scale(
    data: Path, tmp_path: Path, scale: float, result: StepResult
) -> None:
    stepper, batch = make_stepper(data, tmp_path, runtime={'amp': 'fp16'})
    stepper.scaler = torch.amp.GradScaler('cpu', init_scale=scale)
    hook = stepper.model.backbone.conv1.weight.register_hook(lambda gradient: gradient * math.inf)
    assert take_step(stepper, batch) is result
    assert stepper.scaler.get_scale() == max(1, scale / 2)
    hook.remove()
    assert take_step(stepper, batch) is StepResult.UPDATED  # the scaler is ready for the next step


def test_fp16_nan_loss_is_not_an_overflow(data: Path, tmp_path: Path) -> None:
    stepper, batch = make_stepper(data, tmp_path, runtime={'amp': 'fp16'})
    scale = stepper.scaler.get_scale()
    undo = fill(stepper.model.cls_head.fc_cls.weight, math.nan)
    assert take_step(stepper, batch) is StepResult.NON_FINITE
    assert stepper.scaler.get_scale() == scale > 1
    undo()
    assert take_step(stepper, batch) is StepResult.UPDATED


def skip_in_one_process(data: Path, work_dir: Path) -> list[tuple[str, dict[str, Tensor]]]:
    """Take three steps in one of two processes; in the second one, the loss of process 1 is infinite."""
    stepper, batch = make_stepper(data, work_dir)
    stepper.start()
    forward = stepper.model.forward

    def add(*args: Tensor, constant: float) -> dict[str, Tensor]:
        scalars = forward(*args)
        return {**scalars, 'loss': scalars['loss'] + constant}  # the gradient is finite

    steps = []
    for iteration in range(3):
        constant = math.inf if iteration == distributed.rank() == 1 else 0.0
        stepper.model.forward = partial(add, constant=constant)
        scalars = stepper.backward([batch], iteration)
        assert math.isfinite(scalars['loss']) == (constant == 0)
        steps.append((stepper.update(scalars).name, copy_state(stepper.model)))
    return steps


@pytest.mark.sweep
def test_infinite_loss_in_one_process_skips_all(data: Path, tmp_path: Path) -> None:
    shares = run_processes(2, tmp_path / 'run', partial(skip_in_one_process, data, tmp_path))
    for steps in shares:
        assert [result for result, _ in steps] == ['UPDATED', 'NON_FINITE', 'UPDATED']
        assert_equal(steps[0][1], steps[1][1])
    for name, value in shares[0][2][1].items():
        assert value.isfinite().all()
        if 'running' not in name:  # each process has its own statistics until they are broadcast
            assert torch.equal(value, shares[1][2][1][name]), name


# -- state -------------------------------------------------------------------------------------------------------------


def test_state_dict_round_trip(data: Path, tmp_path: Path) -> None:
    options = {'runtime': {'amp': 'fp16'}, 'train_cfg': EMA}
    stepper, batch = make_stepper(data, tmp_path, **options)
    for _ in range(2):
        take_step(stepper, batch)
    torch.save(stepper.state_dict(), tmp_path / 'state.pth')
    other, _ = make_stepper(data, tmp_path, **options)
    other.load_state_dict(torch.load(tmp_path / 'state.pth'))
    for each in (stepper, other):
        each.set_learning_rate(1)
        assert take_step(each, batch) is StepResult.UPDATED
    found, expected = other.state_dict(), stepper.state_dict()
    assert found['optimizer'].pop('type') == expected['optimizer'].pop('type') == 'SGD'
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_state_without_average_restarts_the_average(data: Path, tmp_path: Path) -> None:
    stepper, batch = make_stepper(data, tmp_path)
    take_step(stepper, batch)
    other, _ = make_stepper(data, tmp_path, train_cfg=EMA)
    other.average.num_updates = 5
    other.load_state_dict(stepper.state_dict())
    assert other.average.num_updates == 0
    assert_equal(other.average.model.state_dict(), stepper.model.state_dict())
