"""Turn videos into folders of JPEG frames, img_00001.jpg, img_00002.jpg, ..., which RawFramesDataset reads.

Every video below VIDEO_DIR becomes a folder of the same name, without its ending, at the same place below OUT_DIR.
Pictures are turned upright as phones note it; without --fps every frame is written once.

Safe to interrupt: run it again, and it goes on with the videos whose folder is not there yet. A video that cannot be
decoded to its end is listed in OUT_DIR/failures.jsonl with the reason, and written only with --keep-damaged. The end
may lie half a second before that of the header, or 5 % of the length up to a second: headers of cut videos claim too
much. Exit status: 0 all is there, 1 a video failed, 2 a wrong call, or no room left to
write. No ffmpeg program is needed.
"""

import argparse
import sys
from functools import partial

from dsanet.commands.arguments import UsageError, add_job_arguments

INTERRUPTED = 'interrupted; continue with the same command'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_job_arguments(parser)
    parser.add_argument(
        '--fps', metavar='RATE', help='frames per second, such as 30 or 30000/1001 (default: every frame as it is)'
    )
    parser.add_argument('--quality', type=int, default=90, help='of JPEG, 1 to 100 (default: 90)')


def run(args: argparse.Namespace) -> int:
    if not 1 <= args.quality <= 100:
        raise UsageError(f'--quality is {args.quality}, must be from 1 to 100')
    if args.short_side < 0:
        raise UsageError(f'--short-side is {args.short_side}, must be 0 or more')
    from dsanet.data_tools.video.batch import FAILURES_FILE, process_folder, summarize
    from dsanet.data_tools.video.constant_rate import parse_rate
    from dsanet.data_tools.video.extract import extract_frames

    try:
        fps = parse_rate(args.fps) if args.fps else None
        settings = {'short_side': args.short_side, 'fps': fps and str(fps), 'quality': args.quality}
        work = partial(
            extract_frames,
            short_side=args.short_side or None,
            fps=fps,
            quality=args.quality,
            keep_damaged=args.keep_damaged,
        )
        # The name is in the settings of folders that were written before there was this command.
        settings = {'tool': 'extract_frames.py', **settings}
        outcome = process_folder(work, args.videos, args.out, '', settings, args.list, args.workers, args.time_limit)
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(str(error)) from error
    except OSError as error:  # such as a full disk
        sys.stderr.write(f'error: {error}\n')
        return 2
    print(summarize(outcome, args.out / FAILURES_FILE))
    return 1 if outcome.num_failed else 0
