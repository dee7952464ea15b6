"""Show what DSA adds: train DSANet and the same network without DSA on ordered actions, test both, compare them.

Runs the commands that a user would type, prints them, and writes videos to data/ordered_actions and everything else to
work_dirs/demo. With --all it compares five ways of relating the snippets of a video.
"""

import argparse
import json
import shlex
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

# Five ways of relating the snippets of a video: name and config.
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
    """What one model costs for one view, and what it reached with one seed."""

    name: str
    seed: int
    params: int
    gmacs: float
    step_ms: float
    seconds: float
    top1: float
    work_dir: Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--seeds', type=int, nargs='+', default=[0], help='a training of each model for each seed')
    parser.add_argument('--all', action='store_true', help='compare all five models instead of two')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/demo'), help='where checkpoints and curves go')


def run(args: argparse.Namespace) -> None:
    from dsanet.reports.curves import plot_curves
    from dsanet.utils.json_lines import read_lines

    started = time.monotonic()
    run_command('make-demo-videos', 'data/ordered_actions')
    names = MODELS if args.all else PAIR
    results = [train_and_test(name, seed, args.out) for seed in args.seeds for name in names]
    curves = {f'{r.name}, seed {r.seed}': read_lines(r.work_dir / 'scalars.jsonl') for r in results}
    picture = args.out / 'curves.png'
    plot_curves(curves, picture, ['train/loss', 'val/top1'])
    print('\nOrdered actions: 4 directions of motion x 2 orders of events; guessing the order gives 50 %.')
    print(table(results))
    print(f'\ncurves      {picture}\nTensorBoard tensorboard --logdir {args.out}')
    print(f'everything took {time.monotonic() - started:.0f} s')


def run_command(*words: object) -> float:
    """Run one of our commands; returns its seconds. Its output is shown."""
    command = [str(word) for word in words]
    print(f'\n$ dsanet {shlex.join(command)}', flush=True)
    started = time.monotonic()
    status = subprocess.run([sys.executable, '-m', 'dsanet', *command], check=False).returncode
    if status:
        sys.exit(status)
    return time.monotonic() - started


def train_and_test(name: str, seed: int, out: Path) -> Result:
    """Train and test one model through the commands."""
    from dsanet.config.loading import load_config
    from dsanet.models.summary import find_input_shape, summarize
    from dsanet.utils.json_lines import read_lines

    config = f'demo/{MODELS[name]}'
    work_dir = out / f'{MODELS[name]}_seed{seed}'
    shutil.rmtree(work_dir, ignore_errors=True)  # of an earlier demo
    seconds = run_command('train', config, '--gpus', 1, '--work-dir', work_dir, '--seed', seed)
    # The last epoch and not the best one, which would have been chosen on the videos that it is tested on.
    checkpoint = max(work_dir.glob('epoch_*.pth'), key=lambda file: int(file.stem.split('_')[1]))
    scores = work_dir / 'scores.json'
    run_command('test', config, checkpoint, '--gpus', 1, '--out', scores)
    rows = json.loads(scores.read_text())
    right = sum(row['scores'].index(max(row['scores'])) == row['label'] for row in rows)
    loaded = load_config(config)
    cost = summarize(loaded['model'], find_input_shape(loaded))
    steps = [row['train/time'] for row in read_lines(work_dir / 'scalars.jsonl') if 'train/time' in row]
    # The median, because the first steps are slow, and so are those while the computer does something else.
    step_ms = 1000 * statistics.median(steps)
    return Result(name, seed, cost['params'], cost['gmacs'], step_ms, seconds, 100 * right / len(rows), work_dir)


def table(results: list[Result]) -> str:
    """Return the comparison, one line per run."""
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
