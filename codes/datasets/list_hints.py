"""Likely causes of errors in list files: what is wrong with a line, and which file its path was meant to name."""

import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from urllib.parse import unquote

from dsanet.datasets.frame_names import FrameNames
from dsanet.datasets.media_files import is_video

_MAX_SUBFOLDERS = 100  # of data_root, which are searched, too
_INVISIBLE = '\ufeff\u200b\u200e\u200f\u2060'
_QUOTES = '\'"`\u2018\u2019\u201c\u201d'
_SEPARATORS = {',': 'commas', ';': 'semicolons', '|': '"|"'}

# Common mistakes in the paths of lists, and how to fix them. A function that does not apply changes nothing.
_PATH_VARIANTS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ('remove the invisible characters', lambda path: path.strip(_INVISIBLE)),
    ('use / instead of \\', lambda path: path.replace('\\', '/')),
    ('remove the columns between path and label', lambda path: re.sub(r'([\s,;|]+-?\d+(\.\d+)?)+$', '', path)),
    ('remove the separator after the path', lambda path: path.rstrip(' ,;|')),
    ('remove the quotes', lambda path: path.strip(_QUOTES)),
    ('decode the %-escapes', unquote),
    ('remove file://', lambda path: path.removeprefix('file://')),
    ('write the home folder instead of ~', os.path.expanduser),
)


def explain_line(text: str, line: int, num_separators: int) -> str:
    """Return the likely cause of a malformed line, as the end of an error message; empty if unknown.

    Args:
        text: the line.
        line: its number, starting at 1.
        num_separators: number of fields after the path.
    """
    if line == 1 and not re.search(r'\d', text):
        return '. It looks like a header; delete it'
    for separator, name in _SEPARATORS.items():
        last = [field.strip(f' {_QUOTES}') for field in text.rsplit(separator, num_separators)[1:]]
        if len(last) == num_separators and all(map(_is_number, last)):
            return f'. Separate the fields with spaces or tabs, not {name}'
    fields = text.split()
    last = [field.strip(_QUOTES) for field in fields[len(fields) - num_separators :]]
    if len(fields) > num_separators and last != fields[-num_separators:] and all(map(_is_number, last)):
        return '. Remove the quotes'
    if ' #' in text and _is_number(text.partition(' #')[0].split()[-1]):
        return '. Comments must be on lines of their own'
    if len(fields) == num_separators and num_separators > 1 and _is_number(fields[-1]):
        return '. num_frames is missing; for video files use VideoDataset, whose lists have lines "path label"'
    if len(fields) <= num_separators and is_video(text.strip(_QUOTES)):
        return '. The label is missing'
    if _is_number(fields[0]) and not _is_number(fields[-1]):
        return '. The label must be the last field'
    if re.fullmatch(r'\d+\.0*', fields[-1]):
        return f'. Write {int(float(fields[-1]))}'
    if re.fullmatch(r'[^\W\d]\w*', fields[-1]):
        return '. Labels are class numbers starting at 0; `dsanet build-list csv` makes a list from class names'
    return ''


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def explain_missing(path: str, roots: Sequence[str], frame_names: FrameNames | None = None) -> str:
    """Return which file the path of a list was meant to name, and how to change the list.

    Tries other spellings of the path, in several folders, and all of them with leading folders removed.

    Args:
        path: path as written in the list, which does not exist.
        roots: folders that the path may be relative to; the first one is ``data_root``, '' for the working directory.
        frame_names: names of frames if ``path`` is a folder of frames; None for a video file.

    Returns:
        The end of an error message, such as ``'. walk/a.mp4 exists: paths need the extension'``; empty if unknown.
    """
    finder = _Finder(frame_names is not None)
    roots = [*roots, *finder.subfolders(roots[0])]
    spellings = list(_spellings(path))
    tails = [(tail, [*how, 'remove the leading folders']) for spelling, how in spellings for tail in _tails(spelling)]
    tries = [(root, *spelling) for spelling in spellings for root in roots]
    tries += [(root, *tail) for root in roots for tail in tails]
    for root, spelling, how in tries:
        found = finder.find(root, spelling)
        if found is not None:
            full = os.path.join(root, found)
            changes = [*how, *_changes(spelling, found)]
            if root != roots[0] and not os.path.isabs(found):
                changes.append(
                    f'set data_root={root or "."!r} (train_dir, val_dir in configs/custom/), or use '
                    'dsanet build-list --relative-to DATA_ROOT'
                )
            if changes:
                return f'. {full} exists: {"; ".join(changes)}'
            return _explain_frames(full, frame_names) if frame_names is not None else ''
    if finder.other_kind is None:
        return ''
    if frame_names is None:
        return (
            f'. {finder.other_kind} is a folder: for lines `folder num_frames label` use RawFramesDataset '
            '(see configs/custom/small_from_scratch_frames.py)'
        )
    return f'. {finder.other_kind} is a file: for video files use VideoDataset, with lines `path label`'


def _spellings(path: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the path as it is, then with each combination of the variants that apply, the fewest changes first."""
    for number in range(4):
        for chosen in combinations(_PATH_VARIANTS, number):
            spelling = path
            how: list[str] = []
            for text, function in chosen:
                changed = function(spelling)
                if changed == spelling:
                    break
                spelling, how = changed, [*how, text]
            else:
                if spelling:
                    yield spelling, how


def _tails(path: str) -> Iterator[str]:
    """Yield the path without its first folders, the longest first."""
    parts = [part for part in path.split('/') if part]
    for number in range(1, len(parts)):
        yield '/'.join(parts[number:])


def _changes(path: str, found: str) -> list[str]:
    """Return how a path differs from that of the existing file."""
    if os.path.normpath(path) == found:
        return []
    if os.path.normpath(path).casefold() == found.casefold():
        return ['upper and lower case differ']
    if _key(path) == _key(found):
        return ['accents are encoded in another Unicode form (NFC or NFD)']
    return ['the extension differs' if is_video(path) else 'paths need the extension']


def _key(name: str) -> str:
    return unicodedata.normalize('NFC', os.path.normpath(name)).casefold()


class _Finder:
    """Finds files and folders by name, ignoring case, Unicode form and extension; each folder is read once.

    Attributes:
        other_kind: the first folder found instead of a file, or the reverse.
    """

    def __init__(self, wants_folder: bool) -> None:
        self.other_kind: str | None = None
        self._wants_folder = wants_folder
        self._contents: dict[str, list[str]] = {}

    def subfolders(self, folder: str) -> list[str]:
        """Return the first subfolders of a folder."""
        paths = [os.path.join(folder, name) for name in self._list(folder)[:_MAX_SUBFOLDERS]]
        return [path for path in paths if os.path.isdir(path)]

    def find(self, root: str, path: str) -> str | None:
        """Return the path of the existing file or folder, relative to ``root``."""
        path = os.path.normpath(path)
        if '\0' in path:
            return None
        if self._is_right(os.path.join(root, path)):
            return path
        here = '/' if os.path.isabs(path) else ''
        parts = [part for part in path.split('/') if part]
        for depth, part in enumerate(parts):
            folder = os.path.join(root, here)
            name = part
            if part != os.pardir and not os.path.lexists(os.path.join(folder, part)):
                is_last = depth == len(parts) - 1
                name = next(self._similar(folder, part, is_last), '')
            if not name:
                return None
            here = os.path.join(here, name)
        return here if self._is_right(os.path.join(root, here)) else None

    def _similar(self, folder: str, name: str, is_last: bool) -> Iterator[str]:
        names = self._list(folder)
        yield from (other for other in names if _key(other) == _key(name))
        if is_last and not self._wants_folder:
            stems = {_key(name)} | ({_key(os.path.splitext(name)[0])} if is_video(name) else set())
            yield from (other for other in names if is_video(other) and _key(os.path.splitext(other)[0]) in stems)

    def _list(self, folder: str) -> list[str]:
        if folder not in self._contents:
            try:
                self._contents[folder] = sorted(os.listdir(folder or os.curdir))
            except OSError:
                self._contents[folder] = []
        return self._contents[folder]

    def _is_right(self, path: str) -> bool:
        if self._wants_folder and os.path.isdir(path) or not self._wants_folder and os.path.isfile(path):
            return True
        if self.other_kind is None and os.path.exists(path):
            self.other_kind = path
        return False


def _explain_frames(folder: str, frame_names: FrameNames) -> str:
    """Return why an existing folder of frames does not match its line."""
    names = sorted(os.listdir(folder))
    count, problem = frame_names.count(names)
    if count:
        return f'. {folder} has {count} frames named {frame_names.template!r}; {problem or "correct num_frames"}'
    return f'. {folder} has no files named {frame_names.template!r}' + (
        f', but {names[0]!r}; set filename_tmpl and start_index' if names else ''
    )
