"""Turn videos into folders of JPEG frames, img_00001.jpg, img_00002.jpg, ..., which RawFramesDataset reads.

Every video below VIDEO_DIR becomes a folder of the same name, without its ending, at the same place below OUT_DIR.
Pictures are turned upright as phones note it; without --fps every frame is written once.

Safe to interrupt: run it again, and it goes on with the videos whose folder is not there yet. A video that cannot be
decoded to its end is listed in OUT_DIR/failures.jsonl with the reason, and written only with --keep-damaged. The end
may lie half a second before that of the header, or 5 % of the length up to a second: headers of cut videos claim too
much. Exit status: 0 all is there, 1 a video failed or a folder was left out, 2 a wrong call, or no room left to
write. No ffmpeg program is needed.
"""

import argparse
import sys
from fractions import Fraction
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

if __name__ == '__main__':  # before the imports, which take seconds
    from dsanet.utils.signals import end_at_once_if_interrupted, run_interruptible

    end_at_once_if_interrupted()

import cv2  # noqa: E402
import numpy as np  # noqa: E402

from dsanet.data_tools.video.batch import FAILURES_FILE, VideoJob, add_job_arguments, run_tool, summarise, writing  # noqa: E402
from dsanet.data_tools.video.constant_rate import Resizer, SteadyFrames, parse_rate  # noqa: E402

FILENAME_TMPL = 'img_{:05d}.jpg'


def extract_frames(
    job: VideoJob,
    short_side: int | None = 256,
    fps: Fraction | None = None,
    quality: int = 90,
    keep_damaged: bool = False,
) -> str | None:
    """Write the frames of a video to a folder, numbered from 1 on.

    Args:
        job: the video and the folder.
        short_side: pixels; smaller videos are not enlarged. None keeps the size.
        fps: frames a second; None for every frame of the video.
        quality: of JPEG, 1 to 100.
        keep_damaged: write what can be decoded of a damaged video.

    Returns:
        What is wrong with a damaged video, else None.

    Raises:
        ValueError: the video is damaged and not to be kept, or has no frames.
        OSError: a frame cannot be written.
    """
    resizer = Resizer('bgr24', short_side)
    with SteadyFrames(str(job.source), fps) as frames, writing(job.target) as folder:
        folder.mkdir()
        shown, data = None, b''
        for number, frame in enumerate(frames, start=1):
            if frame is not shown:
                shown, data = frame, _encode(resizer(frame).to_ndarray(), quality)
            (folder / FILENAME_TMPL.format(number)).write_bytes(data)
        if frames.damage and not keep_damaged:
            raise ValueError(frames.damage)
    return frames.damage


def _encode(image: np.ndarray, quality: int) -> bytes:
    done, data = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done, f'OpenCV cannot encode an image {image.shape}'
    return data.tobytes()


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_job_arguments(parser)
    parser.add_argument(
        '--fps', metavar='RATE', help='frames a second, such as 30 or 30000/1001 (default: every frame as it is)'
    )
    parser.add_argument('--quality', type=int, default=90, help='of JPEG, 1 to 100 (default: 90)')
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the tool and return the exit status."""
    parser = build_parser()
    args = parser.parse_args(argv)
    try:
        if not 1 <= args.quality <= 100:
            raise ValueError(f'--quality is {args.quality}, must be from 1 to 100')
        if args.short_side < 0:
            raise ValueError(f'--short-side is {args.short_side}, must be 0 or more')
        fps = parse_rate(args.fps) if args.fps else None
        settings = {'short_side': args.short_side, 'fps': fps and str(fps), 'quality': args.quality}
        work = partial(
            extract_frames,
            short_side=args.short_side or None,
            fps=fps,
            quality=args.quality,
            keep_damaged=args.keep_damaged,
        )
        outcome = run_tool(work, args, '', {'tool': Path(__file__).name, **settings})
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    except OSError as error:  # such as a full disk
        sys.stderr.write(f'error: {error}\n')
        return 2
    print(summarise(outcome, args.out / FAILURES_FILE))
    return 1 if outcome.num_failed else 0


if __name__ == '__main__':
    sys.exit(run_interruptible(main, 'interrupted; the same command goes on where it was'))
