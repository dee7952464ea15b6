"""Write the videos of a list to WebDataset shards: tar files for object stores, which WebVideoDataset reads.

The shards hold the same number of videos, give or take one, in random order; videos are copied unchanged. Choose at
least as many shards as a training run has data workers in all processes, and a multiple of that for equal shares.
"""

import argparse
from pathlib import Path

from dsanet.commands.arguments import MAX_SEED, int_between


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('list', metavar='LIST', help='list file with lines "path label"')
    add('out', metavar='OUT', type=Path, help='new folder for the shards')
    add('--num-shards', type=int_between(1), required=True, metavar='N', help='number of shards')
    add('--data-root', metavar='DIR', help='folder of relative paths in LIST (default: working directory)')
    add('--seed', type=int_between(0, MAX_SEED), default=0, help='of the order (default: 0)')


def run(args: argparse.Namespace) -> None:
    from dsanet.data_tools.shards import write_shards
    from dsanet.datasets.annotation import parse_list_file
    from dsanet.engine.logging import exit_on_user_error

    with exit_on_user_error():
        records = parse_list_file(args.list, args.data_root)
        pattern = write_shards(records, args.out, args.num_shards, args.seed)
    print(f"dataset=dict(type='WebVideoDataset', shards={pattern!r}, num_videos={len(records)}, pipeline=[...])")
