"""Score the results of tests anew from the files that test_recognizer.py --out writes; average several (late fusion).

python tools/analysis/score_results.py RESULT [MORE ...] [--weights 1 2] [--per-class] [--mistakes 20]
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from dsanet.config.loading import load_config  # noqa: E402
from dsanet.config.registry import METRICS, build  # noqa: E402
from dsanet.datasets.annotation import read_class_names  # noqa: E402
from dsanet.engine.logging import plain_errors  # noqa: E402
from dsanet.evaluation.results import (  # noqa: E402
    FUSIONS,
    check_result_file,
    class_table,
    confident_mistakes,
    confusion_matrix,
    default_metrics,
    fuse,
    read_results,
    write_results,
)


def draw_confusion(matrix: NDArray[np.int64], names: Sequence[str], file: Path) -> None:
    """Draw a confusion matrix: each row a class, its videos' shares by the class that they were taken for.

    Args:
        matrix: (K, K) numbers of videos.
        names: of the K classes; written along the axes up to 100 classes, beyond that numbers.
        file: the picture to write; its suffix chooses the format.
    """
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot
    from matplotlib.colors import PowerNorm

    num_classes = len(matrix)
    videos = matrix.sum(axis=1, keepdims=True)
    shares = np.where(videos > 0, matrix / np.maximum(videos, 1), np.nan)  # classes without videos stay grey
    shown = [name if len(name) <= 24 else f'{name[:23]}…' for name in names]
    size = min(4 + 0.17 * num_classes, 22)
    figure, panel = pyplot.subplots(figsize=(size + 1, size))
    panel.set_facecolor('lightgrey')
    # The square root lets a confusion of a few percent be seen beside a diagonal of ninety.
    image = panel.imshow(shares, cmap='Blues', norm=PowerNorm(0.5, 0, 1), interpolation='nearest')
    if num_classes <= 100:
        font = 9 if num_classes <= 30 else 7
        panel.set_xticks(range(num_classes), shown, rotation=90, fontsize=font)
        panel.set_yticks(range(num_classes), shown, fontsize=font)
    if num_classes <= 15:
        for row, column in np.argwhere(matrix).tolist():
            colour = 'white' if shares[row, column] > 0.3 else 'black'
            panel.text(column, row, str(matrix[row, column]), ha='center', va='center', fontsize=8, color=colour)
    panel.set_xlabel('predicted')
    panel.set_ylabel('label')
    figure.colorbar(image, ax=panel, fraction=0.046, pad=0.02, label='share of the videos of a class')
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    pyplot.close(figure)


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print dicts of equal keys as a table; numbers with two digits behind the point."""
    cells = [[*rows[0]], *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    is_text = [isinstance(value, str) for value in rows[0].values()]
    for line in cells:
        aligned = [
            text.ljust(width) if left else text.rjust(width)
            for text, width, left in zip(line, widths, is_text, strict=True)
        ]
        print('  '.join(aligned).rstrip())


def _cell(value: Any) -> str:
    if value is None:
        return '-'
    return f'{value:.2f}' if isinstance(value, float) else str(value)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('results', nargs='+', type=Path, metavar='RESULT', help='a .pkl or .json of test_recognizer.py')
    parser.add_argument('--weights', nargs='+', type=float, metavar='W', help='one for each result; by default equal')
    parser.add_argument(
        '--average', choices=FUSIONS, default='prob', help='average probabilities (default) or scores before that'
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument('--metrics', nargs='+', choices=sorted(METRICS.module_dict), help='by default all that fit')
    what.add_argument('--config', help='take the metrics of a config')
    parser.add_argument('--class-file', metavar='FILE', help='names of the classes, one a line')
    parser.add_argument('--per-class', action='store_true', help='print a line a class, the worst first')
    parser.add_argument('--confusion', type=Path, metavar='FILE.png', help='draw the confusion matrix')
    parser.add_argument('--mistakes', type=int, default=0, metavar='N', help='print the N most confident mistakes')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write all numbers as JSON')
    parser.add_argument('--out', type=Path, metavar='FILE', help='write the averaged results, .pkl or .json')
    args = parser.parse_args()
    if len(args.results) == 1 and args.weights is not None:
        parser.error('--weights are for averaging several results')
    if args.mistakes < 0:
        parser.error(f'--mistakes {args.mistakes} must be at least 0')
    return args


def main() -> None:
    args = parse_args()
    with plain_errors():
        report = score(args)
    if args.json is not None:
        args.json.write_text(json.dumps(report, indent=2) + '\n')
        print(f'numbers written to {args.json}')


def score(args: argparse.Namespace) -> dict[str, Any]:
    """Print what was asked for; returns it as it goes into the JSON file.

    Raises:
        FileNotFoundError, KeyError, ValueError: a file is missing or of another form, or results do not go together.
    """
    for file, suffixes in (
        (args.out, ('.pkl', '.json')),
        (args.json, ('.json',)),
        (args.confusion, ('.png', '.pdf', '.svg')),
    ):
        if file is not None:
            check_result_file(file, suffixes)
    configs: Any = [{'type': name} for name in args.metrics] if args.metrics else None
    if args.config is not None:
        configs = load_config(args.config)['metrics']
    every = [read_results(file) for file in args.results]
    for results in every:
        kind = 'probabilities' if results.activation == 'none' else f'scores before {results.activation}'
        print(f'{results.name}: {len(results.paths)} videos, {results.scores.shape[1]} classes, {kind}')
    final = every[0]
    if len(every) > 1:
        final = fuse(every, args.weights or [1.0] * len(every), args.average)
        every.append(final)
    metrics = [build(config, METRICS, f'metrics.{i}') for i, config in enumerate(configs or default_metrics(final))]
    num_classes = final.scores.shape[1]
    names = read_class_names(args.class_file) if args.class_file else [str(k) for k in range(num_classes)]
    if len(names) != num_classes:
        raise ValueError(f'{args.class_file} has {len(names)} classes, but the results have {num_classes}')

    rows = []
    for results in every:
        numbers = {k: v for metric in metrics for k, v in metric(results.scores, results.labels).items()}
        rows.append({'result': 'average' if results is final and len(every) > 1 else results.name, **numbers})
    print()
    print_table(rows)
    table = class_table(final, names)
    report: dict[str, Any] = {'results': rows, 'num_videos': len(final.paths), 'classes': table}
    if args.per_class:
        print()
        key = 'average_precision' if final.is_multi_hot else 'accuracy'
        print_table(sorted(table, key=lambda row: (row[key], -row['videos'])))
    if args.mistakes:
        report['mistakes'] = confident_mistakes(final, names, args.mistakes)
        print()
        if report['mistakes']:
            print_table(report['mistakes'])
        else:
            print('no mistakes')
    if args.confusion is not None:
        draw_confusion(confusion_matrix(final), names, args.confusion)
        print(f'confusion matrix written to {args.confusion}')
    if args.out is not None:
        write_results(final, args.out)
        print(f'results written to {args.out}')
    return report


if __name__ == '__main__':
    main()
