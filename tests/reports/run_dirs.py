"""Work dirs of runs that were never trained."""

import json
from pathlib import Path

import numpy as np

from dsanet.config.formatting import format_config
from dsanet.config.loading import load_config
from dsanet.evaluation.result_files import write_results
from dsanet.evaluation.results import Results

NAMES = ['<b>run</b>', 'walk & "sit"', 'jump']


def write_run(folder: Path, seed: int, rate: float = 0.05, scale: float = 1.0, with_results: bool = True) -> Path:
    """Write config, curves and results of a run; 2 of 4 videos are wrong, and class 2 has no video."""
    folder.mkdir(parents=True)
    options = [f'runtime.seed={seed}', f'optimizer.lr={rate}', 'model.cls_head.num_classes=3']
    (folder / 'config.py').write_text(format_config(load_config('demo/dsanet_ordered_actions', options)))
    lines = [
        {'epoch': 1, 'iteration': 10 * i, 'train/loss': scale / i, 'train/lr': rate, 'train/data_time': 0.01}
        for i in range(1, 4)
    ]
    lines.append({'epoch': 1, 'iteration': 30, 'val/top1': 50 * scale, 'val/loss': scale})
    (folder / 'scalars.jsonl').write_text('\n'.join(json.dumps(line) for line in lines))
    if with_results:
        scores = np.array([[2, 0, 0], [0, 5, 0], [0, 2, 0], [0, 0, 9]], np.float32)
        paths = ['a.mp4', '<script>.mp4', 'c.mp4', 'd.mp4']
        results = Results('x', paths, np.array([0, 0, 1, 1]), scores, 'softmax', NAMES)
        write_results(results, folder / 'results.json')
    return folder
