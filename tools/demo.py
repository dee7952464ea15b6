"""Show what DSA adds: train DSANet and the same network without DSA on ordered actions, test both, compare them.

Runs the commands that a user would type, prints them, and writes everything to work_dirs/demo.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from codes.engine.logging import read_scalars  # noqa: E402
from tools.analysis.plot_curves import plot_curves  # noqa: E402

MODELS = {'I3D, no DSA': 'i3d_ordered_actions', 'DSANet': 'dsanet_ordered_actions'}


@dataclass
class Result:
    """What one model reached with one seed."""

    name: str
    seed: int
    top1: float
    seconds: float
    work_dir: Path


def run(command: str) -> float:
    """Run a command; returns its seconds. Its output is shown."""
    print(f'\n$ {command}', flush=True)
    environment = {**os.environ, 'PYTHON': sys.executable}
    started = time.monotonic()
    subprocess.run(shlex.split(command), env=environment, check=True)
    return time.monotonic() - started


def train_and_test(name: str, seed: int, out: Path) -> Result:
    """Train and test one model through the two scripts."""
    config = f'configs/demo/{MODELS[name]}.py'
    work_dir = out / f'{MODELS[name]}_seed{seed}'
    shutil.rmtree(work_dir, ignore_errors=True)  # of an earlier demo
    seconds = run(f'bash dist_train_recognizer.sh {config} 1 --work-dir {shlex.quote(str(work_dir))} --seed {seed}')
    # The last epoch and not the best one, which would have been chosen on the videos that it is tested on.
    checkpoint = max(work_dir.glob('epoch_*.pth'), key=lambda file: int(file.stem.split('_')[1]))
    scores = work_dir / 'scores.json'
    files = f'{shlex.quote(str(checkpoint))} 1 --out {shlex.quote(str(scores))}'
    run(f'bash dist_test_recognizer.sh {config} {files}')
    rows = json.loads(scores.read_text())
    right = sum(row['scores'].index(max(row['scores'])) == row['label'] for row in rows)
    return Result(name, seed, 100 * right / len(rows), seconds, work_dir)


def table(results: list[Result]) -> str:
    """Return the comparison, one line a run."""
    lines = [f'{"model":<14}{"seed":>6}{"top-1 %":>10}{"training s":>13}']
    lines += [f'{r.name:<14}{r.seed:>6}{r.top1:>10.1f}{r.seconds:>13.0f}' for r in results]
    return '\n'.join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0], help='one pair of trainings a seed')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/demo'), help='where checkpoints and curves go')
    args = parser.parse_args()
    os.chdir(ROOT)
    started = time.monotonic()
    run(f'{shlex.quote(sys.executable)} tools/data/make_ordered_actions.py data/ordered_actions')
    results = [train_and_test(name, seed, args.out) for seed in args.seeds for name in MODELS]
    curves = {f'{r.name}, seed {r.seed}': read_scalars(r.work_dir / 'scalars.jsonl') for r in results}
    picture = args.out / 'curves.png'
    plot_curves(curves, picture, ['train/loss', 'val/top1'])
    print('\nOrdered actions: 4 directions of motion x 2 orders of events; guessing the order gives 50 %.')
    print(table(results))
    print(f'\ncurves      {picture}\nTensorBoard tensorboard --logdir {args.out}')
    print(f'everything took {time.monotonic() - started:.0f} s')


if __name__ == '__main__':
    main()
