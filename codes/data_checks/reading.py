"""Make the splits that are checked from datasets, or from the sections of a config."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch.utils.data import DataLoader

from dsanet.config.loading import LOADERS
from dsanet.config.registry import DATASETS, build
from dsanet.data_checks.report import Finding
from dsanet.data_checks.splits import Split
from dsanet.datasets.loader import build_dataloader


def splits_of(
    name: str,
    dataset: Any,
    num_classes: int | None,
    class_balance: str | None = None,
    max_bad_share: float | None = None,
) -> list[Split]:
    """Return the split of a dataset, or one split for each part of a mixed dataset.

    Args:
        name: 'train', 'val' or 'test'.
        dataset: the dataset, as ``build_dataloader`` returns it.
        num_classes: number of classes of the model.
        class_balance: see ``build_dataloader``.
        max_bad_share: that of the mixed dataset which contains this one; None for the dataset's own.
    """
    if max_bad_share is None:
        resamples = getattr(dataset, 'on_error', 'raise') == 'resample'
        max_bad_share = dataset.max_bad_share if resamples else 0.0
    if hasattr(dataset, 'datasets'):
        shared = num_classes, class_balance, max_bad_share
        return [s for i, part in enumerate(dataset.datasets) for s in splits_of(f'{name}.{i}', part, *shared)]
    return [
        Split(
            name,
            dataset.records,
            num_classes,
            dataset.class_names,
            dataset.multi_hot,
            dataset.pipeline.transforms,
            getattr(dataset, 'filename_tmpl', None),
            getattr(dataset, 'start_index', 1),
            max_bad_share,
            class_balance,
        )
    ]


def splits_of_run(
    config: Mapping[str, Any], num_classes: int, train_loader: DataLoader[Any], val_loader: DataLoader[Any] | None
) -> list[Split]:
    """Return the splits of a training."""
    class_balance = config['train_dataloader'].get('class_balance')
    splits = splits_of('train', train_loader.dataset, num_classes, class_balance)
    if val_loader is not None:
        splits += splits_of('val', val_loader.dataset, num_classes)
    return splits


def read_splits(config: Mapping[str, Any]) -> list[Split]:
    """Return the training, validation and test splits of a config."""
    num_classes = config['model'].get('cls_head', {}).get('num_classes')
    return [split for name in LOADERS if name in config for split in read_split(name, config[name], num_classes)]


def read_split(section_name: str, section: Mapping[str, Any], num_classes: int | None) -> list[Split]:
    """Build the dataset and the loader of a config section and return its splits, with errors as findings."""
    name = section_name.split('_')[0]
    try:
        dataset = build(section['dataset'], DATASETS, f'{section_name}.dataset')
    except (FileNotFoundError, ValueError) as error:
        return [Split(name, [], num_classes, findings=(Finding('error', 'dataset', name, str(error)),))]
    findings = []
    try:
        build_dataloader(dataset, **{k: v for k, v in section.items() if k != 'dataset'}, training=name == 'train')
    except ValueError as error:
        findings.append(Finding('error', 'dataset', name, str(error)))
    first, *others = splits_of(name, dataset, num_classes, section.get('class_balance'))
    return [replace(first, findings=tuple(findings)), *others]
