"""From a dataset, or from a section of a config, to the splits that are checked.

A training has its datasets built already. A config whose lists are wrong is read as far as it is right: the wrong
lines become findings, and the other checks go on with the rest.
"""

import inspect
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from dsanet.config.loading import LOADERS
from dsanet.config.registry import DATASETS, TRANSFORMS, build, find_class
from dsanet.data_checks.report import Finding
from dsanet.data_checks.splits import Split
from dsanet.datasets.annotation import VideoRecord, choose_classes, parse_list_file, read_class_names
from dsanet.datasets.loader import build_dataloader
from dsanet.datasets.video_datasets import RawFramesDataset

MOST_WRONG_LINES = 100  # of a list, before it is taken for no list at all


def splits_of(
    name: str,
    dataset: Any,
    num_classes: int | None,
    class_balance: str | None = None,
    max_bad_share: float | None = None,
) -> list[Split]:
    """Return what the checks need of a dataset that is built: one split, or one a part of a mixed dataset.

    Args:
        name: 'train', 'val' or 'test'.
        dataset: the dataset, as ``build_dataloader`` left it.
        num_classes: classes of the model.
        class_balance: how training balances the classes.
        max_bad_share: of the mixed dataset that this one is a part of; None for the dataset's own.
    """
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
            getattr(dataset, 'filename_tmpl', None),
            getattr(dataset, 'start_index', 1),
            max_bad_share,
            class_balance,
        )
    ]


def read_split(section_name: str, section: Mapping[str, Any], num_classes: int | None) -> list[Split]:
    """Build a config's dataset and return what the checks need of it; if its list cannot be read, what is left.

    Args:
        section_name: such as 'train_dataloader'.
        section: that section of the config.
        num_classes: classes of the model.

    Raises:
        KeyError, ValueError: the pipeline or another argument is wrong, which has nothing to do with the data.
    """
    name = section_name.split('_')[0]
    on_error = section.get('on_error') or ('resample' if name == 'train' else 'raise')  # as build_dataloader decides
    usual = inspect.signature(build_dataloader).parameters['max_bad_share'].default
    share = section.get('max_bad_share', usual) if on_error == 'resample' else 0.0
    class_balance = section.get('class_balance')
    splits = _read_dataset(name, section['dataset'], f'{section_name}.dataset')
    if name == 'train':
        splits[0] = replace(splits[0], findings=(*splits[0].findings, *_check_batch(splits, section)))
    return [
        replace(split, num_classes=num_classes, max_bad_share=share, class_balance=class_balance) for split in splits
    ]


def _check_batch(splits: Sequence[Split], section: Mapping[str, Any]) -> Iterator[Finding]:
    """Compare the number of training videos with the batch size; training makes full batches only."""
    num_videos = sum(len(split.records) for split in splits) * section.get('repeat', 1)
    batch_size = section.get('batch_size', 1)
    if 0 < num_videos < batch_size:
        text = (
            f'{num_videos} videos are fewer than train_dataloader.batch_size={batch_size}; training makes full batches'
        )
        yield Finding('error', 'list', splits[0].name, text)


def _read_dataset(name: str, cfg: Mapping[str, Any], path: str) -> list[Split]:
    """Return the splits of a dataset, of a mixed one also those of which the list cannot be read.

    They lack what the dataset does not know: the classes of the model, and what the loader does.

    Args:
        name: of the split.
        cfg: of the dataset.
        path: of ``cfg`` in the config.

    Raises:
        KeyError, ValueError: an argument is wrong, of a mixed dataset one of its own, and not a list.
    """
    try:
        return splits_of(name, build(cfg, DATASETS, path), None)
    except (FileNotFoundError, ValueError) as error:
        if 'datasets' not in cfg:
            return [_read_apart(name, cfg, path, str(error))]
        parts = enumerate(cfg['datasets'])
        splits = [split for i, part in parts for split in _read_dataset(f'{name}.{i}', part, f'{path}.datasets.{i}')]
        if not any(split.findings for split in splits):  # the parts are right, so it is the mixture
            raise
        return splits


def _read_apart(name: str, cfg: Mapping[str, Any], path: str, reason: str) -> Split:
    """Return as much as can be read of a dataset, not a mixed one, that cannot be built for some ``reason``."""
    steps = [build(step, TRANSFORMS, f'{path}.pipeline.{i}') for i, step in enumerate(cfg['pipeline'])]
    of_frames = find_class(cfg, DATASETS, path) is RawFramesDataset
    records: list[VideoRecord] = []
    findings: list[Finding] = []
    if cfg.get('list_file') is not None and os.path.isfile(cfg['list_file']):
        records, findings = read_whole_list(name, cfg['list_file'], cfg.get('data_root'), of_frames)
    class_names = None
    if cfg.get('class_file') is not None:
        with suppress(FileNotFoundError, ValueError):  # then that is the reason, unless the list is wrong too
            class_names = read_class_names(cfg['class_file'])
    if cfg.get('classes') is not None:
        try:
            records, class_names = choose_classes(records, class_names, cfg['classes']) if records else ([], None)
        except ValueError as error:  # the other checks would be about other classes
            records, class_names = [], None
            findings = [*findings, Finding('error', 'list', name, str(error))]
    return Split(
        name,
        records,
        class_names=class_names,
        multi_hot=cfg.get('multi_hot'),
        steps=steps,
        filename_tmpl=cfg.get('filename_tmpl', 'img_{:05d}.jpg') if of_frames else None,
        start_index=cfg.get('start_index', 1),
        findings=tuple(findings) or (Finding('error', 'list', name, reason),),
    )


def read_whole_list(
    split: str, list_file: str, data_root: str | None, with_num_frames: bool
) -> tuple[list[VideoRecord], list[Finding]]:
    """Read a list in spite of wrong lines, and name all of them where the dataset names the first.

    Args:
        split: name of the split, for the error.
        list_file, data_root, with_num_frames: as of ``parse_list_file``.

    Returns:
        The records of the right lines, none if there are too many wrong ones; and an error if there are any.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be read, or a copy of it not be written.
    """
    records, wrong = _parse_right_lines(list_file, data_root, with_num_frames)
    if not wrong:
        return records, []
    number = sum(_line_named_in(text, list_file) is not None for text in wrong)
    count = f'{number} wrong line{"s" * (number != 1)}' if number else 'it is no list of videos'
    return records, [Finding('error', 'list', split, f'{list_file}: {count}', tuple(wrong))]


def _parse_right_lines(
    list_file: str, data_root: str | None, with_num_frames: bool
) -> tuple[list[VideoRecord], list[str]]:
    """Return the records of the right lines, and what is wrong with each of the others.

    The parser is the dataset's own, so both call the same lines wrong: those that it refuses are blanked in a copy,
    which has its line numbers, until it is content.
    """
    wrong: list[str] = []
    lines: list[bytes] | None = None
    file = list_file
    with tempfile.TemporaryDirectory() as folder:
        while True:
            try:
                records = parse_list_file(file, data_root, with_num_frames)
                return [replace(record, list_file=list_file) for record in records], wrong
            except ValueError as error:
                text = str(error).replace(file, list_file)
            line = _line_named_in(text, list_file)
            if line is None:  # the list as a whole is wrong, such as one without any right line
                return [], wrong or [text]
            wrong.append(text)
            if len(wrong) == MOST_WRONG_LINES:
                return [], [*wrong, f'{list_file}: the lines behind were not read']
            lines = Path(list_file).read_bytes().splitlines() if lines is None else lines
            lines[line - 1] = b''
            file = os.path.join(folder, 'list.txt')
            Path(file).write_bytes(b'\n'.join(lines))


def _line_named_in(text: str, list_file: str) -> int | None:
    """Return the number of the line that an error is about; None if it is about the list as a whole."""
    match = re.match(re.escape(list_file) + r':(\d+): ', text)
    return None if match is None else int(match[1])


def read_splits(config: Mapping[str, Any]) -> list[Split]:
    """Return the datasets of a config's training, validation and test."""
    num_classes = config['model'].get('cls_head', {}).get('num_classes')
    return [split for name in LOADERS if name in config for split in read_split(name, config[name], num_classes)]


def splits_of_run(
    config: Mapping[str, Any], num_classes: int, train_loader: DataLoader[Any], val_loader: DataLoader[Any] | None
) -> list[Split]:
    """Return the splits of a training.

    Args:
        config: of the training.
        num_classes: classes of the model.
        train_loader: of the training data.
        val_loader: of the validation data, None without validation.
    """
    class_balance = config['train_dataloader'].get('class_balance')
    splits = splits_of('train', train_loader.dataset, num_classes, class_balance)
    if val_loader is not None:
        splits += splits_of('val', val_loader.dataset, num_classes)
    return splits
