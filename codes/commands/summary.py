"""Print parameters, multiply-adds and the shapes after each stage of a config's model. Needs no data and no weights.

GMACs count the convolutions, the matrix products and DSA's weighted sums of one view of one video; norms,
activations and pooling are left out.
"""

import argparse
import ast
import json
import math
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import dsanet.configs
from dsanet.commands.arguments import CONFIG_HELP, UsageError, add_config_options, read_config
from dsanet.config.shipped import list_configs

NUM_CLASSES = 2  # of configs that leave it open, to be counted in data that the costs do not need
CONFIGS = Path(dsanet.configs.__file__).parent
TABLE_HEAD = """# What the models cost

Written by `dsanet summary --table > docs/model_costs.md`; a test compares it with the configs.

One view of one video, at the size of the training crop. GMACs are 10^9 multiply-adds of convolutions, linear layers,
matrix products and the weighted sums of DSA and TAM; norms, activations and pooling are left out. (Papers that count
norms too give about 0.5 % more, and some call a multiply-add two FLOPs.) A test with V views costs V times as much,
and more where its crop is larger. Configs for one's own videos leave the number of classes open: they count with 2.

| config | options | U x T x H x W | parameters | GMACs |
|---|---|---|---:|---:|
"""


def find_configs() -> list[Path]:
    """Return the files of all configs that come with the package."""
    return [CONFIGS / f'{name}.py' for name in list_configs()]


def find_variations(file: Path) -> list[list[str]]:
    """Return the options of each line ``--cfg-options`` under ``Vary`` in a config's header; [[]] if there is none."""
    note = ast.get_docstring(ast.parse(file.read_text())) or ''
    lines = re.search(r'^Vary( +--cfg-options .+\n)+', note, re.M)
    return [shlex.split(line)[1:] for line in lines[0].removeprefix('Vary').splitlines()] if lines else [[]]


def cost_row(file: Path, options: list[str]) -> str:
    """Return a config's line of the table of costs."""
    from dsanet.datasets.classes import load_config_with_classes
    from dsanet.models.summary import find_input_shape, summarize

    config = load_config_with_classes(file, options, num_classes=NUM_CLASSES)
    summary = summarize(config['model'], find_input_shape(config))
    num_snippets, _, frames, height, width = summary['input_shape'][2:]
    name = file.relative_to(CONFIGS)
    shown = ' '.join(f'`{option}`' for option in options)
    size = f'{num_snippets} x {frames} x {height} x {width}'
    return f'| {name} | {shown} | {size} | {summary["params"]:,} | {summary["gmacs"]:.3f} |'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument('config', nargs='?', metavar='CONFIG', help=CONFIG_HELP)
    what.add_argument('--table', action='store_true', help='the costs of all configs, as Markdown')
    parser.add_argument('--json', action='store_true', help='print JSON: params, gmacs, input_shape, stages')
    parser.add_argument(
        '--input-shape',
        nargs=4,
        type=int,
        metavar=('U', 'T', 'H', 'W'),
        help='snippets, frames, height, width; by default those of the training pipeline',
    )
    add_config_options(parser)


def run(args: argparse.Namespace) -> None:
    if args.table:
        if args.json or args.input_shape or args.cfg_options or args.imports:
            raise UsageError('--table takes the configs as they are and goes with no other option')
        print(TABLE_HEAD, end='')
        for file in find_configs():
            for options in find_variations(file):
                print(cost_row(file, options))
        return
    from dsanet.engine.logging import plain_errors
    from dsanet.models.summary import find_input_shape, summarize

    with plain_errors():
        config = _read_config(args)
        shape = tuple(args.input_shape or find_input_shape(config))
        try:
            summary = summarize(config['model'], shape)
        except RuntimeError as error:  # torch's, of a frame or a pixel too few
            raise ValueError(
                f'the network does not take U x T x H x W = {" x ".join(map(str, shape))}: {error}'
            ) from error
    if args.json:
        print(json.dumps(summary, indent=2))
        return
    print('input (N, V, U, C, T, H, W)  ', tuple(summary['input_shape']))
    for stage in summary['stages']:
        print(f'{stage["name"]:<22}{stage["params"]:>12,} parameters  {tuple(stage["shape"])}')
    values = math.prod(summary['input_shape'])
    print(f'parameters {summary["params"]:,}   GMACs {summary["gmacs"]:.3f}   values in a view {values:,}')


def _read_config(args: argparse.Namespace) -> dict[str, Any]:
    """Return the config, its classes counted in the data, or assumed where there are none."""
    from dsanet.config.schema import LOADERS
    from dsanet.datasets.classes import load_config_with_classes

    try:
        return read_config(args, LOADERS)
    except (OSError, ValueError):
        config = load_config_with_classes(args.config, args.cfg_options, args.imports, num_classes=NUM_CLASSES)
    sys.stderr.write(f'num_classes is open and there are no data to count it in: {NUM_CLASSES} assumed\n')
    return config
