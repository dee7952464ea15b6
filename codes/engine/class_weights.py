"""Class weights of the loss, computed from the training data for ``class_weights='balanced'``."""

import logging
from typing import Any

import numpy as np

from dsanet.config.registry import DATASETS, build
from dsanet.datasets.order import plan_groups
from dsanet.datasets.video_datasets import VideoSamples
from dsanet.models.losses import BALANCED

LOGGER = logging.getLogger(__name__)


def resolve_class_weights(config: dict[str, Any], equal: bool = False) -> dict[str, Any]:
    """Return a config in which numbers replace ``class_weights='balanced'`` of the loss, if it is set.

    Reads the list of the training data, but no videos. A run resolves its config first, so that its checkpoints hold
    the numbers.

    Args:
        config: a checked config with ``train_dataloader``.
        equal: use 1 for each class instead of reading the list, to measure a training step without data.

    Raises:
        ValueError: a class has no training videos, or videos can have several labels.
    """
    head = config['model'].get('cls_head', {})
    num_classes = head.get('num_classes')
    if (head.get('loss') or {}).get('class_weights') != BALANCED or num_classes is None:  # the head refuses None
        return config
    if equal:
        weights = [1.0] * num_classes
    else:
        section = config['train_dataloader']
        dataset = build(section['dataset'], DATASETS, 'train_dataloader.dataset')
        weights = balanced_weights(dataset, num_classes, section.get('class_balance'))
        names = dataset.class_names or [f'class {k}' for k in range(num_classes)]
        shown = [f'{weights[k]:.4g} ({names[k]})' for k in (int(np.argmin(weights)), int(np.argmax(weights)))]
        LOGGER.info('class_weights from the training data: %s', ' to '.join(shown))
    head = {**head, 'loss': {**head['loss'], 'class_weights': weights}}
    return {**config, 'model': {**config['model'], 'cls_head': head}}


def balanced_weights(dataset: VideoSamples, num_classes: int, class_balance: str | None = None) -> list[float]:
    """Return a weight for each of K classes: 1 / (K * share of the class in the training samples).

    These are number of videos / (K * number of videos of the class) if every video is used equally often. Their mean
    over the training samples is 1, and all classes have the same influence on the loss.

    Args:
        dataset: the training data; with ``weights``, a mixture determines the shares.
        num_classes: K.
        class_balance: see ``build_dataloader``; it changes the shares, too.

    Raises:
        ValueError: a class has no videos, or videos can have several labels.
    """
    if dataset.multi_hot is not None:
        raise ValueError(
            f'class_weights={BALANCED!r} requires one label per video, but the training data has '
            f'multi_hot={dataset.multi_hot}; BinaryCrossEntropyLoss has positive_weight'
        )
    labels = dataset.labels
    dataset.check_labels(num_classes)
    counts = np.bincount(labels, minlength=num_classes)
    if not counts.all():
        names = dataset.class_names or [str(k) for k in range(num_classes)]
        missing = [names[k] for k in np.flatnonzero(counts == 0).tolist()]
        shown = ', '.join(missing[:10]) + (', ...' if len(missing) > 10 else '')
        raise ValueError(
            f'class_weights={BALANCED!r} requires training videos of every class; {len(missing)} of {num_classes} '
            f'classes have none: {shown}. Add videos, remove these classes, or set {num_classes} numbers'
        )
    plan = plan_groups(dataset, class_balance)
    if plan is None:
        return [len(labels) / (num_classes * count) for count in counts.tolist()]
    shares = sum(
        share * np.bincount(labels[group], minlength=num_classes) / len(group)
        for group, share in zip(*plan, strict=True)
    )
    weights: list[float] = (1 / (num_classes * shares)).tolist()
    return weights
