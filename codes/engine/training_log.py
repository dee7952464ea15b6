"""What a training run reports: console lines, curves, speed and the time left."""

import logging
import resource
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from dsanet.engine.bad_samples import BadSampleLog
from dsanet.engine.checkpointing import TrainState
from dsanet.engine.logging import ScalarWriter
from dsanet.engine.nonfinite import NonFiniteLog
from dsanet.engine.stopping import RunError
from dsanet.engine.tensorboard import add_embedding, add_first_batch, add_graph
from dsanet.engine.trackers import Tracker
from dsanet.engine.train_step import Stepper, StepResult
from dsanet.utils import distributed
from dsanet.utils.text import count_noun

LOGGER = logging.getLogger(__name__)


class Meter:
    """Means of scalars since the last log line, summed on the device to avoid waiting for the GPU."""

    def __init__(self) -> None:
        self._sums: dict[str, Any] = {}
        self._counts: dict[str, int] = {}

    def add(self, scalars: Mapping[str, Tensor | float]) -> None:
        """Add scalars; every process adds the same names in the same order."""
        for name, value in scalars.items():
            value = value.detach() if isinstance(value, Tensor) else value
            self._sums[name] = self._sums.get(name, 0) + value
            self._counts[name] = self._counts.get(name, 0) + 1

    def flush(self) -> dict[str, float]:
        """Return the means over iterations and processes, and start again."""
        names = list(self._sums)
        device = next((v.device for v in self._sums.values() if isinstance(v, Tensor)), None)
        values = [torch.as_tensor(self._sums[name], dtype=torch.float64, device=device) for name in names]
        counts = torch.tensor([self._counts[name] for name in names], device=device)
        means = distributed.all_reduce_mean(torch.stack(values) / counts).tolist()  # (number of names,)
        self._sums, self._counts = {}, {}
        return dict(zip(names, means, strict=True))

    def state_dict(self) -> dict[str, Any]:
        """Return the sums and counts since the last log line."""
        return {'sums': {name: float(value) for name, value in self._sums.items()}, 'counts': dict(self._counts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self._sums, self._counts = dict(state['sums']), dict(state['counts'])


class TrainingLog:
    """Measures a training run; writes log lines, curves, and records of bad samples and non-finite iterations.

    A context manager, which closes the curves.

    Args:
        work_dir: an existing folder.
        state: progress of the run, which the caller updates.
        stepper: takes the steps of the run.
        loader: of the training data.
        trackers: services that get the curves, too.
    """

    def __init__(
        self,
        work_dir: Path,
        state: TrainState,
        stepper: Stepper,
        loader: DataLoader[Any],
        trackers: Sequence[Tracker],
    ) -> None:
        self.state = state
        self.stepper = stepper
        self.max_epochs = stepper.train_cfg.max_epochs
        dataset, sampler = cast(Any, loader.dataset), cast(Any, loader.sampler)
        self.bad_samples = BadSampleLog(work_dir, state.epoch, len(sampler), dataset.max_bad_share)
        self.nonfinite = NonFiniteLog(work_dir, state.num_logged, stepper.train_cfg.max_nonfinite)
        self.meter = Meter()
        is_main = distributed.rank() == 0
        self._writer = ScalarWriter(work_dir, is_main, state.num_logged, state.validated, trackers)
        self._first_iteration = state.num_iterations
        self._class_names: Sequence[str] | None = getattr(dataset, 'class_names', None)
        self._run_start = time.monotonic()
        self._announce(loader.batch_size or 0, work_dir)

    def _announce(self, batch_size: int, work_dir: Path) -> None:
        state, cfg, device = self.state, self.stepper.train_cfg, self.stepper.device
        if state.epoch >= self.max_epochs:
            if state.validated:
                LOGGER.info('Already trained for max_epochs=%d; increase it to continue', self.max_epochs)
            return
        LOGGER.info(
            'Training on %s: %s x %d videos%s = batch size %d, %d iterations/epoch, epochs %d to %d; %s',
            torch.cuda.get_device_name(device) if device.type == 'cuda' else 'CPU',
            count_noun(distributed.world_size(), 'process', 'es'),
            batch_size,
            f' x {cfg.accumulate} batches' if cfg.accumulate > 1 else '',
            self.stepper.batch_size,
            state.iterations_per_epoch,
            state.epoch + 1,
            self.max_epochs,
            work_dir,
        )

    @property
    def epoch_name(self) -> str:
        """Name of the current epoch in log lines, such as ``Epoch 3/100``."""
        return f'Epoch {self.state.epoch + 1}/{self.max_epochs}'

    def start_epoch(self) -> None:
        """Start the clock of an epoch."""
        self._epoch_start = self._iteration_start = time.perf_counter()
        self._epoch_first = self.state.iteration
        self._wait = self._epoch_wait = 0.0
        self._num_overflows = 0

    @contextmanager
    def waiting_for_data(self) -> Iterator[None]:
        """Count the time inside as waiting for data."""
        start = time.perf_counter()
        yield
        self._wait += time.perf_counter() - start

    def add_bad_samples(self, batches: Sequence[Mapping[str, Any]]) -> None:
        """Record the bad samples that were replaced in some batches.

        Raises:
            RunError: too many samples of the epoch are bad.
        """
        for batch in batches:
            self.bad_samples.add(batch['bad'])

    def add_iteration(
        self, batches: Sequence[Mapping[str, Any]], scalars: Mapping[str, Tensor], result: StepResult, lr: float
    ) -> None:
        """Record a completed iteration; writes the means since the last line if a line is due.

        Args:
            batches: of this process.
            scalars: from ``Stepper.backward``.
            result: from ``Stepper.update``.
            lr: the learning rate.

        Raises:
            RunError: too many iterations are not finite.
        """
        now = time.perf_counter()
        times = {'data_time': self._wait, 'time': now - self._iteration_start}
        if self.state.num_logged == 1:
            self._draw_first_batch(batches[0])
            now = time.perf_counter()
        self._epoch_wait += self._wait
        self._wait, self._iteration_start = 0.0, now
        if result is StepResult.UPDATED:
            self.state.num_steps += 1
            self.meter.add({**scalars, **times})
        elif result is StepResult.OVERFLOW:
            self._num_overflows += 1
            self.meter.add({**{name: value for name, value in scalars.items() if name != 'grad_norm'}, **times})
        else:
            self.meter.add(times)
            self._record_nonfinite(batches, scalars, lr)
        is_last = self.state.iteration == self.state.iterations_per_epoch
        if is_last or self.state.iteration % self.stepper.runtime.log_interval == 0:
            self._write_train(lr, is_last)

    def _record_nonfinite(self, batches: Sequence[Mapping[str, Any]], scalars: Mapping[str, Tensor], lr: float) -> None:
        self.state.num_nonfinite += 1
        values = {name: float(scalars[name]) for name in ('loss', 'grad_norm')}
        paths = [path for batch in batches for path in batch['path']]
        epoch, iteration = self.state.epoch + 1, self.state.num_logged
        self.nonfinite.add(self.state.num_nonfinite, epoch, iteration, values, paths, lr)

    def _write_train(self, lr: float, is_last: bool) -> None:
        means = {**self.meter.flush(), 'lr': lr, 'memory': peak_memory(self.stepper.device)}
        if self.stepper.scaler.is_enabled():
            means['scale'] = self.stepper.scaler.get_scale()
        num_bad = self.bad_samples.end_epoch() if is_last else 0
        if num_bad:
            means['bad_samples'] = num_bad
        state = self.state
        self._writer.write('train', means, state.epoch + 1, state.num_logged)
        seconds = (time.monotonic() - self._run_start) / (state.num_iterations - self._first_iteration)
        eta = timedelta(seconds=round(seconds * (self.max_epochs * state.iterations_per_epoch - state.num_iterations)))
        progress = f'{self.epoch_name} [{state.iteration}/{state.iterations_per_epoch}]'
        LOGGER.info('%s  eta %s  %s', progress, eta, _format(means))
        if num_bad:
            text = '%d bad samples in this epoch, %d bad files so far; see %s'
            LOGGER.info(text, num_bad, self.bad_samples.num_files, self.bad_samples.file)

    def end_epoch(self) -> None:
        """Log the speed of the epoch. Call this before the epoch number is increased.

        Raises:
            RunError: no iteration of the epoch has updated the weights.
        """
        # With fp16, the scaler may need some epochs of a small dataset to find its scale.
        is_last = self.state.epoch + 1 == self.max_epochs
        if not self.state.num_steps and (is_last or not self._num_overflows):
            cause = f'fp16 overflow in {self._num_overflows}; ' if self._num_overflows else ''
            raise RunError(
                f'{self.epoch_name}: none of {self.state.iteration} iterations updated the weights ({cause}non-finite '
                f'loss or gradient in {self.state.num_nonfinite} iterations of the run); see {self.nonfinite.file}. '
                'Try a lower learning rate, train_cfg.clip_grad_norm or runtime.amp=None'
            )
        self.state.num_steps = 0
        seconds = time.perf_counter() - self._epoch_start
        LOGGER.info(
            '%s done in %s: %.1f videos/s, data wait %.0f%%%s',
            self.epoch_name,
            timedelta(seconds=round(seconds)),
            (self.state.iteration - self._epoch_first) * self.stepper.batch_size / seconds,
            100 * self._epoch_wait / seconds,
            f'; {self._num_overflows} steps skipped (fp16 overflow)' if self._num_overflows else '',
        )

    def add_validation(self, metrics: Mapping[str, float], is_best: bool) -> None:
        """Write the metrics of a validation."""
        self._writer.write('val', metrics, self.state.epoch, self.state.num_logged)
        average = '' if self.stepper.average is None else '  (averaged weights)'
        best = f'  (best {self.stepper.runtime.save_best} so far)' if is_best else ''
        LOGGER.info('Epoch %d  %s%s%s', self.state.epoch, _format(metrics, 'val/'), average, best)

    def _draw_first_batch(self, batch: Mapping[str, Any]) -> None:
        self._writer.draw(partial(add_first_batch, batch=batch, class_names=self._class_names))
        if 'graph' in self.stepper.runtime.tensorboard:
            self._writer.draw(partial(add_graph, model=self.stepper.model, inputs=batch['inputs']))

    def end_run(self, val_loader: Iterable[Mapping[str, Any]] | None) -> None:
        """Log why training ended before its last epoch, and write the embedding of the validation videos if requested.

        Args:
            val_loader: of the validation data, if any; rank 0 uses its share.
        """
        is_requested = 'embedding' in self.stepper.runtime.tensorboard
        if is_requested and val_loader is not None and self.state.num_iterations > self._first_iteration:
            self._writer.draw(
                partial(
                    add_embedding,
                    model=self.stepper.evaluated_model,
                    batches=val_loader,
                    class_names=self._class_names,
                    iteration=self.state.num_logged,
                )
            )
        if self.state.epoch < self.max_epochs:
            text = 'Early stopping after epoch %d: %s did not improve for %d validations'
            LOGGER.info(text, self.state.epoch, self.stepper.runtime.save_best, self.state.num_worse)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of this process within an epoch."""
        return {'meter': self.meter.state_dict(), 'bad_samples': self.bad_samples.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned; does nothing if ``state`` is empty."""
        if state:
            self.meter.load_state_dict(state['meter'])
            self.bad_samples.load_state_dict(state['bad_samples'])

    def __enter__(self) -> 'TrainingLog':
        return self

    def __exit__(self, *_error: object) -> None:
        self._writer.close()


def peak_memory(device: torch.device) -> float:
    """Return the peak memory in MB: of the GPU, or of this process on a CPU."""
    if device.type == 'cuda':
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 2**20 if sys.platform == 'darwin' else 2**10  # bytes on macOS, kilobytes on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _format(scalars: Mapping[str, float], prefix: str = '') -> str:
    return '  '.join(f'{prefix}{name} {value:.4g}' for name, value in scalars.items())
