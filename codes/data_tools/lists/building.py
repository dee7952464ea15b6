"""What building lists takes beside reading them: finding the official files, checks, and the summary."""

import os
import re
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dsanet.data_tools.lists.base import DataSet, Lists, Role, has_line_break
from dsanet.data_tools.lists.custom import read_csv
from dsanet.data_tools.lists.matching import BuiltList, find_overlaps, order_classes
from dsanet.data_tools.lists.media_index import MediaIndex, index_media
from dsanet.datasets.frame_names import FrameNames
from dsanet.utils.files import write_atomically

_CSV_ROLES = {split: Role((f'{split}.csv',)) for split in ('train', 'val', 'test')} | {'all': Role(('all.csv',))}
OWN = {
    'folders': DataSet('one folder a class', None, lambda files: Lists([], {}), {}),
    'csv': DataSet('csv files', None, read_csv, _CSV_ROLES),
}
NUM_EXAMPLES = 3
NUM_NAMES = 10  # of classes, in the summary
_LIST_NAME = re.compile(r'(train|val|test)(_split\d+)?(_frames)?\.txt')


def find_files(roles: Mapping[str, Role], folder: Path, given: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Find the official files.

    Args:
        roles: what to look for.
        folder: where.
        given: files that the user named, by role; they need not be in ``folder``.

    Returns:
        The files by role; a role that is not needed may lack.

    Raises:
        FileNotFoundError: a file that is needed or given is not there, or none at all is.
        ValueError: several files can be meant, or a role does not exist.
    """
    found: dict[str, list[str]] = {}
    for role in given:
        if role not in roles:
            raise ValueError(f'--file {role}=...: there is no such file; allowed are {", ".join(roles) or "none"}')
    for role, wanted in roles.items():
        matches = list(given.get(role, ()))
        for name in wanted.names:
            matches = matches or sorted(str(file) for file in folder.glob(name) if file.is_file())
        for file in matches:
            if not os.path.isfile(file):
                raise FileNotFoundError(f'no file {os.path.abspath(file)!r}, given as --file {role}={file}')
        if len(matches) > 1 and not wanted.many:
            raise ValueError(f'{" and ".join(matches)}: which one is it? Say --file {role}=FILE')
        if matches:
            found[role] = matches
        elif wanted.required:
            raise _nothing_found(role, wanted, folder)
    optional = [role for role in roles if not roles[role].required]
    if optional and not any(role in found for role in optional):
        raise _nothing_found(optional[0], roles[optional[0]], folder)
    return found


def _nothing_found(role: str, wanted: Role, folder: Path) -> FileNotFoundError:
    return FileNotFoundError(
        f'no {" or ".join(wanted.names)} in {str(folder)!r}; say where it is, --annotations FOLDER or '
        f'--file {role}=FILE'
    )


def check_classes(lists: Lists, num_classes: int | None, title: str) -> None:
    """Compare the number of classes with what the dataset has: one that lacks would shift the labels of the others.

    Raises:
        ValueError: they differ.
    """
    if num_classes is not None and len(lists.class_names) != num_classes:
        names = ', '.join(lists.class_names[:NUM_EXAMPLES])
        raise ValueError(
            f'{title} has {num_classes} classes, the files name {len(lists.class_names)}: {names}, ...; '
            f'is it the right dataset, and are all files there? --num-classes {len(lists.class_names)} accepts them'
        )


def check_names(lists: Lists) -> None:
    """Refuse names of classes that ``classes.txt`` cannot hold: those after them would get other labels.

    Raises:
        ValueError: a name holds a line break; says which video has the class, if one has.
    """
    torn = next((name for name in lists.class_names if has_line_break(name)), None)
    if torn is None:
        return
    listed = (video.source for videos in lists.splits.values() for video in videos if torn in video.classes)
    source = next(listed, None)
    where = '' if source is None else f', of {source!r},'
    raise ValueError(f'class {torn!r}{where} holds a line break, which no line of classes.txt can hold')


def write_text(file: Path, text: str) -> str:
    """Write a file at once, so that it is at any moment the old or the new one, and say what changed.

    Returns:
        'new', 'unchanged', or 'changed' and how many lines came and went.
    """
    # As in lists: names of files need not be UTF-8.
    data = text.encode(errors='surrogateescape')
    old = file.read_bytes() if file.exists() else None
    if old == data:
        return 'unchanged'
    write_atomically(data, file)
    if old is None:
        return 'new'
    before, after = Counter(old.splitlines()), Counter(data.splitlines())
    return f'changed: {(after - before).total()} lines more, {(before - after).total()} lines less'


def missing_line(skipped: tuple[str, str, str, str]) -> str:
    """Return name, reason, details and source as one line with tabs, whatever the name holds."""
    return '\t'.join(re.sub(r'[\t\n\r]', ' ', text) for text in skipped) + '\n'


def summarize(title: str, lists: Lists, built: Sequence[BuiltList], media: MediaIndex, written: bool) -> dict[str, Any]:
    """Return the summary that goes to ``build_list.json``."""
    used = {path for one in built for path in one.paths}
    return {
        'data_set': title,
        'num_classes': len(lists.class_names),
        'written': written,
        'lists': {
            f'{one.name}.txt': {
                'listed': one.num_listed,
                'in_the_list': len(one.lines),
                'skipped': dict(sorted(Counter(reason for _, reason, _, _ in one.skipped).items())),
                'classes_without_video': [name for name in lists.class_names if not one.per_class[name]],
                'videos_per_class': {name: one.per_class[name] for name in lists.class_names},
            }
            for one in built
        },
        'videos_there': len(media.num_frames),
        'videos_in_no_list': len(media.num_frames.keys() - used),
        'notes': [*lists.notes, *find_overlaps(built), *_unreadable(media)],
    }


def _unreadable(media: MediaIndex) -> list[str]:
    folders = [path for path in media.problems if path not in media.num_frames]
    return [f'folder {os.path.join(media.root, path)} {media.problems[path]}' for path in folders]


def summary_text(summary: Mapping[str, Any], built: Sequence[BuiltList], media: MediaIndex) -> str:
    """Return what people look at first: numbers, the first problems, and notes."""
    lines = []
    for one in built:
        content = summary['lists'][f'{one.name}.txt']
        counts = list(content['videos_per_class'].values())
        lines.append(f'{one.name}.txt: {len(one.lines)} of {one.num_listed} videos, {len(counts)} classes')
        lines.append(f'  videos of a class: {min(counts)} to {max(counts)}, median {statistics.median(counts):g}')
        lacking = content['classes_without_video']
        if lacking:
            lines.append(f'  classes without a video: {len(lacking)}, such as {", ".join(lacking[:NUM_EXAMPLES])}')
        for reason, number in content['skipped'].items():
            lines.append(f'  {reason}: {number}')
            examples = [entry for entry in one.skipped if entry[1] == reason][:NUM_EXAMPLES]
            for name, _, details, source in examples:
                lines.append(f'    {source}: {details or name}')
        if one.skipped and not one.lines and media.num_frames:
            lines.append(f'  nothing was found; what is there is called like {min(media.num_frames)}')
    names = list(next(iter(summary['lists'].values()))['videos_per_class'])
    more = len(names) - NUM_NAMES
    lines.append(f'classes: {", ".join(names[:NUM_NAMES])}{f" and {more} more" if more > 0 else ""}')
    if summary['videos_in_no_list']:
        lines.append(
            f'{summary["videos_in_no_list"]} of {summary["videos_there"]} videos that are there are in no list'
        )
    for note in summary['notes']:
        lines.append(f'note: {note}')
    return '\n'.join(lines)


def check_lists(
    lists: Lists, data_set: DataSet, class_file: str | None = None, num_classes: int | None = None
) -> Lists:
    """Number the classes as a file does, and refuse lists that lack classes or videos.

    Args:
        lists: as they were read.
        data_set: which one it is.
        class_file: has the classes in the order of their labels; None keeps that of the lists.
        num_classes: how many classes to expect; None for those of the dataset.

    Raises:
        ValueError: a list is empty, a name cannot be a line, or the number of classes is another.
    """
    empty = [split for split in lists.splits if not lists.splits[split]]
    if empty or not lists.splits:
        raise ValueError('; '.join([f'the list of {" and ".join(empty) or "all"} names no video', *lists.notes]))
    if class_file:
        lists = order_classes(lists, class_file)
    check_names(lists)
    check_classes(lists, num_classes or data_set.num_classes, data_set.title)
    return lists


def check_numbering(out: Path, lists: Lists, suffix: str) -> None:
    """Refuse to number classes otherwise than lists of earlier calls do that stay in the same folder.

    Args:
        out: the folder.
        lists: what is going to be written.
        suffix: of the lists' names.

    Raises:
        ValueError: ``classes.txt`` would be wrong about a list; names the lists.
    """
    file = out / 'classes.txt'
    if not file.is_file():
        return
    before = file.read_text(encoding='utf-8', errors='surrogateescape').splitlines()
    if lists.class_names[: len(before)] == before:
        return  # as it was, or with more classes at the end
    written = {f'{split}{suffix}.txt' for split in lists.splits}
    staying = sorted(
        one.name for one in out.glob('*.txt') if _LIST_NAME.fullmatch(one.name) and one.name not in written
    )
    if staying:
        raise ValueError(
            f'{", ".join(staying)} in {out} number the classes as {file} does, which would change; number them alike '
            f'with --class-file {file}, or choose another OUT'
        )


def index_with_bar(root: str, names: FrameNames | None, num_workers: int) -> MediaIndex:
    """Read the tree of the videos, with a progress bar where a person watches.

    Args:
        root: folder of the videos, or of the folders of frames.
        names: how frames are called; None for video files.
        num_workers: folders to read at once.

    Raises:
        ValueError: nothing is there.
    """
    with tqdm(desc='folders', unit='folder', disable=None) as bar:

        def show(done: int, known: int) -> None:
            bar.total = known
            bar.update(done - bar.n)

        media = index_media(root, names, num_workers, show)
    if not media.num_frames:
        wanted = 'video' if names is None else f'folder of frames called {names.template!r}'
        example = f'; it holds {media.example}' if media.example else ''
        hint = '; are they folders of frames (--frames)?' if names is None and media.example else ''
        raise ValueError(f'{os.path.abspath(root)!r} has no {wanted}{example}{hint}')
    return media
