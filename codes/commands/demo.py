"""Train DSANet and the same network without DSA on generated videos, and compare them.

Runs dsanet make-demo-videos, and dsanet experiment with the included plan experiments/ordered_actions. The videos are
written to data/ordered_actions, everything else to work_dirs/demo. If the command is repeated, finished runs are kept,
and interrupted ones continue.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

from dsanet.commands.arguments import MAX_SEED, int_between

NUM_VARIANTS = 2  # without --all: I3D and DSANet


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--seeds',
        type=int_between(0, MAX_SEED),
        nargs='+',
        default=[0],
        help='random seeds; each model is trained once per seed (default: 0)',
    )
    parser.add_argument('--all', action='store_true', help='compare six models instead of two')
    parser.add_argument(
        '--out', type=Path, default=Path('work_dirs/demo'), help='output folder (default: work_dirs/demo)'
    )


def run(args: argparse.Namespace) -> int:
    from dsanet import commands
    from dsanet.commands.experiment import run_experiment
    from dsanet.config.shipped import find_plan
    from dsanet.engine.logging import exit_on_user_error
    from dsanet.experiments.plan import read_plan
    from dsanet.experiments.running import Resources
    from dsanet.reports.curves import plot_curves
    from dsanet.utils.json_lines import read_json_lines

    started = time.monotonic()
    if status := commands.main(['make-demo-videos', 'data/ordered_actions']):
        return status
    with exit_on_user_error():
        plan = read_plan(find_plan('experiments/ordered_actions'))
        plan = replace(plan, seeds=tuple(dict.fromkeys(args.seeds)))
        if not args.all:
            plan = replace(plan, variants=plan.variants[:NUM_VARIANTS])
    status = run_experiment(plan, args.out, Resources())
    files = {f'{one.variant.name}, seed {one.seed}': args.out / one.folder / 'scalars.jsonl' for one in plan.trials}
    curves = {name: read_json_lines(file) for name, file in files.items() if file.is_file()}
    if not curves:
        return status
    plot_curves(curves, args.out / 'curves.png', ['train/loss', 'val/top1'])
    print(f'Curves: {args.out / "curves.png"}\nTensorBoard: tensorboard --logdir {args.out}')
    print('A model that ignores the order of the events gets 50%.')
    print(f'Total time: {time.monotonic() - started:.0f} s')
    return status
