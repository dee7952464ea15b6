"""The lists of Something-Something V1 and V2."""

import json
from collections.abc import Sequence

from dsanet.data_tools.lists.base import (
    ClassFinder,
    Files,
    ListedVideo,
    Lists,
    numbered_lines,
    raise_bad_line,
    read_json,
)
from dsanet.datasets.annotation import read_class_names


def read_something_v1(files: Files) -> Lists:
    """Read Something-Something V1, with classes in the order of the labels file.

    Args:
        files: 'labels': one class per line; 'train', 'val': lines ``id;class``; 'test': lines ``id``, from which no
            list is built.
    """
    (labels,) = files['labels']
    class_names = read_class_names(labels)
    splits = {split: _read_ids(files[split][0], class_names, labels) for split in ('train', 'val') if split in files}
    notes = [f'skipped {file}, which has no labels' for file in files.get('test', ())]
    return Lists(class_names, splits, notes)


def _read_ids(file: str, class_names: Sequence[str], labels: str) -> list[ListedVideo]:
    """Read lines ``id;class``."""
    find_class = ClassFinder(class_names, labels)
    videos = []
    for line, text in numbered_lines(file):
        video, separator, label = text.partition(';')
        if not separator or not video or not label:
            raise_bad_line(file, line, text, 'id;class')
        name = find_class(label, f'{file}:{line}')
        videos.append(ListedVideo((video,), (name,), f'{file}:{line}'))
    return videos


def read_something_v2(files: Files) -> Lists:
    """Read Something-Something V2, with the class numbers of the labels file.

    Args:
        files: 'labels': JSON object of class to number; 'train', 'val': JSON list of videos with id and template (the
            class with objects in brackets); 'test': the answers that were published later, lines ``id;class``.
    """
    (labels,) = files['labels']
    numbers = read_json(labels, dict, 'an object of class to number')
    by_number = {str(number): name for name, number in numbers.items()}
    if not numbers or any(str(label) not in by_number for label in range(len(numbers))):
        raise ValueError(f'{labels}: the class numbers must be 0, 1, 2, ..., each exactly once')
    order = [by_number[str(label)] for label in range(len(numbers))]
    splits = {split: _read_templates(files[split][0], order, labels) for split in ('train', 'val') if split in files}
    if 'test' in files:
        splits['test'] = _read_ids(files['test'][0], order, labels)
    return Lists(order, splits)


def _read_templates(file: str, class_names: Sequence[str], labels: str) -> list[ListedVideo]:
    find_class = ClassFinder(class_names, labels)
    videos = []
    for index, entry in enumerate(read_json(file, list, 'a list of videos')):
        if not isinstance(entry, dict) or not entry.get('id') or not entry.get('template'):
            raise ValueError(f'{file}: entry {index} must have an id and a template, got {json.dumps(entry)}')
        video, source = str(entry['id']), f'{file}, id {entry["id"]}'
        videos.append(ListedVideo((video,), (find_class(str(entry['template']), source),), source))
    return videos
