"""Datasets of labeled videos, as video files or as folders of frames, and mixtures of several.

A sample is a pure function of (seed, epoch, index): the generator that augmentation draws from is made from
these three numbers, so samples do not depend on worker processes and are the same after a resume. An epoch that takes
a video more than once tells its samples apart by a fourth number.

What happens to a video that cannot be read is decided by ``on_error``: an error, or another sample in its place, which
is again a function of the same numbers and says so.
"""

import operator
import os
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from dsanet.config.registry import DATASETS
from dsanet.datasets.annotation import (
    VideoRecord,
    choose_classes,
    label_hint,
    parse_list_file,
    read_class_names,
    scan_class_folders,
)
from dsanet.datasets.frame_names import FrameNames
from dsanet.datasets.transforms.base import BadSample, Record, Transform, check_count
from dsanet.datasets.transforms.compose import Compose

# An error keeps its type if the type can be made from a text alone; any other becomes a RuntimeError.
_KEPT_ERRORS = (FileNotFoundError, ImportError, IndexError, KeyError, MemoryError, TypeError, ValueError)
# How many other samples are tried in place of a bad one; the first half of them are of its class.
_ATTEMPTS = 10

Key = int | tuple[int, int] | tuple[int, int, int]


class VideoSamples(Dataset[Record]):
    """What all datasets are: samples by their place, and what happens if one is bad.

    Attributes:
        records: one :class:`VideoRecord` a video.
        labels: (len,) int64; with ``multi_hot`` (len, K) bool.
        class_names: names in the order of the labels, or None if they are not known.
        multi_hot: K, or None if every video has one label.
        provides: keys that every sample has.
        seed: first of the numbers that a sample is made from; ``build_dataloader`` sets it, and the next two.
        on_error: 'raise' or 'resample', what to do with a bad sample.
        max_bad_share: largest share of an epoch's samples of one process that may be bad.
    """

    records: list[VideoRecord]
    labels: npt.NDArray[np.int64] | npt.NDArray[np.bool_]
    class_names: list[str] | None
    multi_hot: int | None
    provides: frozenset[str]
    seed: int = 0
    on_error: str = 'raise'
    max_bad_share: float = 1.0

    @abstractmethod
    def check_labels(self, num_classes: int) -> None:
        """Compare labels, class names and the classes that steps are about with the number of classes of a model."""

    @abstractmethod
    def make_sample(self, index: int, rng: np.random.Generator) -> Record:
        """Make the sample of one video, drawing from ``rng``.

        Raises:
            BadSample: the video cannot be read.
        """

    @abstractmethod
    def indices_with_same_labels(self, index: int) -> npt.NDArray[np.int64]:
        """Return the places of all videos with the same labels, from the same source."""

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: Key) -> Record:
        """Make one sample.

        Args:
            key: (epoch, index), or an index alone for epoch 0; or (epoch, index, repetition) in an epoch that takes
                videos more than once: 0 for the first time. Python's numbers or NumPy's.

        Returns:
            What the pipeline leaves; after PackInputs ``inputs``, ``label``, ``path`` and ``index``. A sample that
            stands in for bad ones is complete, with its own label and path, and has a list ``bad`` of what it
            stands in for: dicts of ``path``, ``reason`` and ``source``.

        Raises:
            Exception: of the pipeline's type if that is a built-in one or BadSample, else RuntimeError; names the
                video and its line in the list.
        """
        # Whole numbers may also be NumPy's.
        epoch, index, repetition = (*map(operator.index, key if isinstance(key, tuple) else (0, key)), 0)[:3]
        index = range(len(self))[index]
        try:
            return self.make_sample(index, self._generator(epoch, index, 0, repetition))
        except BadSample as error:
            if self.on_error == 'raise':
                raise
            return self._replace(error, epoch, index, repetition)

    def _generator(self, epoch: int, index: int, attempt: int, repetition: int) -> np.random.Generator:
        # Zeros at the end would not always make another generator, so the usual one has no fourth number.
        others = (attempt, repetition) if attempt or repetition else ()
        return np.random.default_rng((self.seed, epoch, index, *others))

    def _replace(self, error: BadSample, epoch: int, index: int, repetition: int) -> Record:
        """Make another sample in place of a bad one, of its class if there is a good one among a few."""
        bad = [{'path': error.path, 'reason': error.reason, 'source': error.source}]
        tried = {index}
        for attempt in range(1, _ATTEMPTS + 1):
            others = (
                np.setdiff1d(self.indices_with_same_labels(index), list(tried))
                if attempt <= _ATTEMPTS // 2
                else np.array([])
            )
            if not len(others):
                others = np.setdiff1d(np.arange(len(self)), list(tried))
            if not len(others):
                break
            rng = self._generator(epoch, index, attempt, repetition)
            other = int(rng.choice(others))
            try:
                return self.make_sample(other, rng) | {'bad': bad}
            except BadSample as next_error:
                bad.append({'path': next_error.path, 'reason': next_error.reason, 'source': next_error.source})
                tried.add(other)
        first = '; '.join(f'{b["source"]}: {b["path"]}: {b["reason"]}' for b in bad[:3])
        raise RuntimeError(
            f'{len(bad)} samples in a row are bad, so there is none to take instead; is something wrong with all of '
            f'them, such as data_root or the decoder? The first: {first}'
        ) from error


class _LabeledVideos(VideoSamples):
    """What video files and folders of frames share: records, the pipeline, and errors that name the video.

    Attributes:
        pipeline: the checked chain of steps.
        classes_from: the class file or folder that the class names are from; None if there are none.
    """

    provided: tuple[str, ...] = ('path', 'label', 'index', 'rng')

    def __init__(
        self,
        pipeline: Sequence[Transform],
        list_file: str | None,
        data_root: str | None,
        class_file: str | None,
        frame_names: FrameNames | None,
        multi_hot: int | None,
        classes: Sequence[str | int] | None,
    ) -> None:
        self.multi_hot = None if multi_hot is None else check_count('multi_hot', multi_hot)
        if data_root is not None and not os.path.isdir(data_root):
            raise FileNotFoundError(f'data_root={data_root!r} is no folder (looked for {os.path.abspath(data_root)!r})')
        self.class_names = read_class_names(class_file) if class_file else None
        self.classes_from = class_file
        if list_file is not None:
            self.records = parse_list_file(list_file, data_root, with_num_frames=frame_names is not None)
        elif data_root is not None:
            self.records, self.class_names = scan_class_folders(data_root, frame_names, self.class_names)
            self.classes_from = class_file or data_root
        else:
            raise ValueError('list_file and data_root are both None: give a list, or a folder of class folders')
        if classes is not None:
            self.records, self.class_names = choose_classes(self.records, self.class_names, classes)
            self.classes_from = f'classes={list(classes)!r}'
        self.pipeline = Compose(pipeline, self.provided, owner=type(self).__name__)
        self.provides = self.pipeline.provides
        self.labels = self._read_labels()
        base = f'data_root={data_root!r}' if data_root else f'the working directory {os.getcwd()!r}'
        self._relative_to = f'relative paths are joined to {base}'

    def _read_labels(self) -> npt.NDArray[np.int64] | npt.NDArray[np.bool_]:
        """Return the records' labels as one array."""
        if self.multi_hot is None:
            return np.array([record.label for record in self.records], dtype=np.int64)
        self._check_range('multi_hot', self.multi_hot)
        labels = np.zeros((len(self.records), self.multi_hot), dtype=np.bool_)
        for row, record in zip(labels, self.records, strict=True):
            row[list(record.labels)] = True
        return labels

    def _check_range(self, name: str, num_classes: int) -> None:
        """Refuse labels of records, and classes that steps are about, from ``num_classes`` on."""
        for record in self.records:
            if max(record.labels) >= num_classes:
                every = {label for record in self.records for label in record.labels}
                is_named = self.class_names is not None and len(self.class_names) == num_classes
                names_from = self.classes_from if is_named else None
                hint = label_hint(name, num_classes, min(every), max(every), names_from)
                raise ValueError(
                    f'{record.source}: label {max(record.labels)} of {record.path!r} is too large: '
                    f'{name}={num_classes} allows 0 to {num_classes - 1}, the largest label is {max(every)}{hint}'
                )
        for number, step in enumerate(self.pipeline.transforms):
            if max(step.classes, default=0) >= num_classes:
                raise ValueError(
                    f'step {number} {type(step).__name__} of the pipeline is about class {max(step.classes)}, '
                    f'but {name}={num_classes} allows 0 to {num_classes - 1}'
                )

    def check_labels(self, num_classes: int) -> None:
        """Compare labels, class names and the classes that steps are about with the number of classes of a model.

        Raises:
            ValueError: the first label that is too large, by file and line; a step's class that is; or another
                number of class names, or another ``multi_hot``.
        """
        if self.multi_hot not in (None, num_classes):
            raise ValueError(f'multi_hot={self.multi_hot} is the number of classes, but num_classes={num_classes}')
        if self.class_names is not None and len(self.class_names) != num_classes:
            raise ValueError(f'{self.classes_from} has {len(self.class_names)} classes, but num_classes={num_classes}')
        self._check_range('num_classes', num_classes)

    def make_sample(self, index: int, rng: np.random.Generator) -> Record:
        record = self.records[index]
        start = self._start(record)
        label = self.labels[index]
        start['label'] = int(label) if self.multi_hot is None else label.astype(np.float32)
        start['index'] = index
        start['rng'] = rng
        try:
            return self.pipeline(start)
        except Exception as error:
            raise self._located(error, record) from error

    def indices_with_same_labels(self, index: int) -> npt.NDArray[np.int64]:
        same = self.labels == self.labels[index]
        return np.flatnonzero(same if self.multi_hot is None else same.all(axis=1))

    def _start(self, record: VideoRecord) -> Record:
        """Return what the pipeline starts from, apart from ``label``, ``index`` and ``rng``."""
        return {'path': record.path}

    def _located(self, error: Exception, record: VideoRecord) -> Exception:
        """Return ``error`` with the video's path and source in its text."""
        text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
        if record.path not in text:
            text = f'{record.path}: {text}'
        if isinstance(error, FileNotFoundError):
            text = f'{text} ({self._relative_to})'
        if isinstance(error, BadSample):
            return type(error)(f'{record.source}: {text}', record.path, error.reason or text, record.source)
        if type(error) in _KEPT_ERRORS:
            return type(error)(f'{record.source}: {text}')
        name = '' if type(error) is RuntimeError else f' [{type(error).__name__}]'
        return RuntimeError(f'{record.source}: {text}{name}')


@DATASETS.register_module()
class VideoDataset(_LabeledVideos):
    """Labeled video files.

    Args:
        pipeline: the steps that make a sample, the first one OpenVideo.
        list_file: list with lines ``path label``; None for one folder a class under ``data_root``.
        data_root: folder that relative paths are joined to; the working directory if None.
        class_file: names of the classes, one a line; None if they are not known, or are the folders' names.
        multi_hot: K if videos may have several labels, joined by commas; ``label`` is then float32 (K,), 1 for
            the video's classes and 0 for the others. None for one label a video, an int.
        classes: the only classes to use, by name or by number, renumbered from 0 in this order, for ``multi_hot`` and
            ``swap_labels`` too. None for all.

    Raises:
        FileNotFoundError, ValueError: as :mod:`dsanet.datasets.annotation`; or the steps do not fit together; or
            several labels without ``multi_hot``, or one that is too large for it, by file and line; or ``classes``
            names something that is no class.
    """

    def __init__(
        self,
        pipeline: Sequence[Transform],
        list_file: str | None = None,
        data_root: str | None = None,
        class_file: str | None = None,
        multi_hot: int | None = None,
        classes: Sequence[str | int] | None = None,
    ) -> None:
        super().__init__(pipeline, list_file, data_root, class_file, None, multi_hot, classes)


@DATASETS.register_module()
class RawFramesDataset(_LabeledVideos):
    """Labeled folders of frames, such as ``img_00001.jpg``, ``img_00002.jpg``, ...

    Args:
        pipeline: the steps that make a sample; DecodeRawFrames reads the frames.
        list_file: list with lines ``folder num_frames label``; None for one folder a class under
            ``data_root``.
        data_root: folder that relative paths are joined to; the working directory if None.
        class_file: names of the classes, one a line; None if they are not known, or are the folders' names.
        filename_tmpl: how frames are called, with one field for the number.
        start_index: number of the first frame.
        multi_hot, classes: as of :class:`VideoDataset`.

    Raises:
        FileNotFoundError, ValueError: as :class:`VideoDataset`; or ``filename_tmpl`` has no field.
    """

    provided = (*_LabeledVideos.provided, 'num_frames', 'filename_tmpl', 'start_index')

    def __init__(
        self,
        pipeline: Sequence[Transform],
        list_file: str | None = None,
        data_root: str | None = None,
        class_file: str | None = None,
        filename_tmpl: str = 'img_{:05d}.jpg',
        start_index: int = 1,
        multi_hot: int | None = None,
        classes: Sequence[str | int] | None = None,
    ) -> None:
        frame_names = FrameNames(filename_tmpl, start_index)
        self.filename_tmpl = filename_tmpl
        self.start_index = start_index
        super().__init__(pipeline, list_file, data_root, class_file, frame_names, multi_hot, classes)

    def _start(self, record: VideoRecord) -> Record:
        frames: dict[str, Any] = {
            'num_frames': record.num_frames,
            'filename_tmpl': self.filename_tmpl,
            'start_index': self.start_index,
        }
        return super()._start(record) | frames


@DATASETS.register_module()
class MixedDataset(VideoSamples):
    """Several datasets as one, such as videos beside folders of frames, or a small dataset beside a large one.

    Args:
        datasets: the datasets. Their classes are the same, and so is the shape of their samples.
        weights: share of each in an epoch of training, relative to the others; a dataset whose share is larger than
            its size gives videos more than once. None for shares as large as the datasets. Evaluation takes every
            video once.

    Raises:
        ValueError: no dataset, one that is mixed itself, weights that do not fit, or datasets of different classes
            or different ``multi_hot``.
    """

    def __init__(self, datasets: Sequence[VideoSamples], weights: Sequence[float] | None = None) -> None:
        if not datasets:
            raise ValueError('datasets is empty')
        if any(isinstance(dataset, MixedDataset) for dataset in datasets):
            raise ValueError('a MixedDataset is part of another: put the parts of both into one, with their weights')
        if weights is not None and (len(weights) != len(datasets) or not all(0 < w < float('inf') for w in weights)):
            raise ValueError(f'weights={weights!r} must be {len(datasets)} numbers above 0, one for each dataset')
        self.datasets = list(datasets)
        self.weights = None if weights is None else [float(weight) for weight in weights]
        kinds = [dataset.multi_hot for dataset in datasets]
        if len(set(kinds)) > 1:
            raise ValueError(f'the datasets have different multi_hot: {kinds}')
        self.multi_hot = kinds[0]
        every_names = [dataset.class_names for dataset in datasets if dataset.class_names is not None]
        self.class_names = every_names[0] if every_names else None
        for names in every_names:
            if names != self.class_names:
                raise ValueError(f'the datasets have different classes: {every_names[0]} and {names}')
        self.records = [record for dataset in datasets for record in dataset.records]
        self.labels = np.concatenate([dataset.labels for dataset in datasets])
        self.provides = frozenset.intersection(*(dataset.provides for dataset in datasets))
        self.ends = np.cumsum([len(dataset) for dataset in datasets])

    def check_labels(self, num_classes: int) -> None:
        for dataset in self.datasets:
            dataset.check_labels(num_classes)

    def _place(self, index: int) -> tuple[int, int]:
        """Return which dataset a sample is from and where that begins."""
        number = int(np.searchsorted(self.ends, index, side='right'))
        return number, int(self.ends[number]) - len(self.datasets[number])

    def make_sample(self, index: int, rng: np.random.Generator) -> Record:
        number, begin = self._place(index)
        return self.datasets[number].make_sample(index - begin, rng) | {'index': index}

    def indices_with_same_labels(self, index: int) -> npt.NDArray[np.int64]:
        number, begin = self._place(index)
        return self.datasets[number].indices_with_same_labels(index - begin) + begin
