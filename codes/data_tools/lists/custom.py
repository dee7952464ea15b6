"""The lists of one's own data: csv files, and trees of one folder a class."""

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from dsanet.data_tools.lists.base import SPLITS, Files, ListedVideo, Lists, alphabetical, read_rows, refuse
from dsanet.data_tools.lists.media_index import stem

MOST_CLASSES = 100_000  # beyond, a number is taken for a mistake and not for a label


def read_csv(
    files: Files,
    path_column: str = 'path',
    label_column: str = 'label',
    split_column: str = 'split',
    label_separator: str | None = None,
    first_label: int | None = None,
    class_names: Sequence[str] | None = None,
) -> Lists:
    """Read csv files of one's own, with a header, fields separated by commas, semicolons or tabs.

    Labels are names of classes, in alphabetical order if ``class_names`` is None; or all are whole numbers.

    Args:
        files: 'train', 'val', 'test'; or 'all', whose column ``split_column`` tells the split.
        path_column: column of the path, below the folder of the videos.
        label_column: column of the label.
        split_column: column of the split, in 'all' alone.
        label_separator: what stands between several labels of a video; None for one label.
        first_label: the number that the first class has in the file; None for 0. For labels that are numbers.
        class_names: the classes in the order of their labels.

    Raises:
        ValueError: a column or field lacks, a split or class is unknown, a number is out of range, or some labels are
            numbers and others are not, by file and line; or an argument has no use for these files.
    """
    splits: dict[str, list[ListedVideo]] = {}
    for role in ('all', 'train', 'val', 'test'):
        for file in files.get(role, ()):
            if role != 'all':
                splits.setdefault(role, [])
            for line, row in _read_table(file, [path_column, label_column, *([split_column] if role == 'all' else [])]):
                split = role
                if role == 'all':
                    if row[split_column].casefold() not in SPLITS:
                        refuse(file, line, row[split_column], f'a split: {", ".join(SPLITS)}')
                    split = SPLITS[row[split_column].casefold()]
                labels = row[label_column].split(label_separator) if label_separator else [row[label_column]]
                labels = [label.strip() for label in labels]
                if not row[path_column] or not all(labels) or len(set(labels)) < len(labels):
                    refuse(file, line, f'{row[path_column]},{row[label_column]}', 'a path and its labels, each once')
                video = ListedVideo((os.path.normpath(row[path_column]),), tuple(labels), f'{file}:{line}')
                splits.setdefault(split, []).append(video)
    everything = [video for videos in splits.values() for video in videos]
    if _are_numbers(everything, class_names):
        return _name_numbers(splits, first_label or 0, class_names)
    if first_label is not None:
        label = next((label for video in everything for label in video.classes), '')
        raise ValueError(f'first_label={first_label} has no use: the labels are names, such as {label!r}')
    return Lists(list(class_names) if class_names is not None else alphabetical(splits), splits)


def _read_table(file: str, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Read a csv with a header into line number and the wanted columns."""
    with open(file, encoding='utf-8-sig', errors='surrogateescape') as stream:
        first = stream.readline()
    separator = max(',;\t', key=first.count)
    rows = read_rows(file, separator)
    line, header = next(rows, (1, []))
    place = {name.strip(): index for index, name in enumerate(header)}
    lacking = [name for name in columns if name not in place]
    if lacking:
        refuse(
            file,
            line,
            separator.join(header),
            f'a header with the columns {", ".join(columns)} (other names: --path-column, --label-column, '
            '--split-column)',
        )
    for line, row in rows:
        if len(row) != len(header):
            refuse(file, line, separator.join(row), f'{len(header)} fields, as {separator.join(header)}')
        yield line, {name: row[place[name]].strip() for name in columns}


def _are_numbers(videos: Sequence[ListedVideo], class_names: Sequence[str] | None) -> bool:
    """Return whether labels are numbers of classes, and not their names.

    Raises:
        ValueError: some are, others are not, and no class file says that all are names: in alphabetical order, '10'
            would come before '2'.
    """
    numbers: list[tuple[str, str]] = []
    names: list[tuple[str, str]] = []
    for video in videos:
        for label in video.classes:
            (numbers if re.fullmatch('[0-9]{1,9}', label) else names).append((video.source, label))
    if numbers and names and class_names is None:
        (source, name), (other, number) = names[0], numbers[0]
        raise ValueError(
            f'{source}: label {name[:200]!r} is no whole number of up to 9 digits, as {number} is ({other}); labels '
            'must be all numbers or all names. If these are names, give them in their order with --class-file'
        )
    return bool(numbers) and not names


def _name_numbers(
    splits: Mapping[str, Sequence[ListedVideo]], first_label: int, class_names: Sequence[str] | None
) -> Lists:
    """Give the classes of numeric labels their names, or their numbers as names."""
    numbers = [int(label) for videos in splits.values() for video in videos for label in video.classes]
    if min(numbers) > first_label and class_names is None:
        raise ValueError(
            f'no video has the label {first_label}, the smallest is {min(numbers)}: if labels count from there, say '
            f'--first-label {min(numbers)}; if the first classes have no video, name all with --class-file'
        )
    if class_names is None and max(numbers) - first_label >= MOST_CLASSES:
        everything = [video for videos in splits.values() for video in videos]
        source = next(video.source for video in everything if max(numbers) in map(int, video.classes))
        raise ValueError(f'{source}: label {max(numbers)} would make more than {MOST_CLASSES:,} classes')
    names = list(class_names) if class_names is not None else [str(n) for n in range(max(numbers) - first_label + 1)]
    named: dict[str, list[ListedVideo]] = {}
    for split, videos in splits.items():
        named[split] = []
        for video in videos:
            labels = [int(label) - first_label for label in video.classes]
            for label in labels:
                if label not in range(len(names)):
                    raise ValueError(
                        f'{video.source}: label {label + first_label} is not one of the {len(names)} classes, '
                        f'{first_label} to {first_label + len(names) - 1}'
                    )
            named[split].append(ListedVideo(video.names, tuple(names[label] for label in labels), video.source))
    return Lists(names, named)


def read_class_tree(paths: Sequence[str], val_fraction: float | None = None, seed: int = 0) -> Lists:
    """Read a tree of one folder a class: ``train/class/video`` and ``val/class/video``, or ``class/video``.

    Args:
        paths: the videos, below the tree's folder.
        val_fraction: share of each class for validation; needed for ``class/video``, 0 for none.
        seed: another choice of the validation videos, where some are chosen. Which ones they are depends on
            their paths without extension: folders of frames are split as their videos are, and later additions move
            few of the others.

    Raises:
        ValueError: a video outside of class folders, other folders besides what looks like splits, ``val_fraction``
            lacks, is out of range or not needed.
    """
    if val_fraction is not None and not 0 <= val_fraction < 1:
        raise ValueError(f'val_fraction is {val_fraction}, must be from 0 to less than 1')
    tops = {path.split('/')[0] for path in paths}
    others = sorted(top for top in tops if top.casefold() not in SPLITS)
    is_split = not others
    if others and len(others) < len(tops):
        raise ValueError(
            f'the folders {", ".join(sorted(tops - set(others)))} are named like splits, but {", ".join(others)} are '
            'not; move or rename one of the two groups'
        )
    depth = 1 if is_split else 0
    by_class: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path in sorted(paths):
        parts = path.split('/')
        if len(parts) < depth + 2:
            place = 'split/class/video' if is_split else 'class/video'
            raise ValueError(f'{path} lies outside of a class folder; expected {place}')
        by_class[SPLITS[parts[0].casefold()] if is_split else '', parts[depth]].append(path)
    if is_split and val_fraction is not None:
        raise ValueError(f'val_fraction={val_fraction} has no use: the folders {", ".join(sorted(tops))} are splits')
    if not is_split and val_fraction is None:
        raise ValueError(
            'no folders train and val: say which share of each class is for validation, --val-fraction 0.2 or 0'
        )
    splits: dict[str, list[ListedVideo]] = {'train': [], 'val': [], 'test': []}
    for (split, label), members in sorted(by_class.items()):
        chosen = set() if is_split else _choose(members, val_fraction or 0, seed)
        for path in members:
            video = ListedVideo((path,), (label,), path)
            splits[split or ('val' if path in chosen else 'train')].append(video)
    return Lists(alphabetical(splits), {split: videos for split, videos in splits.items() if videos})


def _choose(paths: Sequence[str], fraction: float, seed: int) -> set[str]:
    """Choose a share of the paths, at least one of two or more if it is not 0, and never all."""

    def place(path: str) -> bytes:
        # Without the extension: a video, its transcoded copy and its folder of frames go to the same list.
        return hashlib.sha256(os.fsencode(f'{seed}/{stem(path)}')).digest()

    number = round(len(paths) * fraction)
    number = min(max(number, int(fraction > 0)), len(paths) - 1)
    return set(sorted(paths, key=place)[:number])
