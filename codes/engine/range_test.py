"""Learning-rate range test: train with an increasing learning rate, and see where the loss falls and diverges.

Cyclical Learning Rates for Training Neural Networks, Smith, arXiv 1506.01186, section 3.3.
"""

import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from dsanet.datasets.loader import in_groups
from dsanet.engine.optim import set_learning_rate
from dsanet.engine.train_step import StepResult
from dsanet.engine.trainer import Trainer
from dsanet.utils import distributed

MEMORY = 10  # iterations that the average of the loss covers; suggestions ignore this many at the start
DIVERGED = 4  # times the lowest average


@dataclass(frozen=True)
class Point:
    """One iteration.

    Args:
        rate: the learning rate, without multipliers of parameter groups.
        loss: before the step.
        average: of the losses up to here.
    """

    rate: float
    loss: float
    average: float


def make_trainer(config: dict[str, Any], work_dir: Path) -> Trainer:
    """Build the trainer of a config without validation, weight averaging, learning-rate scaling and trackers.

    Raises:
        KeyError, ValueError: as ``Trainer``, or a learning rate of 0.
    """
    config.pop('val_dataloader', None)
    if 'train_cfg' in config:
        config['train_cfg'] = {**config['train_cfg'], 'ema_decay': None, 'base_batch_size': None, 'scale_lr': False}
    if 'runtime' in config:
        config['runtime'] = {**config['runtime'], 'trackers': []}
    trainer = Trainer(config, work_dir, distributed.find_device())
    base = trainer.stepper.optimizer.defaults['lr']
    if base <= 0:
        raise ValueError(f'optimizer.lr={base} must be positive: the rates of all parameters are multiples of it')
    return trainer


def range_test(trainer: Trainer, start: float, end: float, iterations: int) -> list[Point]:
    """Train with an increasing learning rate until it reaches ``end`` or the loss diverges.

    Args:
        trainer: after ``Trainer.prepare``.
        start: first learning rate.
        end: last learning rate; it grows by a constant factor per iteration.
        iterations: number of iterations.

    Returns:
        The iterations whose loss and gradient are finite.
    """
    stepper, batches = trainer.stepper, _batches(trainer)
    base = stepper.optimizer.defaults['lr']
    trainer.model.train()
    points: list[Point] = []
    total = weight = 0.0
    rates = np.geomspace(start, end, iterations).tolist()
    for i, rate in enumerate(tqdm(rates, desc='range test', leave=False, disable=not sys.stderr.isatty())):
        set_learning_rate(stepper.optimizer, rate / base)
        result = StepResult.OVERFLOW
        while result is StepResult.OVERFLOW:  # fp16 has not found its loss scale yet, which is lowered each time
            scalars = stepper.backward(next(batches), i)
            result = stepper.update(scalars)
        if result is not StepResult.UPDATED:
            break
        loss = scalars['loss'].item()
        # Exponential average without bias toward 0 (arXiv 1412.6980, section 3).
        total = total * (1 - 1 / MEMORY) + loss / MEMORY
        weight = weight * (1 - 1 / MEMORY) + 1 / MEMORY
        points.append(Point(rate, loss, total / weight))
        if points[-1].average > DIVERGED * min(point.average for point in points):
            break
    return points


def _batches(trainer: Trainer) -> Iterator[list[Any]]:
    """Yield the batches of one iteration after another, over as many epochs as needed."""
    for epoch in itertools.count():
        trainer.train_loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        for batches in in_groups(trainer.train_loader, trainer.train_cfg.accumulate):
            for cases in (cases for batch in batches for cases in batch['bad']):
                tqdm.write(f'Bad sample replaced: {cases[0]["source"]}: {cases[0]["reason"]}')
            yield batches


def suggest(points: Sequence[Point]) -> tuple[float, float] | None:
    """Return two learning rates: at the steepest descent of the average, and a tenth of the rate at its minimum.

    Returns:
        None if the average does not fall, or there are too few iterations.
    """
    points = points[MEMORY:]
    if len(points) < 2:
        return None
    averages = [point.average for point in points]
    slopes = np.gradient(averages, np.log([point.rate for point in points]))
    lowest = int(np.argmin(averages))
    steepest = int(np.argmin(slopes[: lowest + 1]))
    if slopes[steepest] >= 0:
        return None
    return points[steepest].rate, points[lowest].rate / 10


def format_points(points: Sequence[Point], suggestion: tuple[float, float] | None, iterations: int) -> str:
    """Return a table of about twenty iterations, and the suggestion."""
    lines = ['     rate      loss   average']
    lines += [f'{p.rate:9.3g} {p.loss:9.4g} {p.average:9.4g}' for p in points[:: max(1, len(points) // 20)]]
    if len(points) < iterations:
        lines.append(
            f'Stopped after {len(points)} of {iterations} iterations: the loss diverged or the gradient was not finite'
        )
    if suggestion is None:
        lines.append(f'No suggestion: the average loss does not fall after the first {MEMORY} iterations')
        lines.append('Try other --start and --end, or more --iterations')
    else:
        lines.append(f'Steepest descent of the average loss at learning rate {suggestion[0]:.2g}')
        lines.append(f'A tenth of the learning rate with the lowest average loss: {suggestion[1]:.2g}')
        lines.append('Both are starting points for this batch size; only full runs show the best learning rate.')
    return '\n'.join(lines)
