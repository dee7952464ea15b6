"""Turn videos into MP4 files made for training: small, at a constant rate, any frame at hand at once.

Every video below VIDEO_DIR becomes an .mp4 of the same name at the same place below OUT_DIR, upright, without sound,
as long as before to within a frame. With --gop 1, the default, every frame is a JPEG of its own inside one file
(MJPEG): decoder='pyav' then makes a training sample about as fast as from a folder of frames, at one file a video. Do
set it: decord, the default of OpenVideo, takes more than twice as long (docs/decoding_speed.md). With
--gop 4 or more it is H.264 with a key frame every so many, which takes less room and more time. How much faster than
the originals either is depends on them; tools/analysis/benchmark_decoding.py measures it. Short videos may not gain.

Safe to interrupt: run it again, and it goes on with the videos that are not there yet. A video that cannot be decoded
to its end is listed in OUT_DIR/failures.jsonl with the reason, and written only with --keep-damaged. The end may lie
half a second before that of the header, or 5 % of the length up to a second: headers of cut videos claim too much.
Exit status: 0 all is there, 1 a video failed or a folder was left out, 2 a wrong call, or no room left to write. No
ffmpeg program is needed.
"""

import argparse
import sys
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

if __name__ == '__main__':  # before the imports, which take seconds
    from dsanet.utils.signals import end_at_once_if_interrupted, run_interruptible

    end_at_once_if_interrupted()

from dsanet.data_tools.video.batch import FAILURES_FILE, VideoJob, add_job_arguments, run_tool, summarise, writing  # noqa: E402
from dsanet.data_tools.video.constant_rate import Resizer, SteadyFrames, parse_rate  # noqa: E402

PIXEL_FORMATS = {'mjpeg': 'yuvj420p', 'h264': 'yuv420p'}
ENCODERS = {'mjpeg': 'mjpeg', 'h264': 'libx264'}


def transcode(
    job: VideoJob,
    short_side: int | None = 256,
    fps: Fraction | None = None,
    gop: int = 1,
    codec: str = 'mjpeg',
    qscale: int = 2,
    crf: int = 18,
    keep_damaged: bool = False,
) -> str | None:
    """Write a video as MP4 for training.

    Args:
        job: the video and the file to write.
        short_side: pixels; smaller videos are not enlarged. None keeps the size. Sides are made even.
        fps: frames a second; None for the video's own average.
        gop: frames from one key frame to the next.
        codec: 'mjpeg', of key frames only, or 'h264', without B-frames and with what is quick to decode.
        qscale: quality of MJPEG, from 1 (best) to 31.
        crf: quality of H.264, from 0 (best) to 51.
        keep_damaged: write what can be decoded of a damaged video.

    Returns:
        What is wrong with a damaged video, else None.

    Raises:
        ValueError: the video is damaged and not to be kept, or has no frames or no frame rate.
        Exception: of PyAV: the file cannot be opened, or written.
    """
    import av

    resizer = Resizer(PIXEL_FORMATS[codec], short_side, multiple=2)
    with SteadyFrames(str(job.source), fps, own_rate=fps is None) as frames, writing(job.target) as part:
        assert frames.rate is not None, 'a rate was asked for'
        # The index lies in front, where a reader finds it without a jump.
        with av.open(str(part), 'w', format='mp4', options={'movflags': 'faststart'}) as container:
            stream: Any = None
            picture: Any = None
            shown = None
            for position, frame in enumerate(frames):
                if frame is not shown:
                    shown, picture = frame, resizer(frame)
                if stream is None:
                    options = _encoder_options(codec, gop, qscale, crf)
                    stream = container.add_stream(ENCODERS[codec], rate=frames.rate, options=options)
                    stream.width, stream.height, stream.pix_fmt = picture.width, picture.height, picture.format.name
                    _describe_pictures(stream.codec_context, picture, frames.sample_aspect_ratio)
                picture.pts, picture.time_base = position, 1 / frames.rate
                # Else the encoder would make the same kinds of frames as the original has.
                picture.pict_type = av.video.frame.PictureType.NONE
                container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
        if frames.damage and not keep_damaged:
            raise ValueError(frames.damage)
    return frames.damage


def _encoder_options(codec: str, gop: int, qscale: int, crf: int) -> dict[str, str]:
    """Return FFmpeg's options for pictures that are quick to decode."""
    if codec == 'mjpeg':
        return {'qmin': str(qscale), 'qmax': str(qscale)}
    # fastdecode leaves out CABAC and the deblocking filter; a key frame where the scene changes would be one too many.
    return {'crf': str(crf), 'g': str(gop), 'bf': '0', 'sc_threshold': '0', 'tune': 'fastdecode'}


def _describe_pictures(encoder: Any, picture: Any, sample_aspect_ratio: Fraction | None) -> None:
    encoder.thread_count = 1
    encoder.colorspace, encoder.color_range = picture.colorspace, picture.color_range
    if sample_aspect_ratio is not None:
        encoder.sample_aspect_ratio = sample_aspect_ratio


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_job_arguments(parser)
    add = parser.add_argument
    add('--fps', metavar='RATE', help="frames a second, such as 30 or 30000/1001 (default: each video's own average)")
    add('--gop', type=int, default=1, metavar='N', help='frames from one key frame to the next (default: 1)')
    add(
        '--codec',
        choices=sorted(ENCODERS),
        help='mjpeg, with --gop 1 only, is the fastest; h264 needs less room (default: mjpeg if --gop is 1, else h264)',
    )
    add(
        '--qscale',
        type=int,
        default=2,
        help='of mjpeg: 1 (best) to 31 (default: 2, like JPEG at 90; 5 is like h264 at 18)',
    )
    add('--crf', type=int, default=18, help='quality of h264, 0 (best) to 51 (default: 18)')
    return parser


def _read_settings(args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of :func:`transcode` that the command line gives.

    Raises:
        ValueError: one is out of range, or two do not go together.
    """
    codec = args.codec or ('mjpeg' if args.gop == 1 else 'h264')
    for name, low, high in (('short_side', 0, None), ('gop', 1, None), ('qscale', 1, 31), ('crf', 0, 51)):
        value = getattr(args, name)
        if value < low or (high is not None and value > high):
            allowed = f'{low} or more' if high is None else f'from {low} to {high}'
            raise ValueError(f'--{name.replace("_", "-")} is {value}, must be {allowed}')
    if codec == 'mjpeg' and args.gop != 1:
        raise ValueError(f'--gop is {args.gop}, but mjpeg has key frames only; use --codec h264 or --gop 1')
    quality = {'qscale': args.qscale} if codec == 'mjpeg' else {'crf': args.crf}
    fps = parse_rate(args.fps) if args.fps else None
    return {'short_side': args.short_side or None, 'fps': fps, 'gop': args.gop, 'codec': codec, **quality}


def main(argv: list[str] | None = None) -> int:
    """Run the tool and return the exit status."""
    parser = build_parser()
    args = parser.parse_args(argv)
    try:
        settings = _read_settings(args)
        work = partial(transcode, keep_damaged=args.keep_damaged, **settings)
        fps = None if settings['fps'] is None else str(settings['fps'])
        outcome = run_tool(work, args, '.mp4', {'tool': Path(__file__).name, **settings, 'fps': fps})
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    except OSError as error:  # such as a full disk
        sys.stderr.write(f'error: {error}\n')
        return 2
    print(summarise(outcome, args.out / FAILURES_FILE))
    return 1 if outcome.num_failed else 0


if __name__ == '__main__':
    sys.exit(run_interruptible(main, 'interrupted; the same command goes on where it was'))
