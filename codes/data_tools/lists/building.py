"""Find the official files of a dataset, check its lists, and write list files with a summary."""

import os
import re
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dsanet.data_tools.lists.base import DatasetSpec, Lists, Role, has_line_break
from dsanet.data_tools.lists.custom import read_csv
from dsanet.data_tools.lists.matching import BuiltList, order_classes
from dsanet.data_tools.lists.media_index import MediaIndex
from dsanet.utils.files import write_atomically
from dsanet.utils.text import printable

_CSV_ROLES = {split: Role((f'{split}.csv',)) for split in ('train', 'val', 'test')} | {'all': Role(('all.csv',))}
CUSTOM = {
    'folders': DatasetSpec('class folders', None, lambda files: Lists([], {}), {}),
    'csv': DatasetSpec('CSV files', None, read_csv, _CSV_ROLES),
}
NUM_EXAMPLES = 3
NUM_NAMES = 10  # class names in the summary
_LIST_NAME = re.compile(r'(train|val|test)(_split\d+)?(_frames)?\.(txt|csv)')


def find_files(roles: Mapping[str, Role], folder: Path, given: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return the official files by role: those ``given`` by the user, and others in ``folder``."""
    found: dict[str, list[str]] = {}
    for role in given:
        if role not in roles:
            raise ValueError(f'--file {role}=...: unknown role {role!r}, must be one of {", ".join(roles) or "none"}')
    for role, wanted in roles.items():
        matches = list(given.get(role, ()))
        for name in wanted.names:
            matches = matches or sorted(str(file) for file in folder.glob(name) if file.is_file())
        for file in matches:
            if not os.path.isfile(file):
                raise FileNotFoundError(f'--file {role}={file}: file not found: {os.path.abspath(file)!r}')
        if len(matches) > 1 and not wanted.many:
            raise ValueError(f'several files match: {", ".join(matches)}; choose one with --file {role}=FILE')
        if matches:
            found[role] = matches
        elif wanted.required:
            raise _not_found(role, wanted, folder)
    optional = [role for role in roles if not roles[role].required]
    if optional and not any(role in found for role in optional):
        raise _not_found(optional[0], roles[optional[0]], folder)
    return found


def _not_found(role: str, wanted: Role, folder: Path) -> FileNotFoundError:
    return FileNotFoundError(
        f'no {" or ".join(wanted.names)} in {str(folder)!r}; set --annotations FOLDER or --file {role}=FILE'
    )


def check_lists(
    lists: Lists, data_set: DatasetSpec, class_file: str | None = None, num_classes: int | None = None
) -> Lists:
    """Check that no list is empty and the classes are complete; return the lists with the final class order.

    Args:
        class_file: file with the class order; None keeps the order of the lists.
        num_classes: expected number of classes; None for that of the dataset. A missing class would shift the labels
            of the others.
    """
    empty = [split for split in lists.splits if not lists.splits[split]]
    if empty or not lists.splits:
        raise ValueError('; '.join([f'no videos are listed for {" and ".join(empty) or "any split"}', *lists.notes]))
    if class_file:
        lists = order_classes(lists, class_file)
    broken = next((name for name in lists.class_names if has_line_break(name)), None)
    if broken is not None:
        sources = (video.source for videos in lists.splits.values() for video in videos if broken in video.classes)
        source = next(sources, class_file)
        raise ValueError(f'class {broken!r} ({source!r}) contains a line break, which classes.txt cannot store')
    expected, found = num_classes or data_set.num_classes, len(lists.class_names)
    if expected is not None and found != expected:
        raise ValueError(
            f'{data_set.title} has {expected} classes, but the files have {found}: '
            f'{", ".join(lists.class_names[:NUM_EXAMPLES])}, ...; check that the dataset is right and no file is '
            f'missing, or accept them with --num-classes {found}'
        )
    return lists


def check_numbering(out: Path, lists: Lists, names: Sequence[str]) -> None:
    """Check that a new ``classes.txt`` does not change the labels of other lists in the same folder.

    ``lists`` will be written to files with these ``names``.
    """
    file = out / 'classes.txt'
    if not file.is_file():
        return
    before = file.read_text(encoding='utf-8', errors='surrogateescape').splitlines()
    if lists.class_names[: len(before)] == before:
        return  # the same classes, or more at the end
    kept = sorted(one.name for one in out.iterdir() if _LIST_NAME.fullmatch(one.name) and one.name not in names)
    if kept:
        raise ValueError(
            f'the new classes.txt would change the labels of {", ".join(kept)} in {out}; keep the class order with '
            f'--class-file {file}, or choose another OUT'
        )


def check_own_lists(out: Path, lists: Lists, names: Sequence[str]) -> None:
    """Check that no lists of the user are replaced: in a folder without ``build_list.json``, all are the user's.

    ``lists`` will be written to files with these ``names``.
    """
    if any(out.glob('build_list*.json')):
        return
    own = [name for name in names if (out / name).is_file()]
    classes = out / 'classes.txt'
    if classes.is_file():
        before = classes.read_text(encoding='utf-8-sig', errors='surrogateescape').splitlines()
        if [name.strip() for name in before if name.strip()] != lists.class_names:
            own.append('classes.txt')
    if own:
        hint = f', keep the class order with --class-file {classes}' if own == ['classes.txt'] else ''
        raise ValueError(
            f'{out} has files that dsanet build-list did not write but would replace: {", ".join(own)}. '
            f'Move them away{hint}, or choose another OUT'
        )


def write_text(file: Path, text: str) -> str:
    """Write a file atomically; return 'new', 'unchanged', or 'changed' with the number of lines added and removed."""
    # File names need not be valid UTF-8.
    data = text.encode(errors='surrogateescape')
    old = file.read_bytes() if file.exists() else None
    if old == data:
        return 'unchanged'
    write_atomically(data, file)
    if old is None:
        return 'new'
    before, after = Counter(old.splitlines()), Counter(data.splitlines())
    return f'changed ({(after - before).total()} lines added, {(before - after).total()} removed)'


def missing_line(skipped: tuple[str, str, str, str]) -> str:
    """Return name, reason, details and source as one line separated by tabs."""
    return '\t'.join(re.sub(r'[\t\n\r]', ' ', text) for text in skipped) + '\n'


def summarize_lists(
    title: str, lists: Lists, built: Sequence[BuiltList], media: MediaIndex, written: bool
) -> dict[str, Any]:
    """Return the content of ``build_list.json``."""
    used = {path for one in built for path in one.paths}
    unreadable = [path for path in media.problems if path not in media.num_frames]
    notes = [f'folder {os.path.join(media.root, path)} {media.problems[path]}' for path in unreadable]
    return {
        'data_set': title,
        'num_classes': len(lists.class_names),
        'written': written,
        'lists': {
            one.file_name: {
                'listed': one.num_listed,
                'num_listed': len(one.lines),
                'skipped': dict(sorted(Counter(reason for _, reason, _, _ in one.skipped).items())),
                'classes_without_video': [name for name in lists.class_names if not one.per_class[name]],
                'videos_per_class': {name: one.per_class[name] for name in lists.class_names},
            }
            for one in built
        },
        'videos_found': len(media.num_frames),
        'files_not_used': dict(sorted(media.skipped.counts.items())),
        'videos_in_no_list': len(media.num_frames.keys() - used),
        'notes': [*lists.notes, *notes],
    }


def summary_text(summary: Mapping[str, Any], built: Sequence[BuiltList], media: MediaIndex) -> str:
    """Return a summary for the terminal: numbers, the first problems, and notes."""
    lines = []
    for one in built:
        noun = 'videos' if one.extension == '.txt' else 'samples'
        content = summary['lists'][one.file_name]
        counts = list(content['videos_per_class'].values())
        lines.append(f'{one.file_name}: {len(one.lines)} of {one.num_listed} {noun}, {len(counts)} classes')
        lines.append(f'  {noun} per class: {min(counts)} to {max(counts)}, median {statistics.median(counts):g}')
        empty = content['classes_without_video']
        if empty:
            lines.append(f'  classes without videos: {len(empty)}, such as {", ".join(empty[:NUM_EXAMPLES])}')
        for reason, number in content['skipped'].items():
            lines.append(f'  {reason}: {number}')
            examples = [entry for entry in one.skipped if entry[1] == reason][:NUM_EXAMPLES]
            for name, _, details, source in examples:
                lines.append(f'    {printable(f"{source}: {details or name}")}')
        if one.skipped and not one.lines:
            lines.append(f'  no listed video was found; names on disk look like {printable(min(media.num_frames))}')
    names = list(next(iter(summary['lists'].values()))['videos_per_class'])
    more = len(names) - NUM_NAMES
    lines.append(f'classes: {", ".join(names[:NUM_NAMES])}{f" and {more} more" if more > 0 else ""}')
    if summary['videos_in_no_list']:
        lines.append(f'{summary["videos_in_no_list"]} of {summary["videos_found"]} videos on disk are not listed')
    if media.skipped:
        lines.append(f'not used in {media.root}: {media.skipped}')
    lines += [f'note: {note}' for note in summary['notes']]
    return '\n'.join(lines)
