"""Find a learning rate: train briefly while it increases, and suggest two values.

These are the rate at which the loss falls fastest, and a tenth of the rate with the lowest loss.

A learning-rate range test (Smith, arXiv 1506.01186, section 3.3). The learning rate grows from --start to --end by a
constant factor per iteration; everything else is as in the config. Only the plot is saved.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from dsanet.commands.arguments import (
    TRAINING_SECTIONS,
    UsageError,
    add_allow_pickle,
    add_amp,
    add_config_arguments,
    default_folder,
    files_of_config,
    float_between,
    int_between,
    read_config,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    add = parser.add_argument
    add('--out', type=Path, metavar='FILE', help='plot to write (default: work_dirs/<config name>/lr.png)')
    add('--start', type=float_between(0, 1e30), default=1e-5, help='first learning rate (default: 1e-5)')
    add('--end', type=float_between(0, 1e30), default=1.0, help='last learning rate (default: 1)')
    add('--iterations', type=int_between(1), default=100, help='number of iterations (default: 100)')
    add('--load-from', metavar='FILE', help='start from the weights of a checkpoint')
    add_allow_pickle(parser, 'the --load-from file')
    add_amp(parser)


def run(args: argparse.Namespace) -> None:
    if not 0 < args.start < args.end:
        raise UsageError(f'--start {args.start} and --end {args.end} must satisfy 0 < --start < --end')
    from dsanet.engine import failures
    from dsanet.engine.logging import exit_on_user_error, setup_logging
    from dsanet.engine.range_test import MEMORY, Point, format_points, make_trainer, range_test, suggest
    from dsanet.reports.curves import check_picture, plot_range_test
    from dsanet.utils.files import check_outputs, check_writable

    if args.iterations <= 2 * MEMORY:
        raise UsageError(
            f'--iterations {args.iterations} must be above {2 * MEMORY}: the loss is averaged over {MEMORY} iterations'
        )
    with tempfile.TemporaryDirectory() as folder:
        with exit_on_user_error():
            out = args.out or default_folder(args.config) / 'lr.png'
            if args.out is not None:
                check_picture(out, '--out')
            check_writable(out.parent, '--out')
            setup_logging()
            config = read_config(args, TRAINING_SECTIONS)
            check_outputs({'--out': out}, [args.config, args.load_from, *files_of_config(config)])
            if args.amp is not None:
                config['runtime'] = {**config.get('runtime', {}), 'amp': args.amp}
            trainer = make_trainer(config, Path(folder))
            trainer.prepare(load_from=args.load_from, allow_pickle=args.allow_pickle)
        points: list[Point] = []
        failures.run_main(lambda: points.extend(range_test(trainer, args.start, args.end, args.iterations)))
    if not points:
        sys.exit(f'error: the loss is not finite at learning rate {args.start}')
    suggestion = suggest(points)
    print(format_points(points, suggestion, args.iterations))
    with exit_on_user_error():
        out.parent.mkdir(parents=True, exist_ok=True)
        plot_range_test(points, suggestion, out)
    print(f'Plot written to {out}')
