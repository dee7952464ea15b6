"""Write the list files of a dataset.

    dsanet build-list kinetics400 data/kinetics400/frames data/kinetics400 --frames --skip-missing
    dsanet build-list ucf101 data/ucf101/videos data/ucf101
    dsanet build-list folders data/my_videos/videos data/my_videos --val-fraction 0.2

Reads the annotation files in OUT/annotations, or the class folders in MEDIA, finds the videos in MEDIA, and writes to
OUT:

  train.txt, val.txt   the lists: train_frames.txt and val_frames.txt with --frames, train_split1.txt and so on for
                       UCF101 and HMDB51
  train.missing.txt    videos that are not in the list because they are missing or damaged, with the reason
  classes.txt          class names in the order of their labels
  build_list.json      a summary

docs/datasets.md has the commands for each dataset.
Exit status: 0 lists written; 1 too many videos missing, no list written; 2 invalid arguments or files.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from dsanet.commands.arguments import MAX_SEED, UsageError, float_between, int_between, num_processes
from dsanet.data_tools.lists.base import DatasetSpec, Lists

# The datasets in dsanet.data_tools.lists.catalog, which is slow to import, and custom data.
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
# Options that require another option or a certain dataset.
_ONLY_WITH = {
    '--frames': ('filename_tmpl', 'start_index'),
    'folders': ('val_fraction', 'seed'),
    'csv': ('path_column', 'label_column', 'split_column', 'label_separator', 'first_label'),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('dataset', choices=NAMES, metavar='DATASET', help=', '.join(NAMES))
    add('media', metavar='MEDIA', help='folder of the videos, or of the folders of frames, searched recursively')
    add('out', metavar='OUT', type=Path, help='output folder, the data_root in the configs')
    add('--frames', action='store_true', help='MEDIA has folders of frames instead of video files')
    add(
        '--filename-tmpl',
        help='file names of the frames (default: img_{:05d}.jpg; {:05d}.jpg and {:06d}.jpg for Something-Something)',
    )
    add('--start-index', type=int_between(0), help='number of the first frame (default: 1)')
    add('--annotations', type=Path, help='folder of the annotation files (default: OUT/annotations)')
    add(
        '--file',
        action='append',
        default=[],
        metavar='ROLE=FILE',
        help='an annotation file in another folder, such as train=my.csv; can be repeated',
    )
    add('--relative-to', help='paths in the lists are relative to this folder if it contains MEDIA (default: OUT)')
    add(
        '--skip-missing',
        type=float_between(0, 1),
        nargs='?',
        const=1.0,
        default=0.0,
        metavar='SHARE',
        help='write the lists even if videos are missing; SHARE is the fraction that may be missing (default: all)',
    )
    add('--num-classes', type=int_between(1), help='expected number of classes (default: that of the dataset)')
    add('--class-file', help='class names in the order of their labels, one per line (default: see docs/datasets.md)')
    add('--workers', type=num_processes(1), default=8, help='number of folders to read in parallel (default: 8)')
    tree = parser.add_argument_group('folders', 'MEDIA has train/CLASS/VIDEO and val/CLASS/VIDEO, or CLASS/VIDEO')
    tree.add_argument(
        '--val-fraction', type=float_between(0, 1), help='for CLASS/VIDEO: share of each class that goes to val.txt'
    )
    tree.add_argument('--seed', type=int_between(0, MAX_SEED), help='random seed of this split (default: 0)')
    table = parser.add_argument_group('csv', 'train.csv, val.csv and test.csv, or all.csv with a column for the split')
    table.add_argument('--path-column', help='column of the path (default: path)')
    table.add_argument('--label-column', help='column of the class name or number (default: label)')
    table.add_argument('--split-column', help='column of the split in all.csv (default: split)')
    table.add_argument('--label-separator', help='separator of several labels in one cell, such as "|"')
    table.add_argument('--first-label', type=int_between(0), help='number of the first class (default: 0)')


def run(args: argparse.Namespace) -> int:
    _check_arguments(args)
    from dsanet.data_tools.lists.building import (
        CUSTOM,
        check_lists,
        check_numbering,
        check_own_lists,
        missing_line,
        summarize_lists,
        summary_text,
    )
    from dsanet.data_tools.lists.catalog import KNOWN_DATASETS
    from dsanet.data_tools.lists.custom import read_class_tree
    from dsanet.data_tools.lists.matching import match, path_prefix
    from dsanet.data_tools.lists.media_index import index_media
    from dsanet.datasets.frame_names import FrameNames
    from dsanet.engine.logging import exit_on_user_error
    from dsanet.utils.files import check_outputs, check_writable
    from dsanet.utils.text import error_line

    with exit_on_user_error():
        dataset = (KNOWN_DATASETS | CUSTOM)[args.dataset]
        template = args.filename_tmpl or dataset.filename_tmpl
        start_index = 1 if args.start_index is None else args.start_index
        frame_names = FrameNames(template, start_index) if args.frames else None
        check_writable(args.out, 'OUT')
        # Annotation files are checked first, because reading the folders may take minutes.
        if args.dataset == 'folders':
            media = index_media(args.media, frame_names, args.workers)
            lists = read_class_tree(list(media.num_frames), args.val_fraction, args.seed, media.empty_folders)
            lists = check_lists(lists, dataset, args.class_file, args.num_classes)
        else:
            lists = check_lists(_read_lists(args, dataset), dataset, args.class_file, args.num_classes)
            media = index_media(args.media, frame_names, args.workers)
        prefix = path_prefix(args.media, args.relative_to or str(args.out))
        suffix = '_frames' if args.frames else ''
        check_numbering(args.out, lists, suffix)
        read = [text.partition('=')[2] for text in args.file] + [args.class_file]
        check_outputs({f'OUT {split}': args.out / f'{split}{suffix}.txt' for split in lists.splits}, read)
        check_own_lists(args.out, lists, suffix)
    built = [
        match(f'{split}{suffix}', videos, media, lists.class_names, prefix) for split, videos in lists.splits.items()
    ]
    incomplete = [one for one in built if not one.lines or len(one.skipped) > args.skip_missing * one.num_listed]
    summary = summarize_lists(dataset.title, lists, built, media, written=not incomplete)
    print(summary_text(summary, built, media))

    texts: dict[str, str] = {}
    if not incomplete:
        texts['classes.txt'] = ''.join(f'{name}\n' for name in lists.class_names)
        texts |= {f'{one.name}.txt': ''.join(f'{line}\n' for line in one.lines) for one in built}
    texts |= {f'{one.name}.missing.txt': ''.join(map(missing_line, one.skipped)) for one in built}
    texts[f'build_list{suffix}.json'] = json.dumps(summary, indent=2) + '\n'
    try:
        _write(args.out, texts)
    except OSError as error:  # such as a full disk
        sys.stderr.write(error_line(error))
        return 2
    if incomplete:
        share = max(len(one.skipped) / one.num_listed for one in incomplete)
        print(
            f'No lists written, existing lists are unchanged: up to {share:.1%} of the videos in '
            f'{", ".join(one.name for one in incomplete)} are missing (limit: {args.skip_missing:.1%}). '
            f'See {incomplete[0].name}.missing.txt, or use --skip-missing [SHARE]'
        )
    return 1 if incomplete else 0


def _check_arguments(args: argparse.Namespace) -> None:
    if args.dataset == 'folders' and (args.file or args.annotations):
        raise UsageError(
            '--file and --annotations cannot be used with the dataset "folders", which has no annotation files'
        )
    for condition, names in _ONLY_WITH.items():
        given = [f'--{name.replace("_", "-")}' for name in names if getattr(args, name) is not None]
        if given and not (args.frames if condition == '--frames' else args.dataset == condition):
            raise UsageError(f'{", ".join(given)} can only be used with {condition}')


def _read_lists(args: argparse.Namespace, dataset: DatasetSpec) -> Lists:
    from dsanet.data_tools.lists.building import find_files
    from dsanet.data_tools.lists.custom import read_csv
    from dsanet.datasets.annotation import read_class_names

    given: dict[str, list[str]] = {}
    for text in args.file:
        role, separator, file = text.partition('=')
        if not separator or not file:
            raise ValueError(f'--file {text}: expected ROLE=FILE, where ROLE is one of {", ".join(dataset.roles)}')
        given.setdefault(role, []).append(file)
    files = find_files(dataset.roles, args.annotations or args.out / 'annotations', given)
    if args.dataset != 'csv':
        return dataset.read(files)
    return read_csv(
        files,
        path_column=args.path_column or 'path',
        label_column=args.label_column or 'label',
        split_column=args.split_column,
        label_separator=args.label_separator,
        first_label=args.first_label,
        class_names=read_class_names(args.class_file) if args.class_file else None,
    )


def _write(out: Path, texts: Mapping[str, str]) -> None:
    """Write the files and print what changed; a file without content is removed."""
    from dsanet.data_tools.lists.building import write_text

    out.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        file = out / name
        if text:
            print(f'{file}: {write_text(file, text)}')
        elif file.exists():
            file.unlink()
            print(f'{file}: removed, no videos are missing')
