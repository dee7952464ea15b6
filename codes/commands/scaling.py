"""Estimate what a training run needs on many GPUs, from parts that you have measured on one.

For Kinetics-400 and Kinetics-700: CPU cores, reads from storage, network traffic, hours, and the part that limits the
run. docs/scaling.md explains how to measure the parts, and the assumption of each formula. MB and GB are 10^6 and 10^9
bytes.
"""

import argparse
import math
from typing import TYPE_CHECKING

from dsanet.commands.arguments import CONFIG_HELP, UsageError, add_config_options, float_between, int_between

if TYPE_CHECKING:
    from dsanet.engine.scaling import Estimate, Parts

positive = float_between(1e-9, 1e12)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('--step', type=positive, required=True, metavar='S', help='seconds per training step of one GPU, without waits')
    add('--batch-size', type=int_between(1), required=True, metavar='N', help='videos per step of one GPU')
    add('--decode', type=positive, required=True, metavar='S', help='CPU seconds of one core to load one video')
    add('--video-mb', type=positive, required=True, metavar='MB', help='mean size of a video in storage')
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument('--gradient-mb', type=positive, metavar='MB', help='size of all gradients')
    size.add_argument('--config', metavar='CONFIG', help=f'compute it: {CONFIG_HELP}')
    add('--network', type=positive, required=True, metavar='GB/s', help='network of one machine, in each direction')
    add('--link', type=positive, metavar='GB/s', help='between GPUs of one machine (default: that of --network)')
    add('--storage', type=positive, required=True, metavar='MB/s', help='what the storage delivers to all machines')
    add('--cores', type=int_between(1), metavar='N', help='CPU cores of one machine (default: as many as needed)')
    add('--gpus-per-machine', type=int_between(1), default=8, metavar='N', help='GPUs of one machine (default: 8)')
    add(
        '--gpus',
        type=int_between(1),
        nargs='+',
        default=[8, 64, 256],
        metavar='N',
        help='numbers of GPUs (default: 8 64 256)',
    )
    add('--epochs', type=int_between(1), default=100, metavar='N', help='epochs of a run (default: 100)')
    add_config_options(parser)


def run(args: argparse.Namespace) -> None:
    if args.config is None and (args.cfg_options or args.imports):
        raise UsageError('--cfg-options and --import have no effect without --config')
    from dsanet.engine.logging import exit_on_user_error
    from dsanet.engine.scaling import TRAINING_VIDEOS, Parts, estimate

    with exit_on_user_error():
        parts = Parts(
            step_s=args.step,
            batch_size=args.batch_size,
            decode_s=args.decode,
            video_bytes=args.video_mb * 1e6,
            gradient_bytes=_gradient_bytes(args) if args.config else args.gradient_mb * 1e6,
            network_bytes_s=args.network * 1e9,
            link_bytes_s=(args.link or args.network) * 1e9,
            storage_bytes_s=args.storage * 1e6,
            cores=args.cores,
            gpus_per_machine=args.gpus_per_machine,
        )
        runs = [estimate(parts, gpus) for gpus in args.gpus]
    print(f'Gradients of {parts.gradient_bytes / 1e6:.0f} MB, batches of {parts.batch_size} videos per GPU')
    print('\nNeeded to keep the GPUs busy')
    need = [
        [
            f'{run.gpus}',
            f'{run.machines}',
            f'{math.ceil(run.cores_needed - 1e-9):,}',
            f'{run.read_bytes_s / 1e6:,.0f} MB/s',
            f'{run.network_bytes_s / 1e9:.2f} GB/s',
            f'{run.exposed_s / run.limits["GPUs"]:.0%}',
        ]
        for run in runs
    ]
    heads = ['GPUs', 'machines', 'cores per machine', 'storage', 'network per machine', 'wait for gradients']
    _print_table(heads, need)
    print(f'\nWith the given hardware, {args.epochs} epochs, without validation')
    times = []
    for run in runs:
        hours = [run.epoch_s(number) / 3600 for number in TRAINING_VIDEOS.values()]
        cells = [text for h in hours for text in (f'{h * 60:,.1f} min', f'{h * args.epochs:,.1f} h')]
        times.append([f'{run.gpus}', f'{run.videos_per_s:,.0f}', *cells])
    per_dataset = [f'{name} {what}' for name in TRAINING_VIDEOS for what in ('epoch', 'run')]
    _print_table(['GPUs', 'videos/s', *per_dataset], times)
    print()
    for run in runs:
        print(f'{run.gpus} GPUs: {_conclude(run, parts)}')
    sizes = [f'{name} {n:,} videos, {n * parts.video_bytes / 1e9:,.0f} GB' for name, n in TRAINING_VIDEOS.items()]
    print(f'\nTraining data: {"; ".join(sizes)}')


def _gradient_bytes(args: argparse.Namespace) -> float:
    """Return 4 bytes for each trainable parameter of the config's model, which is built without memory."""
    import torch

    from dsanet.commands.summary import read_config_without_data
    from dsanet.config.registry import MODELS, build

    config = read_config_without_data(args)
    with torch.device('meta'):
        model = build(config['model'], MODELS, 'model')
    return 4.0 * sum(p.numel() for p in model.parameters() if p.requires_grad)


def _conclude(run: 'Estimate', parts: 'Parts') -> str:
    """Return the part that limits a run, in one line."""
    busy = run.limits['GPUs']
    share = busy / run.iteration_s
    idle = f'; the GPUs are busy {share:.0%} of the time'
    if run.bottleneck == 'CPU cores':
        return f'limited by decoding, {math.ceil(run.cores_needed - 1e-9):,} of {parts.cores} cores needed{idle}'
    if run.bottleneck == 'storage':
        there = parts.storage_bytes_s / 1e6
        return f'limited by the storage, {run.read_bytes_s / 1e6:,.0f} of {there:,.0f} MB/s needed{idle}'
    if run.bottleneck == 'network':
        return (
            f'limited by the network, {run.network_bytes_s / 1e9:.2f} of {parts.network_bytes_s / 1e9:.2f} GB/s '
            f'needed{idle}'
        )
    return f'limited by the GPUs, which wait for gradients {run.exposed_s / busy:.0%} of the time'


def _print_table(heads: list[str], rows: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        print('  '.join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
