"""Read list files with one video per line, see :mod:`dsanet.datasets.annotation`."""

import array
import os
import re
from typing import Any

import numpy as np
import numpy.typing as npt

from dsanet.datasets.list_columns import MAX_DIGITS, LineColumns, read_columns
from dsanet.datasets.list_hints import explain_line
from dsanet.datasets.media_files import is_video
from dsanet.datasets.path_columns import PathColumns, RecordSource
from dsanet.datasets.records import VideoRecords, as_column
from dsanet.utils.text import count_noun

Array = npt.NDArray[Any]

_MAX_SHOWN = 300  # characters of a malformed line


def parse_text_list(
    list_file: str, text: bytes, data_root: str | None, expected: str, errors: list[str] | None
) -> VideoRecords:
    """Return the records of a list.

    Args:
        list_file: the file, for errors.
        text: its content, with line feeds as line breaks.
        data_root, errors: see ``parse_list_file``.
        expected: 'path label' or 'path num_frames label'.

    Raises:
        ValueError: a line is malformed, unless ``errors`` receives it.
    """
    lines = _ListLines(list_file, text, data_root, expected, errors)
    for columns in read_columns(text, 'num_frames' in expected):
        lines.add(columns)
    return lines.build()


class _ListLines:
    """The lines of a text list that have been read; those that are not usual are parsed one by one."""

    def __init__(
        self, list_file: str, text: bytes, data_root: str | None, expected: str, errors: list[str] | None
    ) -> None:
        self.list_file, self.text, self.data_root = list_file, text, data_root
        self.expected, self.errors = expected, errors
        self.num_lines = 0
        # These grow in place. Parts that are joined at the end would leave unused memory behind.
        self.begins = array.array('I' if len(text) < 2**32 else 'q')
        self.sizes, self.label_counts, self.labels, self.lines, self.frame_counts = (array.array('i') for _ in range(5))

    def add(self, columns: LineColumns) -> None:
        """Add lines.

        Raises:
            ValueError: a line is malformed, unless ``errors`` receives it.
        """
        begins, sizes, frames = columns.begins.copy(), columns.path_ends - columns.begins, columns.frame_counts
        rows, labels = [columns.label_rows], [columns.labels]
        is_kept = columns.is_usual.copy()
        for i in np.flatnonzero(~columns.is_usual).tolist():
            line = self.text[columns.begins[i] : columns.ends[i]].decode('utf-8', 'surrogateescape')
            found = self._parse(line.strip(), self.num_lines + i + 1)
            if found is None:
                continue
            path, num_frames, own_labels = found
            is_kept[i] = True
            begins[i] += len(line[: len(line) - len(line.lstrip())].encode('utf-8', 'surrogateescape'))
            sizes[i] = len(path.encode('utf-8', 'surrogateescape'))
            frames[i] = num_frames or 0
            rows.append(np.full(len(own_labels), i))
            labels.append(np.array(own_labels))
        all_rows, all_labels = np.concatenate(rows), np.concatenate(labels)
        if len(rows) > 1:
            order = np.argsort(all_rows, kind='stable')
            all_rows, all_labels = all_rows[order], all_labels[order]
        counts = np.bincount(all_rows, minlength=len(begins))
        numbers = np.arange(self.num_lines + 1, self.num_lines + 1 + len(begins))
        _extend(self.begins, begins[is_kept])
        _extend(self.sizes, sizes[is_kept])
        _extend(self.label_counts, counts[is_kept])
        _extend(self.labels, all_labels)
        _extend(self.lines, numbers[is_kept])
        if 'num_frames' in self.expected:
            _extend(self.frame_counts, frames[is_kept])
        self.num_lines += len(begins)

    def _parse(self, text: str, line: int) -> tuple[str, int | None, tuple[int, ...]] | None:
        """Return path, number of frames and labels of a stripped line; None for a comment and a malformed line."""
        if not text:
            return None
        try:
            if text.startswith('#'):
                _check_comment(text, self.expected, self.data_root)
                return None
            return _parse_line(text, self.expected)
        except ValueError as error:
            hint = '' if text.startswith('#') else explain_line(text, line, self.expected.count(' '))
            message = f'{self.list_file}:{line}: {text[:_MAX_SHOWN]!r} is not {self.expected!r}: {error}{hint}'
            if self.errors is None:
                raise ValueError(message) from None
            self.errors.append(message)
            return None

    def build(self) -> VideoRecords:
        """Return the records."""
        counts = as_column(self.label_counts)
        return VideoRecords(
            PathColumns(
                (RecordSource(self.list_file, self.data_root or '', self.text),),
                as_column(self.begins),
                as_column(self.sizes),
            ),
            as_column(self.labels),
            label_ends=None if (counts == 1).all() else np.cumsum(counts, dtype=np.int64),
            lines=as_column(self.lines),
            frame_counts=as_column(self.frame_counts) if 'num_frames' in self.expected else None,
        )


def _extend(column: 'array.array[int]', values: Array) -> None:
    column.frombytes(values.astype(column.typecode).tobytes())


def list_path(path: str) -> str:
    """Return a path as it is written in a list file: a leading ``#``, space or byte order mark needs ``./``."""
    return f'./{path}' if path[:1] in ('#', '\ufeff') or path[:1].isspace() else path


def _check_comment(text: str, expected: str, data_root: str | None) -> None:
    """Raise a ValueError for a comment that names a file or looks like an entry, whose video would be lost."""
    try:
        path = _parse_line(text, expected)[0]
    except ValueError:
        path = text
        is_entry = False
    else:
        is_entry = path[1:2] not in ('#', ' ', '\t') or is_video(path)  # others, such as '# split 1', are comments
    if is_entry or os.path.exists(os.path.join(data_root or '', path)):
        raise ValueError(
            f'lines that start with # are skipped. If this is an entry, write {list_path(text)!r}; if not, delete the '
            'line, or start it with "# " and do not end it with a number'
        )


def _parse_line(text: str, expected: str) -> tuple[str, int | None, tuple[int, ...]]:
    """Return path, number of frames (None if not expected) and labels."""
    num_separators = expected.count(' ')
    fields = text.rsplit(maxsplit=num_separators)
    if len(fields) <= num_separators:
        raise ValueError(f'found {count_noun(len(fields), "field")}')
    num_frames = None
    if 'num_frames' in expected:
        num_frames = _parse_int(fields[1], 'num_frames')
        if num_frames == 0:
            raise ValueError('num_frames must be at least 1')
    if re.search(r'\s[\d,]+,$', fields[0]):
        raise ValueError('join several labels with commas, without spaces, such as 3,17')
    labels = tuple(_parse_int(label, 'label') for label in fields[-1].split(','))
    if len(set(labels)) < len(labels):
        raise ValueError('each label may occur only once')
    return fields[0], num_frames, labels


def _parse_int(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f'{name} must be an integer >= 0, got {text!r}')
    if len(text) > MAX_DIGITS:
        raise ValueError(f'{name} has {len(text)} digits; at most {MAX_DIGITS} are allowed')
    return int(text)
