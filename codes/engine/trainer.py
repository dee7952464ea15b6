"""The training loop.

A run is exact: whatever is random is a function of the seed and of where the run stands (``EpochSampler`` and the
datasets for order and augmentation, :func:`seed_iteration` for dropout), so a run that was killed and resumed ends in
the same bits as one that was not, on the same number of processes.

An *iteration* is one step of the optimizer: ``train_cfg.accumulate`` batches of every process.
"""

import logging
import os
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from dsanet.config.formatting import format_config
from dsanet.config.loading import read_section
from dsanet.config.registry import METRICS, MODELS, SCHEDULES, TRACKERS, build
from dsanet.config.schema import LOADERS, ParametersCfg, RuntimeCfg, TrainCfg
from dsanet.datasets.loader import in_groups, start_workers
from dsanet.engine.bad_samples import BadSampleLog
from dsanet.engine.checkpointing import (
    Position,
    Saver,
    check_resumable,
    describe_misfit,
    find_changes,
    list_checkpoints,
    newest_checkpoint,
    position_of,
)
from dsanet.engine.ema import WeightAverage
from dsanet.engine.evaluator import (
    EXPECTED_ERRORS,
    check_metrics,
    compute_metrics,
    predict,
    progress_bar,
    strip_worker_traceback,
)
from dsanet.engine.logging import ScalarWriter
from dsanet.engine.meters import Clock, Meter
from dsanet.engine.nonfinite import NonFiniteLog
from dsanet.engine.optim import (
    build_optimizer,
    load_optimizer_state,
    optimizer_state,
    scale_learning_rate,
    set_learning_rate,
)
from dsanet.engine.preparation import (
    avoid_broken_kernels,
    build_loader,
    check_batch_size,
    check_clip_shape,
    check_loss,
    check_same_classes,
    place_model,
    seed_iteration,
    set_determinism,
)
from dsanet.engine.profiling import Profiler, profile_iterations
from dsanet.engine.stopping import RunError, Stopped, StopRequest
from dsanet.engine.trackers import start_trackers
from dsanet.engine.train_step import Stepper
from dsanet.models.sync_batch_norm import convert_sync_batch_norm
from dsanet.models.weights.loading import load_weights
from dsanet.utils import distributed
from dsanet.utils.checkpoint_io import read_checkpoint

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Session:
    """What accompanies a training while it runs, and ends with it.

    Attributes:
        stepper: takes the steps.
        writer: of the curves.
        clock: tells how much time is left.
        stop: whether a signal came.
        bad_samples, nonfinite: records of what was replaced and of what was left out.
        profiler: is told of each iteration.
    """

    stepper: Stepper
    writer: ScalarWriter
    clock: Clock
    stop: StopRequest
    bad_samples: BadSampleLog
    nonfinite: NonFiniteLog
    profiler: Profiler


class Trainer:
    """One training run: what it consists of and where it stands.

    Args:
        config: a checked config with ``train_dataloader``, ``optimizer``, ``schedule`` and ``train_cfg``.
        work_dir: an existing folder for checkpoints, logs and curves.
        device: from ``distributed.find_device``.

    Raises:
        KeyError, ValueError: the config lacks a section, or data and model do not fit together.
    """

    def __init__(self, config: dict[str, Any], work_dir: Path, device: torch.device) -> None:
        for name in ('train_dataloader', 'optimizer', 'schedule', 'train_cfg'):
            if name not in config:
                raise KeyError(f'the config has no {name}, which training needs')
        self.config = config
        self.config_text = format_config(config)
        self.work_dir = work_dir
        self.device = device
        self.is_main = distributed.rank() == 0
        self.train_cfg: TrainCfg = read_section(config, 'train_cfg', TrainCfg)
        self.runtime: RuntimeCfg = read_section(config, 'runtime', RuntimeCfg)
        set_determinism(self.runtime.deterministic)
        avoid_broken_kernels(device, self.runtime.amp)
        torch.manual_seed(self.runtime.seed)

        # Before any data are read: a missing package is told at once.
        self.trackers = [build(cfg, TRACKERS, f'runtime.trackers.{i}') for i, cfg in enumerate(self.runtime.trackers)]
        self.model = build(config['model'], MODELS, 'model')
        if self.train_cfg.sync_bn:
            self.model = convert_sync_batch_norm(self.model, device)
        check_clip_shape(self.model, config, LOADERS)
        check_batch_size(self.model, config['train_dataloader']['batch_size'])
        self.train_loader = build_loader(
            config['train_dataloader'], 'train_dataloader', self.runtime, self.train_cfg.accumulate
        )
        self.train_loader.dataset.check_labels(self.model.num_classes)  # type: ignore[attr-defined]
        check_loss(self.model.cls_head.criterion, self.train_loader.dataset)
        self.val_loader: DataLoader[Any] | None = None
        if 'val_dataloader' in config:
            self.val_loader = build_loader(config['val_dataloader'], 'val_dataloader', self.runtime)
            self.val_loader.dataset.check_labels(self.model.num_classes)  # type: ignore[attr-defined]
            check_same_classes(self.train_loader.dataset, self.val_loader.dataset)
        self.metrics = [build(cfg, METRICS, f'metrics.{i}') for i, cfg in enumerate(config['metrics'])]
        if self.val_loader is not None:
            check_metrics(self.metrics, self.val_loader.dataset)
        names = [name for metric in self.metrics for name in metric.names]
        if self.runtime.save_best not in names:
            raise ValueError(f'runtime.save_best={self.runtime.save_best!r} must be one of {", ".join(names)}')

        place_model(self.model, device)
        parameters: ParametersCfg = read_section(config, 'parameters', ParametersCfg)
        self.optimizer = build_optimizer(config['optimizer'], self.model, parameters)
        scale_learning_rate(self.optimizer, self.train_cfg, self.videos_per_iteration)
        self.schedule = build(config['schedule'], SCHEDULES, 'schedule')
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.runtime.amp == 'fp16')
        decay = self.train_cfg.ema_decay
        self.average = None if decay is None else WeightAverage(self.model, decay)
        self.saver = Saver(work_dir, self.runtime.keep_checkpoints, self.runtime.on_save_error)
        self.meter = Meter()
        self.epoch = 0  # finished epochs
        self.iteration = 0  # iterations done in the running epoch
        self.validated = True  # whether the last finished epoch has been validated, if it was due
        self.best: dict[str, float] | None = None
        self.num_worse = 0  # validations since the best one
        self.num_nonfinite = 0  # iterations left out
        self._num_overflows = 0  # steps of the running epoch that the scaler left out
        self._is_settled = distributed.world_size() < 3 or self.runtime.find_unused_parameters
        self._resumed_from: Position | None = None
        self._num_logged = 0  # iterations until there, as the run that was interrupted counted them
        self._resumed: dict[str, Any] = {}  # this process's progress within the epoch that is resumed

    # -- where the run stands --------------------------------------------------------------------------------------

    @property
    def iterations_per_epoch(self) -> int:
        return len(self.train_loader) // self.train_cfg.accumulate

    @property
    def videos_per_iteration(self) -> int:
        """Videos of all processes in one step of the optimizer."""
        return (self.train_loader.batch_size or 0) * distributed.world_size() * self.train_cfg.accumulate

    @property
    def num_iterations(self) -> int:
        """Iterations done since the training began."""
        return self.epoch * self.iterations_per_epoch + self.iteration

    @property
    def is_over(self) -> bool:
        """Whether the last epoch is done, or the metric has not become better for ``patience`` validations."""
        patience = self.train_cfg.patience
        is_stale = patience is not None and self.num_worse >= patience and self.validated and not self.iteration
        return self.epoch >= self.train_cfg.max_epochs or is_stale

    def save(self, bad_samples: BadSampleLog | None = None) -> None:
        """Write the checkpoint of where the run stands; all processes together.

        Args:
            bad_samples: needed within an epoch.

        Raises:
            RunError: it cannot be written, and ``runtime.on_save_error`` is 'stop'.
        """
        progress = []
        if self.iteration and bad_samples is not None:
            progress = distributed.all_gather_object(
                {'meter': self.meter.state(), 'bad_samples': bad_samples.progress()}
            )
        if self.is_main:
            self.saver.save({**self._content(), 'progress': progress}, Position(self.epoch, self.iteration))

    def _content(self) -> dict[str, Any]:
        return {
            'state_dict': self.model.state_dict(),
            **({} if self.average is None else self.average.state()),
            'optimizer': optimizer_state(self.optimizer, self.model),
            'scaler': self.scaler.state_dict(),
            'epoch': self.epoch,
            'iteration': self.iteration,
            'validated': self.validated,
            'best': self.best,
            'num_worse': self.num_worse,
            'num_nonfinite': self.num_nonfinite,
            'iterations_per_epoch': self.iterations_per_epoch,
            'world_size': distributed.world_size(),
            'seed': self.runtime.seed,
            'class_names': self.train_loader.dataset.class_names,  # type: ignore[attr-defined]
            'config': self.config,
        }

    def resume(self, source: str) -> None:
        """Take up a run where a checkpoint left it.

        Args:
            source: a file, or 'auto' for the newest readable checkpoint of the work dir; without one the run starts
                from the beginning.

        Raises:
            FileNotFoundError, ValueError: the file is missing, damaged or not a checkpoint of this kind of run.
        """
        found = newest_checkpoint(self.work_dir) if source == 'auto' else (Path(source), read_checkpoint(source))
        if found is not None:
            check_resumable(*found)
        places = distributed.all_gather_object(None if found is None else tuple(position_of(found[1])))
        if len(set(places)) > 1:
            raise ValueError(
                f'the processes would resume from different places (epoch, iteration): {places}; '
                'give all the same files'
            )
        if found is None:
            LOGGER.info('no checkpoint to resume from in %s: starting from the beginning', self.work_dir)
            return
        file, content = found
        place = position_of(content)
        changes = find_changes(content, self.config, self.iterations_per_epoch, distributed.world_size())
        try:
            self._load(content)
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            text = describe_misfit(content, self.model.state_dict(), changes, error)
            raise ValueError(f'{file} is of another model or optimizer: {text}') from error
        for change in changes:
            LOGGER.warning('%s: the run goes on, but not exactly', change)
        self.epoch, self.iteration = place
        self._resumed_from = place
        self._num_logged = place.epoch * content['iterations_per_epoch'] + place.iteration
        self.validated = content['validated']
        self.best = content['best']
        if self.num_iterations:
            self._set_rate(self.num_iterations - 1)  # as in the run that was interrupted
        self.num_worse = content.get('num_worse', 0)
        self.num_nonfinite = content.get('num_nonfinite', 0)
        progress = content.get('progress', [])
        if self.iteration and len(progress) == distributed.world_size():
            self._resumed = progress[distributed.rank()]
        if content['iterations_per_epoch'] != self.iterations_per_epoch:
            # Rather see some videos twice than none of them.
            self.iteration = self.iteration * self.iterations_per_epoch // content['iterations_per_epoch']
            self._resumed = {}
        within = f', {place.iteration} iterations into the next' if place.iteration else ''
        LOGGER.info('resumed from %s, behind epoch %d%s', file, self.epoch, within)

    def _load(self, content: Mapping[str, Any]) -> None:
        self.model.load_state_dict(content['state_dict'])
        # The present config's options count: those of the checkpoint were saved as the run's.
        load_optimizer_state(self.optimizer, self.model, content['optimizer'])
        if self.average is not None:
            self.average.load(content)
        if content['scaler']:  # empty after a run without fp16
            self.scaler.load_state_dict(content['scaler'])

    def start_workers(self) -> None:
        """Start the data workers; on several processes before ``distributed.init_process_group``."""
        for loader in (self.train_loader, self.val_loader):
            if loader is not None:
                start_workers(loader)

    # -- the loops -------------------------------------------------------------------------------------------------

    def start(self, resume: str | None = None, load_from: str | None = None, allow_pickle: bool = False) -> None:
        """Load what the run starts from: a checkpoint to resume, or weights.

        Args:
            resume: 'auto' or a checkpoint; goes before ``load_from`` where there is something to resume.
            load_from: weights to start from instead of the backbone's ``pretrained``.
            allow_pickle: let ``load_from`` run code to be read; only for files of trusted origin.

        Raises:
            FileNotFoundError, ValueError: as :meth:`resume` and ``load_weights``.
        """
        if resume is not None:
            self.resume(resume)
        here = self._resumed_from or Position(0)
        beyond = [file.name for place, file in list_checkpoints(self.work_dir) if place > here]
        if beyond and resume != 'auto':
            # They would outlive the new, lower ones, and the next --resume would go on with the other run.
            raise ValueError(
                f'{self.work_dir} holds {", ".join(beyond)} of a run that is further than this one: use --resume to go '
                'on with it, another --work-dir, or remove them'
            )
        distributed.barrier()  # so that no process misses a file
        if self.is_main:
            for name in beyond:  # damaged, or they would have been taken; they are overwritten soon
                os.replace(self.work_dir / name, self.work_dir / f'{name}.damaged')
            self.saver.remove_parts()
            start_trackers(self.trackers, self.config, self.work_dir)
        if self._resumed_from is None:
            if load_from is not None:
                load_weights(self.model, load_from, allow_pickle=allow_pickle)
            else:
                self.model.init_weights()
            if self.average is not None:  # fp16 may leave out the first steps, even all of a short epoch
                self.average.load({'state_dict': self.model.state_dict()})

    def make_stepper(self) -> Stepper:
        """Return what takes the steps of this run, on one process or many."""
        if self.runtime.compile:
            self.model.compile()
        model = distributed.wrap_ddp(self.model, self.device, self.runtime.find_unused_parameters)
        clip = self.train_cfg.clip_grad_norm
        return Stepper(model, self.model, self.optimizer, self.scaler, self.average, self.runtime.amp, clip)

    def train(self, profile: int = 0) -> dict[str, float] | None:
        """Train to the last epoch, from wherever :meth:`start` took the run.

        Args:
            profile: iterations to record in a trace, after a few to warm up; 0 for none.

        Returns:
            The best epoch's metrics, or None if nothing was validated.

        Raises:
            Stopped: SIGTERM or SIGINT came; a checkpoint was written when the iteration was done.
            RunError: too many bad samples, too many iterations that are not finite, or a checkpoint could not be
                written.
        """
        self._announce()
        stepper = self.make_stepper()
        done = self.num_iterations
        share = self.train_loader.dataset.max_bad_share  # type: ignore[attr-defined]
        samples = len(self.train_loader.sampler)  # type: ignore[arg-type]
        bad_samples = BadSampleLog(self.work_dir, self.epoch, samples, share, self._resumed.get('bad_samples'))
        logged = done if self._resumed_from is None else self._num_logged
        nonfinite = NonFiniteLog(self.work_dir, logged, self.train_cfg.max_nonfinite, self.num_nonfinite)
        if 'meter' in self._resumed:
            self.meter.load(self._resumed['meter'])
        clock = Clock(done, self.train_cfg.max_epochs * self.iterations_per_epoch)
        with (
            StopRequest() as stop,
            ScalarWriter(self.work_dir, self.is_main, logged, self.validated, self.trackers) as writer,
            profile_iterations(self.work_dir, profile) as profiler,
        ):
            session = Session(stepper, writer, clock, stop, bad_samples, nonfinite, profiler)
            if not self.validated and self.val_loader is not None:
                self._validate(session)
            while not self.is_over:
                self._train_epoch(session)
                self._end_epoch(session)
        if self.epoch < self.train_cfg.max_epochs:
            text = 'no better %s in %d validations: the training ends behind epoch %d'
            LOGGER.info(text, self.runtime.save_best, self.num_worse, self.epoch)
        if self.saver.is_missing or self.saver.is_best_missing:
            which = 'last' if self.saver.is_missing else 'best'
            raise RunError(f'the training is over, but its {which} checkpoint could not be written to {self.work_dir}')
        return self.best

    def _announce(self) -> None:
        if self.epoch >= self.train_cfg.max_epochs and self.validated:
            text = '%s has the %d epochs of train_cfg.max_epochs=%d: nothing is left to train; a larger number goes on'
            LOGGER.info(text, self.work_dir, self.epoch, self.train_cfg.max_epochs)
            return
        processes, accumulate = distributed.world_size(), self.train_cfg.accumulate
        LOGGER.info(
            '%s; %d process(es) x batch %d%s = %d videos an iteration, %d iterations an epoch, epochs %d to %d; %s',
            torch.cuda.get_device_name(self.device) if self.device.type == 'cuda' else 'CPU',
            processes,
            self.train_loader.batch_size,
            f' x {accumulate} batches' if accumulate > 1 else '',
            self.videos_per_iteration,
            self.iterations_per_epoch,
            self.epoch + 1,
            self.train_cfg.max_epochs,
            self.work_dir,
        )

    def _train_epoch(self, session: Session) -> None:
        """Go through what is left of an epoch.

        Raises:
            Stopped: within the epoch; a signal in its last iteration is seen when the epoch is saved.
        """
        self.model.train()
        accumulate, per_epoch = self.train_cfg.accumulate, self.iterations_per_epoch
        batches_done = self.iteration * accumulate
        samples_done = batches_done * (self.train_loader.batch_size or 0)
        self.train_loader.sampler.set_epoch(self.epoch, samples_done)  # type: ignore[attr-defined]
        text = f'epoch {self.epoch + 1}/{self.train_cfg.max_epochs}'
        first = self.iteration
        self._num_overflows = 0
        started = tick = time.perf_counter()
        waited = 0.0
        for batches in in_groups(progress_bar(self.train_loader, text, batches_done), accumulate):
            data_time = time.perf_counter() - tick
            waited += data_time
            for batch in batches:
                session.bad_samples.add(batch['bad'])
            rate = self._set_rate(self.num_iterations)
            scalars, request = self._iterate(session, batches, rate)
            self.iteration += 1
            self.meter.add({**scalars, 'data_time': data_time, 'time': time.perf_counter() - tick})
            if self.iteration % self.runtime.log_interval == 0 or self.iteration == per_epoch:
                self._log(session, text, rate)
            session.profiler.step()
            if self.iteration < per_epoch:
                self._save_within_epoch(session, request)
            tick = time.perf_counter()
        self._report_epoch(text, self.iteration - first, time.perf_counter() - started, waited)

    def _set_rate(self, iteration: int) -> float:
        """Set the learning rate of an iteration, counted from 0 on, and return it."""
        epoch = iteration / self.iterations_per_epoch
        return set_learning_rate(self.optimizer, self.schedule.factor(epoch, self.train_cfg.max_epochs))

    def _iterate(
        self, session: Session, batches: Sequence[Mapping[str, Any]], rate: float
    ) -> tuple[Mapping[str, Any], int]:
        """Take one step, or leave it out if its loss or gradient is not finite in any process.

        Returns:
            What there is to log, and the signal that any process got, 0 for none.
        """
        stepper, iteration, rank = session.stepper, self.num_iterations, distributed.rank()
        if not self._is_settled:
            stepper.settle(batches)
            self._is_settled = True
        gradient = stepper.compute(batches, lambda place: seed_iteration(self.runtime.seed, iteration, rank, place))
        request, is_bad = distributed.all_reduce_max([session.stop.number, int(not gradient.is_finite)])
        if not is_bad:
            stepper.apply()
            self._num_overflows += gradient.overflows
            return gradient.scalars, request
        stepper.leave_out()
        self.num_nonfinite += 1
        numbers: dict[str, float] = {
            name: float(gradient.scalars[name]) for name in ('loss', 'grad_norm') if name in gradient.scalars
        }
        paths = [path for batch in batches for path in batch['path']]
        session.nonfinite.add(self.epoch + 1, iteration + 1, numbers, paths, rate)
        return {}, request

    def _log(self, session: Session, text: str, rate: float) -> None:
        """Write the means since the last line; at the end of an epoch also what was bad in it."""
        means = {**self.meter.flush(), 'lr': rate, 'memory': self._memory()}
        if self.scaler.is_enabled():
            means['scale'] = self.scaler.get_scale()
        bad_samples = session.bad_samples
        num_bad = bad_samples.end_epoch() if self.iteration == self.iterations_per_epoch else 0
        if num_bad:
            means['bad_samples'] = num_bad
        session.writer.write('train', means, self.epoch + 1, self.num_iterations)
        numbers = '  '.join(f'{name} {value:.4g}' for name, value in means.items())
        per_epoch, eta = self.iterations_per_epoch, session.clock.eta(self.num_iterations)
        LOGGER.info('%s [%d/%d]  eta %s  %s', text, self.iteration, per_epoch, eta, numbers)
        if num_bad:
            files, where = bad_samples.num_files, bad_samples.file
            LOGGER.info('%s: %d bad samples, %d bad files in all, see %s', text, num_bad, files, where)

    def _report_epoch(self, text: str, iterations: int, seconds: float, waited: float) -> None:
        LOGGER.info(
            '%s done in %s: %.1f videos a second, %.0f %% of the time waiting for data%s',
            text,
            timedelta(seconds=round(seconds)),
            iterations * self.videos_per_iteration / seconds,
            100 * waited / seconds,
            f'; {self._num_overflows} steps left out, where fp16 overflowed' if self._num_overflows else '',
        )

    def _save_within_epoch(self, session: Session, request: int) -> None:
        """Write a checkpoint if one is due or a signal came.

        Raises:
            Stopped: a signal came.
        """
        interval = self.runtime.checkpoint_interval
        if request or (interval is not None and self.iteration % interval == 0):
            self.save(session.bad_samples)
        if request:
            distributed.barrier()  # behind rank 0, which has written
            raise Stopped(request, self._standing())

    def _standing(self) -> str:
        """Say where the run stands and how to go on."""
        place = Position(self.epoch, self.iteration)
        within = f'iteration {self.iteration} of epoch {self.epoch + 1}' if self.iteration else f'epoch {self.epoch}'
        name = self.saver.newest() if self.saver.is_missing else place.file_name
        return f'behind {within}; --resume goes on from {self.work_dir / name}'

    def _end_epoch(self, session: Session) -> None:
        """Save the epoch that is done, and validate it if that is due.

        Raises:
            Stopped: a signal came; the next start validates first.
        """
        distributed.broadcast_buffers(self.model)
        if self.average is not None:
            distributed.broadcast_buffers(self.average.model)
        self.epoch += 1
        self.iteration = 0
        is_due = self.epoch % self.train_cfg.val_interval == 0 or self.epoch == self.train_cfg.max_epochs
        self.validated = self.val_loader is None or not is_due
        self.save()
        if request := distributed.all_reduce_max([session.stop.number])[0]:  # and so behind rank 0, which has written
            raise Stopped(request, self._standing())
        if not self.validated:
            self._validate(session)

    def _validate(self, session: Session) -> None:
        """Validate the last finished epoch, keep it if it is the best, and record that this has been done.

        Raises:
            Stopped: a signal came; the epoch's checkpoint says that its validation is due.
        """
        assert self.val_loader is not None, 'validation is due only if there are validation data'
        model: Any = self.model if self.average is None else self.average.model
        try:
            with session.stop.at_once(self._standing()):
                predictions = predict(model, self.val_loader, self.device, self.runtime.amp, 'validation')
        except FloatingPointError as error:
            raise RunError(f'validation of epoch {self.epoch}: {error}; the weights have exploded') from error
        except EXPECTED_ERRORS as error:
            raise RunError(f'validation of epoch {self.epoch}: {strip_worker_traceback(error)}') from error
        metrics = compute_metrics(self.metrics, predictions)
        # Of several labels a loss of one would be the sum, which is not what is trained.
        fits = predictions.labels.ndim == 1 or model.cls_head.criterion.takes_multi_hot
        if model.average_views == 'score' and fits:
            scores, labels = (torch.from_numpy(a).to(self.device) for a in (predictions.scores, predictions.labels))
            metrics['loss'] = model.cls_head.loss(scores, labels).item()
        session.writer.write('val', metrics, self.epoch, self.num_iterations)
        numbers = '  '.join(f'val/{name} {value:.4g}' for name, value in metrics.items())
        name = self.runtime.save_best
        is_best = self.best is None or metrics[name] > self.best[name]
        self.num_worse = 0 if is_best else self.num_worse + 1
        if is_best:
            self.best = {'epoch': self.epoch, **metrics}
        self.validated = True
        if is_best and self.is_main:
            self.saver.save_best(self._content())  # one that cannot be written is missing until there is a better one
        self.save()
        weights = '' if self.average is None else '  (averaged weights)'
        LOGGER.info('epoch %d  %s%s%s', self.epoch, numbers, weights, f'  (best {name} so far)' if is_best else '')

    def _memory(self) -> float:
        """Return the peak memory in MB: of the GPU, or of this process on the CPU."""
        if self.device.type == 'cuda':
            return torch.cuda.max_memory_allocated(self.device) / 2**20
        unit = 2**20 if sys.platform == 'darwin' else 2**10  # bytes there, kilobytes elsewhere
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
