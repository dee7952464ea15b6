"""Generate a film of the actions of make-demo-videos, with pauses between them, and the segments as JSON.

FILM.json, next to FILM.mp4, has the segments in the format of ActivityNet, for dsanet predict --long --ground-truth.
"""

import argparse

from dsanet.commands.arguments import MAX_SEED, UsageError, int_between, output_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('film', metavar='FILM', type=output_file('.mp4'), help='new MP4 file to write, such as data/film.mp4')
    add('--num-actions', type=int_between(1), default=8, metavar='N', help='number of actions (default: 8)')
    add('--seed', type=int_between(0, MAX_SEED), default=0, help='random seed (default: 0)')
    add('--size', type=int_between(32, 4096), default=40, help='height and width in pixels, even (default: 40)')


def run(args: argparse.Namespace) -> None:
    from dsanet.data_tools.demo_film import make_film

    try:
        truth = make_film(args.film, args.num_actions, args.seed, args.size)
    except (ValueError, OSError) as error:
        raise UsageError(error) from None
    print(f'Film written to {args.film}, its {args.num_actions} segment{"s" * (args.num_actions > 1)} to {truth}')
