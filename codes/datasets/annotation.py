"""Read list files, class files and class folders into records.

A list file has one video per line: ``path label``, or ``path num_frames label`` for folders of frames. Lines are split
from the right, so paths may contain spaces. Labels of a multi-label video are joined by commas: ``path 3,17``. Blank
lines and lines that start with ``#`` are skipped; a ``#`` line that looks like an entry is an error, because its video
would be lost. The path of a file whose name starts with ``#`` is written as ``./#name``.

A CSV file with the columns ``video,label,start,end`` is another kind of list, see :mod:`dsanet.datasets.span_lists`.
"""

import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dsanet.config.arguments import nearest
from dsanet.datasets.frame_names import FrameNames
from dsanet.datasets.list_hints import explain_line
from dsanet.datasets.media_files import SkippedFiles, choose_videos, is_video
from dsanet.datasets.span_lists import is_span_list, parse_labels, read_span_rows
from dsanet.datasets.video.span_reader import Span, format_span
from dsanet.utils.file_kinds import UNKNOWN_KIND, describe_kind

LOGGER = logging.getLogger(__name__)

_MAX_SHOWN = 300  # characters of a malformed line
_MAX_DIGITS = 9  # of labels and frame numbers; a longer number is another column, such as an ID


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


def parse_list_file(
    list_file: str,
    data_root: str | None = None,
    with_num_frames: bool = False,
    errors: list[str] | None = None,
    class_names: Sequence[str] | None = None,
) -> list[VideoRecord]:
    """Read a list file.

    Args:
        list_file: text file, UTF-8; or a CSV file, see :mod:`dsanet.datasets.span_lists`.
        data_root: folder of relative paths; None for the working directory.
        with_num_frames: lines are ``path num_frames label`` instead of ``path label``.
        errors: receives a message for each malformed line, which is then skipped; None to raise the first one.
        class_names: names in the order of the labels, which a CSV file may contain; None if unknown.

    Returns:
        One record per line, in the order of the file.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: a line is malformed, or the file has no videos.
    """
    expected = 'path num_frames label' if with_num_frames else 'path label'
    if is_span_list(list_file):
        if with_num_frames:
            raise ValueError(f'{list_file}: expected lines of the form {expected!r}; CSV lists are for video files')
        return _parse_span_list(list_file, data_root, errors, class_names)
    records = []
    for line, text in enumerate(read_lines(list_file, 'list file'), start=1):
        if not text:
            continue
        try:
            if text.startswith('#'):
                _check_comment(text, expected, data_root)
                continue
            path, num_frames, labels = _parse_line(text, expected)
        except ValueError as error:
            hint = '' if text.startswith('#') else explain_line(text, line, expected.count(' '))
            message = f'{list_file}:{line}: {text[:_MAX_SHOWN]!r} is not {expected!r}: {error}{hint}'
            if errors is None:
                raise ValueError(message) from None
            errors.append(message)
        else:
            records.append(VideoRecord(os.path.join(data_root or '', path), labels, list_file, line, num_frames))
    if not records and not errors:
        raise ValueError(f'{list_file} has no videos; expected lines of the form {expected!r}')
    return records


def _parse_span_list(
    list_file: str, data_root: str | None, errors: list[str] | None, class_names: Sequence[str] | None
) -> list[VideoRecord]:
    """Read a CSV file with the columns ``video,label,start,end``; see :func:`parse_list_file`."""
    records = []
    for row in read_span_rows(list_file, errors):
        try:
            labels = tuple(parse_labels(row.label, class_names))
        except ValueError as error:
            if errors is None:
                raise ValueError(f'{list_file}:{row.line}: {error}') from None
            errors.append(f'{list_file}:{row.line}: {error}')
        else:
            path = os.path.join(data_root or '', row.video)
            records.append(VideoRecord(path, labels, list_file, row.line, start=row.start, end=row.end))
    if not records and not errors:
        raise ValueError(f'{list_file} has no videos; expected rows of the form video,label,start,end')
    return records


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
        raise ValueError(f'found {len(fields)} field(s)')
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
    if len(text) > _MAX_DIGITS:
        raise ValueError(f'{name} has {len(text)} digits; at most {_MAX_DIGITS} are allowed')
    return int(text)


def read_lines(file: str, kind: str) -> list[str]:
    """Return the stripped lines of a text file, without a byte order mark."""
    if not os.path.isfile(file):
        problem = 'is not a file' if os.path.exists(file) else 'does not exist'
        raise FileNotFoundError(f'{kind} {os.path.abspath(file)!r} {problem}')
    # File names need not be UTF-8: surrogateescape keeps their bytes for the file system.
    with open(file, encoding='utf-8-sig', errors='surrogateescape') as stream:
        lines = [line.strip() for line in stream]
    for number, line in enumerate(lines, start=1):
        if '\0' in line:
            what = describe_kind(Path(file))
            what = 'is it UTF-16?' if what == UNKNOWN_KIND else f'it is {what}'
            raise ValueError(f'{file}:{number}: null bytes; save the {kind} as UTF-8 text ({what})')
    return lines


def read_class_names(class_file: str) -> list[str]:
    """Read class names, one per line; the first line is class 0."""
    names = read_lines(class_file, 'class file')
    while names and not names[-1]:
        names.pop()
    first_line: dict[str, int] = {}
    for line, name in enumerate(names, start=1):
        if not name:
            raise ValueError(f'{class_file}:{line}: empty line; each line must be a class name, the first is class 0')
        if name in first_line:
            raise ValueError(f'{class_file}:{line}: duplicate class {name!r} (line {first_line[name]})')
        first_line[name] = line
    if not names:
        raise ValueError(f'{class_file} has no class names; expected one name per line')
    return names


def label_hint(name: str, num_classes: int, smallest: int, largest: int, names_from: str | None = None) -> str:
    """Return the probable cause of labels that are too large, to append to an error.

    Args:
        name: option that sets the number of classes.
        num_classes: its value.
        smallest, largest: smallest and largest label.
        names_from: source of ``num_classes`` class names; None if there are none.
    """
    if smallest == 1 and largest == num_classes:
        return '. No label is 0: labels seem to start at 1; subtract 1 from each'
    return (
        f'. Did you mean {name}={largest + 1}?' if names_from is None else f'; {names_from} has {num_classes} classes'
    )


def select_classes(
    records: Sequence[VideoRecord], class_names: Sequence[str] | None, classes: Sequence[str | int]
) -> tuple[list[VideoRecord], list[str] | None]:
    """Keep the videos of some classes, and renumber these classes from 0.

    Args:
        records: at least one.
        class_names: all class names in the order of the labels; None if unknown.
        classes: the classes to keep, by name or number, in the order of their new labels.

    Returns:
        The videos of these classes, and the names of these classes if known.
    """
    numbers = [_class_number(name, class_names) for name in classes]
    if not numbers or len(set(numbers)) < len(numbers):
        raise ValueError(f'classes={list(classes)!r} must not be empty and must not have duplicates')
    label_of = {number: label for label, number in enumerate(numbers)}
    kept = []
    for record in records:
        labels = tuple(label_of[label] for label in record.labels if label in label_of)
        if labels:
            kept.append(replace(record, labels=labels))
    found = {label for record in kept for label in record.labels}
    # Without class names, a number that does not occur is probably a mistake.
    missing = [name for name, number in zip(classes, numbers, strict=True) if label_of[number] not in found]
    if not kept or (missing and class_names is None):
        raise ValueError(f'{records[0].list_file} has no videos of the classes {missing!r}')
    return kept, None if class_names is None else [class_names[number] for number in numbers]


def choose_class_names(class_names: Sequence[str], classes: Sequence[str | int]) -> list[str]:
    """Return the names of some classes, given by name or number, in their order."""
    return [class_names[_class_number(name, class_names)] for name in classes]


def _class_number(name: str | int, names: Sequence[str] | None) -> int:
    if isinstance(name, int):
        if name < 0 or (names is not None and name >= len(names)):
            allowed = 'at least 0' if names is None else f'0 to {len(names) - 1}'
            raise ValueError(f'classes: {name} is out of range, allowed: {allowed}')
        return name
    if names is None:
        raise ValueError(f'classes: the name {name!r} needs class_file; set class_file or use class numbers')
    if name not in names:
        raise ValueError(f'classes: {name!r} is not one of the {len(names)} classes.{nearest(name, names)}')
    return names.index(name)


def list_class_folders(root: str, skipped: SkippedFiles | None = None) -> list[str]:
    """Return the sorted names of the class folders ``root/class``, without hidden ones.

    Args:
        root: the folder of the class folders.
        skipped: counts the other files and folders.
    """
    if not os.path.isdir(root):
        raise FileNotFoundError(f'folder {os.path.abspath(root)!r} does not exist; expected class folders in it')
    folders, files = _list_visible(root, SkippedFiles() if skipped is None else skipped)
    for name in files:
        if not os.path.exists(os.path.join(root, name)) and not is_video(name):
            raise ValueError(
                f'{os.path.join(root, name)!r} is a broken link; if it is a class folder, mount its target'
            )
    if skipped is not None:
        for name in files:
            skipped.add('outside of the class folders', name)
    if not folders:
        raise ValueError(f'{os.path.abspath(root)!r} has no class folders; expected root/class/video')
    return folders


def scan_class_folders(
    root: str, frame_names: FrameNames | None = None, class_names: Sequence[str] | None = None
) -> tuple[list[VideoRecord], list[str]]:
    """Find the videos of a dataset without a list file, stored as ``root/class/video``.

    Files and folders that are not used are logged by kind.

    Args:
        root: folder of the class folders. Hidden files and folders are skipped.
        frame_names: file names of frames if videos are folders of frames; None for video files.
        class_names: class names in the order of the labels; None for the sorted names of the folders. Necessary if this
            split does not have all classes: otherwise its labels differ from those of the other splits.

    Returns:
        The records, sorted by class and name, and the class names.

    Raises:
        FileNotFoundError, ValueError: ``root`` does not exist, a class folder has no videos, is a broken link or is not
            a known class.
    """
    skipped = SkippedFiles()
    folders = list_class_folders(root, skipped)
    names = list(folders if class_names is None else class_names)
    label_of = {name: label for label, name in enumerate(names)}
    records = []
    for name in folders:
        folder = os.path.join(root, name)
        if name not in label_of:
            raise ValueError(f'folder {folder!r} is not one of the {len(names)} classes: {", ".join(names)}')
        own_skipped = SkippedFiles()
        if frame_names is None:
            expected = 'videos'
            found = _find_videos(root, name, own_skipped)
        else:
            expected = f'folders of frames named {frame_names.template!r}'
            found = _find_frame_folders(root, name, frame_names, own_skipped)
        if not found:
            raise ValueError(f'class folder {folder!r} has no {expected}; found {own_skipped or "no files"}')
        skipped.merge(own_skipped)
        labels = (label_of[name],)
        records += [VideoRecord(os.path.join(folder, video), labels, folder, None, n) for video, n in found]
    if skipped:
        LOGGER.info('Not used in %s: %s', root, skipped)
    return records, names


def _list_visible(folder: str, skipped: SkippedFiles, prefix: str = '') -> tuple[list[str], list[str]]:
    """Return the sorted names of the subfolders and of the files in a folder; hidden ones are skipped."""
    folders: list[str] = []
    files: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith('.'):
                skipped.add('hidden', os.path.join(prefix, entry.name))
            else:
                (folders if entry.is_dir() else files).append(entry.name)
    return sorted(folders), sorted(files)


def _find_videos(root: str, name: str, skipped: SkippedFiles) -> list[tuple[str, int | None]]:
    """Return (name, None) for each video file in a class folder: its frames are counted when it is opened."""
    folders, files = _list_visible(os.path.join(root, name), skipped, name)
    for folder in folders:
        skipped.add('subfolder of a class folder', os.path.join(name, folder))
    return [(file, None) for file in choose_videos(files, name, skipped)]


def _find_frame_folders(
    root: str, name: str, frame_names: FrameNames, skipped: SkippedFiles
) -> list[tuple[str, int | None]]:
    """Return (name, number of frames) for each folder of frames in a class folder."""
    found: list[tuple[str, int | None]] = []
    folders, files = _list_visible(os.path.join(root, name), skipped, name)
    for file in files:
        skipped.add_file(os.path.join(name, file))
    for folder in folders:
        path = os.path.join(root, name, folder)
        num_frames, problem = frame_names.count(os.listdir(path))
        if problem is not None:
            raise ValueError(f'{path!r}: {problem} (frames named {frame_names.template!r})')
        if num_frames:
            found.append((folder, num_frames))
        else:
            skipped.add(f'folder without frames named {frame_names.template!r}', os.path.join(name, folder))
    return found
