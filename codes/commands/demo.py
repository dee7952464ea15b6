"""Train DSANet and the same network without DSA on generated videos, test both, and compare them.

Prints and runs the usual dsanet commands. The videos are written to data/ordered_actions, everything else to
work_dirs/demo. --all compares five models.
"""

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from dsanet.commands.arguments import MAX_SEED, int_between

# Name and config of each model.
MODELS = {
    'I3D, no DSA': 'i3d_ordered_actions',
    'multi-scale TRN': 'trn_ordered_actions',
    'V4D': 'v4d_ordered_actions',
    'DSANet': 'dsanet_ordered_actions',
    'DSANet on TSM': 'dsanet_tsm_ordered_actions',
}
PAIR = ('I3D, no DSA', 'DSANet')


@dataclass
class Result:
    """Cost of one model for one view, and its result with one seed."""

    name: str
    seed: int
    params: int
    gmacs: float
    step_ms: float
    seconds: float
    top1: float
    work_dir: Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--seeds',
        type=int_between(0, MAX_SEED),
        nargs='+',
        default=[0],
        help='random seeds; each model is trained once per seed (default: 0)',
    )
    parser.add_argument('--all', action='store_true', help='compare five models instead of two')
    parser.add_argument(
        '--out', type=Path, default=Path('work_dirs/demo'), help='output folder (default: work_dirs/demo)'
    )


def run(args: argparse.Namespace) -> None:
    from dsanet.reports.curves import plot_curves
    from dsanet.utils.json_lines import read_json_lines

    started = time.monotonic()
    run_command('make-demo-videos', 'data/ordered_actions')
    names = MODELS if args.all else PAIR
    results = [train_and_test(name, seed, args.out) for seed in args.seeds for name in names]
    curves = {f'{r.name}, seed {r.seed}': read_json_lines(r.work_dir / 'scalars.jsonl') for r in results}
    picture = args.out / 'curves.png'
    plot_curves(curves, picture, ['train/loss', 'val/top1'])
    print('\nOrdered actions: 4 motion directions x 2 orders of events; a model that ignores the order gets 50%.')
    print(table(results))
    print(f'\nCurves:      {picture}\nTensorBoard: tensorboard --logdir {args.out}')
    print(f'Total time:  {time.monotonic() - started:.0f} s')


def run_command(*arguments: object) -> float:
    """Print and run a dsanet command, and return the elapsed seconds."""
    command = [*map(str, arguments)]
    print(f'\n$ dsanet {shlex.join(command)}', flush=True)
    started = time.monotonic()
    status = subprocess.run([sys.executable, '-m', 'dsanet', *command], check=False).returncode
    if status:
        sys.exit(status)
    return time.monotonic() - started


def train_and_test(name: str, seed: int, out: Path) -> Result:
    """Train and test one model through the commands."""
    from dsanet.config.loading import load_config
    from dsanet.engine.work_dir import hold_lock, remove_run
    from dsanet.models.summary import find_input_shape, summarize_model
    from dsanet.utils.json_lines import read_json_lines

    config = f'demo/{MODELS[name]}'
    work_dir = out / f'{MODELS[name]}_seed{seed}'
    if work_dir.is_dir():
        with hold_lock(work_dir, 'choose another --out'):
            remove_run(work_dir)  # an earlier demo
    seconds = run_command('train', config, '--gpus', 1, '--work-dir', work_dir, '--seed', seed)
    # The last epoch, because best.pth is selected on the test videos.
    checkpoint = max(work_dir.glob('epoch_*.pth'), key=lambda file: int(file.stem.split('_')[1]))
    scores = work_dir / 'scores.json'
    run_command('test', config, checkpoint, '--gpus', 1, '--out', scores)
    rows = json.loads(scores.read_text())
    correct = sum(row['scores'].index(max(row['scores'])) == row['label'] for row in rows)
    loaded = load_config(config)
    cost = summarize_model(loaded['model'], find_input_shape(loaded))
    steps = [row['train/time'] for row in read_json_lines(work_dir / 'scalars.jsonl') if 'train/time' in row]
    # The median, because the first steps are slow.
    step_ms = 1000 * statistics.median(steps)
    return Result(name, seed, cost['params'], cost['gmacs'], step_ms, seconds, 100 * correct / len(rows), work_dir)


def table(results: list[Result]) -> str:
    """Return a table with one line per run."""
    titles = ('model', 'seed', 'parameters', 'MMACs', 'ms/step', 'training s', 'top-1 %')
    lines = [f'{titles[0]:<18}' + ''.join(f'{title:>12}' for title in titles[1:])]
    for r in results:
        numbers = (
            r.seed,
            f'{r.params:,}',
            f'{r.gmacs * 1000:.2f}',
            f'{r.step_ms:.0f}',
            f'{r.seconds:.0f}',
            f'{r.top1:.1f}',
        )
        lines.append(f'{r.name:<18}' + ''.join(f'{number:>12}' for number in numbers))
    return '\n'.join(lines)
