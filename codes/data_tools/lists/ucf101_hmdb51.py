"""The lists of UCF101 and HMDB51, which have three splits into training and test videos each."""

import os
import re
from collections import defaultdict
from collections.abc import Mapping

from dsanet.data_tools.lists.base import ClassFinder, Files, ListedVideo, Lists, numbered_lines, raise_bad_line


def read_ucf101(files: Files) -> Lists:
    """Read UCF101, with the class order of classInd.txt; splits 'train_split1', 'val_split1', ...

    Args:
        files: 'classes': lines ``number class``, from 1; 'train': trainlist01.txt to trainlist03.txt, lines
            ``class/video.avi number``; 'test': testlist01.txt to testlist03.txt, lines ``class/video.avi``.
    """
    (class_file,) = files['classes']
    class_names: list[str] = []
    for line, text in numbered_lines(class_file):
        number, _, name = text.partition(' ')
        if number != str(len(class_names) + 1) or not name.strip() or name.strip() in class_names:
            raise_bad_line(class_file, line, text, f'{len(class_names) + 1} and the name of a new class')
        class_names.append(name.strip())
    find_class = ClassFinder(class_names, class_file)
    splits: dict[str, list[ListedVideo]] = {}
    for role, split in (('train', 'train'), ('test', 'val')):
        for file in sorted(files.get(role, ())):
            found = re.search(r'0*(\d+)\.txt$', os.path.basename(file))
            if found is None:
                raise ValueError(f'{file}: expected a file name with a split number, such as {role}list01.txt')
            splits[f'{split}_split{found[1]}'] = [
                _read_ucf_line(file, line, text, find_class, needs_number=role == 'train')
                for line, text in numbered_lines(file)
            ]
    return Lists(class_names, _sorted_splits(splits))


def _read_ucf_line(file: str, line: int, text: str, find_class: ClassFinder, needs_number: bool) -> ListedVideo:
    found = re.fullmatch(r'(?P<path>(?P<label>[^/]+)/(?P<name>[^/]+?\.\w+))(\s+(?P<number>[0-9]{1,9}))?', text)
    if found is None or (needs_number and found['number'] is None):
        raise_bad_line(file, line, text, f'class/video.avi{" number" if needs_number else ""}')
    name = find_class(found['label'], f'{file}:{line}')
    number = find_class.class_names.index(name) + 1
    if found['number'] is not None and int(found['number']) != number:
        raise_bad_line(file, line, text, f'{number}, the number of class {name}')
    return ListedVideo((found['path'], found['name']), (name,), f'{file}:{line}')


def read_hmdb51(files: Files) -> Lists:
    """Read HMDB51, with classes in alphabetical order; splits 'train_split1', 'val_split1', ...

    Args:
        files: 'splits': ``<class>_test_split1.txt`` etc., lines ``video.avi mark``; mark 1 is training, 2 is test, 0 is
            unused.
    """
    classes_of: dict[str, set[str]] = defaultdict(set)
    splits: dict[str, list[ListedVideo]] = {}
    for file in sorted(files['splits']):
        found = re.fullmatch(r'(.+)_test_split(\d+)\.txt', os.path.basename(file))
        if found is None:
            raise ValueError(f'{file}: expected a file name such as brush_hair_test_split1.txt')
        label, number = found.groups()
        classes_of[number].add(label)
        for line, text in numbered_lines(file):
            name, _, mark = text.rpartition(' ')
            if not name.strip() or mark not in ('0', '1', '2'):
                raise_bad_line(file, line, text, 'video.avi and 0, 1 or 2')
            if mark != '0':
                split = f'{"train" if mark == "1" else "val"}_split{number}'
                video = ListedVideo((f'{label}/{name.strip()}',), (label,), f'{file}:{line}')
                splits.setdefault(split, []).append(video)
    class_names = sorted(set().union(*classes_of.values()))
    for number, classes in classes_of.items():
        missing = [name for name in class_names if name not in classes]
        if missing:
            folder = os.path.dirname(files['splits'][0])
            raise ValueError(f'{folder}: missing {missing[0]}_test_split{number}.txt ({len(missing)} missing in total)')
    return Lists(class_names, _sorted_splits(splits))


def _sorted_splits(splits: Mapping[str, list[ListedVideo]]) -> dict[str, list[ListedVideo]]:
    """Sort by the number of the split, then 'train' before 'val'."""
    return {name: splits[name] for name in sorted(splits, key=lambda name: (name.split('_')[1], name))}
