"""Turn videos into MP4 files made for training: small, at a constant rate, any frame at hand at once.

Every video below VIDEO_DIR becomes an .mp4 of the same name at the same place below OUT_DIR, upright, without sound,
as long as before to within a frame. With --gop 1, the default, every frame is a JPEG of its own inside one file
(MJPEG): decoder='pyav' then makes a training sample about as fast as from a folder of frames, at one file a video. Do
set it: decord, the default of OpenVideo, takes more than twice as long (docs/decoding_speed.md). With
--gop 4 or more it is H.264 with a key frame every so many, which takes less room and more time. How much faster than
the originals either is depends on them; dsanet benchmark-decoding measures it. Short videos may not gain.

Safe to interrupt: run it again, and it goes on with the videos that are not there yet. A video that cannot be decoded
to its end is listed in OUT_DIR/failures.jsonl with the reason, and written only with --keep-damaged. The end may lie
half a second before that of the header, or 5 % of the length up to a second: headers of cut videos claim too much.
Exit status: 0 all is there, 1 a video failed, 2 a wrong call, or no room left to write. No
ffmpeg program is needed.
"""

import argparse
import sys
from functools import partial
from typing import Any

from dsanet.commands.arguments import UsageError, add_job_arguments

INTERRUPTED = 'interrupted; continue with the same command'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_job_arguments(parser)
    add = parser.add_argument
    add('--fps', metavar='RATE', help="frames per second, such as 30 or 30000/1001 (default: each video's own average)")
    add('--gop', type=int, default=1, metavar='N', help='frames from one key frame to the next (default: 1)')
    add(
        '--codec',
        choices=('h264', 'mjpeg'),
        help='mjpeg, with --gop 1 only, is the fastest; h264 needs less room (default: mjpeg if --gop is 1, else h264)',
    )
    add(
        '--qscale',
        type=int,
        default=2,
        help='of mjpeg: 1 (best) to 31 (default: 2, like JPEG at 90; 5 is like h264 at 18)',
    )
    add('--crf', type=int, default=18, help='quality of h264, 0 (best) to 51 (default: 18)')


def run(args: argparse.Namespace) -> int:
    settings = _read_settings(args)
    from dsanet.data_tools.video.batch import FAILURES_FILE, process_folder, summarize
    from dsanet.data_tools.video.constant_rate import parse_rate
    from dsanet.data_tools.video.transcode import transcode

    try:
        fps = parse_rate(args.fps) if args.fps else None
        work = partial(transcode, fps=fps, keep_damaged=args.keep_damaged, **settings)
        # The name is in the settings of folders that were written before there was this command.
        kept = {'tool': 'transcode.py', **settings, 'fps': fps and str(fps)}
        outcome = process_folder(work, args.videos, args.out, '.mp4', kept, args.list, args.workers, args.time_limit)
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(str(error)) from error
    except OSError as error:  # such as a full disk
        sys.stderr.write(f'error: {error}\n')
        return 2
    print(summarize(outcome, args.out / FAILURES_FILE))
    return 1 if outcome.num_failed else 0


def _read_settings(args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of ``transcode`` that the command line gives, but the frame rate.

    Raises:
        UsageError: one is out of range, or two do not go together.
    """
    codec = args.codec or ('mjpeg' if args.gop == 1 else 'h264')
    for name, low, high in (('short_side', 0, None), ('gop', 1, None), ('qscale', 1, 31), ('crf', 0, 51)):
        value = getattr(args, name)
        if value < low or (high is not None and value > high):
            allowed = f'{low} or more' if high is None else f'from {low} to {high}'
            raise UsageError(f'--{name.replace("_", "-")} is {value}, must be {allowed}')
    if codec == 'mjpeg' and args.gop != 1:
        raise UsageError(f'--gop is {args.gop}, but mjpeg has key frames only; use --codec h264 or --gop 1')
    quality = {'qscale': args.qscale} if codec == 'mjpeg' else {'crf': args.crf}
    return {'short_side': args.short_side or None, 'gop': args.gop, 'codec': codec, **quality}
