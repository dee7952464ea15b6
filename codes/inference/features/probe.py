"""Probes: heads that are trained on stored features, and put on the backbone of the features as a checkpoint.

Several learning rates are trained in one loop over the data, each with its own head, and compared on validation data,
as in the evaluations of V-JEPA.

Letters (see ``dsanet``): N videos, V views, U snippets, K classes; D channels of a feature.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dsanet.config.loading import find_differences, load_config
from dsanet.config.registry import MODELS, build
from dsanet.datasets.transforms.base import check_count
from dsanet.inference.features.files import LEVELS, RECIPE_FILE, read_features, read_recipe
from dsanet.models.weights.loading import load_weights
from dsanet.utils.checkpoint_io import read_checkpoint, save_atomically
from dsanet.utils.files import hash_file

LOGGER = logging.getLogger(__name__)

HEADS = ('linear', 'attentive')
_NUM_AXES = {'clip': 2, 'snippet': 3, 'video': 1}  # of the features of a video
_NUM_HEADS = 8  # of the attention, or fewer if this does not divide D


@dataclass(frozen=True)
class FeatureSet:
    """The features of a labeled dataset.

    Args:
        folder: where they are from.
        features: (N, V, U, D) float32; V or U is 1 if the level has no views or snippets.
        labels: (N,) int64.
        class_names: names of the class folders; None if the labels are those of a list.
        recipe: what made the features.
        videos: (N,) their paths; empty if unknown.
    """

    folder: Path
    features: Tensor
    labels: Tensor
    class_names: list[str] | None
    recipe: Mapping[str, Any]
    videos: Sequence[str] = ()


@dataclass(frozen=True)
class ProbeOptions:
    """How to train a probe, with AdamW and a cosine schedule.

    Args:
        head: 'linear', or 'attentive' for ``AttentiveHead``, which needs features of snippets.
        lrs: learning rates; each has a head of its own.
        epochs: passes through the data; each uses one view per video, drawn at random.
        batch_size: videos per step.
        weight_decay: of AdamW.
        seed: of the initial weights, the order and the views.
    """

    head: str = 'linear'
    lrs: Sequence[float] = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
    epochs: int = 50
    batch_size: int = 256
    weight_decay: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        if self.head not in HEADS:
            raise ValueError(f'head={self.head!r} must be one of {", ".join(HEADS)}')
        if not self.lrs or not all(0 < lr < math.inf for lr in self.lrs):
            raise ValueError(f'lrs={list(self.lrs)} must be positive numbers')
        check_count('epochs', self.epochs)
        check_count('batch_size', self.batch_size)


@dataclass
class Candidate:
    """A head and its results.

    Attributes:
        lr: its learning rate.
        head: the head, for standardized features until :func:`train_probe` has ended.
        train_loss: mean over the last epoch.
        val_loss: on the validation data after the last epoch.
        top1: accuracy there in percent.
    """

    lr: float
    head: nn.Module
    train_loss: float = math.nan
    val_loss: float = math.nan
    top1: float = 0.0


def load_features(folder: Path, class_names: Sequence[str] | None = None) -> FeatureSet:
    """Read a folder written by ``dsanet features``, into memory.

    Args:
        folder: its files have labels, or are in a folder per class.
        class_names: names of the class folders in the order of the labels; None for their sorted names.

    Raises:
        FileNotFoundError, ValueError: the folder has no recipe or no features, or a file is damaged, has no label, has
            values that are not finite, or has the video of another file.
    """
    recipe = read_recipe(folder)
    files = sorted(folder.rglob('*.npz'))
    if nested := [file for file in folder.rglob(RECIPE_FILE) if file.parent != folder]:
        raise ValueError(f'{nested[0].parent} is in {folder}, but has features of its own; move it out of it')
    if not files:
        npy = ', only NPY files; use --format npz' if recipe.get('format') == 'npy' else ''
        raise ValueError(f'{folder} has no features{npy}')
    level = recipe.get('level')
    if level not in LEVELS:
        raise ValueError(f'{folder}: level={level!r} must be one of {", ".join(LEVELS)}')
    rows: list[np.ndarray] = []
    labels: list[tuple[int, ...]] = []
    file_of: dict[str, Path] = {}
    for file in files:
        content = read_features(file)
        if rows and content.features.shape != rows[0].shape:
            raise ValueError(f'{file} has shape {content.features.shape}, but {files[0]} has {rows[0].shape}')
        if content.features.ndim != _NUM_AXES[level]:
            raise ValueError(f'{file} has shape {content.features.shape}, which is not of level {level!r}')
        if not np.isfinite(content.features).all():
            raise ValueError(f'{file} has features that are not finite; remove it and extract them again')
        if (other := file_of.setdefault(content.video, file)) != file:
            raise ValueError(f'{file} and {other} have features of the same video, {content.video}; remove one')
        rows.append(content.features)
        labels.append(content.labels)
    features = torch.from_numpy(np.stack(rows)).float()
    if level == 'video':
        features = features[:, None, None]  # (N, 1, 1, D)
    elif level == 'clip':
        features = features[:, :, None]  # (N, V, 1, D)
    names = None
    if not any(labels):
        labels, names = _label_folders(folder, files, class_names)
    for file, label in zip(files, labels, strict=True):
        if len(label) != 1:
            raise ValueError(f'{file} has {len(label)} labels, but a probe requires one label per video')
    return FeatureSet(folder, features, torch.tensor([label[0] for label in labels]), names, recipe, list(file_of))


def _label_folders(
    folder: Path, files: Sequence[Path], class_names: Sequence[str] | None
) -> tuple[list[tuple[int, ...]], list[str]]:
    """Return the labels by class folder, and the class names."""
    parts = [file.relative_to(folder).parts for file in files]
    if any(len(part) != 2 for part in parts):
        raise ValueError(
            f'{folder} has no labels; extract the features from a list with lines "path label", where labels are class '
            'numbers, or from a folder with one folder per class'
        )
    found = sorted({part[0] for part in parts})
    names = list(found if class_names is None else class_names)
    if unknown := [name for name in found if name not in names]:
        raise ValueError(f'{folder}: {unknown[0]!r} is not one of the {len(names)} classes: {", ".join(names)}')
    return [(names.index(part[0]),) for part in parts], names


def check_sets(train: FeatureSet, val: FeatureSet, head: str, num_classes: int) -> None:
    """Check that a probe can be trained and put on the backbone.

    Raises:
        ValueError: the recipes or shapes differ, the features are of another layer or level, a label is out of range,
            or all training videos have the same.
    """
    if differences := find_differences(train.recipe, val.recipe):
        raise ValueError(f'{train.folder} and {val.folder} have other recipes: {next(iter(differences.values()))}')
    if train.recipe.get('layer') is not None:
        raise ValueError(
            f'{train.folder} has features of layer={train.recipe["layer"]!r}; a probe requires the default layer'
        )
    if head == 'attentive' and train.recipe['level'] != 'snippet':
        raise ValueError(f"head='attentive' requires features of --level snippet; {train.folder} has no snippets")
    for one in (train, val):
        largest = int(one.labels.max())
        if largest >= num_classes:
            raise ValueError(f'{one.folder}: label {largest} is out of range; there are {num_classes} classes')
    if train.features.shape[1:] != val.features.shape[1:]:
        shapes = [tuple(one.features.shape[1:]) for one in (train, val)]
        raise ValueError(f'{val.folder} has shape {shapes[1]} per video, but {train.folder} has {shapes[0]}')
    if (train.labels == train.labels[0]).all():
        raise ValueError(
            f'{train.folder}: all {len(train.labels)} videos have label {int(train.labels[0])}; a probe requires '
            'videos of two or more classes'
        )
    if both := set(train.videos).intersection(val.videos):
        LOGGER.warning(
            '%d of %d validation videos are also training videos, such as %s; the validation results are too good',
            len(both),
            len(val.videos),
            min(both),
        )


def make_head_config(head: str, num_classes: int, in_channels: int) -> dict[str, Any]:
    """Return the config of ``cls_head`` for a probe."""
    sizes = {'num_classes': num_classes, 'in_channels': in_channels, 'dropout': 0.0}
    if head == 'linear':
        return {'type': 'I3DClsHead', **sizes}
    return {'type': 'AttentiveHead', **sizes, 'num_heads': math.gcd(_NUM_HEADS, in_channels)}


def train_probe(
    train: FeatureSet,
    val: FeatureSet,
    num_classes: int,
    options: ProbeOptions,
    device: torch.device | str = 'cpu',
) -> list[Candidate]:
    """Train a head for each learning rate, all of them on the same batches.

    Features are standardized for the linear head; its weights are those for the features themselves.

    Args:
        train, val: the data.
        num_classes: K.
        options: how to train.
        device: for the heads.

    Returns:
        The heads, in eval mode on the CPU, the best on the validation data first.

    Raises:
        ValueError: no learning rate has a finite loss, or see :func:`check_sets`.
    """
    check_sets(train, val, options.head, num_classes)
    num_videos, num_views, _, channels = train.features.shape
    mean, std = torch.zeros(channels), torch.ones(channels)
    if options.head == 'linear':
        std, mean = torch.std_mean(train.features, dim=(0, 1, 2), correction=0)
        std = torch.where(std > 1e-5 * mean.abs() + 1e-8, std, 1.0)  # (D,); constant features have rounding errors only
    head_config = make_head_config(options.head, num_classes, channels)
    candidates = []
    for lr in options.lrs:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)  # the same initial weights for each
            candidates.append(Candidate(lr, build(head_config, MODELS).to(device)))
    optimizers = [
        torch.optim.AdamW(one.head.parameters(), lr=one.lr, weight_decay=options.weight_decay) for one in candidates
    ]
    num_steps = options.epochs * -(-num_videos // options.batch_size)
    schedules = [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps) for optimizer in optimizers]
    rng = torch.Generator().manual_seed(options.seed)
    for _ in range(options.epochs):
        losses = np.zeros(len(candidates))
        views = torch.randint(num_views, (num_videos,), generator=rng)
        for batch in torch.randperm(num_videos, generator=rng).split(options.batch_size):
            rows = ((train.features[batch, views[batch]] - mean) / std).to(device)  # (n, U, D)
            labels = train.labels[batch].to(device)
            for i, one in enumerate(candidates):
                optimizers[i].zero_grad()
                loss = one.head.loss(_score(one.head, rows), labels)  # type: ignore[operator]
                loss.backward()
                optimizers[i].step()
                schedules[i].step()
                losses[i] += loss.item() * len(batch) / num_videos
    for one, loss in zip(candidates, losses.tolist(), strict=True):
        one.train_loss = loss
        one.head.eval().cpu()
        if options.head == 'linear':
            _undo_standardization(one.head.fc_cls, mean, std)  # type: ignore[arg-type]
        one.val_loss, one.top1 = _validate(one.head, val, options.batch_size)
    if not any(math.isfinite(one.val_loss) for one in candidates):
        raise ValueError('the loss is not finite for any learning rate; use smaller ones')
    return sorted(candidates, key=lambda one: (not math.isfinite(one.val_loss), -one.top1, one.val_loss))


def _score(head: nn.Module, views: Tensor) -> Tensor:
    """Return the scores (n, K) of views (n, U, D)."""
    return head(views.flatten(0, 1)[:, :, None, None, None], num_snippets=views.shape[1])  # (n*U, D, 1, 1, 1)


@torch.no_grad()
def _undo_standardization(layer: nn.Linear, mean: Tensor, std: Tensor) -> None:
    """Change a layer for ``(x - mean) / std`` to one for ``x``."""
    layer.weight.div_(std)
    layer.bias.sub_(layer.weight @ mean)


@torch.no_grad()
def score_features(head: nn.Module, features: Tensor) -> Tensor:
    """Return the scores (N, K) of features (N, V, U, D), averaged over the views as in the model."""
    scores = _score(head, features.flatten(0, 1))  # (N*V, K)
    return scores.unflatten(0, features.shape[:2]).mean(dim=1)  # (N, K)


@torch.no_grad()
def _validate(head: Any, val: FeatureSet, batch_size: int) -> tuple[float, float]:
    """Return the loss and top-1 accuracy in percent."""
    scores = torch.cat([score_features(head, part) for part in val.features.split(batch_size)])
    right = (scores.argmax(dim=1) == val.labels).float().mean()
    return head.loss(scores, val.labels).item(), 100 * right.item()


def save_probe(
    head: nn.Module,
    options: ProbeOptions,
    backbone: tuple[dict[str, Any], dict[str, Tensor]],
    class_names: Sequence[str] | None,
    file: Path,
) -> None:
    """Write a checkpoint with the backbone of the features and a new head.

    Args:
        head: trained for these features.
        options: its training.
        backbone: from :func:`load_backbone`.
        class_names: by class number; None if unknown.
        file: the new checkpoint; missing folders are created.
    """
    config, state = backbone
    classifier: Any = head
    own = {
        'cls_head': make_head_config(options.head, classifier.num_classes, classifier.in_channels),
        'average_views': 'score',
    }
    config = load_config({**config, 'model': {**config['model'], **own}})
    model = build(config['model'], MODELS, 'model')
    kept = {key: value for key, value in state.items() if not key.startswith('cls_head.')}
    model.load_state_dict(kept | {f'cls_head.{key}': value for key, value in head.state_dict().items()})
    content: dict[str, Any] = {'state_dict': model.state_dict(), 'config': config}
    if class_names is not None:
        content['class_names'] = list(class_names)
    file.parent.mkdir(parents=True, exist_ok=True)
    save_atomically(content, file)


def load_backbone(
    recipe: Mapping[str, Any], checkpoint: Path | None = None, allow_pickle: bool = False
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the config and the weights of the recognizer that made features.

    Args:
        recipe: of the features.
        checkpoint: the weights that made them; None for the file in the recipe.
        allow_pickle: see ``read_checkpoint``.

    Raises:
        FileNotFoundError, ValueError: the checkpoint does not exist, or is another one.
    """
    file = Path(recipe['checkpoint']) if checkpoint is None else checkpoint
    if not file.is_file():
        hint = '; pass the checkpoint of the features with --checkpoint' if checkpoint is None else ''
        raise FileNotFoundError(f'checkpoint {file.absolute()} does not exist{hint}')
    if hash_file(file) != recipe['checkpoint_sha256']:
        raise ValueError(f'{file} is not the checkpoint that made the features: its SHA-256 differs')
    config = load_config(recipe['config'])
    model = build(config['model'], MODELS, 'model')
    load_weights(model, file, strict=True, content=read_checkpoint(file, allow_pickle))
    return config, model.state_dict()
