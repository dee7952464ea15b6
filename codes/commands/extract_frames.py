"""Extract the frames of videos as JPEG files, for RawFramesDataset.

VIDEO_DIR/walk/a.mp4 becomes OUT_DIR/walk/a/img_00001.jpg, img_00002.jpg and so on. Rotation metadata is applied.
Without --fps, every frame is written once. The ffmpeg program is not needed.

An interrupted run continues with the same command. Failed videos are listed in OUT_DIR/failures.jsonl with the reason.
A video counts as damaged if some frames cannot be decoded or the end of the file is missing, and is then
written only with --keep-damaged.
Exit status: 0 all videos written; 1 a video failed; 2 invalid arguments or disk full.
"""

import argparse

from dsanet.commands.arguments import add_job_arguments, int_between
from dsanet.commands.transcode import convert_videos

INTERRUPTED = 'interrupted; run the same command again to continue'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_job_arguments(parser)
    parser.add_argument('--fps', metavar='RATE', help='frame rate, such as 30 or 30000/1001 (default: keep all frames)')
    parser.add_argument('--quality', type=int_between(1, 100), default=90, help='JPEG quality, 1 to 100 (default: 90)')


def run(args: argparse.Namespace) -> int:
    from dsanet.data_tools.video.extract import extract_frames

    return convert_videos(args, extract_frames, '', {'short_side': args.short_side or None, 'quality': args.quality})
