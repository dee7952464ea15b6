"""Learning-rate range test: train with a rate that grows, and see where the loss falls fastest and where it diverges.

Cyclical Learning Rates for Training Neural Networks, Smith, arXiv 1506.01186, section 3.3.
"""

import itertools
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from dsanet.datasets.loader import in_groups
from dsanet.engine.optim import set_learning_rate
from dsanet.engine.preparation import seed_iteration
from dsanet.engine.train_step import Stepper
from dsanet.engine.trainer import Trainer
from dsanet.utils import distributed

MEMORY = 10  # iterations that the average of the loss reaches back; also the least that a slope is trusted after
DIVERGED = 4  # times the lowest average


@dataclass(frozen=True)
class Point:
    """One iteration.

    Args:
        rate: the learning rate, without the multipliers of parameter groups.
        loss: before the step with this rate.
        average: of the losses up to here.
    """

    rate: float
    loss: float
    average: float


class Average:
    """An exponential average of ``MEMORY`` values, without the bias toward its start (arXiv 1412.6980, section 3)."""

    def __init__(self) -> None:
        self._sum = 0.0
        self._weight = 0.0

    def add(self, value: float) -> float:
        """Count a value in and return the average."""
        keep = 1 - 1 / MEMORY
        self._sum = keep * self._sum + (1 - keep) * value
        self._weight = keep * self._weight + (1 - keep)
        return self._sum / self._weight


def make_trainer(config: dict[str, Any], work_dir: Path) -> Trainer:
    """Build what trains, without the parts of a run that the test has no use for.

    Raises:
        KeyError, ValueError: as ``Trainer``, or a learning rate of 0.
    """
    config.pop('val_dataloader', None)
    if 'train_cfg' in config:
        # Nothing is averaged, and no rate is too large for the batch: all of them are tried.
        config['train_cfg'] = {**config['train_cfg'], 'ema_decay': None, 'base_batch_size': None, 'scale_lr': False}
    if 'runtime' in config:
        config['runtime'] = {**config['runtime'], 'trackers': []}
    trainer = Trainer(config, work_dir, distributed.find_device())
    base = trainer.optimizer.defaults['lr']
    if base <= 0:
        raise ValueError(f'optimizer.lr={base} must be above 0: the rates of all parameters are multiples of it')
    return trainer


def endless(trainer: Trainer) -> Iterator[list[Any]]:
    """Yield the batches of one iteration after the other, through as many epochs as are asked for."""
    for epoch in itertools.count():
        trainer.train_loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        yield from in_groups(trainer.train_loader, trainer.train_cfg.accumulate)


def take_step(trainer: Trainer, stepper: Stepper, batches: Sequence[Any], iteration: int) -> float:
    """Take one step as a training does; returns its loss, or NaN if the loss or the gradient is not finite."""
    seed, rank = trainer.runtime.seed, distributed.rank()
    for cases in (cases for batch in batches for cases in batch['bad']):
        tqdm.write(f'bad sample replaced: {cases[0]["source"]}: {cases[0]["reason"]}')
    gradient = stepper.compute(batches, lambda place: seed_iteration(seed, iteration, rank, place))
    if not gradient.is_finite:
        stepper.leave_out()
        return math.nan
    stepper.apply()
    return gradient.scalars['loss'].item()


def range_test(trainer: Trainer, start: float, end: float, iterations: int) -> list[Point]:
    """Train with a growing rate until its end, or until the loss diverges.

    Args:
        trainer: started, so that it has its weights.
        start: first learning rate.
        end: last one.
        iterations: how many, both ends included.

    Returns:
        The iterations whose loss and gradient are finite.
    """
    base = trainer.optimizer.defaults['lr']
    stepper = trainer.make_stepper()
    trainer.model.train()
    points: list[Point] = []
    average = Average()
    rates = np.geomspace(start, end, iterations).tolist()
    batches = endless(trainer)
    for i, rate in enumerate(tqdm(rates, desc='range test', leave=False, disable=not sys.stderr.isatty())):
        set_learning_rate(trainer.optimizer, rate / base)
        loss = take_step(trainer, stepper, next(batches), i)
        if not math.isfinite(loss):
            break
        points.append(Point(rate, loss, average.add(loss)))
        if points[-1].average > DIVERGED * min(point.average for point in points):
            break
    return points


def suggest(points: Sequence[Point]) -> tuple[float, float] | None:
    """Return two rates: where the average falls fastest over the logarithm of the rate, and a tenth of its minimum's.

    Returns:
        None if the average does not fall, or if there are too few iterations to tell.
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


def describe(points: Sequence[Point], suggestion: tuple[float, float] | None, iterations: int) -> str:
    """Return the table of about twenty iterations and what follows from all of them."""
    every = max(1, len(points) // 20)
    lines = ['     rate      loss   average']
    lines += [f'{p.rate:9.3g} {p.loss:9.4g} {p.average:9.4g}' for p in points[::every]]
    if len(points) < iterations:
        lines.append(f'ended after {len(points)} of {iterations} iterations: the loss diverged')
    if suggestion is None:
        lines.append('no suggestion: the average does not fall; try other --start and --end, or more --iterations')
    else:
        lines.append(f'steepest descent of the average at a learning rate of {suggestion[0]:.2g}')
        lines.append(f'a tenth of the rate where the average is lowest: {suggestion[1]:.2g}')
        lines.append(
            'Both are suggestions to start from, for this batch size; only whole trainings show the best rate.'
        )
    return '\n'.join(lines)
