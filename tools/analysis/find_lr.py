"""Learning-rate range test: train with a rate that grows, and see where the loss falls fastest and where it diverges.

Cyclical Learning Rates for Training Neural Networks, Smith, arXiv 1506.01186, section 3.3. The rate grows by the same
factor in each iteration, from --start to --end; multipliers, clipping, mixed precision and everything else are the
config's. Nothing is kept but the picture.
"""

import argparse
import itertools
import math
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np  # noqa: E402
from tqdm import tqdm  # noqa: E402

from dsanet.config.loading import load_config  # noqa: E402
from dsanet.datasets.loader import in_groups  # noqa: E402
from dsanet.engine.logging import plain_errors, setup_logging  # noqa: E402
from dsanet.engine.optim import set_learning_rate  # noqa: E402
from dsanet.engine.preparation import seed_iteration  # noqa: E402
from dsanet.engine.train_step import Stepper  # noqa: E402
from dsanet.engine.trainer import Runner  # noqa: E402
from dsanet.utils import distributed
from dsanet.utils.checkpoint_io import ALLOW_PICKLE  # noqa: E402

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
    """An exponential average of ``MEMORY`` values, without the bias towards its start (arXiv 1412.6980, section 3)."""

    def __init__(self) -> None:
        self._sum = 0.0
        self._weight = 0.0

    def add(self, value: float) -> float:
        """Count a value in and return the average."""
        keep = 1 - 1 / MEMORY
        self._sum = keep * self._sum + (1 - keep) * value
        self._weight = keep * self._weight + (1 - keep)
        return self._sum / self._weight


def make_runner(config: dict[str, Any], work_dir: Path) -> Runner:
    """Build what trains, without the parts of a run that the test has no use for.

    Raises:
        KeyError, ValueError: as ``Runner``, or a learning rate of 0.
    """
    config.pop('val_dataloader', None)
    if 'train_cfg' in config:
        # Nothing is averaged, and no rate is too large for the batch: all of them are tried.
        config['train_cfg'] = {**config['train_cfg'], 'ema_decay': None, 'base_batch_size': None, 'scale_lr': False}
    if 'runtime' in config:
        config['runtime'] = {**config['runtime'], 'trackers': []}
    runner = Runner(config, work_dir, distributed.find_device())
    base = runner.optimizer.defaults['lr']
    if base <= 0:
        raise ValueError(f'optimizer.lr={base} must be above 0: the rates of all parameters are multiples of it')
    return runner


def endless(runner: Runner) -> Iterator[list[Any]]:
    """Yield the batches of one iteration after the other, through as many epochs as are asked for."""
    for epoch in itertools.count():
        runner.train_loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        yield from in_groups(runner.train_loader, runner.train_cfg.accumulate)


def take_step(runner: Runner, stepper: Stepper, batches: Sequence[Any], iteration: int) -> float:
    """Take one step as a training does; returns its loss, or NaN if the loss or the gradient is not finite."""
    seed, rank = runner.runtime.seed, distributed.rank()
    for cases in (cases for batch in batches for cases in batch['bad']):
        tqdm.write(f'bad sample, another one stands in for it: {cases[0]["source"]}: {cases[0]["reason"]}')
    gradient = stepper.compute(batches, lambda place: seed_iteration(seed, iteration, rank, place))
    if not gradient.is_finite:
        stepper.leave_out()
        return math.nan
    stepper.apply()
    return gradient.scalars['loss'].item()


def range_test(runner: Runner, start: float, end: float, iterations: int) -> list[Point]:
    """Train with a growing rate until its end, or until the loss diverges.

    Args:
        runner: started, so that it has its weights.
        start: first learning rate.
        end: last one.
        iterations: how many, both ends included.

    Returns:
        The iterations whose loss and gradient are finite.
    """
    base = runner.optimizer.defaults['lr']
    stepper = runner.make_stepper()
    runner.model.train()
    points: list[Point] = []
    average = Average()
    rates = np.geomspace(start, end, iterations).tolist()
    batches = endless(runner)
    for i, rate in enumerate(tqdm(rates, desc='range test', leave=False, disable=not sys.stderr.isatty())):
        set_learning_rate(runner.optimizer, rate / base)
        loss = take_step(runner, stepper, next(batches), i)
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


def draw(points: Sequence[Point], suggestion: tuple[float, float] | None, file: Path) -> None:
    """Draw loss and average over the rate; the file's suffix chooses the format."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    rates, averages = [point.rate for point in points], [point.average for point in points]
    figure, panel = pyplot.subplots(figsize=(7, 4))
    panel.plot(rates, [point.loss for point in points], color='0.8', label='loss')
    panel.plot(rates, averages, label=f'average of about {MEMORY} iterations')
    if suggestion is not None:
        panel.axvline(suggestion[0], color='C2', label=f'steepest: {suggestion[0]:.2g}')
        panel.axvline(suggestion[1], color='C3', linestyle='--', label=f'minimum / 10: {suggestion[1]:.2g}')
    panel.set_xscale('log')
    panel.set_ylim(0.9 * min(averages), 1.3 * averages[0])  # what diverges leaves the picture
    panel.set_xlabel('learning rate')
    panel.set_ylabel('training loss')
    panel.grid(alpha=0.3)
    panel.legend()
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    pyplot.close(figure)


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
            'Both are suggestions to start from, for this batch size; only whole trainings tell the best rate.'
        )
    return '\n'.join(lines)


def check_picture(file: Path) -> None:
    """Refuse a picture that could not be written, before the training.

    Raises:
        FileNotFoundError, ValueError: there is no such folder, or no such format.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    formats = FigureCanvasAgg.filetypes
    if file.suffix.lstrip('.').lower() not in formats:
        raise ValueError(f'--out {file} must end with one of .{", .".join(sorted(formats))}')
    if not file.absolute().parent.is_dir():
        raise FileNotFoundError(f'--out {file}: there is no folder {file.absolute().parent}')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config')
    parser.add_argument(
        '--out', type=Path, metavar='FILE', help='the picture; default work_dirs/<name of config>/lr.png'
    )
    parser.add_argument('--start', type=float, default=1e-5, help='first learning rate; default 1e-5')
    parser.add_argument('--end', type=float, default=1.0, help='last one; default 1')
    parser.add_argument('--iterations', type=int, default=100, help='from the first to the last; default 100')
    parser.add_argument('--load-from', metavar='FILE', help='start from the weights of a checkpoint')
    parser.add_argument(
        ALLOW_PICKLE, action='store_true', help='let that file run code to be read; only if you trust its origin'
    )
    parser.add_argument('--amp', choices=('bf16', 'fp16'), help='automatic mixed precision')
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='override values of the config'
    )
    args = parser.parse_args()
    if not 0 < args.start < args.end < math.inf:
        parser.error(f'--start {args.start} and --end {args.end} must be above 0, the start below the end')
    if args.iterations <= 2 * MEMORY:
        parser.error(f'--iterations {args.iterations} must be above {2 * MEMORY}: the average needs so many')
    return args


def main() -> None:
    args = parse_args()
    with tempfile.TemporaryDirectory() as folder:
        with plain_errors():
            out = args.out or Path('work_dirs', Path(args.config).stem, 'lr.png')
            if args.out is not None:
                check_picture(out)
            setup_logging(None, is_main=True)
            config = load_config(args.config, args.cfg_options)
            if args.amp is not None:
                config['runtime'] = {**config.get('runtime', {}), 'amp': args.amp}
            runner = make_runner(config, Path(folder))
            runner.start(load_from=args.load_from, allow_pickle=args.allow_pickle)
        points = range_test(runner, args.start, args.end, args.iterations)
    if not points:
        sys.exit(f'error: the loss is not finite at a learning rate of {args.start}')
    suggestion = suggest(points)
    print(describe(points, suggestion, args.iterations))
    if args.out is None:
        out.parent.mkdir(parents=True, exist_ok=True)
    draw(points, suggestion, out)
    print(f'picture written to {out}')


if __name__ == '__main__':
    main()
