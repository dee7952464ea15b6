"""The videos of a dataset as columns: some NumPy arrays instead of an object for each video.

A million objects would take 300 MB. Each forked data worker would copy them all in its first epoch, because Python
writes a reference count into every object that it touches. Columns take 90 bytes per video and stay shared.
"""

import array
import operator
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise, repeat
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from dsanet.datasets.path_columns import PathColumns, RecordSource
from dsanet.datasets.video.span_reader import Span, format_span

_NONE = -1  # in columns of integers; NaN in columns of seconds


@dataclass(frozen=True, slots=True)
class VideoRecord:
    """One video of a dataset.

    Args:
        path: video file, or folder of frames.
        labels: at least one class number, starting at 0.
        list_file: list file that names the video; its class folder if there is no list.
        line: line in ``list_file``, starting at 1; None without a list.
        num_frames: number of frames in a folder; None for a video file, whose frames are counted when it is opened.
        start, end: span of a video file in seconds since its first frame, without the end; None for that of the video.
    """

    path: str
    labels: tuple[int, ...]
    list_file: str
    line: int | None = None
    num_frames: int | None = None
    start: float | None = None
    end: float | None = None

    @property
    def span(self) -> Span | None:
        """Return the start and the end of a span; None for a whole video."""
        return None if self.start is None and self.end is None else (self.start, self.end)

    @property
    def key(self) -> str:
        """Return the identity of the sample, its path; followed by ``#start-end`` for a span."""
        return self.path if self.span is None else f'{self.path}#{format_span(*self.span)}'

    @property
    def source(self) -> str:
        """Return the list file and line, such as ``train.txt:17``."""
        return self.list_file if self.line is None else f'{self.list_file}:{self.line}'

    @property
    def label(self) -> int:
        """Return the only label; raise a ValueError if there are several."""
        if len(self.labels) > 1:
            several = f'{self.source}: {self.key!r} has several labels: {",".join(map(str, self.labels))}'
            raise ValueError(f'{several}; set multi_hot=<number of classes> for a multi-label dataset')
        return self.labels[0]


@dataclass(frozen=True, eq=False)
class VideoRecords(Sequence[VideoRecord]):
    """A sequence of :class:`VideoRecord`, which are made when they are used.

    Args:
        paths: their paths and sources.
        labels: int32, those of the first record, then those of the second, and so on.
        label_ends: (len,) int64, number of labels up to and including those of the record; None if each has one.
        lines, frame_counts: (len,) int32, ``line`` and ``num_frames``, -1 for None; None if all are.
        starts, ends: (len,) float64, limits of the span in seconds, NaN for None; None if there are no spans.
    """

    paths: PathColumns
    labels: npt.NDArray[np.int32]
    label_ends: npt.NDArray[np.int64] | None = None
    lines: npt.NDArray[np.int32] | None = None
    frame_counts: npt.NDArray[np.int32] | None = None
    starts: npt.NDArray[np.float64] | None = None
    ends: npt.NDArray[np.float64] | None = None

    @classmethod
    def of(cls, records: Sequence[VideoRecord]) -> 'VideoRecords':
        """Return ``records`` as columns; the argument itself if it already is."""
        if isinstance(records, VideoRecords):
            return records
        columns = RecordBuilder()
        for r in records:
            columns.add(r.path, r.labels, r.list_file, r.line, r.num_frames, r.start, r.end)
        return columns.build()

    @classmethod
    def concatenate(cls, parts: Sequence['VideoRecords']) -> 'VideoRecords':
        """Return the records of all parts, which share their texts with the result."""
        parts = [part for part in parts if len(part)]
        if len(parts) == 1:
            return parts[0]
        if not parts:
            return RecordBuilder().build()
        counts = np.concatenate([part.label_counts for part in parts])

        def join(name: str, missing: float) -> Any:
            is_missing = all(getattr(part, name) is None for part in parts)
            return None if is_missing else np.concatenate([part._column(name, missing) for part in parts])

        return VideoRecords(
            PathColumns.concatenate([part.paths for part in parts]),
            np.concatenate([part.labels for part in parts]),
            None if (counts == 1).all() else np.cumsum(counts),
            join('lines', _NONE),
            join('frame_counts', _NONE),
            join('starts', np.nan),
            join('ends', np.nan),
        )

    def _column(self, name: str, missing: float) -> npt.NDArray[Any]:
        column = getattr(self, name)
        kind = np.float64 if name in ('starts', 'ends') else np.int32
        return np.full(len(self), missing, dtype=kind) if column is None else column

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, index: int) -> VideoRecord: ...
    @overload
    def __getitem__(self, index: slice) -> 'VideoRecords': ...
    def __getitem__(self, index: int | slice) -> 'VideoRecord | VideoRecords':
        if isinstance(index, slice):
            return self.take(np.arange(*index.indices(len(self))))
        i = range(len(self))[operator.index(index)]
        paths = self.paths
        source = paths.sources[0 if paths.numbers is None else paths.numbers[i]]
        begin = paths.begins.item(i)
        path = source.text[begin : begin + paths.sizes.item(i)].decode('utf-8', 'surrogateescape')
        return VideoRecord(
            os.path.join(source.root, path) if source.root else path,
            (self.labels.item(i),) if self.label_ends is None else self.labels_in(slice(i, i + 1))[0],
            source.list_file,
            _item(self.lines, i),
            _item(self.frame_counts, i),
            _item(self.starts, i),
            _item(self.ends, i),
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(one == another for one, another in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f'<{len(self)} records of {", ".join(source.list_file for source in self.paths.sources[:3])}>'

    def take(self, indices: npt.NDArray[np.int64]) -> 'VideoRecords':
        """Return some of the records, in the order of the indices; the texts are shared."""
        label_counts = self.label_counts[indices]
        if self.label_ends is None:
            labels = self.labels[indices]
        else:  # the labels of record i end at label_ends[i]
            ends = np.cumsum(label_counts)
            labels = self.labels[np.repeat(self.label_ends[indices] - ends, label_counts) + np.arange(ends[-1:].sum())]
        others = ('lines', 'frame_counts', 'starts', 'ends')
        return VideoRecords(
            self.paths.take(indices),
            labels,
            None if (label_counts == 1).all() else np.cumsum(label_counts),
            *(None if (column := getattr(self, name)) is None else column[indices] for name in others),
        )

    def select_labels(self, labels: Sequence[int]) -> 'VideoRecords':
        """Return the records with one of these labels, which become 0, 1, ... in this order; without other labels."""
        order = np.argsort(labels)
        ordered = np.array(labels)[order]
        places = np.minimum(np.searchsorted(ordered, self.labels), len(ordered) - 1)
        is_chosen = ordered[places] == self.labels
        rows = np.repeat(np.arange(len(self)), self.label_counts)[is_chosen]
        counts = np.bincount(rows, minlength=len(self))
        renumbered = replace(
            self, labels=order[places][is_chosen].astype(np.int32), label_ends=np.cumsum(counts, dtype=np.int64)
        )
        return renumbered.take(np.flatnonzero(counts))

    @property
    def has_spans(self) -> bool:
        """Whether any record is a span of a video."""
        return self.starts is not None or self.ends is not None

    def with_frame_counts(self) -> 'VideoRecords':
        """Return the records whose ``num_frames`` is known; ``frame_counts`` is None if that is none of them."""
        if self.frame_counts is None or (self.frame_counts != _NONE).all():
            return self
        return self.take(np.flatnonzero(self.frame_counts != _NONE))

    @property
    def label_counts(self) -> npt.NDArray[np.int64]:
        """Number of labels of each record."""
        return np.ones(len(self), np.int64) if self.label_ends is None else np.diff(self.label_ends, prepend=0)

    @property
    def largest_labels(self) -> npt.NDArray[np.int32]:
        """Largest label of each record."""
        if self.label_ends is None:
            return self.labels
        return np.maximum.reduceat(self.labels, self.label_ends - self.label_counts)

    def multi_hot(self, num_classes: int) -> npt.NDArray[np.bool_]:
        """Return which of K classes are labels of each record, (len, K)."""
        hot = np.zeros((len(self), num_classes), dtype=np.bool_)
        hot[np.repeat(np.arange(len(self)), self.label_counts), self.labels] = True
        return hot

    def have_same_labels(self, index: int) -> npt.NDArray[np.bool_]:
        """Return whether the labels of each record are those of one of them, in any order; (len,)."""
        ((*labels,),) = self.labels_in(slice(index, index + 1))
        if self.label_ends is None:
            return self.labels == labels[0]
        counts = self.label_counts
        shared = np.add.reduceat(np.isin(self.labels, labels), self.label_ends - counts, dtype=np.int64)
        return (counts == len(labels)) & (shared == len(labels))

    def count_labels(self) -> Counter[int]:
        """Return the number of records by label, in the order of the first record of each label."""
        values, first, counts = np.unique(self.labels, return_index=True, return_counts=True)
        order = np.argsort(first)
        return Counter(dict(zip(values[order].tolist(), counts[order].tolist(), strict=True)))

    def key_chunks(self, skip: int = 0) -> Iterator[list[bytes]]:
        """Yield ``key`` of all records in lists, in UTF-8, without the first ``skip`` bytes."""
        if not self.has_spans:
            yield from self.paths.chunks(skip=skip)
            return
        starts, ends = (self._column(name, np.nan) for name in ('starts', 'ends'))
        begin = 0
        for chunk in self.paths.chunks(skip=skip):
            part = slice(begin, begin + len(chunk))
            begin += len(chunk)
            spans = zip(_to_list(starts[part]), _to_list(ends[part]), strict=True)
            yield [
                path if span == (None, None) else b'%b#%b' % (path, format_span(*span).encode())
                for path, span in zip(chunk, spans, strict=True)
            ]

    def keys(self) -> Iterator[str]:
        """Yield ``key`` of all records."""
        return (key.decode('utf-8', 'surrogateescape') for chunk in self.key_chunks() for key in chunk)

    def find_keys(self, keys: Iterable[str]) -> dict[str, int]:
        """Return the index of the last record with each of these keys, without keys that no record has."""
        encoded = {key.encode('utf-8', 'surrogateescape'): key for key in keys}
        return {encoded[key]: i for i, key in enumerate(chain.from_iterable(self.key_chunks())) if key in encoded}

    def labels_in(self, part: slice) -> list[tuple[int, ...]]:
        """Return ``labels`` of the records in a slice."""
        if self.label_ends is None:
            return list(zip(self.labels[part].tolist(), strict=True))
        begin, end, _ = part.indices(len(self))
        ends = self.label_ends[begin:end]
        first = int(self.label_ends[begin - 1]) if begin else 0
        labels = self.labels[first : ends[-1]].tolist()
        limits = [0, *(ends - first).tolist()]
        return [tuple(labels[a:b]) for a, b in pairwise(limits)]

    def frame_counts_in(self, part: slice) -> list[int | None]:
        """Return ``num_frames`` of the records in a slice."""
        if self.frame_counts is None:
            return [None] * len(range(len(self))[part])
        return _to_list(self.frame_counts[part])


def _item(column: npt.NDArray[Any] | None, index: int) -> Any:
    """Return a value of a column; None if it is missing."""
    if column is None or (value := column.item(index)) == _NONE or value != value:
        return None
    return value


def _to_list(column: npt.NDArray[Any]) -> list[Any]:
    """Return a column as a list, with None for missing values."""
    return [None if value == _NONE or value != value else value for value in column.tolist()]


def as_column(values: 'array.array[Any]') -> npt.NDArray[Any]:
    """Return an array of Python as one of NumPy with the same memory."""
    return np.frombuffer(values, dtype=values.typecode)


class RecordBuilder:
    """Collects records one by one, as columns.

    Args:
        root: folder that relative paths start at; '' for the working directory.
    """

    def __init__(self, root: str = '') -> None:
        self._root = root
        self._text = bytearray()
        self._last = ''  # the last path; spans of a file often follow each other
        self._begins = array.array('q')
        self._source_number: dict[str, int] = {}
        self._sizes, self._labels, self._numbers, self._lines, self._frames = (array.array('i') for _ in range(5))
        self._label_ends = array.array('q')
        self._starts, self._ends = array.array('d'), array.array('d')

    def __len__(self) -> int:
        return len(self._sizes)

    def add(
        self,
        path: str,
        labels: Sequence[int],
        list_file: str,
        line: int | None = None,
        num_frames: int | None = None,
        start: float | None = None,
        end: float | None = None,
    ) -> None:
        """Add a record, see :class:`VideoRecord`."""
        self._add_path(path)
        self._labels.extend(labels)
        self._label_ends.append(len(self._labels))
        self._numbers.append(self._number(list_file))
        self._lines.append(_NONE if line is None else line)
        self._frames.append(_NONE if num_frames is None else num_frames)
        self._starts.append(np.nan if start is None else start)
        self._ends.append(np.nan if end is None else end)

    def extend(
        self,
        paths: Sequence[str],
        labels: Sequence[Sequence[int] | None],
        list_file: str,
        lines: Sequence[int],
        starts: npt.NDArray[np.float64],
        ends: npt.NDArray[np.float64],
    ) -> None:
        """Add many records, NaN for None; those whose labels are None are skipped."""
        known = [one for one in labels if one is not None]
        if len(known) < len(labels):
            kept = [index for index, one in enumerate(labels) if one is not None]
            paths, lines = [paths[index] for index in kept], [lines[index] for index in kept]
            starts, ends = starts[kept], ends[kept]
        for path in paths:
            self._add_path(path)
        label_ends = len(self._labels) + np.cumsum([*map(len, known)], dtype=np.int64)
        self._label_ends.frombytes(label_ends.tobytes())
        self._labels.extend(chain.from_iterable(known))
        self._numbers.extend(repeat(self._number(list_file), len(paths)))
        self._lines.extend(lines)
        self._frames.extend(repeat(_NONE, len(paths)))
        self._starts.frombytes(starts.tobytes())
        self._ends.frombytes(ends.tobytes())

    def _add_path(self, path: str) -> None:
        if path != self._last or not self._sizes:
            encoded = path.encode('utf-8', 'surrogateescape')
            self._begins.append(len(self._text))
            self._sizes.append(len(encoded))
            self._text += encoded
            self._last = path
        else:
            self._begins.append(self._begins[-1])
            self._sizes.append(self._sizes[-1])

    def _number(self, list_file: str) -> int:
        return self._source_number.setdefault(list_file, len(self._source_number))

    def build(self) -> VideoRecords:
        """Return the records; columns without a value are dropped."""
        text = bytes(self._text)
        lines, frames = as_column(self._lines), as_column(self._frames)
        starts, ends = as_column(self._starts), as_column(self._ends)
        has_spans = not (np.isnan(starts) & np.isnan(ends)).all()
        return VideoRecords(
            PathColumns(
                tuple(RecordSource(list_file, self._root, text) for list_file in self._source_number),
                as_column(self._begins),
                as_column(self._sizes),
                as_column(self._numbers) if len(self._source_number) > 1 else None,
            ),
            as_column(self._labels),
            None if len(self._labels) == len(lines) else as_column(self._label_ends),
            None if (lines == _NONE).all() else lines,
            None if (frames == _NONE).all() else frames,
            starts if has_spans else None,
            ends if has_spans else None,
        )
