"""From what lists name and what is there to the lines of list files."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

from dsanet.data_tools.lists.base import ListedVideo, Lists
from dsanet.data_tools.lists.media_index import MediaIndex
from dsanet.datasets.annotation import read_class_names


@dataclass(slots=True)
class BuiltList:
    """One list file before it is written.

    Args:
        name: its name without '.txt'.
        num_listed: videos that the official list names.
        lines: lines of the file.
        skipped: name, reason, details and source of every video that was left out.
        per_class: videos of each class.
        paths: what the lines name, below the folder of the videos.
    """

    name: str
    num_listed: int
    lines: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str, str, str]] = field(default_factory=list)
    per_class: Counter[str] = field(default_factory=Counter)
    paths: dict[str, str] = field(default_factory=dict)


def order_classes(lists: Lists, class_file: str) -> Lists:
    """Number the classes as ``class_file`` does.

    Raises:
        ValueError: it lacks the class of a video.
    """
    names = read_class_names(class_file)
    known = set(names)
    for videos in lists.splits.values():
        for video in videos:
            for name in video.classes:
                if name not in known:
                    raise ValueError(f'{video.source}: {name!r} is none of the {len(names)} classes of {class_file}')
    return Lists(names, lists.splits, lists.notes)


def match(
    name: str, videos: Sequence[ListedVideo], media: MediaIndex, class_names: Sequence[str], prefix: str
) -> BuiltList:
    """Look up the videos of a list.

    Args:
        name: of the list, without '.txt'.
        videos: what the official list says.
        media: what is there.
        class_names: the classes in the order of their labels.
        prefix: what comes before a path below the folder of the videos; empty or with '/' at its end.

    Returns:
        The list, and what is not in it and why.
    """
    label_of = {class_name: label for label, class_name in enumerate(class_names)}
    built = BuiltList(name, len(videos))
    for video in videos:
        wanted = [_below(path, media.root) for path in video.names]
        found = next(filter(None, map(media.find, wanted)), [])
        line = prefix + (found[0] if found else '')
        if line[:1] in ('#', '\ufeff') or line[:1].isspace():
            line = f'./{line}'  # lists take such a line for a comment, or strip it
        num_frames = media.num_frames[found[0]] if found else None
        middle = '' if num_frames is None else f' {num_frames}'
        reason, details = '', ''
        if not video.classes:
            reason = 'no label'
        elif not found:
            reason, details = 'missing', f'no {" or ".join(wanted)}'
        elif len(found) > 1:
            reason, details = 'ambiguous', f'{len(found)} fit: {", ".join(found)}'
        elif found[0] in media.problems:
            reason, details = 'incomplete', f'{found[0]}: {media.problems[found[0]]}'
        elif found[0] in built.paths:
            reason, details = 'listed twice', f'{found[0]} stands already in {built.paths[found[0]]}'
        elif line != line.rstrip() or line.endswith(',') or '\n' in line or '\r' in line:
            reason, details = 'unfit name', f'no list can hold the path {line!r}'
        if reason:
            built.skipped.append((wanted[0], reason, details, video.source))
            continue
        built.paths[found[0]] = video.source
        built.per_class.update(video.classes)
        labels = ','.join(str(label) for label in sorted(label_of[class_name] for class_name in video.classes))
        built.lines.append(f'{line}{middle} {labels}')
    return built


def _below(path: str, root: str) -> str:
    """Turn an absolute path into one below the folder of the videos."""
    return os.path.relpath(path, os.path.abspath(root)) if os.path.isabs(path) else path


def path_prefix(media: str, relative_to: str) -> str:
    """Return what the paths of a list begin with: relative to a folder, or absolute if the videos lie outside of it."""
    prefix = os.path.relpath(media, relative_to)
    if prefix == os.curdir:
        return ''
    outside = prefix.split(os.sep)[0] == os.pardir
    return f'{os.path.abspath(media) if outside else prefix}/'


def find_overlaps(built: Sequence[BuiltList]) -> list[str]:
    """Say which lists of training, validation and test share videos, a line for each pair that does.

    Of datasets with several splits, lists of one split are compared: others share videos by design.
    """
    notes = []
    for one, other in combinations(built, 2):
        parts = [re.fullmatch(r'(train|val|test)(.*)', each.name) for each in (one, other)]
        if len({part and part[2] for part in parts}) > 1:
            continue
        shared = sorted(one.paths.keys() & other.paths.keys())
        if shared:
            count = '1 video is' if len(shared) == 1 else f'{len(shared)} videos are'
            notes.append(f'{count} in both {one.name}.txt and {other.name}.txt, such as {shared[0]}')
    return notes
