"""What all readers of lists share: the form that they read into, and how a wrong line is refused."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

Files = Mapping[str, Sequence[str]]

# What people call the three parts.
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
    """A video as a list names it.

    Args:
        names: what its file or folder of frames may be called, 'name' or 'folder/name', as
            :meth:`dsanet.data_tools.lists.media_index.MediaIndex.find` takes them; the first that is there counts.
        classes: names of its classes; none if the list gives none.
        source: where it stands, such as 'train.csv:17'.
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    source: str


@dataclass(frozen=True, slots=True)
class Lists:
    """What the lists of a dataset say.

    Args:
        class_names: the classes in the order of their labels.
        splits: 'train', 'val', 'test' or 'train_split1' and so on, to their videos in the order of the list.
        notes: what was left out or decided, for the user to know.
    """

    class_names: list[str]
    splits: dict[str, list[ListedVideo]]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Role:
    """A file that a dataset's reader takes.

    Args:
        names: what it may be called, with ``*``; the first that is there counts.
        required: nothing can be read without it.
        many: all files of that name belong to the role.
    """

    names: tuple[str, ...]
    required: bool = False
    many: bool = False


@dataclass(frozen=True, slots=True)
class DataSet:
    """A dataset that lists can be built for.

    Args:
        title: its name in full.
        num_classes: how many classes it has; None if that is not known beforehand.
        read: reads its files.
        roles: the files, by role.
        filename_tmpl: how its frames are called unless the user says otherwise.
    """

    title: str
    num_classes: int | None
    read: Callable[[Files], Lists]
    roles: dict[str, Role]
    filename_tmpl: str = 'img_{:05d}.jpg'


class ClassFinder:
    """Finds classes by name; brackets and case make no difference.

    Args:
        class_names: the names.
        file: where they stand.
    """

    def __init__(self, class_names: Sequence[str], file: str) -> None:
        self.class_names = list(class_names)
        self._file = file
        self._by_key: dict[str, str] = {}
        for name in class_names:
            if self._key(name) in self._by_key:
                raise ValueError(f'{file}: {name!r} and {self._by_key[self._key(name)]!r} differ in case alone')
            self._by_key[self._key(name)] = name

    @staticmethod
    def _key(name: str) -> str:
        return name.replace('[', '').replace(']', '').strip().casefold()

    def knows(self, label: str) -> bool:
        """Return whether there is such a class."""
        return self._key(label) in self._by_key

    def __call__(self, label: str, source: str) -> str:
        """Return the name in the spelling of the file.

        Raises:
            ValueError: there is no such class; says where, and what was read.
        """
        if not self.knows(label):
            raise ValueError(f'{source}: {label!r} is none of the {len(self.class_names)} classes of {self._file}')
        return self._by_key[self._key(label)]


def alphabetical(splits: Mapping[str, Sequence[ListedVideo]]) -> list[str]:
    """Return the names of all classes that a video has, sorted."""
    return sorted({name for videos in splits.values() for video in videos for name in video.classes})


def has_line_break(text: str) -> bool:
    """Return whether a file of lines would tear ``text`` apart."""
    return '\n' in text or '\r' in text


def refuse(file: str, line: int, text: str, expected: str) -> NoReturn:
    """Raise ValueError about a line: where it is, what it says and what was expected."""
    raise ValueError(f'{file}:{line}: {text!r} is not what is expected here: {expected}')


def read_lines(file: str) -> Iterator[tuple[int, str]]:
    """Yield number and text of the lines that are not blank."""
    # As in lists: names of files need not be UTF-8.
    with open(file, encoding='utf-8-sig', errors='surrogateescape') as lines:
        for line, text in enumerate(lines, start=1):
            if text.strip():
                yield line, text.strip()


def read_rows(file: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield number and fields of the lines that are not blank, the header first.

    Raises:
        ValueError: a quote that is not closed or ends before its field, or a field that holds a line break; by file
            and the line where the row begins.
    """
    with open(file, encoding='utf-8-sig', errors='surrogateescape', newline='') as stream:
        # Strict: a quote that nothing closes would make one field of all that follows.
        rows = csv.reader(stream, delimiter=separator, strict=True)
        while True:
            line = rows.line_num + 1
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                raise ValueError(f'{file}:{line}: the row that begins here is no csv: {error}') from None
            for text in row:
                if has_line_break(text):
                    refuse(file, line, text[:200], 'a field without a line break; is a quote not closed?')
            if any(text.strip() for text in row):
                yield line, row


def read_json(file: str, kind: type, expected: str) -> Any:
    """Read a JSON file.

    Args:
        file: the file.
        kind: type of its content.
        expected: the content in words.

    Raises:
        ValueError: it is no JSON, by file and line; or it is no UTF-8, nested too deeply, of another type, or has a
            number of thousands of digits.
    """
    with open(file, encoding='utf-8-sig') as stream:
        try:
            content = json.load(stream)
        except json.JSONDecodeError as error:
            raise ValueError(f'{file}:{error.lineno}: no JSON here: {error.msg} (column {error.colno})') from None
        except UnicodeDecodeError as error:
            raise ValueError(f'{file}: must be UTF-8, byte {error.start} is none: {error.reason}') from None
        except RecursionError:
            raise ValueError(f'{file}: lists or objects are nested too deeply to read; expected {expected}') from None
        except ValueError as error:  # Python refuses numbers of thousands of digits
            raise ValueError(f'{file}: cannot be read ({error}); expected {expected}') from None
    if not isinstance(content, kind):
        raise ValueError(f'{file}: expected {expected}, found a {type(content).__name__}')
    return content


def line_of(file: str, text: str) -> int:
    """Return the first line that holds ``text``, 1 if none does; only for the message of an error."""
    with open(file, encoding='utf-8-sig') as lines:
        return next((line for line, content in enumerate(lines, start=1) if text in content), 1)
