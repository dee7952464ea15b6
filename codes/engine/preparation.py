"""What is set before a run, and before each of its iterations, so that it can be reproduced."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from dsanet.config.registry import DATASETS, build
from dsanet.config.schema import RuntimeCfg
from dsanet.datasets.classes import compare_class_names
from dsanet.datasets.loader import build_dataloader
from dsanet.models.losses import Loss
from dsanet.utils import distributed


def seed_iteration(seed: int, iteration: int, rank: int, place: int = 0) -> None:
    """Seed torch for one iteration of one process, and the batch at a place in it; different for each."""
    # Zeros at the end would not always make another generator, so the usual, first batch has no fourth number.
    entropy = (seed, iteration, rank, place) if place else (seed, iteration, rank)
    state = np.random.SeedSequence(entropy).generate_state(1, np.uint64)
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


def check_loss(loss: Loss, dataset: Any) -> None:
    """Check before anything is decoded that the training loss can use the training labels.

    Raises:
        ValueError: videos may have several labels, and the loss is of one.
    """
    if dataset.multi_hot is not None and not loss.takes_multi_hot:
        raise ValueError(
            f'model.cls_head.loss ({type(loss).__name__}) needs one label a video, but the training data have '
            f"multi_hot={dataset.multi_hot}: use model.cls_head.loss=dict(type='BinaryCrossEntropyLoss')"
        )


def check_same_classes(train: Any, val: Any) -> None:
    """Check that the labels of the validation data mean the same classes as those of the training data.

    Raises:
        ValueError: their class names differ; names the first one.
    """
    origin, other = (getattr(data, 'classes_from', None) for data in (train, val))
    compare_class_names(
        train.class_names, origin or 'the training data', val.class_names, other or 'the validation data'
    )


def place_model(model: nn.Module, device: torch.device) -> None:
    """Move a model to a device and give the filters of its 3D convolutions the memory order of the frames.

    The frames come channels-last; with filters alike training is a third faster on the CPU.
    """
    model.to(device)
    for parameter in model.parameters():
        if parameter.dim() == 5:  # Module.to with a memory format would refuse filters of 2D convolutions
            parameter.data = parameter.data.to(memory_format=torch.channels_last_3d)


def check_clip_shape(model: nn.Module, config: Mapping[str, Any], names: Iterable[str]) -> None:
    """Compare U and T of the samples that the data sections of a config describe with those that a model takes.

    So a validation that cannot be is told at the start and not behind the first epoch. No dataset is built.

    Args:
        model: a recognizer.
        config: a checked config.
        names: of the sections; those that the config does not have are passed over.

    Raises:
        ValueError: they do not fit together; names the section, and both numbers.
    """
    recognizer: Any = model
    fitting: set[tuple[int, int]] = set()
    for name in names:
        sizes = _sample_sizes(config[name]['dataset'], f'{name}.dataset') if name in config else {}
        for path, (num_snippets, frames) in sizes.items():
            if (num_snippets, frames) in fitting:
                continue
            try:
                recognizer.check_clip_shape(num_snippets, frames)
                fitting.add((num_snippets, frames))
            except ValueError as error:
                sample = f'num_snippets={num_snippets} and frames_per_snippet={frames}'
                raise ValueError(f'{path}: samples of {sample} do not fit the model: {error}') from error


def _sample_sizes(dataset: Mapping[str, Any], path: str) -> dict[str, tuple[int, int]]:
    """Return U and T of a dataset's samples by the path of the step that says them, one for each part of a mixture."""
    found: dict[str, tuple[int, int]] = {}
    for i, part in enumerate(dataset.get('datasets', ())):
        found |= _sample_sizes(part, f'{path}.datasets.{i}')
    for i, step in enumerate(dataset.get('pipeline', ())):
        if 'num_snippets' in step and 'frames_per_snippet' in step:
            found[f'{path}.pipeline.{i}'] = (step['num_snippets'], step['frames_per_snippet'])
    return found


def check_batch_size(model: nn.Module, batch_size: int) -> None:
    """Refuse training batches that are too small for what the model does with them.

    Args:
        model: a recognizer.
        batch_size: videos in a batch of one process.

    Raises:
        ValueError: the videos of a batch are mixed, and there are too few; states both.
    """
    augment: Any = model.batch_augment
    if augment is not None and batch_size < augment.min_batch_size:
        raise ValueError(
            f'train_dataloader.batch_size={batch_size} is too small for model.batch_augment: {type(augment).__name__} '
            f'mixes the videos of a batch of one process and needs at least {augment.min_batch_size}'
        )


def build_loader(section: Mapping[str, Any], name: str, runtime: RuntimeCfg, accumulate: int = 1) -> DataLoader[Any]:
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
    )
