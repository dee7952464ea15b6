import math
from pathlib import Path
from typing import Any

import pytest
import torch

from dsanet.engine import range_test
from dsanet.engine.range_test import MEMORY, Point, suggest
from dsanet.engine.trainer import Trainer
from dsanet.utils.json_lines import read_lines
from tests.engine.conftest import make_config


def points_of(losses: list[float]) -> list[Point]:
    """Points a factor of 10 in the rate apart, with the average as given."""
    return [Point(10.0**i, loss, loss) for i, loss in enumerate(losses, -MEMORY)]


def test_average_is_without_bias_and_forgets() -> None:
    average = range_test.Average()
    assert average.add(3.0) == pytest.approx(3.0)
    # Weights 0.9 and 1 of the two values.
    assert average.add(5.0) == pytest.approx((0.9 * 3 + 5) / 1.9)
    for _ in range(200):
        last = average.add(1.0)
    assert last == pytest.approx(1.0)


def test_suggestions_are_the_steepest_descent_and_a_tenth_of_the_minimum() -> None:
    before = [9.0] * MEMORY  # not looked at: the average is of too few
    # Central differences: the steepest is between 4 and 1, at the rate 100.
    points = points_of([*before, 5, 4.8, 4, 1, 0.5, 0.4, 3])
    assert suggest(points) == pytest.approx((100.0, 1e5 / 10))


def test_a_fall_behind_the_minimum_does_not_count() -> None:
    points = points_of([*[9.0] * MEMORY, 4, 2, 1, 50, 20])
    assert suggest(points) == pytest.approx((1.0, 10.0))


@pytest.mark.parametrize('losses', [[1.0, 2.0, 3.0], [1.0]])
def test_nothing_is_suggested_where_nothing_falls(losses: list[float]) -> None:
    points = points_of([*[9.0] * MEMORY, *losses])
    assert suggest(points) is None
    assert 'no suggestion: the average does not fall' in range_test.describe(points, None, len(points))


@pytest.fixture
def config(data: Path) -> dict[str, Any]:
    """The tiny run, with four iterations per epoch and a head that learns five times as fast."""
    config = make_config(data)
    config['train_dataloader']['batch_size'] = 2
    config['parameters'] = {'lr_multipliers': {'cls_head': 5.0}}
    return config


@pytest.fixture
def trainer(config: dict[str, Any], tmp_path: Path) -> Trainer:
    trainer = range_test.make_trainer(config, tmp_path)
    trainer.prepare(check_data=False)
    return trainer


def test_the_rate_grows_by_a_factor_and_groups_keep_their_multipliers(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, steps = [], range_test.take_step

    def take_step(trainer: Trainer, *args: Any) -> float:
        seen.append([group['lr'] for group in trainer.stepper.optimizer.param_groups])
        return steps(trainer, *args)

    monkeypatch.setattr(range_test, 'take_step', take_step)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    points = range_test.range_test(trainer, 1e-4, 1e-1, 7)  # more iterations than an epoch has
    rates = [1e-4 * 10 ** (i / 2) for i in range(7)]
    assert [point.rate for point in points] == pytest.approx(rates)
    assert [sorted(lrs) for lrs in seen] == [pytest.approx([rate, 5 * rate]) for rate in rates]
    assert all(not torch.equal(p, before[name]) for name, p in trainer.model.named_parameters())


def test_losses_are_those_of_a_training(trainer: Trainer, config: dict[str, Any], tmp_path: Path) -> None:
    """The same seed, batches and constant rate as the first epoch of a run with this rate."""
    points = range_test.range_test(trainer, 0.01, 0.01 * (1 + 1e-12), 4)
    config['optimizer']['lr'] = 0.01
    config['train_cfg']['max_epochs'] = 1
    config['schedule'] = {'type': 'StepSchedule', 'milestones': []}
    straight = Trainer(config, tmp_path, torch.device('cpu'))
    straight.start()
    straight.train()
    lines = read_lines(tmp_path / 'scalars.jsonl')
    assert len(lines) == 4
    assert [point.loss for point in points] == pytest.approx([line['train/loss'] for line in lines], rel=1e-6)


@pytest.mark.parametrize(
    ('losses', 'kept'),
    [([2.0, 1.0, math.nan, 1.0], 2), ([2.0, 1.0, math.inf, 1.0], 2), ([1.0, 1.0, 50.0, 1.0], 3), ([1.0] * 4, 4)],
)
def test_it_ends_where_the_loss_diverges(
    trainer: Trainer, losses: list[float], kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(range_test, 'take_step', lambda _runner, _stepper, _batches, i: losses[i])
    points = range_test.range_test(trainer, 1e-3, 1, 4)
    assert [point.loss for point in points] == losses[:kept]
    assert ('ended after' in range_test.describe(points, None, 4)) == (kept < 4)


def test_a_gradient_that_is_not_finite_ends_it_too(trainer: Trainer) -> None:
    next(trainer.model.cls_head.parameters()).data.fill_(math.inf)
    assert range_test.range_test(trainer, 1e-3, 1, 4) == []
