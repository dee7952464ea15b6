"""Compute metrics of results saved by dsanet test --out, or average several results (late fusion).

Examples:
    dsanet score rgb.pkl --per-class --mistakes 20
    dsanet score rgb.pkl flow.pkl --weights 1 1.5 --out fused.pkl
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dsanet.commands.arguments import (
    UsageError,
    add_config_options,
    check_config_is_given,
    float_between,
    int_between,
    output_file,
    read_config,
)
from dsanet.utils.text import printable

AVERAGE = 'average'  # name of the fused result of several files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'results', nargs='+', type=Path, metavar='RESULT', help='.pkl, .json or .npz of dsanet test --out'
    )
    parser.add_argument(
        '--weights', nargs='+', type=float_between(0, 1e30), metavar='W', help='weight of each result (default: equal)'
    )
    parser.add_argument(
        '--average',
        choices=('prob', 'score'),
        default='prob',
        help='average the probabilities (default), or the scores before softmax or sigmoid',
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        '--metrics', nargs='+', metavar='NAME', help='metrics, such as Accuracy (default: all suitable metrics)'
    )
    what.add_argument('--config', metavar='CONFIG', help='use the metrics of this config')
    add_config_options(parser)
    parser.add_argument('--class-file', metavar='FILE', help='class names, one per line')
    parser.add_argument('--per-class', action='store_true', help='print a line per class, the lowest accuracy first')
    picture = output_file('.png', '.pdf', '.svg')
    parser.add_argument('--confusion', type=picture, metavar='FILE.png', help='plot the confusion matrix')
    parser.add_argument('--mistakes', type=int_between(0), metavar='N', help='print the N most confident mistakes')
    parser.add_argument('--json', type=output_file('.json'), metavar='FILE', help='write all numbers as JSON')
    parser.add_argument(
        '--out', type=output_file('.pkl', '.json', '.npz'), metavar='FILE', help='save the (averaged) results'
    )


def run(args: argparse.Namespace) -> None:
    if len(args.results) == 1 and args.weights is not None:
        raise UsageError('--weights requires several results')
    check_config_is_given(args)
    from dsanet.engine.logging import exit_on_user_error
    from dsanet.utils.files import write_atomically

    with exit_on_user_error():
        report = _score(args)
        if args.json is not None:
            write_atomically(f'{json.dumps(report, indent=2)}\n'.encode(), args.json)
            print(f'Metrics written to {args.json}')


def _score(args: argparse.Namespace) -> dict[str, Any]:
    """Print the requested tables, and return their numbers for the JSON file."""
    from dsanet.datasets.annotation import read_class_names
    from dsanet.evaluation.metrics import build_metrics, compute_metrics
    from dsanet.evaluation.result_files import read_results, write_results
    from dsanet.evaluation.results import (
        class_table,
        confident_mistakes,
        confusion_matrix,
        default_metrics,
        fuse,
    )
    from dsanet.reports.confusion import draw_confusion
    from dsanet.utils.class_names import ClassNames, check_same_class_names
    from dsanet.utils.files import check_outputs

    outputs = {'--confusion': args.confusion, '--json': args.json, '--out': args.out}
    check_outputs(outputs, [*args.results, args.class_file, args.config])
    configs: Any = [{'type': name} for name in args.metrics] if args.metrics else None
    if args.config is not None:
        configs = read_config(args)['metrics']
    every = [read_results(file) for file in args.results]
    for results in every:
        kind = 'probabilities' if results.activation == 'none' else f'scores before {results.activation}'
        print(f'{results.name}: {len(results.paths)} videos, {results.scores.shape[1]} classes, {kind}')
    final = every[0]
    if len(every) > 1:
        final = fuse(every, args.weights or [1.0] * len(every), args.average)
    metrics = build_metrics(configs or default_metrics(final))
    num_classes = final.scores.shape[1]
    names = final.class_names
    if args.class_file:
        names = read_class_names(args.class_file)
        check_same_class_names(ClassNames(names, args.class_file), final.classes)
        if len(names) != num_classes:
            raise ValueError(f'{args.class_file} has {len(names)} classes, but the results have {num_classes}')
        final = replace(final, class_names=names)
    names = names or [str(k) for k in range(num_classes)]

    rows = []
    for results in every:
        numbers = compute_metrics(metrics, results.scores, results.labels)
        rows.append({'result': results.name, **numbers})
    if len(every) > 1:
        rows.append({'result': AVERAGE, **compute_metrics(metrics, final.scores, final.labels)})
    print()
    _print_table(rows)
    table = class_table(final, names)
    of = str(rows[-1]['result'])  # the tables below show the average if there are several results
    report: dict[str, Any] = {'results': rows, 'num_videos': len(final.paths), 'classes_of': of, 'classes': table}
    if args.per_class:
        print(f'\nPer class ({of}):')
        key = 'average_precision' if final.is_multi_hot else 'accuracy'
        _print_table(sorted(table, key=lambda row: (row[key], -row['videos'])))
    if args.mistakes:
        report['mistakes'] = confident_mistakes(final, names, args.mistakes)
        print(f'\nMost confident mistakes ({of}):' if report['mistakes'] else f'\nNo mistakes ({of})')
        if report['mistakes']:
            _print_table(report['mistakes'])
    if args.confusion is not None:
        draw_confusion(confusion_matrix(final), names, args.confusion, title=of)
        print(f'Confusion matrix ({of}) written to {args.confusion}')
    if args.out is not None:
        write_results(final, args.out)
        print(f'Results ({of}) written to {args.out}')
    return report


def _print_table(rows: Sequence[Mapping[str, Any]]) -> None:
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
    return f'{value:.2f}' if isinstance(value, float) else printable(str(value))
