"""Generate a small video dataset with 8 classes: 4 motion directions times 2 orders of two events.

A single snippet shows the direction, but not the order. Averaging the scores of single snippets reaches only 50%
top-1; a network that relates the snippets, such as DSANet, can reach 100%.

Each video has 63 frames at 25 fps, enough for 4 snippets of 4 frames at interval 1 or 2. Train without Flip, because
the mirrored motion is another class.
"""

import argparse
from pathlib import Path

from dsanet.commands.arguments import MAX_SEED, UsageError, float_between, int_between


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('out', metavar='OUT', type=Path, help='output folder, such as data/ordered_actions')
    add(
        '--num-videos', type=int_between(1), default=640, help='number of training and validation videos (default: 640)'
    )
    add('--seed', type=int_between(0, MAX_SEED), default=0, help='random seed (default: 0)')
    add('--val-fraction', type=float_between(0, 1), default=0.25, help='share of validation videos (default: 0.25)')
    add('--size', type=int_between(32, 4096), default=40, help='height and width in pixels, even (default: 40)')
    add('--overwrite', action='store_true', help='replace an existing dataset made by this command')


def run(args: argparse.Namespace) -> None:
    from dsanet.data_tools.ordered_actions import CLASSES, NUM_FRAMES, make_dataset

    try:
        written = make_dataset(args.out, args.num_videos, args.seed, args.val_fraction, args.size, args.overwrite)
    except (ValueError, OSError) as error:
        raise UsageError(error) from None
    if not written:
        print(f'{args.out} already contains this dataset, nothing to do')
        return
    num_val = round(args.num_videos * args.val_fraction)
    num_train = args.num_videos - num_val
    print(
        f'Wrote {num_train} training and {num_val} validation videos to {args.out}: {len(CLASSES)} classes, '
        f'{NUM_FRAMES} frames of {args.size}x{args.size} pixels'
    )
