"""Data structures and file readers that the list builders of all datasets share."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

Files = Mapping[str, Sequence[str]]

_MAX_SHOWN = 200  # characters of an invalid line or entry

# Common names of the three splits.
SPLITS = {
    'train': 'train',
    'training': 'train',
    'val': 'val',
    'valid': 'val',
    'validate': 'val',
    'validation': 'val',
    'test': 'test',
    'testing': 'test',
}


@dataclass(frozen=True, slots=True)
class ListedVideo:
    """A video in an official list.

    Args:
        names: possible names of its file or frame folder, 'name' or 'folder/name', as accepted by
            :meth:`dsanet.data_tools.lists.media_index.MediaIndex.find`; the first one that exists is used.
        classes: names of its classes; empty if the list has no label for it.
        source: file and line, such as 'train.csv:17'.
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    source: str


@dataclass(frozen=True, slots=True)
class Lists:
    """The content of a dataset's official lists.

    Args:
        class_names: classes in label order.
        splits: videos in list order for each split: 'train', 'val', 'test', 'train_split1', ...
        notes: messages for the user, such as files that were skipped.
    """

    class_names: list[str]
    splits: dict[str, list[ListedVideo]]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Role:
    """One kind of file that a dataset's reader uses.

    Args:
        names: possible file names, with ``*`` as wildcard; the first one that exists is used.
        required: whether the reader needs the file.
        many: whether several files can match.
    """

    names: tuple[str, ...]
    required: bool = False
    many: bool = False


@dataclass(frozen=True, slots=True)
class DatasetSpec:
    """A dataset for which lists can be built.

    Args:
        title: full name.
        num_classes: number of classes; None if it depends on the data.
        read: function that reads the files.
        roles: required and optional files by role.
        filename_tmpl: default file name of a frame.
    """

    title: str
    num_classes: int | None
    read: Callable[[Files], Lists]
    roles: dict[str, Role]
    filename_tmpl: str = 'img_{:05d}.jpg'


class ClassFinder:
    """Find classes by name, ignoring brackets and case; errors name the ``file`` that defines the classes."""

    def __init__(self, class_names: Sequence[str], file: str) -> None:
        self.class_names = list(class_names)
        self._file = file
        self._by_key: dict[str, str] = {}
        for name in class_names:
            other = self._by_key.get(self._key(name))
            if other is not None:
                raise ValueError(f'{file}: classes {name!r} and {other!r} differ only in case or brackets')
            self._by_key[self._key(name)] = name

    @staticmethod
    def _key(name: str) -> str:
        return name.replace('[', '').replace(']', '').strip().casefold()

    def __call__(self, label: str, source: str) -> str:
        """Return the class name as spelled in the class file; ValueError with ``source`` if it is unknown."""
        if self._key(label) not in self._by_key:
            raise ValueError(f'{source}: {label!r} is not one of the {len(self.class_names)} classes in {self._file}')
        return self._by_key[self._key(label)]


def sorted_classes(splits: Mapping[str, Sequence[ListedVideo]]) -> list[str]:
    """Return the names of all classes that have a video, in alphabetical order."""
    return sorted({name for videos in splits.values() for video in videos for name in video.classes})


def has_line_break(text: str) -> bool:
    return '\n' in text or '\r' in text


def shorten(value: Any) -> str:
    """Return the beginning of a value as text, for an error."""
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f'{text[:_MAX_SHOWN]}...'


def raise_bad_line(file: str, line: int, text: str, expected: str) -> NoReturn:
    raise ValueError(f'{file}:{line}: found {shorten(text)}, expected {expected}')


def numbered_lines(file: str) -> Iterator[tuple[int, str]]:
    """Yield line number and stripped text of all lines that are not blank."""
    # File names need not be valid UTF-8.
    with open(file, encoding='utf-8-sig', errors='surrogateescape') as lines:
        for line, text in enumerate(lines, start=1):
            if text.strip():
                yield line, text.strip()


def csv_rows(file: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and fields of all rows that are not blank, including the header."""
    with open(file, encoding='utf-8-sig', errors='surrogateescape', newline='') as stream:
        # Strict: an unclosed quote would put the rest of the file into one field.
        rows = csv.reader(stream, delimiter=separator, strict=True)
        while True:
            line = rows.line_num + 1
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                raise ValueError(f'{file}:{line}: the row that starts here is not valid CSV: {error}') from None
            for text in row:
                if has_line_break(text):
                    raise_bad_line(file, line, text[:200], 'a field without line breaks (is a quote not closed?)')
            if any(text.strip() for text in row):
                yield line, row


def read_json(file: str, kind: type, expected: str) -> Any:
    """Read a JSON file whose content must have type ``kind``, which errors describe as ``expected``."""
    with open(file, encoding='utf-8-sig') as stream:
        try:
            content = json.load(stream)
        except ValueError as error:  # also invalid UTF-8
            raise ValueError(f'{file}: invalid JSON, expected {expected}: {error}') from None
    if not isinstance(content, kind):
        raise ValueError(f'{file}: expected {expected}, found a {type(content).__name__}')
    return content
