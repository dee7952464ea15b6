"""Convert videos to small MP4 files with a constant frame rate and fast random access.

VIDEO_DIR/walk/a.avi becomes OUT_DIR/walk/a.mp4, with rotation metadata applied, without audio, and with the same
duration to within one frame. The ffmpeg program is not needed.

With --gop 1, the default, every frame is a key frame (MJPEG). The default decoder, PyAV, reads these files
about as fast as folders of frames; decord takes more than twice as long (docs/decoding_speed.md). With a larger --gop,
the codec is H.264, which needs less disk space but more time. dsanet benchmark decoding measures the speedup for your
videos; short videos may not be faster to read.

An interrupted run continues with the same command. Failed videos are listed in OUT_DIR/failures.jsonl with the reason.
A video counts as damaged if some frames cannot be decoded or the end of the file is missing, and is then
written only with --keep-damaged.
Exit status: 0 all videos written; 1 a video failed; 2 invalid arguments or disk full.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from dsanet.commands.arguments import UsageError, add_job_arguments, int_between

INTERRUPTED = 'interrupted; run the same command again to continue'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_job_arguments(parser)
    add = parser.add_argument
    add('--fps', metavar='RATE', help='frame rate, such as 30 or 30000/1001 (default: average rate of each video)')
    add('--gop', type=int_between(1), default=1, metavar='N', help='key frame interval in frames (default: 1)')
    add(
        '--codec',
        choices=('h264', 'mjpeg'),
        help='mjpeg is faster, only with --gop 1; h264 is smaller (default: mjpeg with --gop 1, else h264)',
    )
    add(
        '--qscale',
        type=int_between(1, 31),
        default=2,
        help='mjpeg quality, 1 (best) to 31 (default: 2, similar to JPEG 90; 5 is similar to --crf 18)',
    )
    add('--crf', type=int_between(0, 51), default=18, help='h264 quality, 0 (best) to 51 (default: 18)')


def run(args: argparse.Namespace) -> int:
    codec = args.codec or ('mjpeg' if args.gop == 1 else 'h264')
    if codec == 'mjpeg' and args.gop != 1:
        raise UsageError(f'--gop {args.gop} is not supported with mjpeg; use --codec h264 or --gop 1')
    quality = {'qscale': args.qscale} if codec == 'mjpeg' else {'crf': args.crf}
    settings: dict[str, Any] = {'short_side': args.short_side or None, 'gop': args.gop, 'codec': codec, **quality}
    from dsanet.data_tools.video.transcode import transcode

    return convert_videos(args, transcode, '.mp4', settings)


def convert_videos(
    args: argparse.Namespace, convert: Callable[..., Any], suffix: str, settings: Mapping[str, Any]
) -> int:
    """Convert the videos of a folder, and return the exit status.

    Args:
        args: the arguments of :func:`add_job_arguments` and ``fps``.
        convert: called for each video with ``settings``, ``fps`` and ``keep_damaged``.
        suffix: suffix of the output files; '' for folders.
        settings: stored in the output folder; a later call must have the same.
    """
    from dsanet.data_tools.video.batch import FAILURES_FILE, process_folder, summarize_outcome
    from dsanet.data_tools.video.constant_rate import parse_rate
    from dsanet.utils.text import error_line

    try:
        fps = parse_rate(args.fps) if args.fps else None
        work = partial(convert, fps=fps, keep_damaged=args.keep_damaged, **settings)
        # The old file name, so that folders of earlier versions can be continued.
        saved = {'tool': f'{convert.__name__}.py', **settings, 'fps': fps and str(fps)}
        outcome = process_folder(work, args.videos, args.out, suffix, saved, args.list, args.workers, args.time_limit)
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(str(error)) from error
    except OSError as error:  # such as a full disk
        sys.stderr.write(error_line(error))
        return 2
    print(summarize_outcome(outcome, args.out / FAILURES_FILE))
    return 1 if outcome.num_failed else 0
