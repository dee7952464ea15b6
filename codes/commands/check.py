"""Check whether the data of a config are fit to train on, before hours are spent on them.

Reads every line of the lists, compares labels with the number of classes, looks for duplicates and for training
videos among those of validation or test, opens every file as in training, decodes some of its frames, and pushes a
video of each split through its pipeline. Writes
report.txt, report.json and classes_*.png (training samples of each class). The results of
the files are kept in files.jsonl: a run that was interrupted continues where it was, and a later one opens only what is
new, was changed or could not be read.

Exit status: 0 if the data are fit to train on, 1 if not, 2 if they cannot be checked, such as for a wrong call,
130 if interrupted.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from dsanet.commands.arguments import UsageError, add_config_arguments, default_folder, read_config

INTERRUPTED = 'interrupted; continue with the same command'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    add = parser.add_argument
    add('--quick', action='store_true', help='open one video of a split only: seconds for hundreds of thousands')
    add('--hash', action='store_true', help='compare the content of files too, to find copies under other names')
    add('--every-frame', action='store_true', help='decode all frames: slow, finds damage in the middle of a video')
    add(
        '--samples', type=int, default=6, metavar='N', help='videos of a class on the sheets (default: 6; 0: no sheets)'
    )
    add('--out', type=Path, metavar='DIR', help='where the report goes; default work_dirs/<name of the config>/check')
    add('--workers', type=int, default=os.cpu_count() or 1, metavar='N', help='processes (default: one per core)')
    add('--time-limit', type=float, default=60, metavar='S', help='seconds a video may take (default: 60)')
    add('--strict', action='store_true', help='warnings too make the data unfit')


def run(args: argparse.Namespace) -> int:
    if args.samples < 0 or args.workers < 1 or args.time_limit <= 0:
        raise UsageError('--samples must be at least 0, --workers at least 1, --time-limit above 0')
    args.out = args.out or default_folder(args.config) / 'check'
    from dsanet.data_checks.pipeline import try_pipelines
    from dsanet.data_checks.reading import read_splits
    from dsanet.data_checks.run import full_report, quick_report
    from dsanet.engine.logging import plain_errors
    from dsanet.reports.class_sheets import draw_samples, remove_old_sheets
    from dsanet.utils.files import check_writable, write_atomically
    from dsanet.utils.text import printable

    facts: Any = {}
    with plain_errors():
        config = _read_config(args)
        check_writable(args.out, '--out')
        splits = read_splits(config)
        args.out.mkdir(parents=True, exist_ok=True)
    title = Path(args.config).stem
    if args.quick:
        report = quick_report(splits, tried=try_pipelines(splits, time_limit=args.time_limit))
    else:
        try:
            facts, identities = _inspect(splits, args)
        except ImportError as error:
            sys.stderr.write(f'error: the decoder of the config cannot be imported: {error}\n')
            return 2
        except (OSError, RuntimeError) as error:  # such as a full disk, or no memory for a worker
            sys.stderr.write(f'error: the videos cannot be inspected: {printable(str(error))}\n')
            return 2
        report = full_report(splits, facts, identities, try_pipelines(splits, facts, args.time_limit))
    text, content = report.text() + '\n', json.dumps(report.to_dict(), indent=1)
    files: list[Path] = []
    try:
        write_atomically(text.encode(), args.out / 'report.txt')
        write_atomically(content.encode(), args.out / 'report.json')
        if not args.quick and args.samples:
            for split in [split for split in splits if split.is_training and split.records]:
                heading = f'{title}, {split.name}: middle frames'
                files += draw_samples(split, facts, args.out, args.samples, heading, args.workers, args.time_limit)
        remove_old_sheets(args.out, files)
    except OSError as error:  # such as a full disk
        sys.stderr.write(f'error: the report cannot be written: {printable(str(error))}\n')
        return 2
    print(report.text())
    print(f'\nwritten to {args.out}: {" ".join(["report.txt", "report.json", *(file.name for file in files)])}')
    return 0 if report.is_fit and not (args.strict and report.of_level('warning')) else 1


def _read_config(args: argparse.Namespace) -> dict[str, Any]:
    """Return the config, its number of classes left open if the data are too wrong to count it: the check says why."""
    from dsanet.config.schema import LOADERS

    try:
        return read_config(args, LOADERS)
    except (OSError, ValueError):
        return read_config(args)


def _inspect(splits: Any, args: argparse.Namespace) -> tuple[Any, Any]:
    """Inspect the files of all splits, with progress bars; returns what was found, and the file behind each path."""
    from tqdm import tqdm

    from dsanet.data_checks.probe import Inspection

    file = args.out / 'files.jsonl'
    jobs = [split.job_of(record, args.every_frame, args.hash) for split in splits for record in split.records]
    with tqdm(total=len(set(jobs)), desc='looking', unit='video', disable=None) as bar:
        inspection = Inspection(jobs, file, args.workers, args.time_limit, bar.update)
    if inspection.known:
        print(f'{inspection.known:,} videos are known from {file}')
    with tqdm(total=len(inspection.open_jobs), desc='videos', unit='video', disable=None) as bar:
        return inspection.run(bar.update), inspection.identities
