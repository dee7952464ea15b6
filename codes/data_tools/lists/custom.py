"""Lists of custom datasets: CSV files, and folders with one subfolder per class."""

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from dsanet.data_tools.lists.base import SPLITS, Files, ListedVideo, Lists, csv_rows, raise_bad_line, sorted_classes
from dsanet.data_tools.lists.media_index import stem

MAX_CLASSES = 100_000  # a larger label is probably a mistake


def read_csv(
    files: Files,
    path_column: str = 'path',
    label_column: str = 'label',
    split_column: str | None = None,
    label_separator: str | None = None,
    first_label: int | None = None,
    class_names: Sequence[str] | None = None,
) -> Lists:
    """Read CSV files with a header and fields separated by commas, semicolons or tabs.

    Labels are either all class names (in alphabetical order if ``class_names`` is None) or all whole numbers.

    Args:
        files: 'train', 'val', 'test'; or 'all', with a column for the split.
        path_column: column of the path below the folder of the videos.
        label_column: column of the label.
        split_column: column of the split, in 'all' only; None for 'split'.
        label_separator: separator between several labels of a video; None for one label per video.
        first_label: number of the first class in the files, if labels are numbers; None for 0.
        class_names: classes in label order.
    """
    if split_column is not None and 'all' not in files:
        raise ValueError(f'split_column={split_column!r} has no effect: the files {", ".join(files)} define the splits')
    split_column = split_column or 'split'
    splits: dict[str, list[ListedVideo]] = {}
    for role in ('all', 'train', 'val', 'test'):
        for file in files.get(role, ()):
            if role != 'all':
                splits.setdefault(role, [])
            for line, row in _read_table(file, [path_column, label_column, *([split_column] if role == 'all' else [])]):
                split = role
                if role == 'all':
                    if row[split_column].casefold() not in SPLITS:
                        raise_bad_line(file, line, row[split_column], f'a split: {", ".join(SPLITS)}')
                    split = SPLITS[row[split_column].casefold()]
                labels = row[label_column].split(label_separator) if label_separator else [row[label_column]]
                labels = [label.strip() for label in labels]
                if not row[path_column] or not all(labels) or len(set(labels)) < len(labels):
                    text = f'{row[path_column]},{row[label_column]}'
                    raise_bad_line(file, line, text, 'a path and its labels, each label once')
                video = ListedVideo((os.path.normpath(row[path_column]),), tuple(labels), f'{file}:{line}')
                splits.setdefault(split, []).append(video)
    everything = [video for videos in splits.values() for video in videos]
    if _are_numbers(everything, class_names, first_label):
        return _name_numbers(splits, first_label or 0, class_names)
    if first_label is not None:
        label = next((label for video in everything for label in video.classes), '')
        raise ValueError(f'first_label={first_label} requires labels that are numbers, found {label!r}')
    return Lists(list(class_names) if class_names is not None else sorted_classes(splits), splits)


def _read_table(file: str, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield line number and the requested columns of each row."""
    with open(file, encoding='utf-8-sig', errors='surrogateescape') as stream:
        first = stream.readline()
    separator = max(',;\t', key=first.count)
    rows = csv_rows(file, separator)
    line, header = next(rows, (1, []))
    place = {name.strip(): index for index, name in enumerate(header)}
    if any(name not in place for name in columns):
        raise_bad_line(
            file,
            line,
            separator.join(header),
            f'a header with the columns {", ".join(columns)} (set other names with --path-column, --label-column, '
            '--split-column)',
        )
    for line, row in rows:
        if len(row) != len(header):
            raise_bad_line(file, line, separator.join(row), f'{len(header)} fields: {separator.join(header)}')
        yield line, {name: row[place[name]].strip() for name in columns}


def _are_numbers(videos: Sequence[ListedVideo], class_names: Sequence[str] | None, first_label: int | None) -> bool:
    """Return whether the labels are class numbers, not names.

    A mixture is an error unless ``class_names`` is given: in alphabetical order, '10' would come before '2'.
    """
    numbers: list[tuple[str, str]] = []
    names: list[tuple[str, str]] = []
    for video in videos:
        for label in video.classes:
            (numbers if re.fullmatch('[0-9]{1,9}', label) else names).append((video.source, label))
    if class_names is not None and first_label is None and {label for _, label in numbers + names} <= set(class_names):
        return False  # names, which may look like numbers
    if numbers and names and class_names is None:
        (source, name), (other, number) = names[0], numbers[0]
        raise ValueError(
            f'{source}: label {name[:200]!r} is not a whole number of up to 9 digits, but label {number} is ({other}); '
            'labels must be all numbers or all names. If they are names, give the class order with --class-file'
        )
    if class_names is None and names and all(re.fullmatch(r'[0-9]+\.0*', label) for _, label in names):
        raise ValueError(f'{names[0][0]}: label {names[0][1]} must be written as a whole number')
    return bool(numbers) and not names


def _name_numbers(
    splits: Mapping[str, Sequence[ListedVideo]], first_label: int, class_names: Sequence[str] | None
) -> Lists:
    """Replace label numbers by class names; without ``class_names``, by the numbers from 0."""
    numbers = [int(label) for videos in splits.values() for video in videos for label in video.classes]
    if min(numbers) > first_label and class_names is None:
        raise ValueError(
            f'no video has label {first_label}; the smallest label is {min(numbers)}; use --first-label {min(numbers)} '
            'if labels start there, or --class-file if the first classes have no videos'
        )
    if class_names is None and max(numbers) - first_label >= MAX_CLASSES:
        everything = [video for videos in splits.values() for video in videos]
        source = next(video.source for video in everything if max(numbers) in map(int, video.classes))
        raise ValueError(f'{source}: label {max(numbers)} exceeds the limit of {MAX_CLASSES:,} classes')
    names = list(class_names) if class_names is not None else [str(n) for n in range(max(numbers) - first_label + 1)]
    named: dict[str, list[ListedVideo]] = {}
    for split, videos in splits.items():
        named[split] = []
        for video in videos:
            labels = [int(label) - first_label for label in video.classes]
            for label in labels:
                if label not in range(len(names)):
                    raise ValueError(
                        f'{video.source}: label {label + first_label} is out of range; labels of the {len(names)} '
                        f'classes are {first_label} to {first_label + len(names) - 1}'
                    )
            named[split].append(ListedVideo(video.names, tuple(names[label] for label in labels), video.source))
    return Lists(names, named)


def read_class_tree(
    paths: Sequence[str],
    val_fraction: float | None = None,
    seed: int | None = None,
    empty_folders: Mapping[str, str] | None = None,
) -> Lists:
    """Read folders ``train/class/video`` and ``val/class/video``, or ``class/video``.

    Args:
        paths: the videos, relative to the root folder.
        val_fraction: fraction of each class to use for validation; required for ``class/video``, 0 for none.
        seed: seed of the random split, None for 0. The split depends on the paths without extension: folders of frames
            are split like their videos, and adding videos moves few existing ones to the other split.
        empty_folders: folders without videos, relative to the root folder, and what is there; a class folder among
            them is an error.
    """
    if val_fraction is not None and not 0 <= val_fraction < 1:
        raise ValueError(f'val_fraction={val_fraction} must be >= 0 and < 1')
    tops = {path.split('/')[0] for path in paths}
    others = sorted(top for top in tops if top.casefold() not in SPLITS)
    has_splits = not others
    if others and len(others) < len(tops):
        raise ValueError(
            f'found split folders ({", ".join(sorted(tops - set(others)))}) next to other folders '
            f'({", ".join(others)}); move the other folders, or rename classes that are named like a split'
        )
    depth = 1 if has_splits else 0
    by_class: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path in sorted(paths):
        parts = path.split('/')
        if len(parts) < depth + 2:
            raise ValueError(f'{path} is not in a class folder; expected {"split/" * has_splits}class/video')
        by_class[SPLITS[parts[0].casefold()] if has_splits else '', parts[depth]].append(path)
    for folder, content in (empty_folders or {}).items():
        parts = folder.split('/')
        if len(parts) == depth + 1 and (not has_splits or parts[0].casefold() in SPLITS):
            raise ValueError(
                f'class folder {folder} has no videos; found {content or "no files"}; add videos, or remove the folder'
            )
    if has_splits and (val_fraction is not None or seed is not None):
        option = f'seed={seed}' if val_fraction is None else f'val_fraction={val_fraction}'
        raise ValueError(f'{option} has no effect: the folders {", ".join(sorted(tops))} define the splits')
    if not has_splits and val_fraction is None:
        raise ValueError('no train and val folders; set the validation fraction, for example --val-fraction 0.2')
    splits: dict[str, list[ListedVideo]] = {'train': [], 'val': [], 'test': []}
    for (split, label), members in sorted(by_class.items()):
        chosen = set() if has_splits else _choose_val(members, val_fraction or 0, seed or 0)
        for path in members:
            video = ListedVideo((path,), (label,), path)
            splits[split or ('val' if path in chosen else 'train')].append(video)
    return Lists(sorted_classes(splits), {split: videos for split, videos in splits.items() if videos})


def _choose_val(paths: Sequence[str], fraction: float, seed: int) -> set[str]:
    """Choose a fraction of the paths: at least one unless the fraction is 0 or there is only one path, never all."""

    def key(path: str) -> bytes:
        # Without the extension: a video, its transcoded copy and its folder of frames are in the same split.
        return hashlib.sha256(os.fsencode(f'{seed}/{stem(path)}')).digest()

    number = round(len(paths) * fraction)
    number = min(max(number, int(fraction > 0)), len(paths) - 1)
    return set(sorted(paths, key=key)[:number])
