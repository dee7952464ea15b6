"""The training loop.

A run is exact: whatever is random is a function of the seed and of where the run stands (``EpochSampler`` and the
data sets for order and augmentation, :func:`seed_iteration` for dropout), so a run that was killed and resumed ends in
the same bits as one that was not, on the same number of processes.
"""

import logging
import math
import os
import resource
import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from codes.config import Config, ParametersCfg, RuntimeCfg, TrainCfg, read_section
from codes.datasets.loader import build_dataloader
from codes.engine import distributed
from codes.engine.bad_samples import BadSampleLog
from codes.engine.checkpoint import epoch_files, load_weights, newest_checkpoint, read_checkpoint, save_atomically
from codes.engine.ema import WeightAverage
from codes.engine.evaluation import autocast, check_metrics, compute_metrics, predict, progress_bar
from codes.engine.logging import ScalarWriter
from codes.engine.optim import build_optimizer, load_optimizer_state, optimizer_state, set_learning_rate
from codes.registry import DATASETS, METRICS, MODELS, SCHEDULES, build

LOGGER = logging.getLogger(__name__)


def seed_iteration(seed: int, iteration: int, rank: int) -> None:
    """Seed torch for one iteration of one process; different for each."""
    state = np.random.SeedSequence((seed, iteration, rank)).generate_state(1, np.uint64)
    torch.manual_seed(int(state[0]))


def set_determinism(deterministic: bool) -> None:
    """Choose between reproducible algorithms and the fastest ones on the GPU. On the CPU all are reproducible."""
    if deterministic:
        os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')  # cuBLAS is reproducible only with a fixed one
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = not deterministic


def avoid_broken_kernels(device: torch.device, amp: str | None) -> None:
    """Switch oneDNN off for training in bfloat16 on the CPU.

    Its weight gradient of a 3D convolution is garbage where there are fewer frames than the kernel is long: with torch
    2.15, ``Conv3d(32, 32, (3, 1, 1), padding=(1, 0, 0))`` on two frames gives NaN. Slower, but right.
    """
    if device.type == 'cpu' and amp == 'bf16':
        torch.backends.mkldnn.set_flags(False)


def build_loader(section: Mapping[str, Any], name: str, runtime: RuntimeCfg) -> DataLoader[Any]:
    """Build the data set and the loader of a config section for this process."""
    dataset = build(section['dataset'], DATASETS, f'{name}.dataset')
    options = {k: v for k, v in section.items() if k != 'dataset'}
    return build_dataloader(
        dataset,
        **options,
        training=name == 'train_dataloader',
        seed=runtime.seed,
        rank=distributed.rank(),
        world_size=distributed.world_size(),
    )


def flatten(value: Any, path: str) -> dict[str, Any]:
    """Return the leaves of nested dicts and lists by their path, such as ``optimizer.lr``."""
    if isinstance(value, Mapping):
        return {k: v for key, item in value.items() for k, v in flatten(item, f'{path}.{key}').items()}
    if isinstance(value, list | tuple):
        return {k: v for i, item in enumerate(value) for k, v in flatten(item, f'{path}.{i}').items()}
    return {path: value}


class Meter:
    """Means of scalars since the last log line, added up on the device so that the GPU is not waited for."""

    def __init__(self) -> None:
        self._sums: dict[str, Any] = {}
        self._count = 0

    def add(self, scalars: Mapping[str, Tensor | float]) -> None:
        for name, value in scalars.items():
            value = value.detach() if isinstance(value, Tensor) else value
            self._sums[name] = self._sums.get(name, 0) + value
        self._count += 1

    def flush(self) -> dict[str, float]:
        """Return the means over iterations and processes, and start anew."""
        names = list(self._sums)
        device = next((v.device for v in self._sums.values() if isinstance(v, Tensor)), None)
        values = [torch.as_tensor(self._sums[name], dtype=torch.float64, device=device) for name in names]
        means = distributed.mean_over_processes(torch.stack(values) / self._count).tolist()  # (number of names,)
        self._sums, self._count = {}, 0
        return dict(zip(names, means, strict=True))


class Clock:
    """Tells how much time is left, from the speed since the run started, validation and checkpoints included."""

    def __init__(self, first_iteration: int, last_iteration: int) -> None:
        self._started = time.monotonic()
        self._first = first_iteration
        self._last = last_iteration

    def eta(self, iteration: int) -> timedelta:
        """Return the time left behind so many finished iterations."""
        per_iteration = (time.monotonic() - self._started) / (iteration - self._first)
        return timedelta(seconds=round(per_iteration * (self._last - iteration)))


class Runner:
    """One training run: what it consists of and where it stands.

    Args:
        config: a checked config with ``train_dataloader``, ``optimizer``, ``schedule`` and ``train_cfg``.
        work_dir: an existing folder for checkpoints, logs and curves.
        device: from ``distributed.setup``.

    Raises:
        KeyError, ValueError: the config lacks a section, or data and model do not fit together.
    """

    def __init__(self, config: Config, work_dir: Path, device: torch.device) -> None:
        for name in ('train_dataloader', 'optimizer', 'schedule', 'train_cfg'):
            if name not in config:
                raise KeyError(f'the config has no {name}, which training needs')
        self.config = config
        self.config_text = config.pretty_text  # takes a moment, so once
        self.work_dir = work_dir
        self.device = device
        self.is_main = distributed.rank() == 0
        self.train_cfg: TrainCfg = read_section(config, 'train_cfg', TrainCfg)
        self.runtime: RuntimeCfg = read_section(config, 'runtime', RuntimeCfg)
        set_determinism(self.runtime.deterministic)
        avoid_broken_kernels(device, self.runtime.amp)
        torch.manual_seed(self.runtime.seed)

        self.model = build(config['model'], MODELS, 'model')
        self.train_loader = build_loader(config['train_dataloader'], 'train_dataloader', self.runtime)
        self.train_loader.dataset.check_labels(self.model.num_classes)  # type: ignore[attr-defined]
        self.val_loader: DataLoader[Any] | None = None
        if 'val_dataloader' in config:
            self.val_loader = build_loader(config['val_dataloader'], 'val_dataloader', self.runtime)
            self.val_loader.dataset.check_labels(self.model.num_classes)  # type: ignore[attr-defined]
        self.metrics = [build(cfg, METRICS, f'metrics.{i}') for i, cfg in enumerate(config['metrics'])]
        if self.val_loader is not None:
            check_metrics(self.metrics, self.val_loader.dataset)
        names = [name for metric in self.metrics for name in metric.names]
        if self.runtime.save_best not in names:
            raise ValueError(f'runtime.save_best={self.runtime.save_best!r} must be one of {", ".join(names)}')

        self.model.to(device, memory_format=torch.channels_last_3d)  # as the frames come; a third faster on the CPU
        parameters: ParametersCfg = read_section(config, 'parameters', ParametersCfg)
        self.optimizer = build_optimizer(config['optimizer'], self.model, parameters)
        self.schedule = build(config['schedule'], SCHEDULES, 'schedule')
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.runtime.amp == 'fp16')
        decay = self.train_cfg.ema_decay
        self.average = None if decay is None else WeightAverage(self.model, decay)
        self.epoch = 0  # finished epochs
        self.validated = True  # whether the last finished epoch has been validated, if it was due
        self.best: dict[str, float] | None = None

    # -- where the run stands --------------------------------------------------------------------------------------

    @property
    def iterations_per_epoch(self) -> int:
        return len(self.train_loader)

    def save(self) -> None:
        """Write the checkpoint of the last finished epoch and let go of those beyond ``keep_checkpoints``."""
        if self.is_main:
            save_atomically(self._content(), self.work_dir / f'epoch_{self.epoch}.pth')
            for file in epoch_files(self.work_dir)[self.runtime.keep_checkpoints :]:
                file.unlink()

    def _content(self) -> dict[str, Any]:
        return {
            'state_dict': self.model.state_dict(),
            **({} if self.average is None else self.average.state()),
            'optimizer': optimizer_state(self.optimizer, self.model),
            'scaler': self.scaler.state_dict(),
            'epoch': self.epoch,
            'validated': self.validated,
            'best': self.best,
            'iterations_per_epoch': self.iterations_per_epoch,
            'world_size': distributed.world_size(),
            'seed': self.runtime.seed,
            'class_names': self.train_loader.dataset.class_names,  # type: ignore[attr-defined]
            'config': self.config.to_dict(),
        }

    def resume(self, source: str) -> None:
        """Take up a run where a checkpoint left it.

        Args:
            source: a file, or 'auto' for the newest readable checkpoint of the work dir; without one the run starts
                from the beginning.

        Raises:
            FileNotFoundError, ValueError: the file is missing, damaged or not a checkpoint of this kind of run.
        """
        if source == 'auto':
            found = newest_checkpoint(self.work_dir)
            if found is None:
                LOGGER.info('no checkpoint to resume from in %s: starting from the beginning', self.work_dir)
                return
            file, content = found
        else:
            file, content = Path(source), read_checkpoint(source)
        if not self._content().keys() - {'ema_state_dict', 'ema_updates'} <= content.keys():
            raise ValueError(f'{file} holds weights, but not a run to resume; use --load-from to start from weights')
        epochs = distributed.gather(content['epoch'])
        if len(set(epochs)) > 1:
            raise ValueError(f'the processes would resume from different epochs: {epochs}; give all the same files')
        self._warn_of_changes(content)
        try:
            self.model.load_state_dict(content['state_dict'])
            # The present config's options count: those of the checkpoint were saved as the run's.
            load_optimizer_state(self.optimizer, self.model, content['optimizer'])
            if self.average is not None:
                self.average.load(content)
        except (RuntimeError, ValueError) as error:
            raise ValueError(f'{file} is of another model or optimiser: {error}') from error
        if content['scaler']:  # empty after a run without fp16
            self.scaler.load_state_dict(content['scaler'])
        self.epoch = content['epoch']
        self.validated = content['validated']
        self.best = content['best']
        LOGGER.info('resumed from %s, behind epoch %d', file, self.epoch)

    def _warn_of_changes(self, content: Mapping[str, Any]) -> None:
        """Name everything because of which the resumed run cannot end as the interrupted one would have."""
        was = {name: content[name] for name in ('iterations_per_epoch', 'world_size')}
        now = {'iterations_per_epoch': self.iterations_per_epoch, 'world_size': distributed.world_size()}
        for section in ('model', 'train_dataloader', 'optimizer', 'parameters', 'schedule', 'train_cfg', 'runtime'):
            was |= flatten(content['config'].get(section, {}), section)
            now |= flatten(self.config.to_dict().get(section, {}), section)
        for name in sorted(was.keys() | now.keys()):
            if was.get(name) != now.get(name):
                text = '%s was %s and is %s: the run goes on, but not exactly'
                LOGGER.warning(text, name, was.get(name), now.get(name))

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
        beyond = [f.name for f in epoch_files(self.work_dir) if int(f.stem.removeprefix('epoch_')) > self.epoch]
        if beyond:
            # They would outlive the new, lower epochs, and the next --resume would go on with the other run.
            raise ValueError(
                f'{self.work_dir} holds {", ".join(beyond)} of a run that is further than this one: use --resume to go '
                'on with it, another --work-dir, or remove them'
            )
        if self.epoch == 0:
            if load_from is not None:
                load_weights(self.model, load_from, allow_pickle=allow_pickle)
            else:
                self.model.init_weights()
            if self.average is not None:  # fp16 may leave out the first steps, even all of a short epoch
                self.average.load({'state_dict': self.model.state_dict()})

    def train(self) -> dict[str, float] | None:
        """Train to the last epoch, from wherever :meth:`start` took the run.

        Returns:
            The best epoch's metrics, or None if nothing was validated.
        """
        self._announce()
        model = distributed.wrap(self.model, self.device)
        done = self.epoch * self.iterations_per_epoch
        with ScalarWriter(self.work_dir, self.is_main, done, self.validated) as writer:
            if not self.validated and self.val_loader is not None:
                self._validate(writer)
            clock = Clock(done, self.train_cfg.max_epochs * self.iterations_per_epoch)
            share = self.train_loader.dataset.max_bad_share  # type: ignore[attr-defined]
            bad_samples = BadSampleLog(self.work_dir, self.epoch, len(self.train_loader.sampler), share)  # type: ignore[arg-type]
            while self.epoch < self.train_cfg.max_epochs:
                self._train_epoch(model, writer, clock, bad_samples)
                distributed.broadcast_buffers(self.model)
                if self.average is not None:
                    distributed.broadcast_buffers(self.average.model)
                self.epoch += 1
                is_last = self.epoch == self.train_cfg.max_epochs
                is_due = self.epoch % self.train_cfg.val_interval == 0 or is_last
                self.validated = self.val_loader is None or not is_due
                self.save()
                if not self.validated:
                    self._validate(writer)
        return self.best

    def _announce(self) -> None:
        processes = distributed.world_size()
        batch = self.train_loader.batch_size or 0
        LOGGER.info(
            '%s; %d process(es) x batch %d = %d videos an iteration, %d iterations an epoch, epochs %d to %d; %s',
            torch.cuda.get_device_name(self.device) if self.device.type == 'cuda' else 'CPU',
            processes,
            batch,
            processes * batch,
            self.iterations_per_epoch,
            self.epoch + 1,
            self.train_cfg.max_epochs,
            self.work_dir,
        )

    def _train_epoch(self, model: nn.Module, writer: ScalarWriter, clock: Clock, bad_samples: BadSampleLog) -> None:
        """Go once through the training data."""
        model.train()
        self.train_loader.sampler.set_epoch(self.epoch)  # type: ignore[attr-defined]
        per_epoch = self.iterations_per_epoch
        meter = Meter()
        text = f'epoch {self.epoch + 1}/{self.train_cfg.max_epochs}'
        tick = time.perf_counter()
        for i, batch in enumerate(progress_bar(self.train_loader, text)):
            data_time = time.perf_counter() - tick
            iteration = self.epoch * per_epoch + i
            bad_samples.add(batch['bad'])
            factor = self.schedule.factor(iteration / per_epoch, self.train_cfg.max_epochs)
            rate = set_learning_rate(self.optimizer, factor)
            seed_iteration(self.runtime.seed, iteration, distributed.rank())
            scalars = self._step(model, batch)
            meter.add({**scalars, 'data_time': data_time, 'time': time.perf_counter() - tick})
            if (i + 1) % self.runtime.log_interval == 0 or i + 1 == per_epoch:
                means = {**meter.flush(), 'lr': rate, 'memory': self._memory()}
                num_bad = bad_samples.end_epoch() if i + 1 == per_epoch else 0
                if num_bad:
                    means['bad_samples'] = num_bad
                if not math.isfinite(means['loss']):
                    raise RuntimeError(
                        f'the loss became {means["loss"]} at iteration {iteration + 1} or a little before, '
                        f'at a learning rate of {rate:.4g}; the last checkpoint in {self.work_dir} is from before'
                    )
                writer.write('train', means, self.epoch + 1, iteration + 1)
                numbers = '  '.join(f'{name} {value:.4g}' for name, value in means.items())
                LOGGER.info('%s [%d/%d]  eta %s  %s', text, i + 1, per_epoch, clock.eta(iteration + 1), numbers)
                if num_bad:
                    files, where = bad_samples.num_files, bad_samples.file
                    LOGGER.info('%s: %d bad samples, %d bad files in all, see %s', text, num_bad, files, where)
            tick = time.perf_counter()

    def _step(self, model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Run one iteration; returns its losses and, if gradients are clipped, their norm before.

        Where fp16 made gradients overflow, the scaler leaves the optimiser's step out, and the average does not move.
        """
        with autocast(self.device, self.runtime.amp):
            scalars = model(batch['inputs'], batch['label'])
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(scalars['loss']).backward()
        if self.train_cfg.clip_grad_norm is not None:
            self.scaler.unscale_(self.optimizer)
            norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.train_cfg.clip_grad_norm)
            scalars = {**scalars, 'grad_norm': norm}
        self.scaler.step(self.optimizer)
        if self.average is None:
            self.scaler.update()
        else:
            scale = self.scaler.get_scale()
            self.scaler.update()
            if self.scaler.get_scale() >= scale:  # the scale falls after a step left out, only then
                self.average.update(self.model)
        return scalars

    def _validate(self, writer: ScalarWriter) -> None:
        """Validate the last finished epoch, keep it if it is the best, and record that this has been done."""
        assert self.val_loader is not None, 'validation is due only if there are validation data'
        model: Any = self.model if self.average is None else self.average.model
        predictions = predict(model, self.val_loader, self.device, self.runtime.amp, 'validation')
        metrics = compute_metrics(self.metrics, predictions)
        if model.average_views == 'score':
            scores, labels = (torch.from_numpy(a).to(self.device) for a in (predictions.scores, predictions.labels))
            metrics['loss'] = model.cls_head.loss(scores, labels).item()
        iteration = self.epoch * self.iterations_per_epoch
        writer.write('val', metrics, self.epoch, iteration)
        numbers = '  '.join(f'val/{name} {value:.4g}' for name, value in metrics.items())
        name = self.runtime.save_best
        is_best = self.best is None or metrics[name] > self.best[name]
        if is_best:
            self.best = {'epoch': self.epoch, **metrics}
        self.validated = True
        if is_best and self.is_main:
            save_atomically(self._content(), self.work_dir / 'best.pth')
        self.save()
        weights = '' if self.average is None else '  (averaged weights)'
        LOGGER.info('epoch %d  %s%s%s', self.epoch, numbers, weights, f'  (best {name} so far)' if is_best else '')

    def _memory(self) -> float:
        """Return the peak memory in MB: of the GPU, or of this process on the CPU."""
        if self.device.type == 'cuda':
            return torch.cuda.max_memory_allocated(self.device) / 2**20
        unit = 2**20 if sys.platform == 'darwin' else 2**10  # bytes there, kilobytes elsewhere
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
