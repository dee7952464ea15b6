import math
from pathlib import Path
from typing import Any

import pytest
import torch

from dsanet.engine import range_test
from dsanet.engine.range_test import MEMORY, Point, suggest
from dsanet.engine.train_step import Stepper, StepResult
from dsanet.engine.trainer import Trainer
from dsanet.utils.json_lines import read_json_lines
from tests.engine.conftest import make_config, train


def points_of(losses: list[float]) -> list[Point]:
    """Return points whose rates differ by a factor of 10, with these averages."""
    return [Point(10.0**i, loss, loss) for i, loss in enumerate(losses, -MEMORY)]


def test_suggests_steepest_descent_and_tenth_of_minimum() -> None:
    before = [9.0] * MEMORY  # ignored: averages of too few iterations
    # Central differences: the steepest descent is between 4 and 1, at the rate 100.
    points = points_of([*before, 5, 4.8, 4, 1, 0.5, 0.4, 3])
    assert suggest(points) == pytest.approx((100.0, 1e5 / 10))


def test_descent_after_the_minimum_is_ignored() -> None:
    points = points_of([*[9.0] * MEMORY, 4, 2, 1, 50, 20])
    assert suggest(points) == pytest.approx((1.0, 10.0))


@pytest.mark.parametrize('losses', [[1.0, 2.0, 3.0], [1.0]])
def test_no_suggestion_without_descent(losses: list[float]) -> None:
    points = points_of([*[9.0] * MEMORY, *losses])
    assert suggest(points) is None
    assert '--start' in range_test.format_points(points, None, len(points)).splitlines()[-1]


@pytest.fixture
def config(data: Path) -> dict[str, Any]:
    """The tiny run, with four iterations per epoch and a head with five times the learning rate."""
    config = make_config(data)
    config['train_dataloader']['batch_size'] = 2
    config['parameters'] = {'lr_multipliers': {'cls_head': 5.0}}
    return config


@pytest.fixture
def trainer(config: dict[str, Any], tmp_path: Path) -> Trainer:
    trainer = range_test.make_trainer(config, tmp_path)
    trainer.prepare(check_data=False)
    return trainer


def test_rate_grows_and_groups_keep_multipliers(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, original = [], Stepper.update

    def update(self: Stepper, grad_norm: torch.Tensor) -> object:
        seen.append([group['lr'] for group in self.optimizer.param_groups])
        return original(self, grad_norm)

    monkeypatch.setattr(Stepper, 'update', update)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    points = range_test.range_test(trainer, 1e-4, 1e-1, 7)  # more iterations than an epoch has
    rates = [1e-4 * 10 ** (i / 2) for i in range(7)]
    assert [point.rate for point in points] == pytest.approx(rates)
    assert [sorted(lrs) for lrs in seen] == [pytest.approx([rate, 5 * rate]) for rate in rates]
    assert all(not torch.equal(p, before[name]) for name, p in trainer.model.named_parameters())


def test_losses_are_those_of_a_training(trainer: Trainer, config: dict[str, Any], tmp_path: Path) -> None:
    """The first epoch of a run with the same seed and a constant learning rate."""
    points = range_test.range_test(trainer, 0.01, 0.01 * (1 + 1e-12), 4)
    config['optimizer']['lr'] = 0.01
    config['train_cfg']['max_epochs'] = 1
    config['schedule'] = {'type': 'StepSchedule', 'milestones': []}
    train(config, tmp_path)
    lines = read_json_lines(tmp_path / 'scalars.jsonl')
    assert len(lines) == 4
    assert [point.loss for point in points] == pytest.approx([line['train/loss'] for line in lines], rel=1e-6)


@pytest.mark.parametrize(
    ('losses', 'kept'),
    [([2.0, 1.0, math.nan, 1.0], 2), ([2.0, 1.0, math.inf, 1.0], 2), ([1.0, 1.0, 50.0, 1.0], 3), ([1.0] * 4, 4)],
)
def test_ends_when_the_loss_diverges(
    trainer: Trainer, losses: list[float], kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def backward(_self: Stepper, _batches: list, iteration: int) -> dict[str, torch.Tensor]:
        loss = torch.tensor(losses[iteration])
        return {'loss': loss, 'grad_norm': loss}  # not finite together

    monkeypatch.setattr(Stepper, 'backward', backward)
    points = range_test.range_test(trainer, 1e-3, 1, 4)
    assert [point.loss for point in points] == losses[:kept]
    # Averages in which each loss has 0.9 of the weight of the next one.
    weights = [0.9 ** (kept - 1 - i) for i in range(kept)]
    assert points[-1].average == pytest.approx(sum(w * x for w, x in zip(weights, losses, strict=False)) / sum(weights))
    assert (f'{kept} of 4' in range_test.format_points(points, None, 4)) == (kept < 4)


def test_overflow_of_fp16_repeats_the_iteration(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    results = [StepResult.OVERFLOW] * 3 + [StepResult.UPDATED] * 2 + [StepResult.OVERFLOW, StepResult.UPDATED]
    monkeypatch.setattr(Stepper, 'backward', lambda *_: {'loss': torch.tensor(1.0)})
    monkeypatch.setattr(Stepper, 'update', lambda *_: results.pop(0))
    points = range_test.range_test(trainer, 1e-3, 1, 3)
    assert [point.rate for point in points] == pytest.approx([1e-3, 10**-1.5, 1])
    assert not results


def test_ends_when_the_gradient_is_nonfinite(trainer: Trainer) -> None:
    next(trainer.model.cls_head.parameters()).data.fill_(math.inf)
    assert range_test.range_test(trainer, 1e-3, 1, 4) == []
