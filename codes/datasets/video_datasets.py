"""Datasets of labeled videos, stored as video files or as folders of frames, and mixtures of datasets.

A sample is a pure function of (seed, epoch, index): the random generator of its augmentation is created from these
three numbers. So samples do not depend on the data workers and are the same after a resume. In an epoch that uses
a video several times, the repetition is a fourth number.

``on_error`` decides what happens if a video cannot be read: an error, or another sample as a replacement, which is
again a function of the same numbers.
"""

import os
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from dsanet.config.registry import DATASETS
from dsanet.datasets.annotation import label_hint, parse_list_file, read_class_names, scan_class_folders, select_classes
from dsanet.datasets.clips import SampleKey, load_samples, parse_key
from dsanet.datasets.frame_names import FrameNames
from dsanet.datasets.overlaps import check_overlaps
from dsanet.datasets.records import VideoRecord, VideoRecords
from dsanet.datasets.transforms.base import BadSample, Record, SampleError, Transform, check_count, check_number
from dsanet.datasets.transforms.compose import Compose
from dsanet.utils.class_names import ClassNames, check_same_class_names
from dsanet.utils.machine_faults import MachineError, are_storage_faults, explain_shortage
from dsanet.utils.text import printable

# These errors are raised again with the same type and a longer text, a ValueError as SampleError; others become a
# RuntimeError.
_KEPT_ERRORS = (FileNotFoundError, ImportError, IndexError, KeyError, MemoryError, TypeError, ValueError)
_MAX_ATTEMPTS = 10  # samples that are tried as a replacement of a bad one; the first half has the same labels

Labels = npt.NDArray[np.int64] | npt.NDArray[np.bool_]


class VideoSamples(Dataset[Record]):
    """Base class of datasets: access to samples, and replacement of bad ones.

    Attributes:
        records: a sequence with one :class:`VideoRecord` per video.
        class_names: names in the order of the labels; None if unknown.
        classes_from: source of the class names, a class file or folder; None if there are none.
        multi_hot: number of classes K of a multi-label dataset; None for one label per video.
        provides: keys that every sample has.
        seed: seed of the samples; ``build_dataloader`` sets it, and the next two.
        on_error: 'raise' or 'resample' a bad sample.
        max_bad_share: maximum share of bad samples in an epoch of one process.
    """

    records: VideoRecords
    class_names: list[str] | None
    classes_from: str | None = None
    multi_hot: int | None
    provides: frozenset[str]
    seed: int = 0
    on_error: str = 'raise'
    max_bad_share: float = 1.0

    @abstractmethod
    def check_labels(self, num_classes: int) -> None:
        """Raise a ValueError if labels, class names or classes of transforms do not match ``num_classes``."""

    @cached_property
    @abstractmethod
    def labels(self) -> Labels:
        """Return the labels of all samples, (len,) int64; with ``multi_hot`` (len, K) bool, which is large."""

    @abstractmethod
    def label(self, index: int) -> int | npt.NDArray[np.bool_]:
        """Return the label of a sample; with ``multi_hot`` (K,)."""

    @abstractmethod
    def make_sample(self, index: int, rng: np.random.Generator) -> Record:
        """Return the sample of one video, with random numbers from ``rng``.

        Raises:
            BadSample: the video cannot be read.
        """

    @abstractmethod
    def indices_with_same_labels(self, index: int) -> npt.NDArray[np.int64]:
        """Return the indices of all videos with the same labels, in the same part of a mixed dataset."""

    def make_clips(self, index: int, rngs: Sequence[np.random.Generator]) -> list[Record]:
        """Return the sample of one video for each generator; datasets override it to decode the frames once."""
        return [self.make_sample(index, rng) for rng in rngs]

    def __len__(self) -> int:
        return len(self.records)

    def __getitems__(self, keys: Sequence[SampleKey]) -> list[Record]:
        """Return the samples of a batch."""
        return list(load_samples(keys, self.__getitem__, self._load_clips))

    def _load_clips(self, epoch: int, index: int, repetitions: Sequence[int]) -> list[Record]:
        return self.make_clips(index, [self._generator(epoch, index, 0, number) for number in repetitions])

    def __getitem__(self, key: SampleKey) -> Record:
        """Return one sample.

        Args:
            key: (epoch, index), or an index alone for epoch 0; or (epoch, index, repetition) in an epoch that uses
                videos several times. Python or NumPy integers.

        Returns:
            The record after the pipeline; after PackInputs ``inputs``, ``label``, ``path`` (of a span, the key of its
            record) and ``index``. A sample that replaces bad ones has its own label and path, and a list ``bad`` of
            dicts with ``path``, ``reason`` and ``source`` of each bad sample.
        """
        epoch, index, repetition = parse_key(key)
        index = range(len(self))[index]
        try:
            return self.make_sample(index, self._generator(epoch, index, 0, repetition))
        except BadSample as error:
            if self.on_error == 'raise':
                raise
            return self._replace(error, epoch, index, repetition)

    def _generator(self, epoch: int, index: int, attempt: int, repetition: int) -> np.random.Generator:
        # Trailing zeros can change the generator, so it has three numbers unless there is a fourth.
        others = (attempt, repetition) if attempt or repetition else ()
        return np.random.default_rng((self.seed, epoch, index, *others))

    def _replace(self, error: BadSample, epoch: int, index: int, repetition: int) -> Record:
        """Return another sample, if possible with the same labels."""
        bad = [{'path': error.path, 'reason': error.reason, 'source': error.source}]
        tried = {index}
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            others = (
                np.setdiff1d(self.indices_with_same_labels(index), list(tried))
                if attempt <= _MAX_ATTEMPTS // 2
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
        # One unreadable video is replaced, but if all are, the disk or the permissions are the cause, not the videos.
        if len(bad) > 1 and are_storage_faults([case['reason'] for case in bad]):
            raise MachineError(f'{len(bad)} videos in a row cannot be read; check disk and permissions. {first}')
        raise SampleError(
            f'{len(bad)} bad samples in a row, no replacement found; check data_root and the decoder. First: {first}'
        ) from error


@DATASETS.register_module()
class VideoDataset(VideoSamples):
    """Labeled video files.

    Args:
        pipeline: the transforms, starting with OpenVideo.
        list_file: list with lines ``path label``, or CSV file with the columns ``video,label,start,end``, see
            :mod:`dsanet.datasets.span_lists`; None for one folder per class under ``data_root``.
        data_root: folder of relative paths; None for the working directory.
        class_file: class names, one per line; None if they are unknown, or are the names of the class folders.
        multi_hot: number of classes K, if videos may have several labels, joined by commas; ``label`` is then float32
            (K,), 1 for the classes of the video and 0 for the others. None for one integer label per video.
        classes: names or numbers of the classes to use, renumbered from 0 in this order, also for ``multi_hot`` and
            ``swap_labels``. None for all.

    Attributes:
        data_root: the argument.
        classes_from: source of the class names, a class file or folder; None if there are none.
    """

    provided: tuple[str, ...] = ('path', 'label', 'index', 'rng')
    frame_names: FrameNames | None = None  # of folders of frames

    def __init__(
        self,
        pipeline: Sequence[Transform],
        list_file: str | None = None,
        data_root: str | None = None,
        class_file: str | None = None,
        multi_hot: int | None = None,
        classes: Sequence[str | int] | None = None,
    ) -> None:
        self.multi_hot = None if multi_hot is None else check_count('multi_hot', multi_hot)
        if data_root is not None and not os.path.isdir(data_root):
            raise FileNotFoundError(f'data_root={data_root!r} is not a folder ({os.path.abspath(data_root)!r})')
        self.data_root = data_root
        self.class_names = read_class_names(class_file) if class_file else None
        self.classes_from = class_file
        if list_file is not None:
            has_frames = self.frame_names is not None
            self.records = parse_list_file(list_file, data_root, has_frames, class_names=self.class_names)
        elif data_root is not None:
            self.records, self.class_names = scan_class_folders(data_root, self.frame_names, self.class_names)
            self.classes_from = class_file or data_root
        else:
            raise ValueError('list_file and data_root are both None; set list_file, or data_root for class folders')
        if classes is not None:
            self.records, self.class_names = select_classes(self.records, self.class_names, classes)
            self.classes_from = f'{self.classes_from} with classes={list(classes)!r}'
        if multi_hot is None and (overlaps := check_overlaps(self.records)):
            more = f' (and {len(overlaps) - 1} more overlaps)' if len(overlaps) > 1 else ''
            raise ValueError(f'{overlaps[0]}{more}')
        self.pipeline = Compose(pipeline, self.provided, owner=type(self).__name__)
        self.provides = self.pipeline.provides
        if multi_hot is not None:
            self._check_range('multi_hot', multi_hot)
        elif self.records.label_ends is not None:
            _ = self.records[int(np.argmax(self.records.label_counts > 1))].label  # raises the error for several labels
        base = f'data_root={data_root!r}' if data_root else f'the working directory {os.getcwd()!r}'
        self._relative_to = f'relative paths start at {base}'

    @cached_property
    def labels(self) -> Labels:
        if self.multi_hot is None:
            return self.records.labels.astype(np.int64)
        return self.records.multi_hot(self.multi_hot)

    def label(self, index: int) -> int | npt.NDArray[np.bool_]:
        if self.multi_hot is None:
            return int(self.records.labels[index])
        hot = np.zeros(self.multi_hot, dtype=np.bool_)
        hot[list(self.records[index].labels)] = True
        return hot

    def _check_range(self, name: str, num_classes: int) -> None:
        """Check that labels and the classes of transforms are below ``num_classes``, the value of option ``name``."""
        largest = int(self.records.labels.max(initial=0))
        if largest >= num_classes:
            smallest = int(self.records.labels.min())
            record = self.records[int(np.argmax(self.records.largest_labels >= num_classes))]
            is_named = self.class_names is not None and len(self.class_names) == num_classes
            names_from = self.classes_from if is_named else None
            raise ValueError(
                f'{record.source}: label {max(record.labels)} of {record.key!r} is out of range: '
                f'{name}={num_classes} allows 0 to {num_classes - 1}; the largest label in the list is {largest}'
                f'{label_hint(name, num_classes, smallest, largest, names_from)}'
            )
        for number, step in enumerate(self.pipeline.transforms):
            if max(step.classes, default=0) >= num_classes:
                raise ValueError(
                    f'pipeline step {number} {type(step).__name__} uses class {max(step.classes)}, '
                    f'but {name}={num_classes} allows 0 to {num_classes - 1}'
                )

    def check_labels(self, num_classes: int) -> None:
        if self.multi_hot not in (None, num_classes):
            raise ValueError(f'multi_hot={self.multi_hot} must equal num_classes={num_classes}')
        if self.class_names is not None and len(self.class_names) != num_classes:
            raise ValueError(f'{self.classes_from} has {len(self.class_names)} classes, but num_classes={num_classes}')
        self._check_range('num_classes', num_classes)

    def make_sample(self, index: int, rng: np.random.Generator) -> Record:
        return self.make_clips(index, [rng])[0]

    def make_clips(self, index: int, rngs: Sequence[np.random.Generator]) -> list[Record]:
        if len(rngs) > 1 and type(self).make_sample is not VideoDataset.make_sample:  # of a class of the user
            return super().make_clips(index, rngs)
        record = self.records[index]
        label = self.label(index)
        samples = [self._initial_sample(record) | {'index': index, 'rng': rng} for rng in rngs]
        for sample in samples:
            sample['label'] = label.astype(np.float32) if isinstance(label, np.ndarray) else label
        try:
            samples = [self.pipeline(samples[0])] if len(rngs) == 1 else list(self.pipeline.make_clips(samples))
        except Exception as error:
            raise self._with_source(error, record) from error
        return samples if record.span is None else [sample | {'path': record.key} for sample in samples]

    def indices_with_same_labels(self, index: int) -> npt.NDArray[np.int64]:
        return np.flatnonzero(self.records.have_same_labels(index))

    def _initial_sample(self, record: VideoRecord) -> Record:
        """Return the input of the pipeline, without ``label``, ``index`` and ``rng``."""
        return {'path': record.path} if record.span is None else {'path': record.path, 'span': record.span}

    def _with_source(self, error: Exception, record: VideoRecord) -> Exception:
        """Return ``error`` with the video's path and source in its message, or a MachineError that explains it."""
        text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
        if record.path not in text:
            text = f'{record.key}: {text}'
        text = printable(text)
        if isinstance(error, FileNotFoundError):
            text = f'{text} ({self._relative_to})'
        if (shortage := explain_shortage(error)) is not None:
            return MachineError(f'{record.source}: {record.key}: {shortage}')
        if isinstance(error, BadSample):
            return type(error)(f'{record.source}: {text}', record.key, error.reason or text, record.source)
        if type(error) in _KEPT_ERRORS:
            kind = SampleError if type(error) is ValueError else type(error)
            return kind(f'{record.source}: {text}')
        name = '' if type(error) is RuntimeError else f' [{type(error).__name__}]'
        return RuntimeError(f'{record.source}: {text}{name}')


@DATASETS.register_module()
class RawFramesDataset(VideoDataset):
    """Labeled folders of frames, such as ``img_00001.jpg``, ``img_00002.jpg``, ...

    Args:
        pipeline: the transforms; DecodeRawFrames reads the frames.
        list_file: list with lines ``folder num_frames label``; None for one folder per class under ``data_root``.
        filename_tmpl: file names of the frames, with one field for the frame number.
        start_index: number of the first frame.
        fps: frames per second of all folders, for sampling by time; None if unknown.
        data_root, class_file, multi_hot, classes: see :class:`VideoDataset`.
    """

    provided = (*VideoDataset.provided, 'num_frames', 'filename_tmpl', 'start_index')

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
        fps: float | None = None,
    ) -> None:
        self.frame_names = FrameNames(filename_tmpl, start_index)
        self.filename_tmpl = filename_tmpl
        self.start_index = start_index
        self.fps = None if fps is None else check_number('fps', fps, 0.001, 1000)
        self.provided = self.provided if fps is None else (*self.provided, 'fps')
        super().__init__(pipeline, list_file, data_root, class_file, multi_hot, classes)

    def _initial_sample(self, record: VideoRecord) -> Record:
        facts = {'filename_tmpl': self.filename_tmpl, 'start_index': self.start_index, 'fps': self.fps}
        return super()._initial_sample(record) | {'num_frames': record.num_frames, **facts}


@DATASETS.register_module()
class MixedDataset(VideoSamples):
    """Several datasets as one, such as video files and folders of frames, or a small and a large dataset.

    Args:
        datasets: datasets with the same classes and the same sample shape.
        weights: relative share of each dataset in a training epoch; a dataset with a share larger than its size is
            repeated. None for shares equal to the sizes. Evaluation uses every video once.
    """

    def __init__(self, datasets: Sequence[VideoSamples], weights: Sequence[float] | None = None) -> None:
        if not datasets or any(isinstance(dataset, MixedDataset) for dataset in datasets):
            raise ValueError('datasets must be one or more datasets that are no MixedDataset; use one, with weights')
        if weights is not None and (len(weights) != len(datasets) or not all(0 < w < float('inf') for w in weights)):
            raise ValueError(f'weights={weights!r} must be {len(datasets)} positive numbers, one per dataset')
        self.datasets = list(datasets)
        self.weights = None if weights is None else [float(weight) for weight in weights]
        multi_hots = [dataset.multi_hot for dataset in datasets]
        if len(set(multi_hots)) > 1:
            raise ValueError(f'the datasets have different values of multi_hot: {multi_hots}')
        self.multi_hot = multi_hots[0]
        named = [dataset for dataset in datasets if dataset.class_names is not None]
        self.class_names, self.classes_from = (named[0].class_names, named[0].classes_from) if named else (None, None)
        every = [ClassNames(dataset.class_names, dataset.classes_from or 'a dataset') for dataset in named]
        for other in every[1:]:
            check_same_class_names(every[0], other)
        if any(len(dataset.records) != len(dataset) for dataset in datasets):
            raise ValueError('a MixedDataset requires datasets that know their videos before they read them')
        self.records = VideoRecords.concatenate([VideoRecords.of(dataset.records) for dataset in datasets])
        self.provides = frozenset.intersection(*(dataset.provides for dataset in datasets))
        self.ends = np.cumsum([len(dataset) for dataset in datasets])

    def check_labels(self, num_classes: int) -> None:
        for dataset in self.datasets:
            dataset.check_labels(num_classes)

    @cached_property
    def labels(self) -> Labels:
        return np.concatenate([dataset.labels for dataset in self.datasets])

    def label(self, index: int) -> int | npt.NDArray[np.bool_]:
        number, begin = self._locate(index)
        return self.datasets[number].label(index - begin)

    def _locate(self, index: int) -> tuple[int, int]:
        """Return the number of the dataset that contains a sample, and the index of its first sample."""
        number = int(np.searchsorted(self.ends, index, side='right'))
        return number, int(self.ends[number]) - len(self.datasets[number])

    def make_sample(self, index: int, rng: np.random.Generator) -> Record:
        return self.make_clips(index, [rng])[0]

    def make_clips(self, index: int, rngs: Sequence[np.random.Generator]) -> list[Record]:
        number, begin = self._locate(index)
        return [clip | {'index': index} for clip in self.datasets[number].make_clips(index - begin, rngs)]

    def indices_with_same_labels(self, index: int) -> npt.NDArray[np.int64]:
        number, begin = self._locate(index)
        return self.datasets[number].indices_with_same_labels(index - begin) + begin
