"""Measure how a model depends on the order of the snippets and frames of the test videos.

The table has the top-1 accuracy in percent, overall and for each class, for videos with rearranged snippets or frames:
  in order         as in dsanet test
  reversed         snippets in reverse order; the frames of a snippet stay in order
  shuffled         snippets in random order, another one for each video (--seed)
  repeated         the snippet in the middle in place of all snippets
  dropped          the snippet in the middle replaced by the one before it
  frames reversed  the frames of each snippet in reverse order; the snippets stay in order

"changed" is the number of videos with another predicted class than in order, "max change" the largest difference of a
score. A model that averages the scores of its snippets does not change when they are reversed or shuffled, except for
rounding. Pass such a model as --control. Its classes, and the test videos of its config, must be the same.

Example:
    dsanet order work_dirs/dsanet/best.pth configs/my_config.py --control work_dirs/i3d/best.pth
"""

import argparse
import json
from pathlib import Path
from typing import Any

from dsanet.commands.arguments import (
    CONFIG_HELP,
    MAX_SEED,
    MODEL_SOURCES,
    add_allow_pickle,
    add_config_options,
    files_of_config,
    int_between,
    load_model,
    output_file,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('checkpoint', metavar='CHECKPOINT', help=f'checkpoint: {MODEL_SOURCES}')
    add('config', nargs='?', metavar='CONFIG', help=f'{CONFIG_HELP} (default: the config in the checkpoint)')
    add('--control', metavar='CHECKPOINT', help='another model for the same videos, with its config in the checkpoint')
    add('--json', type=output_file('.json'), metavar='FILE', help='write the table as JSON')
    add('--out', type=output_file('.png', '.pdf', '.svg'), metavar='FILE', help='draw the accuracies')
    add('--seed', type=int_between(0, MAX_SEED), default=0, metavar='N', help='seed of the random orders (default: 0)')
    add_config_options(parser)
    add('--device', default='auto', help="such as 'cpu' or 'cuda:0' (default: the first GPU, or else the CPU)")
    add_allow_pickle(parser, 'a checkpoint')


def run(args: argparse.Namespace) -> None:
    from dsanet.engine.logging import exit_on_user_error
    from dsanet.explain.data import build_test_loader, check_control, check_same_test_videos, read_batches
    from dsanet.explain.order import measure_order
    from dsanet.explain.order_picture import draw_order
    from dsanet.inference.model_sources import read_model
    from dsanet.inference.recognizer import load_recognizer
    from dsanet.utils.files import check_outputs, write_atomically

    with exit_on_user_error():
        outputs = {'--json': args.json, '--out': args.out}
        check_outputs(outputs, [args.checkpoint, args.config, args.control])
        model = load_model(args)
        check_outputs(outputs, files_of_config(model.config))
        recognizers = {args.checkpoint: model}
        if args.control is not None:
            control = load_recognizer(args.control, args.device, imports=args.imports, allow_pickle=args.allow_pickle)
            check_control(model, control)
            trained_with = read_model(args.checkpoint, args.allow_pickle)[1].get('config') or model.config
            check_same_test_videos(trained_with, control.config)
            recognizers[args.control] = control
        batches = read_batches(build_test_loader(model))
        results = measure_order(list(recognizers.values()), batches, args.seed)
        names = ['model', 'control'][: len(results)]
        table = {name: to_dict(*pair) for name, pair in zip(names, zip(recognizers, results, strict=True), strict=True)}
        if args.json is not None:
            content = {'config': args.config, 'seed': args.seed, 'class_names': model.class_names, **table}
            write_atomically(json.dumps(content, indent=2).encode() + b'\n', args.json)
        if args.out is not None:
            title = '/'.join(Path(args.checkpoint).parts[-2:]) if args.config is None else Path(args.config).stem
            legend = [
                f'{name}: {"/".join(Path(file).parts[-2:])}' for name, file in zip(names, recognizers, strict=True)
            ]
            draw_order(dict(zip(legend, results, strict=True)), args.out, title)
    if len(results) > 1:
        count = len(results[0].labels)
        classes = f'the same {len(model.class_names)} classes'
        print(f'Model and control have {classes} and are tested on the same {count} videos\n')
    print(format_results(list(zip(names, recognizers, results, strict=True)), model.class_names))
    for file in (args.json, args.out):
        if file is not None:
            print(f'Written to {file}')


def to_dict(checkpoint: str, result: Any) -> dict[str, Any]:
    """Return the numbers of a model for JSON; None for classes without videos."""
    rows = zip(
        result.names,
        result.accuracies().tolist(),
        result.class_accuracies().tolist(),
        result.changed().tolist(),
        result.score_changes().tolist(),
        result.predictions().tolist(),
        strict=True,
    )
    arrangements = {
        name: {
            'top1': top1,
            'per_class': [None if value != value else value for value in per_class],  # NaN
            'changed': changed,
            'max_change': max_change,
            'predicted': predicted,
        }
        for name, top1, per_class, changed, max_change, predicted in rows
    }
    labels = result.labels.tolist()
    return {'checkpoint': checkpoint, 'num_videos': len(labels), 'labels': labels, 'arrangements': arrangements}


def format_results(results: list[tuple[str, str, Any]], class_names: list[str]) -> str:
    """Return the tables of the models (name, checkpoint, result): arrangements in columns, classes in rows."""
    import numpy as np

    from dsanet.utils.text import printable

    first = results[0][2]
    counts = np.bincount(first.labels, minlength=len(class_names)).tolist()
    shown = [k for k, count in enumerate(counts) if count]
    names = [printable(class_names[k]) for k in shown]
    width = max(len('max change'), *(len(name) for name in names))
    lines = []
    for name, checkpoint, result in results:
        columns = [max(len(one), 8) for one in result.names]
        header = [f'{one:>{size}}' for one, size in zip(result.names, columns, strict=True)]
        lines += [f'{name}: {checkpoint}', '  '.join([f'{"":<{width}}', f'{"videos":>6}', *header])]
        rows: list[tuple[str, object, list[float], str]] = [
            ('all', len(result.labels), result.accuracies().tolist(), '.1f'),
            *(
                (text, counts[k], values, '.1f')
                for text, k, values in zip(names, shown, result.class_accuracies().T[shown].tolist(), strict=True)
            ),
            ('changed', '', result.changed().tolist(), 'd'),
            ('max change', '', result.score_changes().tolist(), '.2g'),
        ]
        for text, count, values, spec in rows:
            cells = [f'{value:>{size}{spec}}' for value, size in zip(values, columns, strict=True)]
            lines.append('  '.join([f'{text:<{width}}', f'{count:>6}', *cells]))
        lines.append('')
    return '\n'.join(lines[:-1])
