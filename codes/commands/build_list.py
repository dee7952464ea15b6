"""Write the list files of a dataset.

    dsanet build-list kinetics400 data/kinetics400/frames data/kinetics400 --frames --skip-missing
    dsanet build-list ucf101 data/ucf101/videos data/ucf101
    dsanet build-list folders data/my_videos/videos data/my_videos --val-fraction 0.2

Reads the annotation files in OUT/annotations, or the class folders in MEDIA, finds the videos in MEDIA, and writes to
OUT:

  train.txt, val.txt   the lists: train_frames.txt and val_frames.txt with --frames, train_split1.txt and so on for
                       UCF101 and HMDB51
  train.csv, val.csv   instead of these for spans of videos: activitynet_spans, label_studio, fiftyone, span_csv
  train.missing.txt    videos that are not in the list because they are missing or damaged, with the reason
  classes.txt          class names in the order of their labels
  build_list.json      a summary

docs/datasets.md has the commands for each dataset.
Exit status: 0 lists written; 1 too many videos missing, no list written; 2 invalid arguments or files.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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
    'activitynet_spans',
    'label_studio',
    'fiftyone',
    'span_csv',
)
_SPANS = NAMES[-4:]
_TABLES = ('csv', 'span_csv')
_SPLIT_HERE = ('folders', *_SPANS[1:])  # by --val-fraction
# Options that require another option or a certain dataset.
_ONLY_WITH = {
    ('--frames',): ('filename_tmpl', 'start_index'),
    _SPLIT_HERE: ('val_fraction', 'seed'),
    _TABLES: ('path_column', 'label_column', 'split_column', 'label_separator', 'first_label'),
    ('span_csv',): ('start_column', 'end_column'),
    _SPANS: ('background',),
    ('label_studio', 'fiftyone'): ('frame_rate',),
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
    table = parser.add_argument_group(
        'csv, span_csv', 'train.csv, val.csv and test.csv, or all.csv with a column for the split'
    )
    table.add_argument('--path-column', help='column of the path (default: path; for span_csv: video)')
    table.add_argument('--label-column', help='column of the class name or number (default: label)')
    table.add_argument('--split-column', help='column of the split in all.csv (default: split)')
    table.add_argument('--label-separator', help='separator of several labels in one cell, such as "|"')
    table.add_argument('--first-label', type=int_between(0), help='number of the first class (default: 0)')
    spans = parser.add_argument_group(
        'activitynet_spans, label_studio, fiftyone, span_csv',
        'lists of parts of videos; --val-fraction and --seed split files without a split by video',
    )
    spans.add_argument('--background', metavar='NAME', help='add a class of spans between the labeled ones')
    spans.add_argument(
        '--frame-rate',
        type=float_between(0.01, 1000),
        help='frame rate of the annotations, in which frames were counted (default: that of each video)',
    )
    spans.add_argument('--start-column', help='column of the start in seconds (default: start)')
    spans.add_argument('--end-column', help='column of the end in seconds (default: end)')


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
    from dsanet.data_tools.lists.span_building import add_class, build_span_lists
    from dsanet.data_tools.lists.span_sources import SPAN_DATASETS
    from dsanet.datasets.frame_names import FrameNames
    from dsanet.engine.logging import exit_on_user_error
    from dsanet.utils.files import check_outputs, check_writable
    from dsanet.utils.text import error_line

    has_spans = args.dataset in _SPANS
    with exit_on_user_error():
        dataset = (KNOWN_DATASETS | CUSTOM | SPAN_DATASETS)[args.dataset]
        template = args.filename_tmpl or dataset.filename_tmpl
        start_index = 1 if args.start_index is None else args.start_index
        frame_names = FrameNames(template, start_index) if args.frames else None
        check_writable(args.out, 'OUT')
        # Annotation files are checked first, because reading the folders may take minutes.
        read = [args.class_file] if args.class_file else []
        if args.dataset == 'folders':
            media = index_media(args.media, frame_names, args.workers)
            lists = read_class_tree(list(media.num_frames), args.val_fraction, args.seed, media.empty_folders)
            lists = check_lists(lists, dataset, args.class_file, args.num_classes)
        else:
            files = _find_files(args, dataset)
            read += [file for found in files.values() for file in found]
            lists = _read_lists(args, dataset, files)
            if args.background is not None:
                lists = add_class(lists, args.background)
            lists = check_lists(lists, dataset, args.class_file, args.num_classes)
            media = index_media(args.media, frame_names, args.workers)
        prefix = path_prefix(args.media, args.relative_to or str(args.out))
        suffix = '_frames' if args.frames else ''
        if has_spans:
            built = build_span_lists(
                lists,
                media,
                prefix,
                val_fraction=args.val_fraction,
                seed=args.seed or 0,
                background=args.background,
                frame_rate=args.frame_rate,
                workers=args.workers,
            )
        else:
            built = [
                match(f'{split}{suffix}', videos, media, lists.class_names, prefix)
                for split, videos in lists.splits.items()
            ]
        names = [one.file_name for one in built]
        check_numbering(args.out, lists, names)
        check_outputs({f'OUT {name}': args.out / name for name in names}, read)
        check_own_lists(args.out, lists, names)
    incomplete = [one for one in built if not one.lines or len(one.skipped) > args.skip_missing * one.num_listed]
    summary = summarize_lists(dataset.title, lists, built, media, written=not incomplete)
    print(summary_text(summary, built, media))

    texts: dict[str, str] = {}
    if not incomplete:
        texts['classes.txt'] = ''.join(f'{name}\n' for name in lists.class_names)
        header = ['video,label,start,end'] if has_spans else []
        texts |= {one.file_name: ''.join(f'{line}\n' for line in [*header, *one.lines]) for one in built}
    texts |= {f'{one.name}.missing.txt': ''.join(map(missing_line, one.skipped)) for one in built}
    texts[f'build_list{suffix}.json'] = json.dumps(summary, indent=2) + '\n'
    try:
        _write(args.out, texts)
    except OSError as error:  # such as a full disk
        sys.stderr.write(error_line(error))
        return 2
    if incomplete:
        share = max(len(one.skipped) / one.num_listed for one in incomplete)
        what = 'samples' if has_spans else 'videos'
        problem = 'missing or invalid' if has_spans else 'missing'
        print(
            f'No lists written, existing lists are unchanged: up to {share:.1%} of the {what} in '
            f'{", ".join(one.name for one in incomplete)} are {problem} (limit: {args.skip_missing:.1%}). '
            f'See {incomplete[0].name}.missing.txt, or use --skip-missing [SHARE]'
        )
    return 1 if incomplete else 0


def _check_arguments(args: argparse.Namespace) -> None:
    if args.dataset == 'folders' and (args.file or args.annotations):
        raise UsageError(
            '--file and --annotations cannot be used with the dataset "folders", which has no annotation files'
        )
    if args.frames and args.dataset in _SPANS:
        raise UsageError(f'--frames cannot be used with {args.dataset}: spans are parts of video files')
    for conditions, names in _ONLY_WITH.items():
        given = [f'--{name.replace("_", "-")}' for name in names if getattr(args, name) is not None]
        if given and not (args.frames if conditions == ('--frames',) else args.dataset in conditions):
            raise UsageError(f'{", ".join(given)} can only be used with {" or ".join(conditions)}')


def _find_files(args: argparse.Namespace, dataset: DatasetSpec) -> dict[str, list[str]]:
    """Return the annotation files by role."""
    from dsanet.data_tools.lists.building import find_files

    given: dict[str, list[str]] = {}
    for text in args.file:
        role, separator, file = text.partition('=')
        if not separator or not file:
            raise ValueError(f'--file {text}: expected ROLE=FILE, where ROLE is one of {", ".join(dataset.roles)}')
        given.setdefault(role, []).append(file)
    return find_files(dataset.roles, args.annotations or args.out / 'annotations', given)


def _read_lists(args: argparse.Namespace, dataset: DatasetSpec, files: Mapping[str, Sequence[str]]) -> Lists:
    from dsanet.data_tools.lists.custom import read_csv
    from dsanet.data_tools.lists.span_sources import read_span_table
    from dsanet.datasets.annotation import read_class_names

    if args.dataset not in _TABLES:
        return dataset.read(files)
    columns: dict[str, Any] = {
        name: value
        for name in ('path_column', 'label_column', 'split_column', 'start_column', 'end_column')
        if (value := getattr(args, name)) is not None
    }
    return (read_csv if args.dataset == 'csv' else read_span_table)(
        files,
        label_separator=args.label_separator,
        first_label=args.first_label,
        class_names=read_class_names(args.class_file) if args.class_file else None,
        **columns,
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
