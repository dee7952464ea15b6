"""Plot training curves of one run or several from their scalars.jsonl."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from dsanet.utils.json_lines import read_lines  # noqa: E402


def plot_curves(runs: Mapping[str, Sequence[Mapping[str, Any]]], file: Path, names: Sequence[str]) -> None:
    """Draw one panel a scalar and one line a run.

    Args:
        runs: name of a run to its lines of ``scalars.jsonl``.
        file: the picture to write; its suffix chooses the format.
        names: scalars, such as 'train/loss' and 'val/top1'.

    Raises:
        ValueError: no run has one of the scalars.
    """
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(names), figsize=(5 * len(names), 3.6), squeeze=False)
    for name, panel in zip(names, panels[0], strict=True):
        known = sorted({key for lines in runs.values() for line in lines for key in line})
        if name not in known:
            raise ValueError(f'no run has {name}; there are {", ".join(known)}')
        for run, lines in runs.items():
            points = [(line['iteration'], line[name]) for line in lines if name in line]
            if points:
                panel.plot(*zip(*points, strict=True), label=run)
        panel.set_xlabel('iteration')
        panel.set_title(name)
        panel.grid(alpha=0.3)
    panels[0][-1].legend()
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('work_dirs', nargs='+', type=Path)
    parser.add_argument('--out', type=Path, help='the picture; default curves.png in the first work dir')
    parser.add_argument('--scalars', nargs='+', default=['train/loss', 'val/top1'])
    args = parser.parse_args()
    for work_dir in args.work_dirs:
        if not (work_dir / 'scalars.jsonl').is_file():
            parser.error(f'{work_dir} has no scalars.jsonl; it is written by tools/train_recognizer.py')
    out = args.out or args.work_dirs[0] / 'curves.png'
    try:
        runs = {str(d): read_lines(d / 'scalars.jsonl') for d in args.work_dirs}
        plot_curves(runs, out, args.scalars)
    except ValueError as error:
        parser.error(str(error))
    print(f'curves written to {out}')


if __name__ == '__main__':
    main()
