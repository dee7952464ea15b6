"""Plot the training curves of one or more runs from their scalars.jsonl."""

import argparse
from pathlib import Path

from dsanet.commands.arguments import output_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('work_dirs', nargs='+', type=Path, metavar='WORK_DIR')
    parser.add_argument(
        '--out',
        type=output_file('.png', '.pdf', '.svg'),
        metavar='FILE',
        help='output file (default: curves.png in WORK_DIR, or in the current folder for several runs)',
    )
    parser.add_argument(
        '--scalars',
        nargs='+',
        default=['train/loss', 'val/top1'],
        metavar='NAME',
        help='scalars to plot (default: train/loss val/top1)',
    )


def run(args: argparse.Namespace) -> None:
    from dsanet.engine.logging import exit_on_user_error
    from dsanet.reports.curves import plot_curves
    from dsanet.reports.run_data import read_scalars
    from dsanet.utils.files import check_outputs

    folder = args.work_dirs[0] if len(args.work_dirs) == 1 else Path()
    out = args.out or folder / 'curves.png'
    with exit_on_user_error():
        check_outputs({'--out': out}, [d / 'scalars.jsonl' for d in args.work_dirs])
        runs = {str(d): read_scalars(d) for d in args.work_dirs}
        plot_curves(runs, out, args.scalars)
    print(f'Curves written to {out}')
