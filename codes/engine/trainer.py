"""The training loop.

Runs are exact: everything random is a function of the seed and of the position in the run (``EpochSampler`` and the
datasets for order and augmentation, ``seed_iteration`` for dropout). A run that was killed and resumed is
therefore bit-identical to an uninterrupted one on the same number of processes.

An *iteration* is one optimizer step: ``train_cfg.accumulate`` batches in each process.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from dsanet.config.formatting import format_config
from dsanet.config.loading import read_section
from dsanet.config.registry import TRACKERS, build
from dsanet.config.schema import LOADERS, RuntimeCfg
from dsanet.data_checks.pipeline import try_pipelines
from dsanet.data_checks.reading import splits_of_run
from dsanet.data_checks.run import check_before_training
from dsanet.datasets.loader import in_groups
from dsanet.datasets.workers import start_workers
from dsanet.engine.checkpointing import (
    Position,
    Saver,
    TrainState,
    remove_leftovers,
    what_to_resume,
    write_config,
)
from dsanet.engine.class_weights import resolve_class_weights
from dsanet.engine.evaluator import progress_bar
from dsanet.engine.preparation import (
    build_train_loader,
    build_val_loader,
    check_clip_shape,
    class_names_of_run,
    set_determinism,
)
from dsanet.engine.profiling import profile_iterations
from dsanet.engine.resuming import hash_inputs, is_validation_due, resume_run
from dsanet.engine.stopping import Stopped, StopRequest
from dsanet.engine.trackers import start_trackers
from dsanet.engine.train_step import Stepper
from dsanet.engine.training_log import TrainingLog
from dsanet.engine.validation import build_val_metrics, log_baseline, validate
from dsanet.engine.work_dir import check_no_other_run
from dsanet.utils import distributed
from dsanet.utils.file_lock import FileLock

LOGGER = logging.getLogger(__name__)


class Trainer:
    """A training run: :meth:`fit`, which is :meth:`prepare` and then :meth:`train`.

    The constructor builds everything that the config describes; it reads lists, but no videos.

    Args:
        config: a checked config with ``train_dataloader``, ``optimizer``, ``schedule`` and ``train_cfg``.
        work_dir: an existing folder for checkpoints, logs and curves.
        device: from ``distributed.find_device``.
        lock: of the work dir, if any.

    Raises:
        KeyError, ValueError: the config lacks a section, or data and model do not fit together.
    """

    log: TrainingLog
    stop: StopRequest

    def __init__(
        self, config: dict[str, Any], work_dir: Path, device: torch.device, lock: FileLock | None = None
    ) -> None:
        for name in ('train_dataloader', 'optimizer', 'schedule', 'train_cfg'):
            if name not in config:
                raise KeyError(f'the config has no {name}, which training requires')
        self.config = config = resolve_class_weights(config)
        self.work_dir = work_dir
        self.device = device
        self.is_main = distributed.rank() == 0
        self.runtime: RuntimeCfg = read_section(config, 'runtime', RuntimeCfg)
        set_determinism(self.runtime.deterministic)
        torch.manual_seed(self.runtime.seed)
        self.trackers = [build(cfg, TRACKERS, f'runtime.trackers.{i}') for i, cfg in enumerate(self.runtime.trackers)]
        self.stepper = Stepper(config, device)
        self.model = self.stepper.model
        self.train_cfg = self.stepper.train_cfg
        check_clip_shape(self.model, config, LOADERS)
        self.train_loader = build_train_loader(config, self.model, self.runtime, self.train_cfg.accumulate)
        self.val_loader = build_val_loader(config, self.model, self.runtime, self.train_loader)
        self.class_names = class_names_of_run(self.train_loader, self.val_loader)
        self.metrics = build_val_metrics(config, self.runtime.save_best, self.val_loader)
        self.saver = Saver(work_dir, self.runtime.keep_checkpoints, lock)
        iterations_per_epoch = len(self.train_loader) // self.train_cfg.accumulate
        self.state = TrainState(iterations_per_epoch, self.stepper.batch_size)
        self.inputs: dict[str, str] = {}
        self._log_state: dict[str, Any] = {}  # of this process, within an epoch that is resumed

    def fit(
        self,
        resume: str | None = None,
        load_from: str | None = None,
        allow_pickle: bool = False,
        check_data: bool = True,
        profile: int = 0,
    ) -> dict[str, float] | None:
        """Run the training; arguments, result and errors are those of :meth:`prepare` and :meth:`train`."""
        self.prepare(resume, load_from, allow_pickle, check_data)
        return self.train(profile)

    # -- before the loop -------------------------------------------------------------------------------------------

    def prepare(
        self,
        resume: str | None = None,
        load_from: str | None = None,
        allow_pickle: bool = False,
        check_data: bool = True,
    ) -> None:
        """Start data workers, join the other processes, check the data, and load the initial weights or a checkpoint.

        Args:
            resume: 'auto' to continue from the latest checkpoint of the work dir, if any; or a checkpoint file.
            load_from: weights to start from instead of the backbone's ``pretrained``, unless a run is resumed.
            allow_pickle: let ``load_from`` run code while it is read; for trusted files only.
            check_data: run the quick check of the data.

        Raises:
            FileNotFoundError, ValueError: a file is missing or does not fit, the data cannot be trained on, or the work
                dir has files of another run.
        """
        splits = splits_of_run(self.config, self.model.num_classes, self.train_loader, self.val_loader)
        # Forking is safe only before the process has threads, and a process group starts some. So the pipelines are
        # tried and the data workers started, both in forked processes, before the process group.
        findings = try_pipelines(splits) if check_data and self.is_main else []
        for loader in (self.train_loader, self.val_loader):
            if loader is not None:
                start_workers(loader)
        if self.saver.lock is not None:
            self.saver.lock.start_heartbeat()
        distributed.init_process_group(self.runtime.timeout_minutes)
        if check_data:
            check_before_training(splits, self.config, findings)
        self.inputs = hash_inputs(self.config, self.train_loader, self.val_loader, load_from)
        resume = what_to_resume(resume, self.work_dir)
        if resume is not None:
            resume_run(self, resume)
        check_no_other_run(self.work_dir, resume, self.state.resumed_from)
        remove_leftovers(self.work_dir, self.state.resumed_from or Position(0), resume)
        if resume is not None and self.state.resumed_from is None:
            LOGGER.info('No checkpoint in %s; starting from the beginning', self.work_dir)
        if self.is_main:
            write_config(format_config(self.config), self.work_dir)
        if self.state.resumed_from is None:
            self.stepper.load_initial_weights(load_from, allow_pickle, self.class_names)
        self.stepper.start()
        if self.is_main:
            start_trackers(self.trackers, self.config, self.work_dir)

    # -- the loop --------------------------------------------------------------------------------------------------

    def train(self, profile: int = 0) -> dict[str, float] | None:
        """Train to the last epoch from where :meth:`prepare` left off.

        Args:
            profile: number of iterations to record in a trace, after a short warm-up; 0 for none.

        Returns:
            The metrics of the best epoch; None without validation.

        Raises:
            Stopped: SIGTERM or SIGINT was received, and a checkpoint written.
            RunError: too many bad samples or non-finite iterations, or a checkpoint cannot be written.
        """
        with (
            StopRequest() as self.stop,
            TrainingLog(self.work_dir, self.state, self.stepper, self.train_loader, self.trackers) as self.log,
            profile_iterations(self.work_dir, profile) as profiler,
        ):
            self.log.load_state_dict(self._log_state)
            self.train_loader.while_waiting = self.stop.end_wait
            is_done = self.state.validated and self.state.is_done(self.train_cfg)
            if self.val_loader is not None and not is_done:
                log_baseline(self.val_loader, self.metrics)
            if not self.state.validated and self.val_loader is not None:
                self._validate()
            while not self.state.is_done(self.train_cfg):
                self._train_epoch(profiler)
                self._end_epoch()
            self.log.end_run(self.val_loader)
        return self.state.best

    def _train_epoch(self, profiler: torch.profiler.profile | None) -> None:
        """Train the rest of the current epoch. A signal in its last iteration is handled after the epoch is saved."""
        state, stepper, log = self.state, self.stepper, self.log
        batches_done = state.iteration * self.train_cfg.accumulate
        sampler: Any = self.train_loader.sampler
        sampler.set_epoch(state.epoch, batches_done * (self.train_loader.batch_size or 0))
        self.model.train()
        log.start_epoch()
        loader = in_groups(progress_bar(self.train_loader, log.epoch_name, batches_done), self.train_cfg.accumulate)
        upcoming = self._next(loader)
        if upcoming is None:
            self._save_within_epoch()
        while upcoming is not None:
            batches = upcoming
            log.add_bad_samples(batches)
            lr = stepper.set_learning_rate(state.num_iterations / state.iterations_per_epoch)
            scalars = stepper.backward(batches, state.num_iterations)
            upcoming = self._next(loader)  # while the GPU computes
            result = stepper.update(scalars)
            state.iteration += 1
            log.add_iteration(batches, scalars, result, lr)
            if profiler is not None:
                profiler.step()
            if state.iteration < state.iterations_per_epoch:
                self._save_within_epoch()
        log.end_epoch()

    def _next(self, loader: Iterator[list[Any]]) -> list[Any] | None:
        """Return the next batches; None at the end of the epoch, or if a signal ended the wait for them."""
        with self.log.waiting_for_data():
            try:
                return next(loader, None)
            except Stopped:
                if distributed.world_size() > 1:  # the others wait for this process, which cannot save on its own
                    raise
                return None

    def _save_within_epoch(self) -> None:
        """Write a checkpoint if one is due or a signal was received, which stops the run."""
        request = self.stop.poll()
        interval = self.runtime.checkpoint_interval
        if request or (interval is not None and self.state.iteration % interval == 0):
            self.save()
        if request:
            distributed.barrier()  # until rank 0 has written
            raise Stopped(request, self.saver.describe(self.state.position))

    def _end_epoch(self) -> None:
        """Save the completed epoch; then stop if a signal was received, or validate the epoch if that is due."""
        state = self.state
        self.stepper.sync_buffers()
        state.epoch += 1
        state.iteration = 0
        state.validated = not is_validation_due(state.epoch, self.config)
        self.save()
        if request := self.stop.poll_now():  # also waits until rank 0 has written
            raise Stopped(request, self.saver.describe(state.position))
        if not state.validated:
            self._validate()

    def _validate(self) -> None:
        """Validate the last completed epoch, and save it as the best if it is. A signal interrupts the validation."""
        assert self.val_loader is not None, 'validation is due only with validation data'
        state, model = self.state, self.stepper.evaluated_model
        with self.stop.at_once(self.saver.describe(state.position)):
            metrics = validate(model, self.val_loader, self.metrics, self.device, self.runtime.amp, state.epoch)
        is_best = state.add_validation(metrics, self.runtime.save_best)
        if is_best and self.is_main:
            self.saver.save_best(self.state_dict())
        self.save()
        self.log.add_validation(metrics, is_best)

    # -- checkpoints -----------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write a checkpoint of the current position; all processes call it together.

        Raises:
            RunError: it cannot be written.
        """
        progress = distributed.all_gather_object(self.log.state_dict()) if self.state.iteration else []
        if self.is_main:
            self.saver.save({**self.state_dict(), 'progress': progress}, self.state.position)

    def state_dict(self) -> dict[str, Any]:
        """Return the content of a checkpoint, except for the parts that differ between processes."""
        return {
            **self.stepper.state_dict(),
            **self.state.state_dict(),
            'world_size': distributed.world_size(),
            'seed': self.runtime.seed,
            'class_names': None if self.class_names.names is None else list(self.class_names.names),
            'inputs': self.inputs,
            'config': self.config,
        }

    def load_state_dict(self, content: dict[str, Any]) -> None:
        """Continue from the content of a checkpoint.

        Raises:
            RuntimeError, ValueError, KeyError, TypeError: it is of another model or optimizer.
        """
        self.stepper.load_state_dict(content)
        self.state.load_state_dict(content)
        if self.state.num_iterations:  # the optimizer holds the learning rate of its last step
            self.stepper.set_learning_rate((self.state.num_iterations - 1) / self.state.iterations_per_epoch)
        progress = content.get('progress', [])
        is_same = all(content.get(k) == getattr(self.state, k) for k in ('iterations_per_epoch', 'batch_size'))
        if self.state.iteration and is_same and len(progress) == distributed.world_size():
            self._log_state = progress[distributed.rank()]
