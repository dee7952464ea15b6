"""What is set before a run, and before each of its iterations, so that it can be reproduced."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from codes.config import RuntimeCfg
from codes.datasets.loader import build_dataloader
from codes.engine import distributed
from codes.models.losses import Loss
from codes.registry import DATASETS, build


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


def build_loader(section: Mapping[str, Any], name: str, runtime: RuntimeCfg, accumulate: int = 1) -> DataLoader[Any]:
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
        accumulate=accumulate,
    )
