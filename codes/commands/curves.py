"""Plot the training curves of one or more runs from their scalars.jsonl."""

import argparse
from pathlib import Path

from dsanet.commands.arguments import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('work_dirs', nargs='+', type=Path, metavar='WORK_DIR')
    parser.add_argument(
        '--out', type=Path, metavar='FILE', help='output file (default: curves.png in the first WORK_DIR)'
    )
    parser.add_argument(
        '--scalars',
        nargs='+',
        default=['train/loss', 'val/top1'],
        metavar='NAME',
        help='scalars to plot (default: train/loss val/top1)',
    )


def run(args: argparse.Namespace) -> None:
    for work_dir in args.work_dirs:
        if not (work_dir / 'scalars.jsonl').is_file():
            raise UsageError(f'no scalars.jsonl in {work_dir}; expected a work dir of dsanet train')
    from dsanet.reports.curves import plot_curves
    from dsanet.utils.json_lines import read_json_lines

    out = args.out or args.work_dirs[0] / 'curves.png'
    try:
        runs = {str(d): read_json_lines(d / 'scalars.jsonl', {'iteration': int}) for d in args.work_dirs}
        plot_curves(runs, out, args.scalars)
    except ValueError as error:
        raise UsageError(str(error)) from error
    print(f'Curves written to {out}')
