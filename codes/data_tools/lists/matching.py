"""Match the videos of official lists with the files on disk and build the lines of list files."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from dsanet.data_tools.lists.base import ListedVideo, Lists, has_line_break
from dsanet.data_tools.lists.media_index import MediaIndex
from dsanet.datasets.annotation import read_class_names
from dsanet.datasets.text_lists import list_path


@dataclass(slots=True)
class BuiltList:
    """The content of a list file.

    Args:
        name: file name without extension.
        num_listed: number of videos in the official list.
        lines: lines of the file.
        skipped: name, reason, details and source of each skipped video.
        per_class: number of videos per class.
        paths: path below the media folder to source, for each video.
        extension: '.txt', or '.csv' for a list of spans, whose ``lines`` do not include the header.
    """

    name: str
    num_listed: int
    lines: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str, str, str]] = field(default_factory=list)
    per_class: Counter[str] = field(default_factory=Counter)
    paths: dict[str, str] = field(default_factory=dict)
    extension: str = '.txt'

    @property
    def file_name(self) -> str:
        return f'{self.name}{self.extension}'


def order_classes(lists: Lists, class_file: str) -> Lists:
    """Use the class order of ``class_file``."""
    names = read_class_names(class_file)
    known = set(names)
    for videos in lists.splits.values():
        for video in videos:
            for name in video.classes:
                if name not in known:
                    raise ValueError(f'{video.source}: {name!r} is not one of the {len(names)} classes in {class_file}')
    return Lists(names, lists.splits, lists.notes)


def match(
    name: str, videos: Sequence[ListedVideo], media: MediaIndex, class_names: Sequence[str], prefix: str
) -> BuiltList:
    """Find the files of the videos in an official list.

    Args:
        name: name of the list without '.txt'.
        videos: videos of the official list.
        media: videos on disk.
        class_names: classes in label order.
        prefix: prefix of all paths; empty or with a trailing '/'.
    """
    label_of = {class_name: label for label, class_name in enumerate(class_names)}
    built = BuiltList(name, len(videos))
    for video in videos:
        found = find_video(video.names, media)
        path = found.path
        line = list_path(prefix + path)
        reason, details = found.reason, found.details
        if not video.classes:
            reason, details = 'no label', ''
        elif not reason and path in built.paths:
            reason, details = 'listed twice', f'{path} is already listed in {built.paths[path]}'
        elif not reason and (line != line.rstrip() or line.endswith(',') or has_line_break(line)):
            reason, details = 'invalid path', f'a list file cannot contain the path {line!r}'
        if reason:
            built.skipped.append((found.wanted, reason, details, video.source))
            continue
        num_frames = media.num_frames[path]
        middle = '' if num_frames is None else f' {num_frames}'
        built.paths[path] = video.source
        built.per_class.update(video.classes)
        labels = ','.join(str(label) for label in sorted(label_of[class_name] for class_name in video.classes))
        built.lines.append(f'{line}{middle} {labels}')
    return built


class FoundVideo(NamedTuple):
    """The result of a search for a video.

    Attributes:
        path: relative to the folder of the videos; empty if the video was not found.
        wanted: the first path that was looked for.
        reason: why it cannot be used; empty if it can.
        details: of the reason.
    """

    path: str
    wanted: str
    reason: str = ''
    details: str = ''


def find_video(names: Sequence[str], media: MediaIndex) -> FoundVideo:
    """Find the file of a video.

    Args:
        names: possible paths.
        media: videos on disk.
    """
    wanted = [relative_path(name, media.root) for name in names]
    found = next(filter(None, map(media.find, wanted)), [])
    if not found:
        return FoundVideo('', wanted[0], 'not found', f'expected {" or ".join(wanted)}')
    if len(found) > 1:
        return FoundVideo(found[0], wanted[0], 'ambiguous', f'{len(found)} matches: {", ".join(found)}')
    if found[0] in media.problems:
        return FoundVideo(found[0], wanted[0], 'incomplete', f'{found[0]}: {media.problems[found[0]]}')
    return FoundVideo(found[0], wanted[0])


def relative_path(path: str, root: str) -> str:
    """Return an absolute path relative to ``root``, others unchanged."""
    return os.path.relpath(path, os.path.abspath(root)) if os.path.isabs(path) else path


def path_prefix(media: str, relative_to: str) -> str:
    """Return the prefix of the paths in a list: relative to a folder, or absolute if ``media`` is outside of it."""
    prefix = os.path.relpath(media, relative_to)
    if prefix == os.curdir:
        return ''
    is_outside = prefix.split(os.sep)[0] == os.pardir
    return f'{os.path.abspath(media) if is_outside else prefix}/'
