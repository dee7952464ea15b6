"""The names of the sections of a config, and the plain ones as dataclasses: training, parameters, and the run."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
SECTIONS = ('imports', 'model', 'optimizer', 'schedule', *LOADERS, 'metrics', 'parameters', 'train_cfg', 'runtime')


@dataclass(frozen=True)
class TrainCfg:
    """How long to train and when to validate.

    Args:
        max_epochs: length of the training.
        val_interval: validate after every so many epochs, and after the last.
        clip_grad_norm: largest L2 norm of all gradients together; None for no limit.
        ema_decay: share of the old average that stays when a step's weights are averaged in (``engine/ema.py``);
            validation then uses the averaged weights. None for no averaging.
        accumulate: batches whose gradients are averaged for one step of the optimizer, an iteration; so a batch of
            ``accumulate`` times the size, but for batch norms, which see one batch at a time.
        sync_bn: compute the statistics of batch norms over the batches of all processes.
        base_batch_size: videos an iteration, of all processes together, that ``optimizer.lr`` is for; None if unknown.
        scale_lr: multiply the learning rate with videos an iteration / ``base_batch_size``.
        patience: end the training after so many validations in a row without a new best; None to go to the end.
        max_nonfinite: iterations whose loss or gradient is not finite that are left out, in the whole training,
            before it ends with an error.
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
        if self.max_nonfinite < 0:
            raise ValueError(f'max_nonfinite={self.max_nonfinite} must be at least 0')
        if self.scale_lr and self.base_batch_size is None:
            raise ValueError('scale_lr=True needs base_batch_size, the videos an iteration that optimizer.lr is for')
        if self.clip_grad_norm is not None and self.clip_grad_norm <= 0:
            raise ValueError(f'clip_grad_norm={self.clip_grad_norm} must be above 0, or None')
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ValueError(f'ema_decay={self.ema_decay} must lie between 0 and 1, or be None')


@dataclass(frozen=True)
class ParametersCfg:
    """Which parameters learn at another rate than the optimizer's, and which do not decay.

    Norm parameters are the weights and biases of normalization layers. Biases are those of all other layers, and the
    tables of position biases in Swin's attention. TSM's recipe (arXiv 1811.08383, published code) is
    ``dict(lr_multipliers={'cls_head': 5}, bias_lr_multiplier=2, decay_norms=False, decay_biases=False)``.

    Args:
        lr_multipliers: by part of a parameter's name, what its learning rate is multiplied with. A key is one or more
            whole parts between dots, one behind the other: 'cls_head', 'dsa' (or '.dsa.'), 'layer3.1' (which is not
            'layer3.10'). The name of an inserted module stands for all of its kind: 'dsa' also for 'dsa_2' and
            'dsa_after_layer2'. Of several keys that match, the one that reaches furthest into the name counts, and of
            those that reach equally far the longest. With 0 the parameters stay as they are.
        bias_lr_multiplier: what the learning rate of biases is multiplied with, on top of ``lr_multipliers``.
        decay_norms: whether the optimizer's weight decay holds for norm parameters.
        decay_biases: whether it holds for biases.
    """

    lr_multipliers: Mapping[str, float] = field(default_factory=dict)
    bias_lr_multiplier: float = 1.0
    decay_norms: bool = True
    decay_biases: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.lr_multipliers, Mapping):
            raise TypeError(f'lr_multipliers={self.lr_multipliers!r} must be a dict of numbers by part of a name')
        for key, value in self.lr_multipliers.items():
            if not isinstance(key, str) or not all(key.strip('.').split('.')):
                raise ValueError(f'lr_multipliers has the key {key!r}, which is no part of a name such as cls_head')
            if not _is_multiplier(value):
                raise ValueError(f'lr_multipliers[{key!r}]={value!r} must be a number of at least 0')
        bare = [key.strip('.') for key in self.lr_multipliers]
        if twice := [key for key in bare if bare.count(key) > 1]:
            raise ValueError(f'lr_multipliers has {twice[0]!r} twice; dots around a key mean nothing')
        if not _is_multiplier(self.bias_lr_multiplier):
            raise ValueError(f'bias_lr_multiplier={self.bias_lr_multiplier!r} must be a number of at least 0')


def _is_multiplier(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and value >= 0


@dataclass(frozen=True)
class RuntimeCfg:
    """Everything about a run that is not about the model's quality.

    Args:
        seed: of initialization, order, augmentation and dropout.
        deterministic: use deterministic algorithms on the GPU; slower.
        amp: None for float32, 'bf16' or 'fp16' for automatic mixed precision.
        log_interval: iterations between two log lines.
        keep_checkpoints: how many of the latest epochs' checkpoints stay; the best one always does.
        save_best: name of the metric whose best epoch is kept as ``best.pth``.
        checkpoint_interval: write a checkpoint also after every so many iterations of an epoch; they go when the
            epoch's own is written. None for one an epoch.
        on_save_error: 'stop' or 'continue' when a checkpoint cannot be written, as on a full disk. The last good one
            stays either way, and a run whose last checkpoint is missing ends with an error.
        timeout_minutes: how long processes wait for one that does not answer before the run ends.
        find_unused_parameters: look for parameters without a gradient in each iteration, for models that do not use
            all of them every time; slower (``DistributedDataParallel``).
        compile: compile the model with ``torch.compile``.
        trackers: services that also get the curves, dicts with the type ``WandbTracker`` or ``MlflowTracker``.
    """

    seed: int = 0
    deterministic: bool = False
    amp: str | None = None
    log_interval: int = 20
    keep_checkpoints: int = 2
    save_best: str = 'top1'
    checkpoint_interval: int | None = None
    on_save_error: str = 'stop'
    timeout_minutes: float = 10
    find_unused_parameters: bool = False
    compile: bool = False
    trackers: Sequence[Mapping[str, Any]] = ()

    def __post_init__(self) -> None:
        if self.amp not in (None, 'bf16', 'fp16'):
            raise ValueError(f"amp={self.amp!r} must be None, 'bf16' or 'fp16'")
        for name in ('log_interval', 'keep_checkpoints', 'checkpoint_interval'):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f'{name}={value} must be at least 1')
        if self.on_save_error not in ('stop', 'continue'):
            raise ValueError(f"on_save_error={self.on_save_error!r} must be 'stop' or 'continue'")
        if not 0 < self.timeout_minutes <= 24 * 60:
            raise ValueError(f'timeout_minutes={self.timeout_minutes} must be more than 0 and at most 1440, a day')
