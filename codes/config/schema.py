"""The names of the config sections, and dataclasses for the plain ones: train_cfg, parameters and runtime."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MAX_EPOCHS = 1_000_000  # the remaining time of a longer run would not fit into a timedelta
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
SECTIONS = ('imports', 'model', 'optimizer', 'schedule', *LOADERS, 'metrics', 'parameters', 'train_cfg', 'runtime')


@dataclass(frozen=True)
class TrainCfg:
    """Length of the training, validation and the optimizer steps.

    Args:
        max_epochs: number of epochs.
        val_interval: epochs between two validations; the last epoch is always validated.
        clip_grad_norm: maximum L2 norm of all gradients together; None for no clipping.
        ema_decay: decay of the exponential moving average of the weights (``engine/ema.py``), which validation then
            uses; None for no averaging.
        accumulate: batches whose gradients are averaged for one optimizer step (one iteration). Equivalent to a batch
            of ``accumulate`` times the size, except for batch norms, which see one batch at a time.
        sync_bn: compute batch norm statistics over the batches of all processes.
        base_batch_size: videos per iteration, over all processes, that ``optimizer.lr`` is tuned for; None if unknown.
        scale_lr: multiply the learning rate by videos per iteration / ``base_batch_size``.
        patience: stop after this number of validations in a row without a new best; None for no early stopping.
        max_nonfinite: maximum number of iterations skipped in the whole training because of a non-finite loss or
            gradient; one more is an error.
    """

    max_epochs: int
    val_interval: int = 1
    clip_grad_norm: float | None = None
    ema_decay: float | None = None
    accumulate: int = 1
    sync_bn: bool = False
    base_batch_size: int | None = None
    scale_lr: bool = False
    patience: int | None = None
    max_nonfinite: int = 10

    def __post_init__(self) -> None:
        for name in ('max_epochs', 'val_interval', 'accumulate', 'base_batch_size', 'patience'):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f'{name}={value} must be at least 1')
        if self.max_epochs > MAX_EPOCHS:
            raise ValueError(f'max_epochs={self.max_epochs} must be at most {MAX_EPOCHS}')
        if self.max_nonfinite < 0:
            raise ValueError(f'max_nonfinite={self.max_nonfinite} must be at least 0')
        if self.scale_lr and self.base_batch_size is None:
            raise ValueError('scale_lr=True requires base_batch_size, the videos per iteration that lr is tuned for')
        if self.clip_grad_norm is not None and self.clip_grad_norm <= 0:
            raise ValueError(f'clip_grad_norm={self.clip_grad_norm} must be positive or None')
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ValueError(f'ema_decay={self.ema_decay} must be in (0, 1) or None')


@dataclass(frozen=True)
class ParametersCfg:
    """Learning rate and weight decay of groups of parameters.

    Norm parameters are the weights and biases of normalization layers. Biases are those of all other layers, and the
    position bias tables of Swin's attention. TSM's recipe (arXiv 1811.08383, published code) is
    ``dict(lr_multipliers={'cls_head': 5}, bias_lr_multiplier=2, decay_norms=False, decay_biases=False)``.

    Args:
        lr_multipliers: factor of the learning rate by part of a parameter's name. A key is one or more whole
            components of the dotted name in order: 'cls_head', 'dsa' (or '.dsa.'), 'layer3.1' (not 'layer3.10'). The
            name of an inserted module matches all of its kind: 'dsa' also 'dsa_2' and 'dsa_after_layer2'. If several
            keys match, the one that ends furthest to the right in the name is used, and of these the longest. Factor 0
            freezes the parameters.
        bias_lr_multiplier: factor of the learning rate of biases, on top of ``lr_multipliers``.
        layer_decay: factor of the learning rate per layer of the backbone, counted from its output (BEiT, arXiv
            2106.08254, section 3.2), on top of ``lr_multipliers``. Of L layers, the i-th has ``layer_decay **
            (L + 1 - i)``, what comes before them as layer 0, and what comes after them and the head have 1. Layers are
            the blocks of a transformer, or of all stages of a ResNet; an inserted module belongs to its block, or
            to the layer of the submodule before it.
        decay_norms: apply weight decay to norm parameters.
        decay_biases: apply weight decay to biases.
    """

    lr_multipliers: Mapping[str, float] = field(default_factory=dict)
    bias_lr_multiplier: float = 1.0
    layer_decay: float = 1.0
    decay_norms: bool = True
    decay_biases: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.lr_multipliers, Mapping):
            raise TypeError(f'lr_multipliers={self.lr_multipliers!r} must map parts of parameter names to factors')
        for key, value in self.lr_multipliers.items():
            if not isinstance(key, str) or not all(key.strip('.').split('.')):
                raise ValueError(
                    f'lr_multipliers: key {key!r} must be one or more whole components of a parameter name, such as '
                    'cls_head or backbone.layer1'
                )
            if not _is_multiplier(value):
                raise ValueError(f'lr_multipliers[{key!r}]={value!r} must be a number >= 0')
        bare = [key.strip('.') for key in self.lr_multipliers]
        if duplicates := [key for key in bare if bare.count(key) > 1]:
            raise ValueError(f'lr_multipliers: duplicate key {duplicates[0]!r}; dots around a key are ignored')
        if not _is_multiplier(self.bias_lr_multiplier):
            raise ValueError(f'bias_lr_multiplier={self.bias_lr_multiplier!r} must be a number >= 0')
        if not _is_multiplier(self.layer_decay) or not 0 < self.layer_decay <= 1:
            raise ValueError(f'layer_decay={self.layer_decay!r} must be a number in (0, 1]; 1 for none')


def _is_multiplier(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and value >= 0


TENSORBOARD_EXTRAS = ('graph', 'embedding')


@dataclass(frozen=True)
class RuntimeCfg:
    """Settings of a run that are not part of the training recipe.

    Args:
        seed: random seed of initialization, order, augmentation and dropout.
        deterministic: use deterministic algorithms on the GPU; slower.
        amp: 'bf16' or 'fp16' for automatic mixed precision, None for float32.
        log_interval: iterations between two log lines.
        keep_checkpoints: number of most recent epoch checkpoints to keep; the best one is always kept.
        save_best: name of the metric that selects the best epoch, which is saved as ``best.pth``.
        checkpoint_interval: iterations between checkpoints inside an epoch, which are removed when the epoch's own is
            written; None for one checkpoint per epoch.
        timeout_minutes: time to wait for an unresponsive process, or for a batch from the data workers, before the
            run ends.
        find_unused_parameters: look for parameters without a gradient in each iteration, for models that do not use
            all of them every time; slower (``DistributedDataParallel``).
        compile: compile the model with ``torch.compile``; for a test on a CPU only without ``amp``.
        trackers: services that also receive the curves, dicts with the type ``WandbTracker`` or ``MlflowTracker``.
        tensorboard: what else TensorBoard shows: 'graph', the graph of the network, and 'embedding', features of up to
            1000 validation videos after the last epoch, with their classes and frames.
    """

    seed: int = 0
    deterministic: bool = False
    amp: str | None = None
    log_interval: int = 20
    keep_checkpoints: int = 2
    save_best: str = 'top1'
    checkpoint_interval: int | None = None
    timeout_minutes: float = 10
    find_unused_parameters: bool = False
    compile: bool = False
    trackers: Sequence[Mapping[str, Any]] = ()
    tensorboard: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.amp not in (None, 'bf16', 'fp16'):
            raise ValueError(f"amp={self.amp!r} must be None, 'bf16' or 'fp16'")
        if isinstance(self.tensorboard, str) or not set(self.tensorboard) <= set(TENSORBOARD_EXTRAS):
            raise ValueError(f'tensorboard={self.tensorboard!r} must be a list of {", ".join(TENSORBOARD_EXTRAS)}')
        if self.seed < 0:
            raise ValueError(f'seed={self.seed} must be at least 0')
        for name in ('log_interval', 'keep_checkpoints', 'checkpoint_interval'):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f'{name}={value} must be at least 1')
        if not 0 < self.timeout_minutes <= 24 * 60:
            raise ValueError(f'timeout_minutes={self.timeout_minutes} must be in (0, 1440], at most a day')
