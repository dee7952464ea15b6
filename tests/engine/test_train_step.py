from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from dsanet.engine.optim import set_learning_rate
from dsanet.engine.train_step import Gradient, Stepper
from dsanet.engine.trainer import Trainer
from dsanet.utils import distributed
from tests.engine.conftest import make_config
from tests.engine.test_trainer import DEVICE, EMA
from tests.models.test_sync_batch_norm import run_processes


def seed(place: int) -> None:
    torch.manual_seed(place)


def take_step(stepper: Stepper, *batches: Mapping[str, Any]) -> Gradient:
    gradient = stepper.compute(batches, seed)
    stepper.apply()
    return gradient


def make_trainer(data: Path, work_dir: Path, **changes: dict) -> tuple[Trainer, Stepper, Mapping[str, Any]]:
    """Return a run at its start, with the whole learning rate, and its first batch."""
    trainer = Trainer(make_config(data, **changes), work_dir, DEVICE)
    set_learning_rate(trainer.stepper.optimizer, 1)
    return trainer, trainer.make_stepper(), next(iter(trainer.train_loader))


def copy_state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def assert_equal(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> None:
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert torch.equal(value, two[name]), name


def test_average_follows_the_steps_of_a_run(data: Path, tmp_path: Path) -> None:
    trainer, stepper, batch = make_trainer(data, tmp_path, train_cfg=EMA)
    names = ('cls_head.fc_cls.weight', 'backbone.bn1.running_mean')
    seen = []
    for _ in range(3):
        take_step(stepper, batch)
        seen.append([trainer.model.state_dict()[name].clone() for name in names])
    for i, name in enumerate(names):
        first, second, third = (values[i] for values in seen)
        two = first * 2 / 11 + second * 9 / 11
        assert torch.allclose(trainer.stepper.average.model.state_dict()[name], two * 0.25 + third * 0.75, atol=1e-7)


def test_step_that_fp16_leaves_out_does_not_move_the_average(data: Path, tmp_path: Path) -> None:
    trainer, stepper, batch = make_trainer(data, tmp_path, runtime={'amp': 'fp16'}, train_cfg=EMA)
    take_step(stepper, batch)
    assert trainer.stepper.average.num_updates == 1
    before = copy_state(trainer.stepper.average.model)
    stepper.scaler = torch.amp.GradScaler('cpu', init_scale=1e38)
    assert take_step(stepper, batch).is_finite  # an overflow on the way to the right scale is no fault of the run
    assert stepper.scaler.get_scale() < 1e38
    assert trainer.stepper.average.num_updates == 1
    assert_equal(before, trainer.stepper.average.model.state_dict())


def test_gradients_are_clipped_to_the_limit(data: Path, tmp_path: Path) -> None:
    trainer, stepper, batch = make_trainer(data, tmp_path, train_cfg={'clip_grad_norm': 0.01})
    gradient = take_step(stepper, batch)
    norm = torch.stack([p.grad.norm() for p in trainer.model.parameters()]).norm()
    assert gradient.scalars['grad_norm'] > 0.01
    assert norm.item() == pytest.approx(0.01, rel=1e-3)


def halves(batch: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return [{name: batch[name][part] for name in ('inputs', 'label')} for part in (slice(0, 2), slice(2, 4))]


# Weights that are unlike in the two halves of the batch below, which has the classes 0, 2, 1, 1.
CLASS_WEIGHTS = (1.0, 1.0, 10.0, 1.0, 1.0, 1.0, 1.0, 1.0)
LOSSES = {
    'plain': {'type': 'CrossEntropyLoss'},
    'weights': {'type': 'CrossEntropyLoss', 'class_weights': CLASS_WEIGHTS},
    'weights and smoothing': {'type': 'CrossEntropyLoss', 'label_smoothing': 0.1, 'class_weights': CLASS_WEIGHTS},
    'focal': {'type': 'FocalLoss', 'class_weights': CLASS_WEIGHTS},
}


def make_exact(data: Path, work_dir: Path, loss: str) -> tuple[Trainer, Stepper, Mapping[str, Any]]:
    """Return a run in float64 whose loss adds up over videos, clipped nowhere, and a batch of four."""
    cls_head = {'type': 'I3DClsHead', 'num_classes': 8, 'in_channels': 32, 'dropout': 0.0, 'loss': LOSSES[loss]}
    config = make_config(data, model={'cls_head': cls_head}, train_cfg={'clip_grad_norm': None})
    trainer = Trainer(config, work_dir, DEVICE)
    trainer.model.double()
    trainer.model.cls_head.criterion.float()  # as the scores are
    # Batch norms see one batch at a time, so they would tell the difference while they train.
    trainer.model.eval()
    trainer.model.data_preprocessor.register_forward_hook(lambda _module, _args, frames: frames.double())
    batch = next(iter(trainer.train_loader))
    return trainer, trainer.make_stepper(), {**batch, 'label': torch.tensor([0, 2, 1, 1])}


def gradients_of(trainer: Trainer, stepper: Stepper, *batches: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the mean gradient of some batches by name, and their mean loss."""
    loss = stepper.compute(batches, seed).scalars['loss']
    return {'loss': loss, **{name: p.grad.clone() for name, p in trainer.model.named_parameters()}}


@pytest.mark.parametrize('loss', LOSSES)
def test_accumulated_batches_give_the_gradient_of_the_large_one(data: Path, tmp_path: Path, loss: str) -> None:
    trainer, stepper, batch = make_exact(data, tmp_path, loss)
    whole = gradients_of(trainer, stepper, batch)
    torch.testing.assert_close(gradients_of(trainer, stepper, *halves(batch)), whole, rtol=1e-6, atol=1e-9)


def half_of_a_process(data: Path, work_dir: Path, inputs: Tensor) -> dict[str, dict[str, Tensor]]:
    """Return the gradients of one of two processes, which has half of the batch, with each loss."""
    found = {}
    for loss in LOSSES:
        trainer, stepper, batch = make_exact(data, work_dir, loss)
        half = halves({**batch, 'inputs': inputs})[distributed.rank()]
        found[loss] = gradients_of(trainer, stepper, half)
    return found


@pytest.mark.sweep
def test_two_processes_have_the_gradient_of_the_large_batch(data: Path, tmp_path: Path) -> None:
    inputs = make_exact(data, tmp_path, 'plain')[2]['inputs']
    shares = run_processes(2, tmp_path / 'run', partial(half_of_a_process, data, tmp_path, inputs))
    for loss in LOSSES:
        trainer, stepper, batch = make_exact(data, tmp_path, loss)
        whole = gradients_of(trainer, stepper, {**batch, 'inputs': inputs})
        mean = (shares[0][loss].pop('loss') + shares[1][loss].pop('loss')) / 2
        torch.testing.assert_close(mean, whole.pop('loss'), rtol=1e-6, atol=1e-9)
        for share in shares:
            torch.testing.assert_close(share[loss], whole, rtol=1e-6, atol=1e-9)


def test_each_accumulated_batch_draws_its_own_dropout(data: Path, tmp_path: Path) -> None:
    _, stepper, batch = make_trainer(data, tmp_path)
    places = []
    stepper.compute(halves(batch), places.append)
    assert places == [0, 1]


@pytest.fixture
def group() -> Iterator[None]:
    """A process group of this process alone."""
    dist.init_process_group('gloo', store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_processes_exchange_gradients_behind_the_last_batch_only(data: Path, tmp_path: Path, group: None) -> None:
    _, stepper, batch = make_trainer(data, tmp_path)
    places, exchanges = [], []

    def exchange(_state: object, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
        exchanges.append(places[-1])
        done: torch.futures.Future[Tensor] = torch.futures.Future()
        done.set_result(bucket.buffer())
        return done

    stepper.model.register_comm_hook(None, exchange)
    stepper.compute([*halves(batch), *halves(batch)], places.append)
    assert places == [0, 1, 2, 3]
    assert set(exchanges) == {3}


def test_step_left_out_leaves_no_trace(data: Path, tmp_path: Path) -> None:
    trainer, stepper, batch = make_trainer(data, tmp_path, train_cfg=EMA)
    take_step(stepper, batch)
    before, average = copy_state(trainer.model), copy_state(trainer.stepper.average.model)
    momentum = [s['momentum_buffer'].clone() for s in trainer.stepper.optimizer.state.values()]
    with torch.no_grad():
        filter_weight = trainer.model.backbone.conv1.weight
        kept = filter_weight.clone()
        filter_weight.fill_(float('inf'))
    gradient = stepper.compute([batch], seed)
    assert not gradient.is_finite
    assert not trainer.model.backbone.bn1.running_mean.isfinite().all()
    stepper.leave_out()
    with torch.no_grad():
        filter_weight.copy_(kept)
    assert_equal(before, trainer.model.state_dict())
    assert_equal(average, trainer.stepper.average.model.state_dict())
    after = [s['momentum_buffer'] for s in trainer.stepper.optimizer.state.values()]
    assert all(torch.equal(a, b) for a, b in zip(momentum, after, strict=True))
    assert all(p.grad is None for p in trainer.model.parameters())


@pytest.mark.parametrize(('scale', 'is_finite'), [(1.0, False), (2.0**16, True)])
def test_fp16_gradient_that_no_scale_saves_is_not_finite(
    data: Path, tmp_path: Path, scale: float, is_finite: bool
) -> None:
    trainer, stepper, batch = make_trainer(data, tmp_path, runtime={'amp': 'fp16'})
    stepper.scaler = torch.amp.GradScaler('cpu', init_scale=scale)
    trainer.model.backbone.conv1.weight.register_hook(lambda gradient: gradient * float('inf'))
    assert stepper.compute([batch], seed).is_finite == is_finite
    stepper.leave_out()
    assert stepper.scaler.get_scale() == scale
    stepper.compute([batch], seed)  # the scaler is ready for it
    stepper.leave_out()


def test_settling_changes_nothing(data: Path, tmp_path: Path) -> None:
    trainer, stepper, batch = make_trainer(data, tmp_path)
    before = copy_state(trainer.model)
    stepper.settle([batch])
    assert_equal(before, trainer.model.state_dict())
    assert not trainer.stepper.optimizer.state
