"""Measure how long a training sample takes from videos, from transcoded videos and from frame folders, side by side.

A sample is 4 snippets of 8 frames, one frame in two, at random places, cut by RandomResizedCrop to 224 and flipped: the
pipeline of training, in one process, with every candidate reading the same frames of the same video in turn.
The videos are generated (340x256, 300 frames, key frames every 12 and every 250 frames), or those of a folder.
Decoders with threads of their own use more time of the processor than passes; both are in the table, which is Markdown.
PSNR says how much of the originals' pictures is left, where size and length are: 40 dB is an error of 2.6 gray levels.
With --in-worker all is measured in a data worker, where decoders have a process of their own, as in training.

    dsanet benchmark-decoding
    dsanet benchmark-decoding --in-worker
    dsanet benchmark-decoding --videos data/my_videos/videos --work-dir work_dirs/benchmark
"""

import argparse
import os
import tempfile
from pathlib import Path

from dsanet.commands.arguments import UsageError, positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('--videos', type=Path, metavar='DIR', help='measure videos of this folder (default: generated ones)')
    add('--num-videos', type=positive, default=4, help='how many, spread over the folder (default: 4)')
    add('--rounds', type=positive, default=10, help='samples of each video that count (default: 10)')
    add('--in-worker', action='store_true', help='measure in a data worker, where decoders have a process of their own')
    add('--work-dir', type=Path, metavar='DIR', help='keep what is generated and converted (default: a temporary one)')
    add('--workers', type=int, default=os.cpu_count() or 1, help='processes that convert (default: one a core)')
    add('--num-frames', type=positive, default=300, help='of generated videos (default: 300)')
    add('--height', type=positive, default=256, help='of generated videos, even (default: 256)')
    add('--width', type=positive, default=340, help='of generated videos, even (default: 340)')


def run(args: argparse.Namespace) -> None:
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    try:
        if args.work_dir is not None:
            _run(args, args.work_dir)
        else:
            with tempfile.TemporaryDirectory() as folder:
                _run(args, Path(folder))
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(str(error)) from error


def _run(args: argparse.Namespace, work_dir: Path) -> None:
    """Prepare, measure and print."""
    from dsanet.data_tools.video.batch import find_videos
    from dsanet.data_tools.video.decoding_benchmark import (
        compare,
        generate_originals,
        make_table,
        measure,
        measure_in_worker,
        prepare,
    )

    if args.videos is None:
        names = [f'{seed:03d}.mp4' for seed in range(args.num_videos)]
        originals = generate_originals(work_dir, names, args.num_frames, args.height, args.width)
    else:
        every = find_videos(args.videos)
        step = max(1, len(every) // args.num_videos)
        names, originals = every[::step][: args.num_videos], {'original': args.videos}
    candidates = prepare(originals, names, work_dir, args.workers, args.in_worker)
    problems = (measure_in_worker if args.in_worker else measure)(candidates, args.rounds)
    print(make_table(candidates))
    print('\nTimes of the originals by those of the transcoded, each with its fastest decoder:')
    print('\n'.join(f'- {line}' for line in compare(candidates)))
    print(f'\n{len(names)} videos, {args.rounds} rounds; medians. Decoders that cannot read a video have no times.')
    for problem in problems:
        print(f'- {problem}')
