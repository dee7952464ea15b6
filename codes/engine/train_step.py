"""Model, optimizer and schedule of a training run, and the steps that update them."""

import contextlib
import math
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dsanet.config.loading import read_section
from dsanet.config.registry import MODELS, SCHEDULES, build
from dsanet.config.schema import ParametersCfg, RuntimeCfg, TrainCfg
from dsanet.engine.ema import WeightAverage
from dsanet.engine.evaluator import autocast
from dsanet.engine.optim import (
    OptimizerState,
    build_optimizer,
    match_layouts,
    scale_learning_rate,
    set_learning_rate,
)
from dsanet.engine.preparation import avoid_broken_kernels, avoid_slow_kernels, place_model
from dsanet.models.sync_batch_norm import convert_sync_batch_norm
from dsanet.models.weights.loading import load_weights
from dsanet.utils import distributed
from dsanet.utils.class_names import ClassNames


def seed_iteration(seed: int, iteration: int, rank: int, index: int = 0) -> None:
    """Seed torch for one batch: by iteration, process, and index of the batch in the iteration."""
    # SeedSequence may ignore a zero at the end, so the first batch has three numbers.
    entropy = (seed, iteration, rank, index) if index else (seed, iteration, rank)
    state = int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])
    # The same as torch.manual_seed, which takes a millisecond without a GPU.
    torch.default_generator.manual_seed(state)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(state)


class StepResult(Enum):
    """The outcome of a step."""

    UPDATED = 'updated'
    OVERFLOW = 'overflow'  # fp16 gradients overflowed: skipped, and the scaler lowers its scale
    NON_FINITE = 'non-finite'  # loss or gradient is infinite or NaN: skipped


class Stepper:
    """Takes optimizer steps: :meth:`backward` computes a gradient, :meth:`update` applies it or skips the step.

    They are separate so that the caller can do other work in between: on a GPU, ``backward`` only queues kernels, and
    ``update`` waits for them. All processes get the same result although they exchange gradients only: a loss that is
    not finite in one process makes the gradient of this process NaN, and so the mean of all.

    Args:
        config: a checked config with ``model``, ``optimizer``, ``schedule`` and ``train_cfg``.
        device: where to train.

    Attributes:
        model: the recognizer.
        average: averaged weights that are updated after each step, or None.
        optimizer: of the trainable parameters.
        schedule: of the learning rate.
        scaler: of the loss, for fp16; disabled otherwise.
        batch_size: videos in one step, of all processes.
        train_cfg: the section of the config.
        runtime: the section of the config.
    """

    def __init__(self, config: Mapping[str, Any], device: torch.device) -> None:
        train_cfg: TrainCfg = read_section(config, 'train_cfg', TrainCfg)
        runtime: RuntimeCfg = read_section(config, 'runtime', RuntimeCfg)
        self.device = device
        self.train_cfg = train_cfg
        self.runtime = runtime
        self.batch_size = config['train_dataloader']['batch_size'] * distributed.world_size() * train_cfg.accumulate
        self.model: Any = build(config['model'], MODELS, 'model')
        if train_cfg.sync_bn:
            self.model = convert_sync_batch_norm(self.model, device)
        place_model(self.model, device)
        avoid_slow_kernels(self.model, device)
        avoid_broken_kernels(self.model, device, runtime.amp)
        parameters: ParametersCfg = read_section(config, 'parameters', ParametersCfg)
        self.optimizer = build_optimizer(config['optimizer'], self.model, parameters)
        scale_learning_rate(self.optimizer, train_cfg, self.batch_size)
        self.schedule = build(config['schedule'], SCHEDULES, 'schedule')
        self.scaler = torch.amp.GradScaler(device.type, enabled=runtime.amp == 'fp16')
        self.average = None if train_cfg.ema_decay is None else WeightAverage(self.model, train_cfg.ema_decay)
        self._callable: nn.Module = self.model  # wrapped in DistributedDataParallel by start()
        self._needs_warm_up = distributed.world_size() > 2 and not runtime.find_unused_parameters
        self._parameters = list(self.model.parameters())
        self._buffers = [buffer for buffer in self.model.buffers() if buffer.numel()]
        self._saved_buffers = [torch.empty_like(buffer) for buffer in self._buffers]

    @property
    def evaluated_model(self) -> Any:
        """The model to validate, which is the averaged one if there is an average."""
        return self.model if self.average is None else self.average.model

    # -- before the first step -------------------------------------------------------------------------------------

    def load_initial_weights(
        self, load_from: str | None, allow_pickle: bool = False, classes: ClassNames | None = None
    ) -> None:
        """Load the initial weights of a new run.

        Args:
            load_from: a checkpoint; None for the backbone's ``pretrained``, if any.
            allow_pickle: let the file run code while it is read.
            classes: classes of the data, as for ``load_weights``.

        Raises:
            FileNotFoundError, ValueError: as ``load_weights``.
        """
        if load_from is not None:
            load_weights(self.model, load_from, allow_pickle=allow_pickle, classes=classes)
        else:
            self.model.init_weights()
        if self.average is not None:
            self.average.restart(self.model)

    def start(self) -> None:
        """Compile the model if the config says so, and wrap it for several processes, which all call this together."""
        if self.runtime.compile:
            self.model.compile()
        self._callable = distributed.wrap_ddp(self.model, self.device, self.runtime.find_unused_parameters)

    # -- steps -----------------------------------------------------------------------------------------------------

    def set_learning_rate(self, epoch: float) -> float:
        """Set and return the learning rate at a position in training, in epochs."""
        return set_learning_rate(self.optimizer, self.schedule.factor(epoch, self.train_cfg.max_epochs))

    def backward(self, batches: Sequence[Mapping[str, Any]], iteration: int) -> dict[str, Tensor]:
        """Compute the mean gradient of the batches' losses and clip it.

        Args:
            batches: from the loader, all of one size.
            iteration: number of the iteration since the start of training, 0-based; seeds dropout.

        Returns:
            ``loss`` and other scalars of the model, as means over the batches, and ``grad_norm``, the L2 norm of the
            gradient of all processes before clipping; on the device.
        """
        if self._needs_warm_up:
            # DistributedDataParallel sorts gradients after its first backward pass, and the sum over three or more
            # processes depends on their order. Without this, a resumed run would not repeat the sums of its first
            # iteration.
            self._needs_warm_up = False
            self.backward(batches, iteration)
            self._skip_step()
        torch._foreach_copy_(self._saved_buffers, self._buffers)
        self.optimizer.zero_grad(set_to_none=True)
        every = []
        for index, batch in enumerate(batches):
            seed_iteration(self.runtime.seed, iteration, distributed.rank(), index)
            with self._grad_sync(index == len(batches) - 1):
                with autocast(self.device, self.runtime.amp):
                    scalars = self._callable(batch['inputs'], batch['label'])
                loss = scalars['loss']
                one_or_nan = torch.where(loss.detach().isfinite(), 1.0, math.nan)
                self.scaler.scale(loss / len(batches) * one_or_nan).backward()
            every.append({name: value.detach() for name, value in scalars.items()})
        means = {name: sum(scalars[name] for scalars in every) / len(every) for name in every[0]}
        self.scaler.unscale_(self.optimizer)
        # The scaler unscales the optimizer's parameters only; frozen parameters have no gradient.
        norm = nn.utils.get_total_norm([p.grad for p in self._parameters if p.grad is not None])
        if self.train_cfg.clip_grad_norm is not None:
            nn.utils.clip_grads_with_norm_(self._parameters, self.train_cfg.clip_grad_norm, norm)
        return {**means, 'grad_norm': norm}

    def _grad_sync(self, enabled: bool) -> contextlib.AbstractContextManager[Any]:
        """Return a context in which backward passes average gradients over processes only if ``enabled``."""
        if enabled or not isinstance(self._callable, nn.parallel.DistributedDataParallel):
            return contextlib.nullcontext()
        return self._callable.no_sync()

    def update(self, scalars: Mapping[str, Tensor]) -> StepResult:
        """Update the weights and their average, or skip the step if the gradient is not finite.

        A skipped step does not change weights, optimizer or running statistics. Waits for the device.

        Args:
            scalars: from :meth:`backward`.
        """
        match_layouts(self.optimizer)  # while the device computes
        if scalars['grad_norm'].isfinite():
            self.scaler.step(self.optimizer)
            self.scaler.update()
            if self.average is not None:
                self.average.update(self.model)
            return StepResult.UPDATED
        # The gradient is the same in all processes, so all of them get here.
        is_loss_bad = any(distributed.all_gather_object(not bool(scalars['loss'].isfinite())))
        if is_loss_bad or self.scaler.get_scale() <= 1:  # always 1 without fp16
            self._skip_step()
            return StepResult.NON_FINITE
        # Not a fault: this is how the scaler finds the largest scale that works.
        self._restore()
        self.scaler.update()
        return StepResult.OVERFLOW

    def _skip_step(self) -> None:
        self._restore()
        if self.scaler.is_enabled():
            self.scaler.update(self.scaler.get_scale())  # ready for the next step, at the same scale

    def _restore(self) -> None:
        torch._foreach_copy_(self._buffers, self._saved_buffers)
        self.optimizer.zero_grad(set_to_none=True)

    # -- state -----------------------------------------------------------------------------------------------------

    def sync_buffers(self) -> None:
        """Give all processes the buffers of rank 0, so that they validate and save the same model."""
        for model in [self.model] if self.average is None else [self.model, self.average.model]:
            distributed.broadcast_buffers(model)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint holds: the states of model, average, optimizer and scaler."""
        return {
            'state_dict': self.model.state_dict(),
            **({} if self.average is None else self.average.state_dict()),
            'optimizer': OptimizerState(self.optimizer, self.model).state_dict(),
            'scaler': self.scaler.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned, except for options of the optimizer: those of the config apply.

        Raises:
            RuntimeError, ValueError, KeyError, TypeError: the state is of another model or optimizer.
        """
        self.model.load_state_dict(state['state_dict'])
        OptimizerState(self.optimizer, self.model).load_state_dict(state['optimizer'])
        if self.average is not None and 'ema_state_dict' in state:
            self.average.load_state_dict(state)
        elif self.average is not None:
            self.average.restart(self.model)
        if state['scaler']:  # empty if the run did not use fp16
            self.scaler.load_state_dict(state['scaler'])
