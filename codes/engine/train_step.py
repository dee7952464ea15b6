"""One step of the optimizer: forward, backward, and a look at the result before it changes the weights."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dsanet.engine.ema import WeightAverage
from dsanet.engine.evaluator import autocast


@dataclass(frozen=True)
class Gradient:
    """What forward and backward gave, before the weights change.

    Attributes:
        scalars: means over the batches: ``loss``, what else the model reports, and ``grad_norm``, the L2 norm of the
            gradient before clipping.
        is_finite: whether the weights may follow the gradient. Gradients that overflow in fp16 count as finite: the
            scaler leaves such a step out and lowers its scale, which is how it finds the largest scale that works.
        overflows: whether they did.
    """

    scalars: dict[str, Tensor]
    is_finite: bool
    overflows: bool = False


class Stepper:
    """Takes steps: :meth:`compute` the gradient of some batches, then :meth:`apply` it or :meth:`leave_out`.

    Args:
        model: what is called, perhaps wrapped for several processes.
        bare: the recognizer in it.
        optimizer: of its parameters.
        scaler: for fp16; disabled otherwise.
        average: averaged weights that follow the steps, or None.
        amp: None, 'bf16' or 'fp16'.
        clip_grad_norm: largest L2 norm of the gradient, or None.
    """

    def __init__(
        self,
        model: nn.Module,
        bare: nn.Module,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        average: WeightAverage | None,
        amp: str | None,
        clip_grad_norm: float | None,
    ) -> None:
        self.model = model
        self.bare = bare
        self.optimizer = optimizer
        self.scaler = scaler
        self.average = average
        self.amp = amp
        self.clip_grad_norm = clip_grad_norm
        self.device = next(bare.parameters()).device
        self._buffers = [buffer for buffer in bare.buffers() if buffer.numel()]
        self._kept = [torch.empty_like(buffer) for buffer in self._buffers]

    def compute(self, batches: Sequence[Mapping[str, Any]], seed: Callable[[int], None]) -> Gradient:
        """Compute the mean gradient of the batches' losses and clip it.

        Args:
            batches: from the loader, of one size.
            seed: called before each batch with its place, so that dropout is a function of where the run stands.
        """
        torch._foreach_copy_(self._kept, self._buffers)
        self.optimizer.zero_grad(set_to_none=True)
        every = []
        for place, batch in enumerate(batches):
            seed(place)
            with self._communicating(place == len(batches) - 1):
                with autocast(self.device, self.amp):
                    scalars = self.model(batch['inputs'], batch['label'])
                self.scaler.scale(scalars['loss'] / len(batches)).backward()
            every.append({name: value.detach() for name, value in scalars.items()})
        means = {name: sum(scalars[name] for scalars in every) / len(every) for name in every[0]}
        self.scaler.unscale_(self.optimizer)
        # Only parameters of the optimizer are unscaled; a frozen one has no gradient.
        gradients = [p.grad for p in self.bare.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if self.clip_grad_norm is not None:
            nn.utils.clip_grads_with_norm_(self.bare.parameters(), self.clip_grad_norm, norm)
        overflows_first = self.scaler.is_enabled() and self.scaler.get_scale() > 1
        looked_at = means['loss'] if overflows_first else torch.stack([means['loss'].float(), norm.float()])
        if overflows_first and not norm.isfinite():
            # A step that the scaler leaves out has no norm.
            return Gradient(means, bool(looked_at.isfinite().all()), overflows=True)
        return Gradient({**means, 'grad_norm': norm}, bool(looked_at.isfinite().all()))

    def _communicating(self, is_last: bool) -> contextlib.AbstractContextManager[Any]:
        """Let the processes exchange gradients behind the last batch only."""
        if is_last or not isinstance(self.model, nn.parallel.DistributedDataParallel):
            return contextlib.nullcontext()
        return self.model.no_sync()

    def apply(self) -> None:
        """Let the weights follow the gradient.

        Where fp16 made gradients overflow, the scaler leaves the optimizer's step out, and the average does not move.
        """
        self.scaler.step(self.optimizer)
        if self.average is None:
            self.scaler.update()
            return
        scale = self.scaler.get_scale()
        self.scaler.update()
        if self.scaler.get_scale() >= scale:  # the scale falls after a step left out, only then
            self.average.update(self.bare)

    def leave_out(self) -> None:
        """Forget the gradient, and what the batches did to running statistics, as if they had never been seen."""
        torch._foreach_copy_(self._buffers, self._kept)
        self.optimizer.zero_grad(set_to_none=True)
        if self.scaler.is_enabled():
            self.scaler.update(self.scaler.get_scale())  # keeps its scale and is ready for the next step

    def settle(self, batches: Sequence[Mapping[str, Any]]) -> None:
        """Let DistributedDataParallel find its order of gradients, without any other effect.

        It sorts them by the first backward pass, and sums of three or more processes round by their place. A run that
        is resumed would sum its first iteration in the unsorted order, where the undisturbed one has long sorted.
        """
        self.compute(batches, lambda place: None)
        self.leave_out()
