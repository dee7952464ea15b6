"""Read list files, class files and class folders into records.

A list file has one video per line: ``path label``, or ``path num_frames label`` for folders of frames. Lines are split
from the right, so paths may contain spaces. Labels of a multi-label video are joined by commas: ``path 3,17``. Blank
lines and lines that start with ``#`` are skipped; a ``#`` line that looks like an entry is an error, because its video
would be lost. The path of a file whose name starts with ``#`` is written as ``./#name``.

A CSV file with the columns ``video,label,start,end`` is another kind of list, see :mod:`dsanet.datasets.span_lists`.
"""

import codecs
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dsanet.config.arguments import nearest
from dsanet.datasets.frame_names import FrameNames
from dsanet.datasets.media_files import SkippedFiles, choose_videos, is_video
from dsanet.datasets.records import RecordBuilder, VideoRecords
from dsanet.datasets.span_lists import SpanColumns, is_span_list, parse_labels, read_span_columns
from dsanet.datasets.text_lists import parse_text_list
from dsanet.utils.file_kinds import UNKNOWN_KIND, describe_kind

LOGGER = logging.getLogger(__name__)


def parse_list_file(
    list_file: str,
    data_root: str | None = None,
    with_num_frames: bool = False,
    errors: list[str] | None = None,
    class_names: Sequence[str] | None = None,
) -> VideoRecords:
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
    records = parse_text_list(list_file, _read_text(list_file, 'list file'), data_root, expected, errors)
    if not records and not errors:
        raise ValueError(f'{list_file} has no videos; expected lines of the form {expected!r}')
    return records


def _parse_span_list(
    list_file: str, data_root: str | None, errors: list[str] | None, class_names: Sequence[str] | None
) -> VideoRecords:
    """Read a CSV file with the columns ``video,label,start,end``; see :func:`parse_list_file`."""
    records = RecordBuilder(data_root or '')
    known: dict[str, list[int]] = {}  # labels by text

    def find_labels(text: str, line: int) -> list[int] | None:
        if text not in known:
            try:
                known[text] = parse_labels(text, class_names)
            except ValueError as error:
                if errors is None:
                    raise ValueError(f'{list_file}:{line}: {error}') from None
                errors.append(f'{list_file}:{line}: {error}')
        return known.get(text)

    for batch in read_span_columns(list_file, errors):
        if isinstance(batch, SpanColumns):
            both = zip(batch.labels, batch.lines, strict=True)
            every = [known.get(text) or find_labels(text, line) for text, line in both]
            records.extend(batch.videos, every, list_file, batch.lines, batch.starts, batch.ends)
        else:
            for row in batch:
                if (labels := find_labels(row.label, row.line)) is not None:
                    records.add(row.video, labels, list_file, row.line, start=row.start, end=row.end)
    if not len(records) and not errors:
        raise ValueError(f'{list_file} has no videos; expected rows of the form video,label,start,end')
    return records.build()


def read_lines(file: str, kind: str) -> list[str]:
    """Return the stripped lines of a text file, without a byte order mark."""
    # File names need not be UTF-8: surrogateescape keeps their bytes for the file system.
    lines = _read_text(file, kind).decode('utf-8', 'surrogateescape').split('\n')
    return [line.strip() for line in (lines if lines[-1] else lines[:-1])]


def _read_text(file: str, kind: str) -> bytes:
    """Return the content of a text file, without a byte order mark and with line feeds as line breaks."""
    if not os.path.isfile(file):
        problem = 'is not a file' if os.path.exists(file) else 'does not exist'
        raise FileNotFoundError(f'{kind} {os.path.abspath(file)!r} {problem}')
    text = Path(file).read_bytes().removeprefix(codecs.BOM_UTF8)
    if b'\r' in text:
        text = text.replace(b'\r\n', b'\n').replace(b'\r', b'\n')
    if (place := text.find(b'\0')) >= 0:
        what = describe_kind(Path(file))
        what = 'is it UTF-16?' if what == UNKNOWN_KIND else f'it is {what}'
        number = text.count(b'\n', 0, place) + 1
        raise ValueError(f'{file}:{number}: null bytes; save the {kind} as UTF-8 text ({what})')
    return text


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
    records: VideoRecords, class_names: Sequence[str] | None, classes: Sequence[str | int]
) -> tuple[VideoRecords, list[str] | None]:
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
    kept = records.select_labels(numbers)
    found = set(np.unique(kept.labels).tolist())
    # Without class names, a number that does not occur is probably a mistake.
    missing = [name for label, name in enumerate(classes) if label not in found]
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
) -> tuple[VideoRecords, list[str]]:
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
    records = RecordBuilder()
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
        for video, num_frames in found:
            records.add(os.path.join(folder, video), (label_of[name],), folder, None, num_frames)
    if skipped:
        LOGGER.info('Not used in %s: %s', root, skipped)
    return records.build(), names


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
