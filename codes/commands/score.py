"""Compute metrics of results saved by dsanet test --out, average several results (late fusion), or compare two.

Examples:
    dsanet score rgb.pkl --per-class --mistakes 20
    dsanet score rgb.pkl flow.pkl --weights 1 1.5 --out fused.pkl
    dsanet score with_dsa.pkl --compare without_dsa.pkl
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from dsanet.evaluation.results import Results

AVERAGE = 'average'  # name of the fused result of several files
MAJORITY = 'most frequent class'  # name of the baseline that always predicts it
NUM_DIFFERENCES = 10  # classes in a comparison without --per-class


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'results', nargs='+', type=Path, metavar='RESULT', help='.pkl, .json or .npz of dsanet test --out'
    )
    parser.add_argument(
        '--compare',
        type=Path,
        metavar='RESULT',
        help='compare with this result instead of averaging: videos that only one gets right, classes, McNemar test',
    )
    parser.add_argument(
        '--weights', nargs='+', type=float_between(0, 1e30), metavar='W', help='weight of each result (default: equal)'
    )
    parser.add_argument(
        '--average',
        choices=('prob', 'score'),
        help='average the probabilities (default), or the scores before softmax or sigmoid',
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        '--metrics', nargs='+', metavar='NAME', help='metrics, such as Accuracy (default: all suitable metrics)'
    )
    what.add_argument('--config', metavar='CONFIG', help='use the metrics of this config')
    add_config_options(parser)
    parser.add_argument('--class-file', metavar='FILE', help='class names, one per line')
    parser.add_argument(
        '--per-class',
        action='store_true',
        help='print a line per class, the lowest accuracy (with --compare, the largest difference) first',
    )
    picture = output_file('.png', '.pdf', '.svg')
    parser.add_argument('--confusion', type=picture, metavar='FILE.png', help='plot the confusion matrix')
    parser.add_argument(
        '--mistakes',
        type=int_between(0),
        metavar='N',
        help='print the N most confident mistakes; with --compare, of videos for which the other result is right',
    )
    parser.add_argument('--json', type=output_file('.json'), metavar='FILE', help='write all numbers as JSON')
    parser.add_argument(
        '--out', type=output_file('.pkl', '.json', '.npz'), metavar='FILE', help='save the (averaged) results'
    )


def run(args: argparse.Namespace) -> None:
    if args.compare is not None:
        if len(args.results) != 1:
            raise UsageError(
                f'--compare takes one result before it and one after it, got {len(args.results)} before it'
            )
        unused = ('weights', 'average', 'confusion', 'out')
        if given := [f'--{name}' for name in unused if getattr(args, name) is not None]:
            raise UsageError(f'{given[0]} has no effect with --compare')
    elif len(args.results) == 1 and (args.weights is not None or args.average is not None):
        raise UsageError(f'{"--weights" if args.weights is not None else "--average"} requires several results')
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
    from dsanet.evaluation.metrics import build_metrics, compute_metrics, majority_baseline
    from dsanet.evaluation.result_files import read_results
    from dsanet.evaluation.results import default_metrics, fuse, match_videos
    from dsanet.utils.files import check_outputs

    files = [*args.results, *([] if args.compare is None else [args.compare])]
    outputs = {'--confusion': args.confusion, '--json': args.json, '--out': args.out}
    check_outputs(outputs, [*files, args.class_file, args.config])
    configs: Any = [{'type': name} for name in args.metrics] if args.metrics else None
    if args.config is not None:
        configs = read_config(args)['metrics']
    every = [_with_class_names(read_results(file), args.class_file) for file in files]
    is_average = args.compare is None and len(every) > 1
    average = args.average or 'prob'
    weights = args.weights or [1.0] * len(every)
    if is_average:
        what = 'probabilities' if average == 'prob' else 'scores'
        shares = ', '.join(f'{weight:g}' for weight in weights)
        print(f'Averaging the {what} of {len(every)} results, weights {shares}; to compare two, use --compare')
    for results in every:
        kind = 'probabilities' if results.activation == 'none' else f'scores before {results.activation}'
        print(f'{results.name}: {len(results.paths)} videos, {results.scores.shape[1]} classes, {kind}')
    final = fuse(every, weights, average) if is_average else every[0]
    if args.compare is not None:
        match_videos(*every)
    metrics = build_metrics(configs or default_metrics(final))
    rows: list[dict[str, Any]] = []
    for results in every:
        numbers = compute_metrics(metrics, results.scores, results.labels)
        rows.append({'result': results.name, **numbers})
    if is_average:
        rows.append({'result': AVERAGE, **compute_metrics(metrics, final.scores, final.labels)})
    baseline = majority_baseline(final.labels)
    report: dict[str, Any] = {'results': rows, 'majority_class': baseline, 'num_videos': len(final.paths)}
    shown = rows
    if baseline.keys() & rows[0]:
        shown = [*rows, {'result': MAJORITY, **{name: baseline.get(name) for name in rows[0] if name != 'result'}}]
    print()
    _print_table(shown)
    if args.compare is not None:
        return {**report, **_compare(args, *every)}
    return {**report, **_describe(args, final, str(rows[-1]['result']))}


def _with_class_names(results: 'Results', class_file: str | None) -> 'Results':
    """Return the results with the class names of a file, if any."""
    from dsanet.datasets.annotation import read_class_names
    from dsanet.utils.class_names import ClassNames, check_same_class_names

    if class_file is None:
        return results
    names = read_class_names(class_file)
    check_same_class_names(ClassNames(names, class_file), results.classes)
    num_classes = results.scores.shape[1]
    if len(names) != num_classes:
        raise ValueError(f'{class_file} has {len(names)} classes, but the results have {num_classes}')
    return replace(results, class_names=names)


def _describe(args: argparse.Namespace, results: 'Results', of: str) -> dict[str, Any]:
    """Print and write what the options request about one result, which is called ``of``; return the numbers."""
    from dsanet.evaluation.result_files import write_results
    from dsanet.evaluation.results import class_table, confident_mistakes, confusion_matrix
    from dsanet.reports.confusion import draw_confusion

    names = results.class_names or [str(k) for k in range(results.scores.shape[1])]
    table = class_table(results, names)
    report: dict[str, Any] = {'classes_of': of, 'classes': table}
    if args.per_class:
        print(f'\nPer class ({of}):')
        key = 'average_precision' if results.is_multi_hot else 'accuracy'
        _print_table(sorted(table, key=lambda row: (row[key], -row['videos'])))
    if args.mistakes:
        report['mistakes'] = confident_mistakes(results, names, args.mistakes)
        print(f'\nMost confident mistakes ({of}):' if report['mistakes'] else f'\nNo mistakes ({of})')
        if report['mistakes']:
            _print_table(report['mistakes'])
    if args.confusion is not None:
        draw_confusion(confusion_matrix(results), names, args.confusion, title=of)
        print(f'Confusion matrix ({of}) written to {args.confusion}')
    if args.out is not None:
        write_results(results, args.out)
        print(f'Results ({of}) written to {args.out}')
    return report


def _compare(args: argparse.Namespace, a: 'Results', b: 'Results') -> dict[str, Any]:
    """Print the comparison of two results, and return its numbers."""
    from dsanet.evaluation.comparison import compare, compare_classes, find_disagreements

    report: dict[str, Any] = {'a': a.name, 'b': b.name}
    print(f'\nA = {a.name}, B = {b.name}')
    if a.is_multi_hot:
        if args.mistakes:
            raise UsageError(f'--mistakes with --compare requires one label per video; {a.name} may have several')
        classes = compare_classes(a, b)
        print('Videos have several labels: only average precisions are compared, without a McNemar test')
    else:
        comparison = compare(a, b)
        classes = comparison.classes
        counts = {name: getattr(comparison, name) for name in ('both', 'only_a', 'only_b', 'neither')}
        report |= {**counts, 'p_value': comparison.p_value}
        titles = ('A and B right', 'only A right', 'only B right', 'A and B wrong')
        print()
        _print_table([{'': title, 'videos': number} for title, number in zip(titles, counts.values(), strict=True)])
        print(
            f'\nMcNemar test (exact, two-sided): p = {comparison.p_value:.3g}, the probability of a split at least as '
            f'unequal as {comparison.only_a} : {comparison.only_b} if A and B were equally accurate'
        )
    report['classes'] = classes
    shown = classes if args.per_class else classes[:NUM_DIFFERENCES]
    more = '' if len(shown) == len(classes) else f', {len(shown)} of {len(classes)}; --per-class prints all'
    what = 'average precision' if a.is_multi_hot else 'accuracy'
    print(f'\nPer class ({what} in percent; difference: A - B, the largest first{more}):')
    _print_table(shown)
    if args.mistakes:
        report['disagreements'] = find_disagreements(a, b, args.mistakes)
        if report['disagreements']:
            print('\nOnly one is right, the most confident mistakes first:')
            _print_table(report['disagreements'])
        else:
            print('\nNo video for which only one is right')
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
