"""Measure the time to read a training sample from videos, transcoded videos and frame folders.

A sample has 4 snippets of 8 frames at interval 2, at random positions, with RandomResizedCrop to 224 and Flip, as in
training. The same frames of the same videos are read from all sources in turn, in one process. By default the videos
are generated (340x256, 300 frames, once with GOP 12 and once with GOP 250).

The result is a Markdown table with times and sizes. --in-worker measures in a data worker, where each decoder runs in
its own process, as in training.

    dsanet benchmark decoding
    dsanet benchmark decoding --in-worker
    dsanet benchmark decoding --videos data/my_videos/videos --work-dir work_dirs/benchmark
"""

import argparse
import os
import tempfile
from pathlib import Path

from dsanet.commands.arguments import UsageError, int_between, num_processes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('--videos', type=Path, metavar='DIR', help='use the videos of this folder (default: generated videos)')
    add('--num-videos', type=int_between(1), default=4, help='number of videos, spread over the folder (default: 4)')
    add('--rounds', type=int_between(1), default=10, help='number of samples per video (default: 10)')
    add('--in-worker', action='store_true', help='measure in a data worker, where each decoder runs in its own process')
    add('--work-dir', type=Path, metavar='DIR', help='keep the converted videos here (default: a temporary folder)')
    add(
        '--workers',
        type=num_processes(0),
        default=os.cpu_count() or 1,
        help='processes for converting (default: number of cores)',
    )
    add('--num-frames', type=int_between(1), default=300, help='frames per generated video (default: 300)')
    add('--height', type=int_between(1), default=256, help='height of generated videos, even (default: 256)')
    add('--width', type=int_between(1), default=340, help='width of generated videos, even (default: 340)')


def run(args: argparse.Namespace) -> int:
    import cv2
    import torch

    from dsanet.engine.logging import exit_on_user_error

    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    with exit_on_user_error():
        if args.work_dir is not None:
            if args.videos is not None and args.work_dir.resolve().is_relative_to(args.videos.resolve()):
                raise UsageError(f'--work-dir {args.work_dir} is inside --videos {args.videos}; choose another folder')
            _run(args, args.work_dir)
        else:
            with tempfile.TemporaryDirectory() as folder:
                _run(args, Path(folder))
    return 0


def _run(args: argparse.Namespace, work_dir: Path) -> None:
    from dsanet.data_tools.video.batch import find_videos
    from dsanet.data_tools.video.decoding_benchmark import (
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
    candidates = prepare(originals, names, work_dir, args.workers)
    problems = (measure_in_worker if args.in_worker else measure)(candidates, args.rounds)
    print(make_table(candidates))
    print(f'\nMedians over {len(names)} videos and {args.rounds} rounds. "-" means that the decoder failed on a video.')
    for problem in problems:
        print(f'- {problem}')
