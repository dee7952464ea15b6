"""Read the usual lines of list files with NumPy, many at a time.

A usual line is ``path label``, ``path label,label`` or ``path num_frames label`` with one space or tab between the
fields. All others, also malformed ones, are left to the caller.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Offsets = npt.NDArray[np.int64]

MAX_DIGITS = 9  # of labels and frame numbers; a longer number is another column, such as an ID
_CHUNK_BYTES = 1 << 22
_MAX_LABELS = 64  # of a usual line
_TAB, _SPACE, _HASH, _COMMA, _ZERO = b'\t #,0'


class LineColumns(NamedTuple):
    """Lines that follow each other, as columns.

    Attributes:
        begins, ends: limits of each line in the text, without its line break.
        path_ends: end of its path, which begins where the line begins; undefined unless it is usual.
        frame_counts: number of frames of its folder; undefined unless it is usual and has one.
        is_usual: whether the line is usual.
        label_rows: the line of each label, ascending; usual lines only.
        labels: the labels, in the order of the text.
    """

    begins: Offsets
    ends: Offsets
    path_ends: Offsets
    frame_counts: Offsets
    is_usual: npt.NDArray[np.bool_]
    label_rows: Offsets
    labels: Offsets


def read_columns(text: bytes, with_num_frames: bool) -> Iterator[LineColumns]:
    """Yield all lines of a list, some thousand at a time.

    Args:
        text: the list, with lines that end in a line feed.
        with_num_frames: whether lines are ``path num_frames label``.
    """
    bytes_ = np.frombuffer(text, dtype=np.uint8)
    first = 0
    while first < len(text):
        last = len(text)
        if last > first + _CHUNK_BYTES:
            last = text.rfind(b'\n', first, first + _CHUNK_BYTES) + 1 or text.find(b'\n', first) + 1 or last
        ends = first + np.flatnonzero(bytes_[first:last] == ord('\n'))
        if last == len(text) and text[-1:] != b'\n':
            ends = np.append(ends, last)
        yield _read_lines(bytes_, np.concatenate([[first], ends[:-1] + 1]), ends, with_num_frames)
        first = last


def _read_lines(text: npt.NDArray[np.uint8], begins: Offsets, ends: Offsets, with_num_frames: bool) -> LineColumns:
    is_usual = np.ones(len(begins), dtype=np.bool_)
    at = ends.copy()  # how far the fields have been read, from the right
    rows, labels = _read_labels(text, at, is_usual)
    frame_counts = np.zeros_like(at)
    if with_num_frames:
        is_usual &= _is_separator(text, at)
        frame_counts, start = _read_number(text, at - 1)
        is_usual &= frame_counts > 0
        at = start
    is_usual &= _is_separator(text, at)
    path_ends = at - 1
    is_usual &= path_ends > begins
    is_usual &= _is_usual_path(text, begins, path_ends)
    is_usual[_duplicates(rows, labels)] = False
    kept = is_usual[rows]
    return LineColumns(begins, ends, path_ends, frame_counts, is_usual, rows[kept], labels[kept])


def _read_labels(text: npt.NDArray[np.uint8], at: Offsets, is_usual: npt.NDArray[np.bool_]) -> tuple[Offsets, Offsets]:
    """Return line and value of each label; move ``at`` to the first label of each line, and clear ``is_usual``."""
    rows, labels = [], []
    active = np.arange(len(at))
    for _ in range(_MAX_LABELS):
        number, start = _read_number(text, at[active])
        found = start < at[active]
        is_usual[active[~found]] = False
        at[active] = start
        rows.append(active[found])
        labels.append(number[found])
        active = active[found & (_before(text, start) == _COMMA)]
        if not len(active):
            break
        at[active] -= 1  # the comma
    is_usual[active] = False
    # From the last label of a line to the first; a stable sort keeps the order inside a line.
    every_row, every_label = np.concatenate(rows[::-1]), np.concatenate(labels[::-1])
    order = np.argsort(every_row, kind='stable') if len(rows) > 1 else slice(None)
    return every_row[order], every_label[order]


def _read_number(text: npt.NDArray[np.uint8], end: Offsets) -> tuple[Offsets, Offsets]:
    """Return the numbers of at most nine digits that end before ``end``, and where they begin."""
    value, start = np.zeros_like(end), end.copy()
    is_inside = np.ones(len(end), dtype=np.bool_)
    for place in range(MAX_DIGITS):
        digit = _before(text, start) - np.uint8(_ZERO)  # other characters wrap around to at least 10
        is_inside &= digit < 10
        if not is_inside.any():
            break
        value += np.where(is_inside, digit, 0).astype(np.int64) * 10**place
        start -= is_inside
    return value, start


def _before(text: npt.NDArray[np.uint8], at: Offsets, distance: int = 1) -> npt.NDArray[np.uint8]:
    """Return the byte before each place; before the text any byte, as the line is not usual then."""
    return text[np.maximum(at - distance, 0)]


def _is_separator(text: npt.NDArray[np.uint8], at: Offsets) -> npt.NDArray[np.bool_]:
    byte = _before(text, at)
    return (byte == _SPACE) | (byte == _TAB)


def _is_usual_path(text: npt.NDArray[np.uint8], begins: Offsets, ends: Offsets) -> npt.NDArray[np.bool_]:
    """Return whether paths neither begin nor end with a character that might need care, such as a space."""
    first, last = _before(text, begins + 1), _before(text, ends)
    usual = (first > _SPACE) & (first != _HASH) & (last > _SPACE) & (last != _COMMA)
    # Spaces outside of ASCII take two or three bytes: C2 85, C2 A0, E1 9A 80, E2 80 .., E2 81 9F and E3 80 80.
    for place in np.flatnonzero(usual & (first >= 0x80)):
        usual[place] = not bytes(text[begins[place] : begins[place] + 3]).decode('utf-8', 'replace')[0].isspace()
    for place in np.flatnonzero(usual & (last >= 0x80)):
        usual[place] = not bytes(text[ends[place] - 3 : ends[place]]).decode('utf-8', 'replace')[-1:].isspace()
    return usual


def _duplicates(rows: Offsets, labels: Offsets) -> Offsets:
    """Return the lines in which a label occurs twice."""
    several = np.flatnonzero(np.diff(rows) == 0)
    several = np.union1d(several, several + 1)  # the labels of lines with more than one
    rows, labels = rows[several], labels[several]
    order = np.lexsort((labels, rows))
    rows, labels = rows[order], labels[order]
    return rows[1:][(np.diff(rows) == 0) & (np.diff(labels) == 0)]
