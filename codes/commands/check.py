"""Check the dataset of a config before training.

Reads the lists, compares the labels with the number of classes, finds duplicates and training videos that are also in
the validation or test list, opens each file and decodes some of its frames, and runs the pipeline of each split on one
video. Writes report.txt, report.json and classes_*.png, which show the first, middle and last frames of training videos
of each class. files.jsonl keeps the results per file, so that an interrupted check continues, and a later check opens
only files that are new, changed or unreadable.

Exit status: 0 the dataset has no errors; 1 it has errors; 2 the check could not be completed, for example because of
invalid arguments; 130 interrupted.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from dsanet.commands.arguments import (
    UsageError,
    add_config_arguments,
    default_folder,
    files_of_config,
    int_between,
    num_processes,
    read_config,
    seconds,
)

INTERRUPTED = 'interrupted; run the same command again to continue'

# First bytes of the files of an earlier check.
_STARTS = {'report.txt': (b'PASSED', b'FAILED'), 'report.json': (b'{\n "form"',), 'files.jsonl': (b'{"',)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    add = parser.add_argument
    add('--quick', action='store_true', help='open only one video per split; takes seconds')
    add('--hash', action='store_true', help='also compare file contents, to find copies with other names')
    add('--every-frame', action='store_true', help='decode all frames; slow, but finds any damage')
    add('--samples', type=int_between(0), default=6, metavar='N', help='videos per class on the sheets (default: 6)')
    add('--out', type=Path, metavar='DIR', help='output folder (default: work_dirs/<config name>/check)')
    workers = os.cpu_count() or 1
    add('--workers', type=num_processes(1), default=workers, metavar='N', help='processes (default: number of cores)')
    add('--time-limit', type=seconds, default=60, metavar='S', help='time limit per video in seconds (default: 60)')
    add('--strict', action='store_true', help='treat warnings as errors')


def run(args: argparse.Namespace) -> int:
    if args.time_limit <= 0:
        raise UsageError(f'--time-limit must be above 0, got {args.time_limit}')
    args.out = args.out or default_folder(args.config) / 'check'
    from dsanet.engine.logging import exit_on_user_error
    from dsanet.engine.work_dir import hold_lock
    from dsanet.utils.files import check_writable

    with exit_on_user_error():
        check_writable(args.out, '--out')
        args.out.mkdir(parents=True, exist_ok=True)
    with hold_lock(args.out, 'choose another --out'):
        return _check(args)


def _check(args: argparse.Namespace) -> int:
    from dsanet.data_checks.pipeline import try_pipelines
    from dsanet.data_checks.probe import inspect_videos
    from dsanet.data_checks.reading import read_splits
    from dsanet.data_checks.run import full_report, quick_report
    from dsanet.engine.logging import exit_on_user_error
    from dsanet.reports.class_sheets import remove_old_sheets, write_class_sheets
    from dsanet.utils.files import check_outputs, write_atomically
    from dsanet.utils.text import error_line

    facts: Any = {}
    with exit_on_user_error():
        config = _read_config(args)
        written = {f'--out {name}': args.out / name for name in ('report.txt', 'report.json', 'files.jsonl')}
        check_outputs(written, [args.config, *files_of_config(config)])
        _check_own_files(args.out)
        splits = read_splits(config)
    title = Path(args.config).stem
    if args.quick:
        report = quick_report(splits, pipeline_findings=try_pipelines(splits, time_limit=args.time_limit))
    else:
        try:
            tasks = [split.probe_task(r, args.every_frame, args.hash) for split in splits for r in split.records]
            facts, identities = inspect_videos(tasks, args.out / 'files.jsonl', args.workers, args.time_limit)
        except ImportError as error:
            sys.stderr.write(error_line(f'cannot import the decoder of the config: {error}'))
            return 2
        except (OSError, RuntimeError) as error:  # such as a full disk, or too little memory for a worker
            sys.stderr.write(error_line(f'cannot check the videos: {error}'))
            return 2
        report = full_report(splits, facts, identities, try_pipelines(splits, facts, args.time_limit))
    text, content = report.text() + '\n', json.dumps(report.to_dict(), indent=1)
    files: list[Path] = []
    try:
        write_atomically(content.encode(), args.out / 'report.json')  # first: shows whose the other files are
        write_atomically(text.encode(), args.out / 'report.txt')
        if not args.quick and args.samples:
            for split in [split for split in splits if split.is_training and split.records]:
                heading = f'{title}, {split.name}: samples of each class'
                files += write_class_sheets(
                    split, facts, args.out, args.samples, heading, args.workers, args.time_limit
                )
        remove_old_sheets(args.out, files)
    except OSError as error:  # such as a full disk
        sys.stderr.write(error_line(f'cannot write the report: {error}'))
        return 2
    print(report.text())
    print(f'\nWritten to {args.out}: {" ".join(["report.txt", "report.json", *(file.name for file in files)])}')
    return 0 if report.is_fit and not (args.strict and report.of_level('warning')) else 1


def _check_own_files(out: Path) -> None:
    """Check that no file of the user is replaced: reports are recognized by how they begin, sheets by their report."""
    from dsanet.reports.class_sheets import find_sheets

    own = []
    for name, starts in _STARTS.items():
        if (out / name).is_file():
            with (out / name).open('rb') as stream:
                start = stream.read(20)
            own += [name] if start and not start.startswith(starts) else []
    if not (out / 'report.json').exists():
        own += sorted(file.name for file in find_sheets(out))
    if own:
        raise ValueError(
            f'--out {out} has files that dsanet check did not write but would replace: {", ".join(own)}. '
            'Move them away, or choose another --out'
        )


def _read_config(args: argparse.Namespace) -> dict[str, Any]:
    """Load the config; if the classes cannot be counted in the data, leave ``num_classes`` unset for the report."""
    from dsanet.config.schema import LOADERS

    try:
        return read_config(args, LOADERS)
    except (OSError, ValueError):
        return read_config(args)
