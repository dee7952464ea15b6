"""Data sets of labelled videos, as video files or as folders of frames.

A sample is a pure function of (seed, epoch, index): the generator that augmentation draws from is made from
these three numbers, so samples do not depend on worker processes and are the same after a resume.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from codes.datasets.annotation import VideoRecord, parse_list_file, read_class_names, scan_class_folders
from codes.datasets.transforms.base import Record, Transform, check_count
from codes.datasets.transforms.compose import Compose
from codes.registry import DATASETS

# An error keeps its type if the type can be made from a text alone; any other becomes a RuntimeError.
_KEPT_ERRORS = (FileNotFoundError, ImportError, IndexError, KeyError, MemoryError, TypeError, ValueError)


class _LabelledVideos(Dataset[Record]):
    """What both data sets share: records, class names, the pipeline, and errors that name the video.

    Attributes:
        records: one :class:`VideoRecord` a video.
        labels: (len,) int64; with ``multi_hot`` (len, K) bool.
        class_names: names in the order of the labels, or None if they are not known.
        pipeline: the checked chain of steps.
        multi_hot: K, or None if every video has one label.
        seed: first of the three numbers that a sample is made from; ``build_dataloader`` sets it.
    """

    provided: tuple[str, ...] = ('path', 'label', 'index', 'rng')

    def __init__(
        self,
        pipeline: Sequence[Transform],
        list_file: str | None,
        data_root: str | None,
        class_file: str | None,
        filename_tmpl: str | None,
        multi_hot: int | None,
    ) -> None:
        self.multi_hot = None if multi_hot is None else check_count('multi_hot', multi_hot)
        if data_root is not None and not os.path.isdir(data_root):
            raise FileNotFoundError(f'data_root={data_root!r} is no folder (looked for {os.path.abspath(data_root)!r})')
        self.class_names: list[str] | None = read_class_names(class_file) if class_file else None
        self._classes_from = class_file
        self.records: list[VideoRecord]
        if list_file is not None:
            self.records = parse_list_file(list_file, data_root, with_num_frames=filename_tmpl is not None)
        elif data_root is not None:
            self.records, self.class_names = scan_class_folders(data_root, filename_tmpl, self.class_names)
            self._classes_from = class_file or data_root
        else:
            raise ValueError('list_file and data_root are both None: give a list, or a folder of class folders')
        self.pipeline = Compose(pipeline, self.provided, owner=type(self).__name__)
        self.labels = self._read_labels()
        self.seed = 0
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
                looks_1_based = min(every) == 1 and max(every) == num_classes
                hint = f'. No label is 0 and the largest is {num_classes}: count from 0, not 1' if looks_1_based else ''
                raise ValueError(
                    f'{record.source}: label {max(record.labels)} of {record.path!r} is too large: '
                    f'{name}={num_classes} allows 0 to {num_classes - 1}{hint}'
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
        self._check_range('num_classes', num_classes)
        if self.class_names is not None and len(self.class_names) != num_classes:
            raise ValueError(f'{self._classes_from} has {len(self.class_names)} classes, but num_classes={num_classes}')

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: int | tuple[int, int]) -> Record:
        """Make one sample.

        Args:
            key: (epoch, index), or an index alone for epoch 0.

        Returns:
            What the pipeline leaves; after PackInputs ``inputs``, ``label``, ``path`` and ``index``.

        Raises:
            Exception: of the pipeline's type if that is a built-in one, else RuntimeError; names the video
                and its line in the list.
        """
        epoch, index = key if isinstance(key, tuple) else (0, key)
        index = range(len(self))[index]
        record = self.records[index]
        start = self._start(record)
        label = self.labels[index]
        start['label'] = int(label) if self.multi_hot is None else label.astype(np.float32)
        start['index'] = index
        start['rng'] = np.random.default_rng((self.seed, epoch, index))
        try:
            return self.pipeline(start)
        except Exception as error:
            raise self._located(error, record) from error

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
        if type(error) in _KEPT_ERRORS:
            return type(error)(f'{record.source}: {text}')
        name = '' if type(error) is RuntimeError else f' [{type(error).__name__}]'
        return RuntimeError(f'{record.source}: {text}{name}')


@DATASETS.register_module()
class VideoDataset(_LabelledVideos):
    """Labelled video files.

    Args:
        pipeline: the steps that make a sample, the first one OpenVideo.
        list_file: list with lines ``path label``; None for one folder a class under ``data_root``.
        data_root: folder that relative paths are joined to; the working directory if None.
        class_file: names of the classes, one a line; None if they are not known, or are the folders' names.
        multi_hot: K if videos may have several labels, joined by commas; ``label`` is then float32 (K,), 1 for
            the video's classes and 0 for the others. None for one label a video, an int.

    Raises:
        FileNotFoundError, ValueError: as :mod:`codes.datasets.annotation`; or the steps do not fit together; or
            several labels without ``multi_hot``, or one that is too large for it, by file and line.
    """

    def __init__(
        self,
        pipeline: Sequence[Transform],
        list_file: str | None = None,
        data_root: str | None = None,
        class_file: str | None = None,
        multi_hot: int | None = None,
    ) -> None:
        super().__init__(pipeline, list_file, data_root, class_file, filename_tmpl=None, multi_hot=multi_hot)


@DATASETS.register_module()
class RawFramesDataset(_LabelledVideos):
    """Labelled folders of frames, such as ``img_00001.jpg``, ``img_00002.jpg``, ...

    Args:
        pipeline: the steps that make a sample; DecodeRawFrames reads the frames.
        list_file: list with lines ``folder num_frames label``; None for one folder a class under
            ``data_root``.
        data_root: folder that relative paths are joined to; the working directory if None.
        class_file: names of the classes, one a line; None if they are not known, or are the folders' names.
        filename_tmpl: how frames are called, with one field for the number.
        start_index: number of the first frame.
        multi_hot: as of :class:`VideoDataset`.

    Raises:
        FileNotFoundError, ValueError: as :class:`VideoDataset`; or ``filename_tmpl`` has no field.
    """

    provided = (*_LabelledVideos.provided, 'num_frames', 'filename_tmpl', 'start_index')

    def __init__(
        self,
        pipeline: Sequence[Transform],
        list_file: str | None = None,
        data_root: str | None = None,
        class_file: str | None = None,
        filename_tmpl: str = 'img_{:05d}.jpg',
        start_index: int = 1,
        multi_hot: int | None = None,
    ) -> None:
        _check_template(filename_tmpl)
        self.filename_tmpl = filename_tmpl
        self.start_index = start_index
        super().__init__(pipeline, list_file, data_root, class_file, filename_tmpl, multi_hot)

    def _start(self, record: VideoRecord) -> Record:
        frames: dict[str, Any] = {
            'num_frames': record.num_frames,
            'filename_tmpl': self.filename_tmpl,
            'start_index': self.start_index,
        }
        return super()._start(record) | frames


def _check_template(filename_tmpl: str) -> None:
    try:
        numbered = filename_tmpl.format(1) != filename_tmpl.format(2)
    except (ValueError, IndexError, KeyError):
        numbered = False
    if not numbered:
        raise ValueError(f"filename_tmpl={filename_tmpl!r} needs one field for the number, as in 'img_{{:05d}}.jpg'")
