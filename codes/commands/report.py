"""Write a report of one training run, or of several runs side by side, as one HTML file.

Runs whose configs differ only in the seed are grouped, with mean and standard deviation. The file needs no network.
Confusion matrix, classes and mistakes come from the results of dsanet test --out in the work dir. Activation maps and
DSA kernels are computed with best.pth, or else with the checkpoint of the last epoch, if the videos are available.
"""

import argparse
from pathlib import Path

from dsanet.commands.arguments import output_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('work_dirs', nargs='+', type=Path, metavar='WORK_DIR')
    parser.add_argument(
        '--out',
        type=output_file('.html'),
        metavar='FILE.html',
        help='output file (default: report.html in WORK_DIR, or in the current folder for several runs)',
    )


def run(args: argparse.Namespace) -> None:
    from dsanet.engine.logging import exit_on_user_error
    from dsanet.reports.page import build_page
    from dsanet.reports.run_data import RESULT_FILES, add_internals, find_scalars, read_runs
    from dsanet.utils.files import check_outputs, check_writable, write_atomically

    out = args.out or (args.work_dirs[0] if len(args.work_dirs) == 1 else Path()) / 'report.html'
    with exit_on_user_error():
        names = ('scalars.jsonl', 'config.py', *RESULT_FILES)
        check_outputs({'--out': out}, [folder / name for folder in args.work_dirs for name in names])
        for folder in args.work_dirs:
            find_scalars(folder)  # before --out is checked, which may be in this folder
        check_writable(out.parent, '--out')
        page = build_page(add_internals(read_runs(args.work_dirs))).encode()
        write_atomically(page, out)
    print(f'Report written to {out} ({len(page) / 1e6:.2f} MB)')
