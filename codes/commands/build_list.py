"""Write the list files of a dataset, from its official lists or its folders and from the videos that are there.

    dsanet build-list kinetics400 data/kinetics400/frames data/kinetics400 --frames --skip-missing
    dsanet build-list ucf101 data/ucf101/videos data/ucf101
    dsanet build-list folders data/my_videos/videos data/my_videos --val-fraction 0.2

reads the official files in ``OUT/annotations`` and writes to OUT ``train.txt`` and ``val.txt`` (``train_frames.txt``,
``val_frames.txt`` for folders of frames; ``train_split1.txt`` and so on for UCF101 and HMDB51), ``classes.txt`` and
the summary ``build_list.json``. What a list names but cannot be used goes to ``train.missing.txt``, with the reason.
docs/datasets.md has the commands for every dataset. Exit status: 0 lists written, 1 too much is missing and no list
was written, 2 wrong arguments or files.
"""

import argparse
import io
import json
import sys
from pathlib import Path
from typing import Any

from dsanet.commands.arguments import UsageError
from dsanet.data_tools.lists.base import DataSet, Lists

# The datasets of dsanet.data_tools.lists.catalog, whose import takes time, and the user's own.
NAMES = (
    'kinetics400',
    'kinetics600',
    'kinetics700',
    'mini_kinetics200',
    'something_v1',
    'something_v2',
    'activitynet',
    'ucf101',
    'hmdb51',
    'folders',
    'csv',
)
# Options that only some calls use, by what they are for, and their defaults. The parser's own default of them is None,
# which tells those that were given; some are used by some data only, so their readers need to know that, too.
_OPTIONS: dict[str, dict[str, Any]] = {
    '--frames': {'filename_tmpl': None, 'start_index': 1},
    'folders': {'val_fraction': None, 'seed': 0},
    'csv': {
        'path_column': 'path',
        'label_column': 'label',
        'split_column': 'split',
        'label_separator': None,
        'first_label': None,
    },
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('data_set', choices=NAMES, metavar='DATA_SET', help=', '.join(NAMES))
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
    add('--num-classes', type=int, help='number of classes to expect (default: that of the dataset)')
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


def run(args: argparse.Namespace) -> int:
    _check_arguments(args)
    _settle_options(args)
    from dsanet.data_tools.lists.building import (
        OWN,
        check_lists,
        check_numbering,
        missing_line,
        summarize,
        summary_text,
        write_text,
    )
    from dsanet.data_tools.lists.catalog import DATA_SETS
    from dsanet.data_tools.lists.custom import read_class_tree
    from dsanet.data_tools.lists.matching import match, path_prefix
    from dsanet.data_tools.lists.media_index import index_media
    from dsanet.datasets.frame_names import FrameNames
    from dsanet.engine.logging import plain_errors
    from dsanet.utils.files import check_writable

    with plain_errors():
        data_set = (DATA_SETS | OWN)[args.data_set]
        template = args.filename_tmpl or data_set.filename_tmpl
        names = FrameNames(template, args.start_index) if args.frames else None
        check_writable(args.out, 'OUT')
        # Mistakes in lists show before the tree is read, which may take minutes.
        if args.data_set == 'folders':
            media = index_media(args.media, names, args.workers)
            lists = read_class_tree(list(media.num_frames), args.val_fraction, args.seed)
            lists = check_lists(lists, data_set, args.class_file, args.num_classes)
        else:
            lists = check_lists(_read_lists(args, data_set), data_set, args.class_file, args.num_classes)
            media = index_media(args.media, names, args.workers)
        prefix = path_prefix(args.media, args.relative_to or str(args.out))
        suffix = '_frames' if args.frames else ''
        check_numbering(args.out, lists, suffix)
    built = [
        match(f'{split}{suffix}', videos, media, lists.class_names, prefix) for split, videos in lists.splits.items()
    ]
    refused = [one for one in built if not one.lines or len(one.skipped) > args.skip_missing * one.num_listed]
    summary = summarize(data_set.title, lists, built, media, written=not refused)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors='backslashreplace')  # the name of a file need not be text
    print(summary_text(summary, built, media))

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


def _check_arguments(args: argparse.Namespace) -> None:
    """Refuse numbers out of range, and files that a tree of folders does not have."""
    if not 0 <= args.skip_missing <= 1:
        raise UsageError(f'--skip-missing {args.skip_missing} must be a share from 0 to 1')
    if args.num_classes is not None and args.num_classes < 1:
        raise UsageError(f'--num-classes {args.num_classes} must be at least 1')
    if args.data_set == 'folders' and (args.file or args.annotations):
        raise UsageError('folders has no official files: leave out --file and --annotations')


def _settle_options(args: argparse.Namespace) -> None:
    """Give the options that only some calls use their defaults, and refuse those that this call would not use.

    Raises:
        UsageError: an option was given that has no use here; says which, and what it is for.
    """
    for purpose, defaults in _OPTIONS.items():
        is_used = args.frames if purpose == '--frames' else args.data_set == purpose
        given = [name for name in defaults if getattr(args, name) is not None]
        if given and not is_used:
            options = ', '.join(f'--{name.replace("_", "-")}' for name in given)
            missing = 'without --frames' if purpose == '--frames' else f'for {args.data_set}, only for {purpose}'
            raise UsageError(f'{options}: no effect {missing}')
        for name, default in defaults.items():
            if getattr(args, name) is None:
                setattr(args, name, default)


def _read_lists(args: argparse.Namespace, data_set: DataSet) -> Lists:
    """Read the official files, or csv files, that the arguments ask for."""
    from dsanet.data_tools.lists.building import find_files
    from dsanet.data_tools.lists.custom import read_csv
    from dsanet.datasets.annotation import read_class_names

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
