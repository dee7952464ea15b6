"""Print the parameters, GMACs and output shapes of a config's model, without data or weights.

GMACs are 10^9 multiply-adds for one view of one video. They include convolutions, matrix products and the weighted sums
of DSA, but not normalization, activations and pooling.
"""

import argparse
import json
import math
import sys
from typing import Any

from dsanet.commands.arguments import add_config_arguments, int_between, read_config

NUM_CLASSES = 2  # if the config does not set it and there is no dataset to count the classes in


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    parser.add_argument('--json', action='store_true', help='print JSON with params, gmacs, input_shape and stages')
    parser.add_argument(
        '--input-shape',
        nargs=4,
        type=int_between(1),
        metavar=('U', 'T', 'H', 'W'),
        help='snippets, frames, height, width (default: as in the training pipeline)',
    )


def run(args: argparse.Namespace) -> None:
    from dsanet.engine.logging import exit_on_user_error
    from dsanet.models.summary import find_input_shape, summarize_model

    with exit_on_user_error():
        config = read_config_without_data(args)
        shape = tuple(args.input_shape or find_input_shape(config))
        try:
            summary = summarize_model(config['model'], shape)
        except RuntimeError as error:  # from torch, if the input is too small
            size = ' x '.join(map(str, shape))
            raise ValueError(f'the model cannot process the input shape U x T x H x W = {size}: {error}') from error
    if args.json:
        print(json.dumps(summary, indent=2))
        return
    print('input (N, V, U, C, T, H, W)  ', tuple(summary['input_shape']))
    for stage in summary['stages']:
        print(f'{stage["name"]:<22}{stage["params"]:>12,} parameters  {tuple(stage["shape"])}')
    values = math.prod(summary['input_shape'])
    print(f'parameters {summary["params"]:,}   GMACs {summary["gmacs"]:.3f}   input values per view {values:,}')


def read_config_without_data(args: argparse.Namespace) -> dict[str, Any]:
    """Load the config; if it has no ``num_classes`` and there is no dataset, assume NUM_CLASSES."""
    from dsanet.config.schema import LOADERS
    from dsanet.datasets.classes import load_config_with_classes

    try:
        return read_config(args, LOADERS)
    except (OSError, ValueError):
        config = load_config_with_classes(args.config, args.cfg_options, args.imports, num_classes=NUM_CLASSES)
    sys.stderr.write(f'num_classes is not set and there is no dataset to count the classes in; using {NUM_CLASSES}\n')
    return config
