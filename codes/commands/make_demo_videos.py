"""Make a small video dataset of 8 classes: 4 directions of motion, which one snippet shows, times 2 orders of two
events, which no snippet shows. Averaged snippet scores end at 50 % top-1; a network that relates snippets, such as
DSANet, can reach 100 %.

Each video has 63 frames at 25 fps, for 4 snippets of 4 frames at interval 2 (or 1). Train without flips: a mirrored
motion belongs to another class.
"""

import argparse
from pathlib import Path

from dsanet.commands.arguments import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('out', metavar='OUT', type=Path, help='folder to write, for example data/ordered_actions')
    add('--num-videos', type=int, default=640, help='training and validation together (default: 640)')
    add('--seed', type=int, default=0, help='equal seeds give equal files (default: 0)')
    add('--val-fraction', type=float, default=0.25, help='share of the videos for validation (default: 0.25)')
    add('--size', type=int, default=40, help='height and width in pixels, even (default: 40)')
    add('--overwrite', action='store_true', help='replace a dataset that this command made')


def run(args: argparse.Namespace) -> None:
    from dsanet.data_tools.ordered_actions import CLASSES, NUM_FRAMES, make_dataset

    try:
        written = make_dataset(args.out, args.num_videos, args.seed, args.val_fraction, args.size, args.overwrite)
    except (ValueError, FileExistsError) as error:
        raise UsageError(str(error)) from error
    if not written:
        print(f'{args.out} already holds this dataset, nothing to do')
        return
    num_val = round(args.num_videos * args.val_fraction)
    num_train = args.num_videos - num_val
    print(
        f'wrote {num_train} training and {num_val} validation videos to {args.out}: {len(CLASSES)} classes, '
        f'{NUM_FRAMES} frames of {args.size}x{args.size} pixels each'
    )
