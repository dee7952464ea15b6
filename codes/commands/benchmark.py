"""Measure the speed and memory of models, training, data loading, tests and program starts on this machine.

    dsanet benchmark model kinetics/r50_e100_s1_8 --threads 2
    dsanet benchmark train kinetics/r50_e100_s1_8 --repeats 3 --json train.json
    dsanet benchmark data configs/my_videos.py
    dsanet benchmark peers

Each kind of measurement has its own options: dsanet benchmark KIND --help. The functions of a run are called in turn,
after a warm-up, and the result is a Markdown table. On a machine with other load, compare the ratios within one run
rather than seconds of different runs.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dsanet.commands import benchmark_decoding
from dsanet.commands.arguments import (
    CONFIG_HELP,
    TRAINING_SECTIONS,
    add_config_options,
    int_between,
    num_processes,
    output_file,
)

KINDS = {
    'model': 'forward pass of CONFIG in fp32 and bf16, and its share of the speed of a matrix product',
    'train': 'training step of CONFIG, also with activation checkpointing and without DSA',
    'dsa': 'forward and backward pass of the DSA modules of CONFIG, against a grouped convolution and a copy',
    'data': 'training pipeline of CONFIG, in this process and in data workers',
    'test': 'scoring of the validation data of CONFIG, with random weights',
    'startup': 'starts of the program',
    'lists': 'time and memory of a dataset with a long list of videos',
    'peers': 'networks of mmaction2, PyTorchVideo, torchvision and transformers against CONFIG',
    'decoding': 'reading samples from videos, transcoded videos and frame folders',
}
_NETWORKS = ('model', 'train', 'dsa', 'peers')
_WITHOUT_DATA = (*_NETWORKS, 'lists')
NUM_CLASSES = 400  # if a network is measured without data, in which the classes would be counted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest='kind', metavar='KIND', required=True)
    for kind, text in KINDS.items():
        description = benchmark_decoding.__doc__ if kind == 'decoding' else f'Measure the {text}.'
        sub = kinds.add_parser(
            kind, help=text, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if kind == 'decoding':
            benchmark_decoding.add_arguments(sub)
        else:
            _add_options(sub, kind)


def _add_options(parser: argparse.ArgumentParser, kind: str) -> None:
    add = parser.add_argument
    if kind == 'peers':
        default = 'kinetics/r50_e100_s1_8'
        add('configs', nargs='?', metavar='CONFIG', default=default, help=f'{CONFIG_HELP} (default: {default})')
    elif kind != 'startup':
        add('configs', nargs='+', metavar='CONFIG', help=f'{CONFIG_HELP}; several are measured in turn')
    if kind != 'startup':
        add_config_options(parser)
        add('--threads', type=num_processes(1), metavar='N', help="threads of torch's operators (default: torch's own)")
    if kind in _NETWORKS:
        add('--batch-size', type=int_between(1), default=1, metavar='N', help='videos in a batch (default: 1)')
        add(
            '--input-shape',
            nargs=4,
            type=int_between(1),
            metavar=('U', 'T', 'H', 'W'),
            help='snippets, frames, height, width (default: of a {} of CONFIG)'.format(
                'test view' if kind == 'model' else 'training sample'
            ),
        )
    if kind == 'dsa':
        add('--compile', action='store_true', help='also measure DSA after torch.compile, which takes minutes')
    if kind == 'data':
        add('--samples', type=int_between(1), default=64, metavar='N', help='samples of a repeat (default: 64)')
    if kind == 'lists':
        add('--lines', type=int_between(1), default=100_000, metavar='N', help='lines of the list (default: 100000)')
    add('--repeats', type=int_between(1, 1000), default=5, metavar='N', help='measurements of each row (default: 5)')
    add('--warmup', type=int_between(1, 1000), default=1, metavar='N', help='calls before these (default: 1)')
    add('--json', type=output_file('.json'), metavar='FILE', help='also write all times and the machine as JSON')


def run(args: argparse.Namespace) -> int | None:
    if args.kind == 'decoding':
        return benchmark_decoding.run(args)
    import torch

    from dsanet.benchmarks.measuring import describe_machine
    from dsanet.benchmarks.tables import describe, format_legend, format_table, to_json
    from dsanet.engine.logging import exit_on_user_error
    from dsanet.utils import distributed
    from dsanet.utils.files import write_atomically

    before = torch.get_num_threads()
    with exit_on_user_error():
        configs = _read_configs(args)
        if getattr(args, 'threads', None) is not None:
            torch.set_num_threads(args.threads)
        device = distributed.find_device()
        machine = describe_machine(device)
        try:
            results, missing = _measure(args, configs, device)
        except RuntimeError as error:  # from torch, if the input is too small or memory is short
            sys.stderr.write(f'error: cannot measure: {str(error).strip()}\n')
            return 1
        finally:
            torch.set_num_threads(before)
    load_at_end = describe_machine(device)['load_average'][0]
    table = format_table(results)
    print(f'{describe(machine, load_at_end)}\n\n{table}\n')
    for name, reason in missing.items():
        print(f'{name}: {reason}')
    print(format_legend(table))
    if args.json is not None:
        more = {'configs': list(configs), 'repeats': args.repeats, 'warmup': args.warmup, 'not_measured': missing}
        content = to_json(args.kind, {**machine, 'load_at_end': load_at_end}, results, **more)
        with exit_on_user_error():
            write_atomically(content, args.json)
        print(f'Written to {args.json}')
    return None


def _read_configs(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Load the configs by name: the name of the file, or the whole path if two files have the same."""
    from dsanet.datasets.classes import load_config_with_classes

    paths = getattr(args, 'configs', [])
    paths = [paths] if isinstance(paths, str) else paths
    names = [Path(path).stem for path in paths]
    num_classes = NUM_CLASSES if args.kind in _WITHOUT_DATA else None
    return {
        path if names.count(name) > 1 else name: load_config_with_classes(
            path, args.cfg_options, args.imports, TRAINING_SECTIONS, num_classes
        )
        for path, name in zip(paths, names, strict=True)
    }


def _measure(args: argparse.Namespace, configs: dict[str, Any], device: Any) -> tuple[list[Any], dict[str, str]]:
    """Return the results, and what was not measured with the reason."""
    common = {'repeats': args.repeats, 'warmup': args.warmup}
    shape = None if getattr(args, 'input_shape', None) is None else tuple(args.input_shape)
    if args.kind == 'startup':
        from dsanet.benchmarks.startup import benchmark_startup

        return benchmark_startup(**common), {}
    if args.kind in ('model', 'train'):
        from dsanet.benchmarks import models

        function: Callable[..., Any] = models.benchmark_model if args.kind == 'model' else models.benchmark_train
        return function(configs, **common, device=device, batch_size=args.batch_size, shape=shape), {}
    if args.kind == 'dsa':
        from dsanet.benchmarks.dsa import benchmark_dsa

        options = {'batch_size': args.batch_size, 'shape': shape, 'with_compiled': args.compile}
        return benchmark_dsa(configs, **common, device=device, **options), {}
    if args.kind == 'peers':
        from dsanet.benchmarks.peers import benchmark_peers

        [(name, config)] = configs.items()
        return benchmark_peers(name, config, **common, device=device, batch_size=args.batch_size, shape=shape)
    from dsanet.benchmarks import data

    own: dict[str, Callable[[str, Any], list[Any]]] = {
        'data': lambda name, config: data.benchmark_data(name, config, **common, num_samples=args.samples),
        'test': lambda name, config: data.benchmark_test(name, config, **common, device=device),
        'lists': lambda name, config: data.benchmark_lists(name, config, **common, num_lines=args.lines),
    }
    return [result for name, config in configs.items() for result in own[args.kind](name, config)], {}
