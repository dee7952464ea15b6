"""Make the splits to check, from datasets or from the sections of a config.

A list file with malformed lines is read as far as possible: the malformed lines become findings, and the other checks
use the valid records.
"""

import inspect
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from torch.utils.data import DataLoader

from dsanet.config.loading import LOADERS
from dsanet.config.registry import DATASETS, TRANSFORMS, build, get_class
from dsanet.data_checks.report import Finding
from dsanet.data_checks.splits import Split
from dsanet.datasets.annotation import parse_list_file, read_class_names, select_classes
from dsanet.datasets.loader import build_dataloader
from dsanet.datasets.overlaps import check_overlaps
from dsanet.datasets.records import VideoRecords
from dsanet.datasets.video_datasets import RawFramesDataset
from dsanet.datasets.web_videos import WebVideoDataset
from dsanet.utils import distributed
from dsanet.utils.text import count_noun

LOGGER = logging.getLogger(__name__)
MAX_MALFORMED_LINES = 100  # a file with this many or more is not used as a list of videos


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
        dataset: the dataset, as ``build_dataloader`` returns it; a stream has no splits, as it cannot be checked.
        num_classes: number of classes of the model.
        class_balance: see ``build_dataloader``.
        max_bad_share: that of the mixed dataset which contains this one; None for the dataset's own.
    """
    if isinstance(dataset, WebVideoDataset):
        LOGGER.warning('%s: WebVideoDataset is a stream, its videos and labels are checked while they are read', name)
        return []
    if max_bad_share is None:
        resamples = getattr(dataset, 'on_error', 'raise') == 'resample'
        max_bad_share = dataset.max_bad_share if resamples else 0.0
    if hasattr(dataset, 'datasets'):
        parts = enumerate(dataset.datasets)
        return [
            s for i, part in parts for s in splits_of(f'{name}.{i}', part, num_classes, class_balance, max_bad_share)
        ]
    return [
        Split(
            name,
            dataset.records,
            num_classes,
            dataset.class_names,
            dataset.multi_hot,
            dataset.pipeline.transforms,
            getattr(dataset, 'data_root', None),
            getattr(dataset, 'filename_tmpl', None),
            getattr(dataset, 'start_index', 1),
            max_bad_share,
            class_balance,
            classes_from=getattr(dataset, 'classes_from', None),
            fps=getattr(dataset, 'fps', None),
        )
    ]


def splits_of_run(
    config: Mapping[str, Any], num_classes: int, train_loader: DataLoader[Any], val_loader: DataLoader[Any] | None
) -> list[Split]:
    """Return the splits of a training run.

    Args:
        config: config of the run.
        num_classes: number of classes of the model.
        train_loader: loader of the training data.
        val_loader: loader of the validation data; None without validation.
    """
    class_balance = config['train_dataloader'].get('class_balance')
    splits = _with_loader(splits_of('train', train_loader.dataset, num_classes, class_balance), train_loader)
    if val_loader is not None:
        splits += _with_loader(splits_of('val', val_loader.dataset, num_classes), val_loader)
    return _with_class_weights(splits, config)


def _with_loader(splits: Sequence[Split], loader: DataLoader[Any]) -> list[Split]:
    num_workers = loader.num_workers * distributed.local_world_size()
    return [replace(split, batch_size=loader.batch_size or 0, num_workers=num_workers) for split in splits]


def read_splits(config: Mapping[str, Any]) -> list[Split]:
    """Return the training, validation and test splits of a config."""
    num_classes = config['model'].get('cls_head', {}).get('num_classes')
    splits = [split for name in LOADERS if name in config for split in read_split(name, config[name], num_classes)]
    return _with_class_weights(splits, config)


def _with_class_weights(splits: Sequence[Split], config: Mapping[str, Any]) -> list[Split]:
    loss = config['model'].get('cls_head', {}).get('loss') or {}
    return [replace(split, class_weights=loss.get('class_weights')) for split in splits]


def read_split(section_name: str, section: Mapping[str, Any], num_classes: int | None) -> list[Split]:
    """Build the dataset of a config section and return its splits; if the list has errors, those of its valid records.

    Args:
        section_name: such as 'train_dataloader'.
        section: the section of the config.
        num_classes: number of classes of the model.

    Raises:
        KeyError, ValueError: an argument other than the list is wrong.
    """
    name = section_name.split('_')[0]
    on_error = section.get('on_error') or ('resample' if name == 'train' else 'raise')  # as in build_dataloader
    defaults = inspect.signature(build_dataloader).parameters
    share = section.get('max_bad_share', defaults['max_bad_share'].default) if on_error == 'resample' else 0.0
    class_balance = section.get('class_balance')
    splits = _read_dataset(name, section['dataset'], f'{section_name}.dataset')
    if name == 'train' and splits:
        splits[0] = replace(splits[0], findings=(*splits[0].findings, *_check_batch_size(splits, section)))
    changes = {
        'num_classes': num_classes,
        'max_bad_share': share,
        'class_balance': class_balance,
        'batch_size': section.get('batch_size', 0),
        'num_workers': section.get('num_workers', defaults['num_workers'].default),
    }
    return [replace(split, **changes) for split in splits]


def _check_batch_size(splits: Sequence[Split], section: Mapping[str, Any]) -> Iterator[Finding]:
    """Check that there are enough training videos for one full batch."""
    num_videos = sum(len(split.records) for split in splits) * section.get('repeat', 1)
    num_videos *= section.get('clips_per_video', 1)
    batch_size = section.get('batch_size', 1)
    if 0 < num_videos < batch_size:
        number = f'fewer {splits[0].noun}s ({num_videos})'
        text = f'{number} than train_dataloader.batch_size={batch_size}; batches must be full'
        yield Finding('error', 'list', splits[0].name, text)


def _read_dataset(name: str, cfg: Mapping[str, Any], path: str) -> list[Split]:
    """Return the splits of a dataset config at ``path``, without the settings of the model and of the loader."""
    try:
        return splits_of(name, build(cfg, DATASETS, path), None)
    except (FileNotFoundError, ValueError) as error:
        if 'datasets' not in cfg:
            return [_read_valid_part(name, cfg, path, str(error))]
        parts = enumerate(cfg['datasets'])
        splits = [split for i, part in parts for split in _read_dataset(f'{name}.{i}', part, f'{path}.datasets.{i}')]
        if not any(split.findings for split in splits):  # the parts are valid, so an argument of the mixture is wrong
            raise
        return splits


def _read_valid_part(name: str, cfg: Mapping[str, Any], path: str, reason: str) -> Split:
    """Return the split of a dataset config that cannot be built because of ``reason``."""
    steps = [build(step, TRANSFORMS, f'{path}.pipeline.{i}') for i, step in enumerate(cfg['pipeline'])]
    has_frames = get_class(cfg, DATASETS, path) is RawFramesDataset
    records = VideoRecords.of([])
    findings: list[Finding] = []
    class_names = None
    if cfg.get('class_file') is not None:
        with suppress(FileNotFoundError, ValueError):  # it is the reason, unless the list is wrong too
            class_names = read_class_names(cfg['class_file'])
    if cfg.get('list_file') is not None and os.path.isfile(cfg['list_file']):
        records, findings = read_valid_records(name, cfg['list_file'], cfg.get('data_root'), has_frames, class_names)
    if cfg.get('classes') is not None:
        try:
            records, class_names = select_classes(records, class_names, cfg['classes']) if records else (records, None)
        except ValueError as error:  # other checks would report wrong classes
            records, class_names = VideoRecords.of([]), None
            findings = [*findings, Finding('error', 'list', name, str(error))]
    if cfg.get('multi_hot') is None and (overlaps := check_overlaps(records)):
        text = f'{count_noun(len(overlaps), "span")} that overlap another one with another label'
        findings = [*findings, Finding('error', 'list', name, text, tuple(overlaps))]
    return Split(
        name,
        records,
        class_names=class_names,
        multi_hot=cfg.get('multi_hot'),
        steps=steps,
        data_root=cfg.get('data_root'),
        filename_tmpl=cfg.get('filename_tmpl', 'img_{:05d}.jpg') if has_frames else None,
        start_index=cfg.get('start_index', 1),
        classes_from=cfg.get('class_file'),
        fps=cfg.get('fps'),
        findings=tuple(findings) or (Finding('error', 'list', name, reason),),
    )


def read_valid_records(
    split: str,
    list_file: str,
    data_root: str | None,
    with_num_frames: bool,
    class_names: Sequence[str] | None = None,
) -> tuple[VideoRecords, list[Finding]]:
    """Read the valid lines of a list file, and report all malformed ones.

    Args:
        split: name of the split, for the finding.
        list_file, data_root, with_num_frames, class_names: see ``parse_list_file``.

    Returns:
        The records of the valid lines, none if there are too many malformed ones; and a finding if there are any.
    """
    errors: list[str] = []
    try:
        records = parse_list_file(list_file, data_root, with_num_frames, errors, class_names)
    except ValueError as error:
        return VideoRecords.of([]), [
            Finding('error', 'list', split, f'{list_file}: not a list of videos', (str(error),))
        ]
    if not errors:
        return records, []
    text = f'{list_file}: {count_noun(len(errors), "malformed line")}'
    if len(errors) >= MAX_MALFORMED_LINES:
        records, errors = VideoRecords.of([]), errors[:MAX_MALFORMED_LINES]
    return records, [Finding('error', 'list', split, text, tuple(errors))]
