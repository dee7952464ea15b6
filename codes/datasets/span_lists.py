"""Read CSV lists, whose samples may be spans of video files.

The file has a header with the columns ``video`` and ``label``, and optionally ``start`` and ``end``::

    video,label,start,end
    monday.mp4,wave,12.5,15
    monday.mp4,clap,1:03,1:05.4
    short.mp4,clap,,

``start`` and ``end`` are seconds since the first frame, or ``[hours:]minutes:seconds``; the end is excluded. An empty
``start`` is the start of the video, an empty ``end`` its end. ``label`` is a class name or number; several of a
multi-label sample are joined by commas, in quotes.
"""

import csv
import math
import os
import re
from collections.abc import Iterator, Sequence
from itertools import accumulate, islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dsanet.config.arguments import nearest

COLUMNS = ('video', 'label', 'start', 'end')
_MAX_DIGITS = 9  # of labels
_SEPARATORS = ',;\t'
_BATCH = 512  # rows that are read at a time; with thousands, garbage collections take as long as reading
_SECONDS = re.compile(r'(?:\d+:){0,2}\d+(?:\.\d*)?|\.\d+', re.ASCII)
_LINE_BREAK = re.compile('\r\n|\r|\n')


class SpanRow(NamedTuple):
    """A row of a CSV list; ``label`` is text, and the limits are seconds, None if empty."""

    line: int
    video: str
    label: str
    start: float | None
    end: float | None


class SpanColumns(NamedTuple):
    """Rows of a CSV list as columns; ``starts`` and ``ends`` are seconds, NaN if empty."""

    lines: Sequence[int]
    videos: Sequence[str]
    labels: Sequence[str]
    starts: npt.NDArray[np.float64]
    ends: npt.NDArray[np.float64]


def is_span_list(file: str) -> bool:
    """Return whether a list is a CSV file whose header has the column ``video`` or ``path``, not a text list."""
    if not file.lower().endswith('.csv') or not os.path.isfile(file):
        return False
    with open(file, encoding='utf-8-sig', errors='surrogateescape') as stream:
        first = stream.readline(10_000)
    columns = {name.strip().casefold() for name in re.split(f'[{_SEPARATORS}]', first)}
    return len(columns) > 1 and not columns.isdisjoint(('video', 'path'))


def read_span_rows(file: str, errors: list[str] | None = None, needs_labels: bool = True) -> Iterator[SpanRow]:
    """Yield the rows of a CSV list.

    Args:
        file: the file.
        errors: receives a message for each malformed row, which is then skipped; None to raise the first one.
        needs_labels: whether a row without a label is malformed.

    Raises:
        ValueError: the header is wrong, or a row is malformed.
    """
    for batch in _read_batches(file, needs_labels):
        yield from batch.parse(errors)


def read_span_columns(file: str, errors: list[str] | None = None) -> Iterator[SpanColumns | Iterator[SpanRow]]:
    """Yield the rows of a CSV list, some thousand at a time: usual ones as columns, others as by ``read_span_rows``."""
    for batch in _read_batches(file, needs_labels=True):
        yield batch.columns() or batch.parse(errors)


class _Batch(NamedTuple):
    """Rows that follow each other, as read from the file, with the names and the separator of the columns."""

    file: str
    separator: str
    header: list[str]
    lines: Sequence[int]
    rows: list[list[str]]
    needs_labels: bool

    def parse(self, errors: list[str] | None) -> Iterator[SpanRow]:
        """Yield the rows; see :func:`read_span_rows`."""
        for line, fields in zip(self.lines, self.rows, strict=True):
            row = [field.strip() for field in fields]
            if not any(row):
                continue
            try:
                yield _parse_row(self.header, row, line, self.needs_labels)
            except ValueError as error:
                message = f'{self.file}:{line}: {self.separator.join(row)[:300]!r}: {error}'
                if errors is None:
                    raise ValueError(message) from None
                errors.append(message)

    def columns(self) -> SpanColumns | None:
        """Return the rows as columns; None if any needs a closer look."""
        if set(map(len, self.rows)) != {len(self.header)}:
            return None
        by_name = dict(zip(self.header, zip(*self.rows, strict=True), strict=True))
        empty = ('',) * len(self.rows)
        videos, labels = by_name['video'], by_name['label']
        starts, ends = (_to_seconds(by_name.get(name, empty)) for name in ('start', 'end'))
        if starts is None or ends is None or not (videos and all(videos) and all(labels)):
            return None
        joined = '|'.join(videos)
        if '\n' in joined or '\0' in joined or any(tuple(map(str.strip, one)) != one for one in (videos, labels)):
            return None
        if np.isinf(ends).any() or not (np.where(starts >= 0, starts, 0) < np.where(ends >= 0, ends, np.inf)).all():
            return None
        return SpanColumns(self.lines, videos, labels, starts, ends)


def _to_seconds(texts: Sequence[str]) -> npt.NDArray[np.float64] | None:
    """Return seconds, NaN for empty texts; None if any is not a plain number."""
    digits = ''.join(texts).replace('.', '')
    if digits and not (digits.isascii() and digits.isdigit()):
        return None
    try:
        return np.array([float(text) if text else np.nan for text in texts])
    except ValueError:
        return None


def _read_batches(file: str, needs_labels: bool) -> Iterator[_Batch]:
    # File names need not be UTF-8: surrogateescape keeps their bytes for the file system.
    with open(file, encoding='utf-8-sig', errors='surrogateescape', newline='') as stream:
        separator = max(_SEPARATORS, key=stream.readline().count)
        stream.seek(0)
        reader = csv.reader(stream, delimiter=separator, strict=True, skipinitialspace=True)
        header: list[str] = []
        while True:
            first, problem = reader.line_num + 1, ''
            rows: list[list[str]] = []
            try:
                rows.extend(islice(reader, _BATCH if header else 1))
            except csv.Error as error:  # rows before it are in the list
                problem = str(error)
            *lines, following = _number_lines(rows, first, reader.line_num)
            if header:
                yield _Batch(file, separator, header, lines, rows, needs_labels)
            elif rows and any(fields := [field.strip() for field in rows[0]]):
                header = _check_header(fields, f'{file}:{first}', needs_labels)
            if problem:
                raise ValueError(f'{file}:{following}: not valid CSV: {problem}')
            if not rows:
                return


def _number_lines(rows: Sequence[Sequence[str]], first: int, last: int) -> Sequence[int]:
    """Return the line at which each row of the lines ``first`` to ``last`` begins, and that after all rows."""
    if last - first + 1 == len(rows):
        return range(first, last + 2)
    counts = (1 + sum(len(_LINE_BREAK.findall(field)) for field in row) for row in rows)  # fields in quotes
    return list(accumulate(counts, initial=first))


def _check_header(row: list[str], source: str, needs_labels: bool) -> list[str]:
    """Return the names of the columns; raise a ValueError for unknown, missing or duplicate ones."""
    header = ['video' if name.casefold() == 'path' else name.casefold() for name in row]
    for name in header:
        if name not in COLUMNS:
            raise ValueError(
                f'{source}: unknown column {name!r}.{nearest(name, COLUMNS)} Allowed: {", ".join(COLUMNS)}; '
                '`dsanet build-list span_csv` reads other tables'
            )
    required = {'video', 'label'} if needs_labels else {'video'}
    if not required <= set(header) or len(set(header)) < len(header):
        raise ValueError(f'{source}: found the columns {", ".join(row)}, expected {", ".join(COLUMNS)}, each once')
    return header


def _parse_row(header: list[str], row: list[str], line: int, needs_labels: bool) -> SpanRow:
    if len(row) != len(header):
        raise ValueError(f'found {len(row)} fields, expected {len(header)}: {", ".join(header)}')
    value = dict(zip(header, row, strict=True))
    video, label = value['video'], value.get('label', '')
    if not video:
        raise ValueError('video is empty')
    if not label and needs_labels:
        raise ValueError('label is empty')
    if '\n' in video or '\0' in video:
        raise ValueError('video contains a line break or a null character; is a quote not closed?')
    start, end = parse_seconds(value.get('start', ''), 'start'), parse_seconds(value.get('end', ''), 'end')
    check_span(start, end)
    return SpanRow(line, video, label, start, end)


def parse_seconds(text: str, name: str) -> float | None:
    """Return seconds, from ``75.5`` or ``1:15.5`` or ``0:01:15.5``; None for an empty text.

    Raises:
        ValueError: the value is malformed or negative; ``name`` describes it.
    """
    if not text:
        return None
    if not _SECONDS.fullmatch(text):
        raise ValueError(f'{name} must be seconds >= 0, or minutes:seconds, got {text!r}')
    if ':' not in text:
        return float(text)
    *larger, seconds = text.split(':')
    minutes = 0
    for number in larger:
        minutes = 60 * minutes + int(number)
    return round(60 * minutes + float(seconds), 6)


def check_span(start: float | None, end: float | None) -> None:
    """Raise a ValueError if a span is empty, negative or not finite."""
    if start is not None and end is not None and 0 <= start < end < math.inf:
        return
    limits = [limit for limit in (start, end) if limit is not None]
    if not all(math.isfinite(limit) and limit >= 0 for limit in limits):
        raise ValueError(f'start and end must be seconds >= 0, got {start} and {end}')
    if end is not None and end <= (start or 0):
        problem = 'the span is empty' if end == (start or 0) else 'the span ends before it starts'
        raise ValueError(f'{problem}: start={start or 0:g}, end={end:g}')


def parse_labels(text: str, class_names: Sequence[str] | None) -> list[int]:
    """Return the class numbers of a cell with one or, joined by commas, several class names or numbers."""
    if class_names is not None and text in class_names:  # a name may contain commas
        return [class_names.index(text)]
    labels = [_parse_label(label.strip(), class_names) for label in text.split(',')]
    if len(set(labels)) < len(labels):
        raise ValueError(f'each label may occur only once, got {text!r}')
    return labels


def _parse_label(text: str, class_names: Sequence[str] | None) -> int:
    if class_names is not None and text in class_names:
        return class_names.index(text)
    if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS:
        return int(text)
    if class_names is None:
        raise ValueError(f'label {text!r} is not a class number; set class_file to use class names')
    raise ValueError(f'label {text!r} is not one of the {len(class_names)} classes.{nearest(text, class_names)}')
