"""Build the parts of a run and check that they fit together, before any video is decoded."""

import contextlib
import functools
import os
from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from dsanet.config.registry import DATASETS, build
from dsanet.config.schema import RuntimeCfg
from dsanet.datasets.classes import class_names_of
from dsanet.datasets.loader import build_dataloader
from dsanet.datasets.workers import WatchedLoader
from dsanet.models.losses import Loss
from dsanet.utils import distributed
from dsanet.utils.class_names import ClassNames, check_same_class_names

_CROPS = ('RandomResizedCrop', 'MultiScaleCrop', 'CenterCrop', 'ThreeCrop', 'TenCrop')  # whose size is that of frames
_ClipShape = tuple[int, int, tuple[int, int] | None]  # U, T and, if known, (height, width)


def set_determinism(deterministic: bool) -> None:
    """Choose reproducible algorithms on the GPU, or the fastest. On the CPU all are reproducible."""
    if deterministic:
        os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')  # cuBLAS is reproducible only with a fixed size
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = not deterministic


def avoid_broken_kernels(model: nn.Module, device: torch.device, amp: str | None) -> None:
    """Compute convolutions of inputs smaller than the kernel in float32, in bfloat16 training on the CPU.

    oneDNN's bfloat16 gradients of such convolutions are wrong, often NaN: with torch 2.15 for two frames and three
    taps along time, with torch 2.14 for one pixel and stride 2. The inputs are small, so this takes no time.
    """
    if device.type != 'cpu' or amp != 'bf16':
        return
    for module in model.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            module.forward = functools.partial(_convolve, module)  # type: ignore[method-assign]


def _convolve(conv: Any, x: Tensor) -> Tensor:
    is_small = any(size < length for size, length in zip(x.shape[2:], conv.kernel_size, strict=True))
    with torch.autocast('cpu', enabled=False) if is_small else contextlib.nullcontext():
        result: Tensor = type(conv).forward(conv, x.float() if is_small else x)
    return result


def avoid_slow_kernels(model: nn.Module, device: torch.device) -> None:
    """Compute convolutions of height and width 1 with oneDNN in training on the CPU with one thread, too.

    With one thread, torch computes them with a kernel for contiguous frames, so channels-last frames are copied before
    and after. It does not do so for dilated convolutions, and along a length of 1 a dilation has no effect.
    """
    if device.type != 'cpu':
        return
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d) and module.kernel_size[-2:] == (1, 1):
            module.dilation = (*module.dilation[:-2], 2, 2)


def place_model(model: nn.Module, device: torch.device) -> None:
    """Move a model to a device, with the weights of 3D convolutions channels-last, as the frames are.

    With weights and frames in the same memory format, training is a third faster on the CPU.
    """
    model.to(device)
    for parameter in model.parameters():
        if parameter.dim() == 5:  # Module.to with a memory format refuses the weights of 2D convolutions
            parameter.data = parameter.data.to(memory_format=torch.channels_last_3d)


def build_train_loader(config: Mapping[str, Any], model: Any, runtime: RuntimeCfg, accumulate: int) -> WatchedLoader:
    """Build the loader of the training data and check it against the model.

    Raises:
        ValueError: batches are too small, labels do not fit the model, or its loss takes one label per video.
    """
    _check_batch_size(model, config['train_dataloader']['batch_size'])
    loader = build_loader(config['train_dataloader'], 'train_dataloader', runtime, accumulate)
    dataset: Any = loader.dataset
    dataset.check_labels(model.num_classes)
    loss: Loss = model.cls_head.criterion
    if dataset.multi_hot is not None and not loss.supports_multi_label:
        raise ValueError(
            f'model.cls_head.loss ({type(loss).__name__}) takes one label per video, but the training data has '
            f"multi_hot={dataset.multi_hot}: use model.cls_head.loss=dict(type='BinaryCrossEntropyLoss')"
        )
    return loader


def build_val_loader(
    config: Mapping[str, Any], model: Any, runtime: RuntimeCfg, train_loader: DataLoader[Any]
) -> WatchedLoader | None:
    """Build the loader of the validation data, if any, and check that its classes are those of the training data.

    Raises:
        ValueError: labels do not fit the model, or class names differ; the error names the first one.
    """
    if 'val_dataloader' not in config:
        return None
    loader = build_loader(config['val_dataloader'], 'val_dataloader', runtime)
    train, val = (cast(Any, one.dataset) for one in (train_loader, loader))
    # Before check_labels, which says less about missing classes.
    check_same_class_names(class_names_of(train, 'training'), class_names_of(val, 'validation'))
    val.check_labels(model.num_classes)
    return loader


def class_names_of_run(train_loader: DataLoader[Any], val_loader: DataLoader[Any] | None) -> ClassNames:
    """Return the class names of the training data; if unknown, of the validation data, whose labels are the same."""
    names = class_names_of(train_loader.dataset, 'training')
    return names if names.names is not None or val_loader is None else class_names_of(val_loader.dataset, 'validation')


def build_loader(section: Mapping[str, Any], name: str, runtime: RuntimeCfg, accumulate: int = 1) -> WatchedLoader:
    """Build the dataset and the loader of a config section for this process."""
    dataset = build(section['dataset'], DATASETS, f'{name}.dataset')
    options = {k: v for k, v in section.items() if k != 'dataset'}
    return build_dataloader(
        dataset,
        **options,
        training=name == 'train_dataloader',
        seed=runtime.seed,
        rank=distributed.rank(),
        world_size=distributed.world_size(),
        accumulate=accumulate,
        # With several processes, this one names the reason before the others miss it.
        time_limit=60 * runtime.timeout_minutes * (1 if distributed.world_size() == 1 else 0.9),
    )


def check_clip_shape(model: nn.Module, config: Mapping[str, Any], names: Iterable[str]) -> None:
    """Check that a model accepts the samples of a config, without building datasets.

    These are the snippets U, the frames T and, if the pipeline crops them, the size of the frames.

    Args:
        model: a recognizer.
        config: a checked config.
        names: loader sections to check; those that the config does not have are skipped.

    Raises:
        ValueError: they do not fit; the error names the section and the numbers.
    """
    recognizer: Any = model
    fitting: set[_ClipShape] = set()
    for name in names:
        shapes = _clip_shapes(config[name]['dataset'], f'{name}.dataset') if name in config else {}
        for path, shape in shapes.items():
            if shape in fitting:
                continue
            try:
                recognizer.check_clip_shape(*shape)
                fitting.add(shape)
            except ValueError as error:
                sample = f'num_snippets={shape[0]} and frames_per_snippet={shape[1]}'
                size = '' if shape[2] is None else f' of {shape[2][0]} x {shape[2][1]} pixels'
                raise ValueError(f'{path}: samples with {sample}{size} do not fit the model: {error}') from error


def _clip_shapes(dataset: Mapping[str, Any], path: str) -> dict[str, _ClipShape]:
    """Return the shapes of a dataset's samples, for each part of a mixture, by the path of the sampling transform."""
    found: dict[str, _ClipShape] = {}
    for i, part in enumerate(dataset.get('datasets', ())):
        found |= _clip_shapes(part, f'{path}.datasets.{i}')
    pipeline = dataset.get('pipeline', ())
    sizes = [step.get('size') for step in pipeline if step.get('type') in _CROPS]
    pair = sizes[-1] if sizes else None
    pair = (pair, pair) if isinstance(pair, int) else pair
    is_size = isinstance(pair, (list, tuple)) and len(pair) == 2 and all(type(n) is int and n > 0 for n in pair)
    for i, step in enumerate(pipeline):
        if 'num_snippets' in step and 'frames_per_snippet' in step:
            size = (pair[0], pair[1]) if pair is not None and is_size else None
            found[f'{path}.pipeline.{i}'] = (step['num_snippets'], step['frames_per_snippet'], size)
    return found


def _check_batch_size(model: Any, batch_size: int) -> None:
    augment = model.batch_augment
    if augment is not None and batch_size < augment.min_batch_size:
        raise ValueError(
            f'train_dataloader.batch_size={batch_size} is too small for model.batch_augment={type(augment).__name__}, '
            f'which needs at least {augment.min_batch_size} per process'
        )
