"""Write the list files of a data set, from its official lists or its folders and from the videos that are there.

    python tools/data/build_list.py kinetics400 data/kinetics400/frames data/kinetics400 --frames --skip-missing
    python tools/data/build_list.py ucf101 data/ucf101/videos data/ucf101
    python tools/data/build_list.py folders data/my_videos/videos data/my_videos --val-fraction 0.2

reads the official files in ``OUT/annotations`` and writes to OUT ``train.txt`` and ``val.txt`` (``train_frames.txt``,
``val_frames.txt`` for folders of frames; ``train_split1.txt`` and so on for UCF101 and HMDB51), ``classes.txt`` and
the summary ``build_list.json``. What a list names but cannot be used goes to ``train.missing.txt``, with the reason.
docs/datasets.md has the commands for every data set. Exit status: 0 lists written, 1 too much is missing and no list
was written, 2 wrong arguments or files.
"""

import argparse
import io
import json
import os
import re
import statistics
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

if __name__ == '__main__':  # before the imports, which take seconds
    from dsanet.utils.signals import end_at_once_if_interrupted, run_interruptible

    end_at_once_if_interrupted()

from tqdm import tqdm  # noqa: E402

from dsanet.data_tools.lists.base import DataSet, Lists, Role, has_line_break  # noqa: E402
from dsanet.data_tools.lists.catalogue import DATA_SETS  # noqa: E402
from dsanet.data_tools.lists.custom import read_class_tree, read_csv  # noqa: E402
from dsanet.data_tools.lists.matching import BuiltList, find_overlaps, match, order_classes, path_prefix  # noqa: E402
from dsanet.data_tools.lists.media_index import MediaIndex, index_media  # noqa: E402
from dsanet.datasets.annotation import read_class_names  # noqa: E402
from dsanet.datasets.frame_names import FrameNames  # noqa: E402
from dsanet.engine.logging import plain_errors  # noqa: E402
from dsanet.utils.files import (
    check_writable,  # noqa: E402
    write_atomically,  # noqa: E402
)

_CSV_ROLES = {split: Role((f'{split}.csv',)) for split in ('train', 'val', 'test')} | {'all': Role(('all.csv',))}
_OWN = {
    'folders': DataSet('one folder a class', None, lambda files: Lists([], {}), {}),
    'csv': DataSet('csv files', None, read_csv, _CSV_ROLES),
}
NUM_EXAMPLES = 3
NUM_NAMES = 10  # of classes, in the summary
_LIST_NAME = re.compile(r'(train|val|test)(_split\d+)?(_frames)?\.txt')
# Options that only some calls use, by what they are for, and their defaults. The parser's own default of them is None,
# which tells those that were given; some are used by some data only, so their readers need to know that, too.
_OPTIONS: dict[str, dict[str, Any]] = {
    '--frames': {'filename_tmpl': None, 'start_index': 1},
    'folders': {'val_fraction': None, 'seed': None},
    'csv': {
        'path_column': 'path',
        'label_column': 'label',
        'split_column': None,
        'label_separator': None,
        'first_label': None,
    },
}


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
    """Compare the number of classes with what the data set has: one that lacks would shift the labels of the others.

    Raises:
        ValueError: they differ.
    """
    if num_classes is not None and len(lists.class_names) != num_classes:
        names = ', '.join(lists.class_names[:NUM_EXAMPLES])
        raise ValueError(
            f'{title} has {num_classes} classes, the files name {len(lists.class_names)}: {names}, ...; '
            f'is it the right data set, and are all files there? --num-classes {len(lists.class_names)} accepts them'
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


def summarise(title: str, lists: Lists, built: Sequence[BuiltList], media: MediaIndex, written: bool) -> dict[str, Any]:
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


def print_summary(summary: Mapping[str, Any], built: Sequence[BuiltList], media: MediaIndex) -> None:
    """Print what people look at first: numbers, the first problems, and notes."""
    for one in built:
        content = summary['lists'][f'{one.name}.txt']
        counts = list(content['videos_per_class'].values())
        print(f'{one.name}.txt: {len(one.lines)} of {one.num_listed} videos, {len(counts)} classes')
        print(f'  videos of a class: {min(counts)} to {max(counts)}, median {statistics.median(counts):g}')
        lacking = content['classes_without_video']
        if lacking:
            print(f'  classes without a video: {len(lacking)}, such as {", ".join(lacking[:NUM_EXAMPLES])}')
        for reason, number in content['skipped'].items():
            print(f'  {reason}: {number}')
            examples = [entry for entry in one.skipped if entry[1] == reason][:NUM_EXAMPLES]
            for name, _, details, source in examples:
                print(f'    {source}: {details or name}')
        if one.skipped and not one.lines and media.num_frames:
            print(f'  nothing was found; what is there is called like {min(media.num_frames)}')
    names = list(next(iter(summary['lists'].values()))['videos_per_class'])
    more = len(names) - NUM_NAMES
    print(f'classes: {", ".join(names[:NUM_NAMES])}{f" and {more} more" if more > 0 else ""}')
    if summary['videos_in_no_list']:
        print(f'{summary["videos_in_no_list"]} of {summary["videos_there"]} videos that are there are in no list')
    for note in summary['notes']:
        print(f'note: {note}')


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('data_set', choices=[*DATA_SETS, *_OWN], metavar='DATA_SET', help=', '.join([*DATA_SETS, *_OWN]))
    add('media', metavar='MEDIA', help='folder of the video files, or of the folders of frames; searched to any depth')
    add('out', metavar='OUT', type=Path, help='folder to write the lists to, the data_root of the configs')
    add('--frames', action='store_true', help='videos are folders of frames; they are counted')
    add(
        '--filename-tmpl',
        help='how frames are called (default: img_{:05d}.jpg; {:05d}.jpg and {:06d}.jpg for Something-Something)',
    )
    add('--start-index', type=int, help='number of the first frame (default: 1)')
    add('--annotations', type=Path, help='folder of the official files (default: OUT/annotations)')
    add('--file', action='append', default=[], metavar='ROLE=FILE', help='an official file elsewhere; may be repeated')
    add('--relative-to', help='folder that paths are relative to (default: OUT); they are absolute if MEDIA is outside')
    add(
        '--skip-missing',
        type=float,
        nargs='?',
        const=1.0,
        default=0.0,
        metavar='SHARE',
        help='write lists though videos are missing: any number, or up to this share of a list',
    )
    add('--num-classes', type=int, help='number of classes to expect (default: that of the data set)')
    add('--class-file', help='classes in the order of their labels, one a line (default: see docs/datasets.md)')
    add('--workers', type=int, default=8, help='folders to read at once (default: 8)')
    tree = parser.add_argument_group('folders', 'a tree train/class/video and val/class/video, or class/video')
    tree.add_argument('--val-fraction', type=float, help='share of each class that goes to val.txt, for class/video')
    tree.add_argument('--seed', type=int, help='another choice of them (default: 0)')
    table = parser.add_argument_group('csv', 'train.csv, val.csv, test.csv, or all.csv with a column for the split')
    table.add_argument('--path-column', help='(default: path)')
    table.add_argument('--label-column', help='names or numbers (default: label)')
    table.add_argument('--split-column', help='in all.csv (default: split)')
    table.add_argument('--label-separator', help='what stands between several labels of a video, such as "|"')
    table.add_argument('--first-label', type=int, help='number of the first class (default: 0)')
    return parser


def settle_options(args: argparse.Namespace) -> None:
    """Give the options that only some calls use their defaults, and refuse those that this call would not use.

    Raises:
        ValueError: an option was given that has no use here; says which, and what it is for.
    """
    for purpose, defaults in _OPTIONS.items():
        is_used = args.frames if purpose == '--frames' else args.data_set == purpose
        given = [name for name in defaults if getattr(args, name) is not None]
        if given and not is_used:
            options = ', '.join(f'--{name.replace("_", "-")}' for name in given)
            missing = 'without --frames' if purpose == '--frames' else f'for {args.data_set}, only for {purpose}'
            raise ValueError(f'{options}: of no use {missing}')
        for name, default in defaults.items():
            if getattr(args, name) is None:
                setattr(args, name, default)


def read_lists(args: argparse.Namespace, data_set: DataSet) -> Lists:
    """Read the official files, or csv files, that the arguments ask for."""
    given: dict[str, list[str]] = {}
    for text in args.file:
        role, separator, file = text.partition('=')
        if not separator or not file:
            raise ValueError(f'--file {text}: expected ROLE=FILE, ROLE one of {", ".join(data_set.roles)}')
        given.setdefault(role, []).append(file)
    files = find_files(data_set.roles, args.annotations or args.out / 'annotations', given)
    if args.data_set != 'csv':
        return data_set.read(files)
    return read_csv(
        files,
        path_column=args.path_column,
        label_column=args.label_column,
        split_column=args.split_column,
        label_separator=args.label_separator,
        first_label=args.first_label,
        class_names=read_class_names(args.class_file) if args.class_file else None,
    )


def check_lists(lists: Lists, args: argparse.Namespace, data_set: DataSet) -> Lists:
    """Number the classes as the arguments ask for, and refuse lists that lack classes or videos."""
    empty = [split for split in lists.splits if not lists.splits[split]]
    if empty or not lists.splits:
        raise ValueError('; '.join([f'the list of {" and ".join(empty) or "all"} names no video', *lists.notes]))
    if args.class_file:
        lists = order_classes(lists, args.class_file)
    check_names(lists)
    check_classes(lists, args.num_classes or data_set.num_classes, data_set.title)
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


def index_with_bar(args: argparse.Namespace, data_set: DataSet) -> MediaIndex:
    """Read the tree of the videos, with a progress bar where a person watches."""
    names = FrameNames(args.filename_tmpl or data_set.filename_tmpl, args.start_index) if args.frames else None
    with tqdm(desc='folders', unit='folder', disable=None) as bar:

        def show(done: int, known: int) -> None:
            bar.total = known
            bar.update(done - bar.n)

        media = index_media(args.media, names, args.workers, show)
    if not media.num_frames:
        wanted = 'video' if names is None else f'folder of frames called {names.template!r}'
        example = f'; it holds {media.example}' if media.example else ''
        hint = '; are they folders of frames (--frames)?' if names is None and media.example else ''
        raise ValueError(f'{os.path.abspath(args.media)!r} has no {wanted}{example}{hint}')
    return media


def main(argv: list[str] | None = None) -> int:
    """Run the tool; return the exit status."""
    args = build_parser().parse_args(argv)
    with plain_errors():
        data_set = (DATA_SETS | _OWN)[args.data_set]
        if not 0 <= args.skip_missing <= 1:
            raise ValueError(f'--skip-missing {args.skip_missing} must be a share from 0 to 1')
        if args.num_classes is not None and args.num_classes < 1:
            raise ValueError(f'--num-classes {args.num_classes} must be at least 1')
        settle_options(args)
        check_writable(args.out, 'OUT')
        # Mistakes in lists show before the tree is read, which may take minutes.
        if args.data_set == 'folders':
            if args.file or args.annotations:
                raise ValueError('folders has no official files: leave out --file and --annotations')
            media = index_with_bar(args, data_set)
            lists = check_lists(read_class_tree(list(media.num_frames), args.val_fraction, args.seed), args, data_set)
        else:
            lists = check_lists(read_lists(args, data_set), args, data_set)
            media = index_with_bar(args, data_set)
        prefix = path_prefix(args.media, args.relative_to or str(args.out))
        suffix = '_frames' if args.frames else ''
        check_numbering(args.out, lists, suffix)
    built = [
        match(f'{split}{suffix}', videos, media, lists.class_names, prefix) for split, videos in lists.splits.items()
    ]
    refused = [one for one in built if not one.lines or len(one.skipped) > args.skip_missing * one.num_listed]
    summary = summarise(data_set.title, lists, built, media, written=not refused)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors='backslashreplace')  # the name of a file need not be text
    print_summary(summary, built, media)

    texts: dict[str, str] = {}
    if not refused:
        texts['classes.txt'] = ''.join(f'{name}\n' for name in lists.class_names)
        texts |= {f'{one.name}.txt': ''.join(f'{line}\n' for line in one.lines) for one in built}
    texts |= {f'{one.name}.missing.txt': ''.join(map(missing_line, one.skipped)) for one in built}
    texts[f'build_list{suffix}.json'] = json.dumps(summary, indent=2) + '\n'
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            file = args.out / name
            if text:
                print(f'{file}: {write_text(file, text)}')
            elif file.exists():
                file.unlink()
                print(f'{file}: removed, nothing is missing any more')
    except OSError as error:  # such as a full disk
        sys.stderr.write(f'error: {error}\n')
        return 2
    if refused:
        share = max(len(one.skipped) / one.num_listed for one in refused)
        print(
            f'no list written: {", ".join(one.name for one in refused)} would lack up to {share:.1%} of the videos, '
            f'{args.skip_missing:.1%} are allowed (--skip-missing [SHARE]); see {refused[0].name}.missing.txt. '
            'Lists of an earlier run stay as they are.'
        )
    return 1 if refused else 0


if __name__ == '__main__':
    sys.exit(run_interruptible(main))
