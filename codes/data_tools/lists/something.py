"""The lists of Something-Something V1 and V2."""

import json
import re
from collections.abc import Sequence
from typing import Any

from dsanet.data_tools.lists.base import ClassFinder, Files, ListedVideo, Lists, line_of, read_json, read_lines, refuse
from dsanet.datasets.annotation import read_class_names


def read_something_v1(files: Files) -> Lists:
    """Read Something-Something V1: classes in the order of the labels file.

    Args:
        files: 'labels': a class a line; 'train', 'val': lines ``id;class``; 'test': lines ``id``, which give no list.

    Raises:
        ValueError: a wrong line or an unknown class, by file and line.
    """
    (labels,) = files['labels']
    class_names = read_class_names(labels)
    splits = {
        split: _read_answers(files[split][0], class_names, labels) for split in ('train', 'val') if split in files
    }
    notes = [f'{file} has no labels: no list of it' for file in files.get('test', ())]
    return Lists(class_names, splits, notes)


def _read_answers(file: str, class_names: Sequence[str], labels: str) -> list[ListedVideo]:
    """Read lines ``id;class``."""
    find_class = ClassFinder(class_names, labels)
    videos = []
    for line, text in read_lines(file):
        video, separator, label = text.partition(';')
        if not separator or not video or not label:
            refuse(file, line, text, 'id;class')
        name = find_class(label, f'{file}:{line}')
        videos.append(ListedVideo((video,), (name,), f'{file}:{line}'))
    return videos


def read_something_v2(files: Files) -> Lists:
    """Read Something-Something V2: classes as numbered in the labels file.

    Args:
        files: 'labels': json of class to number; 'train', 'val': json list of videos with id and template, the class
            in which brackets mark the objects; 'test': the answers, lines ``id;class``, published later.

    Raises:
        ValueError: an entry that is wrong or of an unknown class, by file and line.
    """
    (labels,) = files['labels']
    numbers = read_json(labels, dict, 'an object of class to number')
    places = {name: _whole_number(numbers[name], f'{labels}: class {name!r}') for name in numbers}
    order = sorted(places, key=places.__getitem__)
    is_complete = sorted(places.values()) == list(range(len(order)))
    if not is_complete or not order:
        raise ValueError(f'{labels}: the numbers of the classes must be 0, 1, 2, ..., each once')
    splits = {split: _read_templates(files[split][0], order, labels) for split in ('train', 'val') if split in files}
    if 'test' in files:
        splits['test'] = _read_answers(files['test'][0], order, labels)
    return Lists(order, splits)


def _whole_number(value: Any, source: str) -> int:
    """Read 7 or '7', but not 7.5, true or '7_0', which int() would take."""
    if isinstance(value, str) and re.fullmatch(r'[0-9]{1,9}', value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError(f'{source}: its number must be a whole number from 0 on, found {json.dumps(value)[:200]}')


def _read_templates(file: str, class_names: Sequence[str], labels: str) -> list[ListedVideo]:
    find_class = ClassFinder(class_names, labels)
    videos = []
    for index, entry in enumerate(read_json(file, list, 'a list of videos')):
        if not isinstance(entry, dict) or not entry.get('id') or not entry.get('template'):
            raise ValueError(f'{file}: entry {index} {json.dumps(entry)} must have an id and a template')
        video = str(entry['id'])
        template, source = str(entry['template']), f'{file}, id {video}'
        if not find_class.knows(template):
            source = f'{file}:{line_of(file, json.dumps(video))}, id {video}'
        videos.append(ListedVideo((video,), (find_class(template, source),), source))
    return videos
