"""The lists of UCF101 and HMDB51, which have three splits into training and test videos each."""

import os
import re
from collections import defaultdict
from collections.abc import Mapping

from dsanet.data_tools.lists.base import ClassFinder, Files, ListedVideo, Lists, read_lines, refuse


def read_ucf101(files: Files) -> Lists:
    """Read UCF101: classes as numbered in classInd.txt, but from 0 on; splits 'train_split1', 'val_split1', ...

    Args:
        files: 'classes': lines ``number class``, from 1 on; 'train': trainlist01.txt to trainlist03.txt, lines
            ``class/video.avi number``; 'test': testlist01.txt to testlist03.txt, lines ``class/video.avi``.

    Raises:
        ValueError: a wrong line, by file and line; or a list whose name does not tell its split.
    """
    (class_file,) = files['classes']
    class_names: list[str] = []
    for line, text in read_lines(class_file):
        number, _, name = text.partition(' ')
        if number != str(len(class_names) + 1) or not name.strip() or name.strip() in class_names:
            refuse(class_file, line, text, f'{len(class_names) + 1} and the name of a new class')
        class_names.append(name.strip())
    find_class = ClassFinder(class_names, class_file)
    splits: dict[str, list[ListedVideo]] = {}
    for role, split in (('train', 'train'), ('test', 'val')):
        for file in sorted(files.get(role, ())):
            found = re.search(r'0*(\d+)\.txt$', os.path.basename(file))
            if found is None:
                raise ValueError(f'{file}: expected a name such as {role}list01.txt, which tells the split')
            splits[f'{split}_split{found[1]}'] = [
                _read_ucf_line(file, line, text, find_class, needs_number=role == 'train')
                for line, text in read_lines(file)
            ]
    return Lists(class_names, _in_pairs(splits))


def _read_ucf_line(file: str, line: int, text: str, find_class: ClassFinder, needs_number: bool) -> ListedVideo:
    found = re.fullmatch(r'(?P<path>(?P<label>[^/]+)/(?P<name>[^/]+?\.\w+))(\s+(?P<number>[0-9]{1,9}))?', text)
    if found is None or (needs_number and found['number'] is None):
        refuse(file, line, text, f'class/video.avi{" number" if needs_number else ""}')
    name = find_class(found['label'], f'{file}:{line}')
    number = find_class.class_names.index(name) + 1
    if found['number'] is not None and int(found['number']) != number:
        refuse(file, line, text, f'{number}, the number of {name}')
    return ListedVideo((found['path'], found['name']), (name,), f'{file}:{line}')


def read_hmdb51(files: Files) -> Lists:
    """Read HMDB51: classes in alphabetical order; splits 'train_split1', 'val_split1' and so on.

    Args:
        files: 'splits': ``<class>_test_split1.txt`` and so on, lines ``video.avi number``; 1 is for training, 2 for
            testing, 0 for neither.

    Raises:
        ValueError: a wrong line, by file and line; a file called otherwise; or a split that lacks a class.
    """
    classes_of: dict[str, set[str]] = defaultdict(set)
    splits: dict[str, list[ListedVideo]] = {}
    for file in sorted(files['splits']):
        found = re.fullmatch(r'(.+)_test_split(\d+)\.txt', os.path.basename(file))
        if found is None:
            raise ValueError(f'{file}: expected a name such as brush_hair_test_split1.txt')
        label, number = found.groups()
        classes_of[number].add(label)
        for line, text in read_lines(file):
            name, _, use = text.rpartition(' ')
            if not name.strip() or use not in ('0', '1', '2'):
                refuse(file, line, text, 'video.avi and 0, 1 or 2')
            if use != '0':
                split = f'{"train" if use == "1" else "val"}_split{number}'
                video = ListedVideo((f'{label}/{name.strip()}',), (label,), f'{file}:{line}')
                splits.setdefault(split, []).append(video)
    class_names = sorted(set().union(*classes_of.values()))
    for number, classes in classes_of.items():
        lacking = [name for name in class_names if name not in classes]
        if lacking:
            folder = os.path.dirname(files['splits'][0])
            raise ValueError(f'{folder} has no {lacking[0]}_test_split{number}.txt; {len(lacking)} such file(s) lack')
    return Lists(class_names, _in_pairs(splits))


def _in_pairs(splits: Mapping[str, list[ListedVideo]]) -> dict[str, list[ListedVideo]]:
    """Put train_split1 and val_split1 before train_split2."""
    return {name: splits[name] for name in sorted(splits, key=lambda name: (name.split('_')[1], name))}
