"""What is in a dataset: list files, class folders and class names, read into records.

A list file has one video a line, ``path label``, or ``path num_frames label`` for folders of frames. Lines
are split from the right, so a path may contain spaces. A video of several classes has its labels joined by commas,
``path 3,17``. Blank lines and lines that start with ``#`` are skipped.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from dsanet.config.arguments import nearest
from dsanet.datasets.frame_names import FrameNames

VIDEO_EXTENSIONS = (
    '.3gp',
    '.avi',
    '.flv',
    '.m4v',
    '.mkv',
    '.mov',
    '.mp4',
    '.mpeg',
    '.mpg',
    '.ts',
    '.webm',
    '.wmv',
)

_MAX_DIGITS = 9  # of labels and numbers of frames: what is longer is another column, such as an id


@dataclass(frozen=True, slots=True)
class VideoRecord:
    """One video of a dataset.

    Args:
        path: the video file, or the folder of frames.
        labels: classes, from 0 on, at least one.
        list_file: the list file that names the video; its class folder if there is no list.
        line: line in ``list_file``, from 1 on; None if there is no list.
        num_frames: number of frames of a folder; None for a video file, which is counted when it is opened.
    """

    path: str
    labels: tuple[int, ...]
    list_file: str
    line: int | None = None
    num_frames: int | None = None

    @property
    def source(self) -> str:
        """Where the record comes from, such as ``train.txt:17``."""
        return self.list_file if self.line is None else f'{self.list_file}:{self.line}'

    @property
    def label(self) -> int:
        """The only label.

        Raises:
            ValueError: there are several; says where, and which option of the datasets takes them.
        """
        if len(self.labels) > 1:
            raise ValueError(
                f'{self.source}: {self.path!r} has the labels {",".join(map(str, self.labels))}; '
                'a dataset takes several labels a video with multi_hot=<number of classes>'
            )
        return self.labels[0]


def parse_list_file(list_file: str, data_root: str | None = None, with_num_frames: bool = False) -> list[VideoRecord]:
    """Read a list file.

    Args:
        list_file: the file, UTF-8, any line ends.
        data_root: folder that relative paths are joined to; the working directory if None.
        with_num_frames: lines are ``path num_frames label`` instead of ``path label``.

    Returns:
        One record a line, in the order of the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a malformed line, by file and line, or no line at all.
    """
    expected = 'path num_frames label' if with_num_frames else 'path label'
    records = []
    for line, text in enumerate(_read_lines(list_file, 'list file'), start=1):
        if not text or text.startswith('#'):
            continue
        where = f'{list_file}:{line}: {text!r} is not {expected!r}'
        fields = text.rsplit(maxsplit=expected.count(' '))
        if len(fields) <= expected.count(' '):
            hint = '; separate the fields by spaces or tabs, not by commas' if ',' in text else ''
            raise ValueError(f'{where}: {len(fields)} field(s) found{hint}')
        num_frames = None
        if with_num_frames:
            num_frames = _parse_count(fields[1], f'{where}: num_frames')
            if num_frames == 0:
                raise ValueError(f'{where}: num_frames must be at least 1')
        if fields[0].endswith(','):
            raise ValueError(f'{where}: several labels are joined by commas without spaces, as in 3,17')
        labels = _parse_labels(fields[-1], where)
        path = os.path.join(data_root or '', fields[0])
        records.append(VideoRecord(path, labels, list_file, line, num_frames))
    if not records:
        raise ValueError(f'{list_file} names no video; expected lines of the form {expected!r}')
    return records


def read_class_names(class_file: str) -> list[str]:
    """Read class names, one a line; the first line names class 0.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a name is empty or occurs twice, by file and line, or there is no name at all.
    """
    names = _read_lines(class_file, 'class file')
    while names and not names[-1]:
        names.pop()
    first_line: dict[str, int] = {}
    for line, name in enumerate(names, start=1):
        if not name:
            raise ValueError(f'{class_file}:{line}: empty line; every line names a class, the first one class 0')
        if name in first_line:
            raise ValueError(f'{class_file}:{line}: class {name!r} stands already in line {first_line[name]}')
        first_line[name] = line
    if not names:
        raise ValueError(f'{class_file} names no class; expected one name a line')
    return names


def label_hint(name: str, num_classes: int, smallest: int, largest: int, names_from: str | None = None) -> str:
    """Return what may be wrong with labels of which some are too large.

    Args:
        name: what the number of classes is called.
        num_classes: to which the labels do not fit.
        smallest, largest: of the labels.
        names_from: where the class names are from, if there are as many.
    """
    if smallest == 1 and largest == num_classes:
        return '. No label is 0: they look counted from 1; subtract 1 from each'
    return f'. Is {name}={largest + 1} meant?' if names_from is None else f'; {names_from} has {num_classes} classes'


def choose_classes(
    records: Sequence[VideoRecord], class_names: Sequence[str] | None, classes: Sequence[str | int]
) -> tuple[list[VideoRecord], list[str] | None]:
    """Leave the other classes out, and number these as they stand in ``classes``.

    Args:
        records: at least one.
        class_names: names in the order of the labels, or None if they are not known.
        classes: classes by name or number.

    Returns:
        The videos of these classes, and the names of the classes if they are known.

    Raises:
        ValueError: ``classes`` is empty, names a class twice or one that there is not, or nothing is left.
    """
    numbers = [_class_number(name, class_names) for name in classes]
    if not numbers or len(set(numbers)) < len(numbers):
        raise ValueError(f'classes={list(classes)!r} must name at least one class, and none twice')
    label_of = {number: label for label, number in enumerate(numbers)}
    kept = []
    for record in records:
        labels = tuple(label_of[label] for label in record.labels if label in label_of)
        if labels:
            kept.append(replace(record, labels=labels))
    found = {label for record in kept for label in record.labels}
    # Without names a class that does not occur is most likely a slip; with names it is known to be a class.
    missing = [name for name, number in zip(classes, numbers, strict=True) if label_of[number] not in found]
    if not kept or (missing and class_names is None):
        raise ValueError(f'{records[0].list_file} has no video of the classes {missing!r}')
    return kept, None if class_names is None else [class_names[number] for number in numbers]


def _class_number(name: str | int, names: Sequence[str] | None) -> int:
    if isinstance(name, int):
        if name < 0 or (names is not None and name >= len(names)):
            raise ValueError(f'classes has {name}, but the classes are 0 to {len(names or ()) - 1}')
        return name
    if names is None:
        raise ValueError(f'classes has the name {name!r}, but names are known with class_file only; use numbers')
    if name not in names:
        raise ValueError(f'classes has {name!r}, which is none of the {len(names)} classes.{nearest(name, names)}')
    return names.index(name)


def list_class_folders(root: str) -> list[str]:
    """Return the names of the class folders ``root/class``, sorted; hidden ones are skipped.

    Raises:
        FileNotFoundError: ``root`` is not a folder.
        ValueError: there is no class folder.
    """
    if not os.path.isdir(root):
        raise FileNotFoundError(f'no folder {os.path.abspath(root)!r}; looked for class folders in it')
    folders = [name for name in _visible(root) if os.path.isdir(os.path.join(root, name))]
    if not folders:
        raise ValueError(f'{os.path.abspath(root)!r} has no class folder; looked for root/class/video')
    return folders


def scan_class_folders(
    root: str, frame_names: FrameNames | None = None, class_names: Sequence[str] | None = None
) -> tuple[list[VideoRecord], list[str]]:
    """Find the videos of a dataset without a list, one folder a class: ``root/class/video``.

    Args:
        root: folder of the class folders. Hidden files and folders are skipped.
        frame_names: how frames are called; given, videos are folders of frames, else they are video files.
        class_names: the classes in the order of their labels; by default the folders sorted by name. A split
            that lacks a class needs them, otherwise its labels differ from those of the other splits.

    Returns:
        The records, sorted by class and name, and the class names.

    Raises:
        FileNotFoundError: ``root`` is no folder.
        ValueError: no class folder, a folder that is no class, a class folder without a video, or a folder that lacks
            frames or does not begin with the number that it should.
    """
    folders = list_class_folders(root)
    names = list(folders if class_names is None else class_names)
    label_of = {name: label for label, name in enumerate(names)}
    records = []
    for name in folders:
        folder = os.path.join(root, name)
        if name not in label_of:
            raise ValueError(f'folder {folder!r} is none of the {len(names)} classes: {", ".join(names)}')
        if frame_names is None:
            wanted = f'video ending in {", ".join(VIDEO_EXTENSIONS)}'
            found = _video_files(folder)
        else:
            wanted = f'folder of frames called {frame_names.template!r}'
            found = _frame_folders(folder, frame_names)
        if not found:
            raise ValueError(f'class folder {folder!r} has no {wanted}')
        labels = (label_of[name],)
        records += [VideoRecord(os.path.join(folder, video), labels, folder, None, n) for video, n in found]
    return records, names


def _read_lines(file: str, kind: str) -> list[str]:
    """Return the stripped lines of a text file, without a byte order mark.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line has zero bytes, as in UTF-16.
    """
    if not os.path.isfile(file):
        raise FileNotFoundError(f'no {kind} {os.path.abspath(file)!r}')
    # File names need not be UTF-8: surrogateescape hands their bytes back to the file system unchanged.
    with open(file, encoding='utf-8-sig', errors='surrogateescape') as stream:
        lines = [line.strip() for line in stream]
    for number, line in enumerate(lines, start=1):
        if '\0' in line:
            raise ValueError(f'{file}:{number}: {line!r} has zero bytes: save the {kind} as UTF-8 (is it UTF-16?)')
    return lines


def _parse_count(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f'{name} must be a whole number from 0 on, got {text!r}')
    if len(text) > _MAX_DIGITS:
        raise ValueError(f'{name} has {len(text)} digits, of which {_MAX_DIGITS} make sense')
    return int(text)


def _parse_labels(text: str, where: str) -> tuple[int, ...]:
    labels = tuple(_parse_count(label, f'{where}: label') for label in text.split(','))
    if len(set(labels)) < len(labels):
        raise ValueError(f'{where}: a label stands there twice')
    return labels


def _visible(folder: str) -> list[str]:
    return sorted(name for name in os.listdir(folder) if not name.startswith('.'))


def _video_files(folder: str) -> list[tuple[str, int | None]]:
    """Return (name, None) of the video files: their frames are counted when they are opened."""
    return [(name, None) for name in _visible(folder) if name.lower().endswith(VIDEO_EXTENSIONS)]


def _frame_folders(folder: str, frame_names: FrameNames) -> list[tuple[str, int | None]]:
    """Return (name, number of frames) of the folders that hold frames of such names.

    Raises:
        ValueError: frames lack, by folder.
    """
    found: list[tuple[str, int | None]] = []
    for name in _visible(folder):
        path = os.path.join(folder, name)
        if os.path.isdir(path):
            num_frames, problem = frame_names.count(os.listdir(path))
            if problem is not None:
                raise ValueError(f'{path!r}: {problem} (frames called {frame_names.template!r})')
            if num_frames:
                found.append((name, num_frames))
    return found
