"""Transcode videos to MP4 files for training: small, constant frame rate, fast random access."""

from fractions import Fraction
from typing import Any

from dsanet.data_tools.video.batch import VideoJob
from dsanet.data_tools.video.constant_rate import ConstantRateReader, Resizer
from dsanet.data_tools.video.targets import atomic_target
from dsanet.datasets.video.opening import file_url

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
    """Transcode a video to MP4 for training.

    Args:
        job: the video and the file to write.
        short_side: size of the shorter side in pixels; smaller videos keep their size. None keeps the size. Both sides
            are rounded to even numbers.
        fps: frames per second; None for the average rate of the video.
        gop: number of frames from one key frame to the next.
        codec: 'mjpeg', which has only key frames, or 'h264', without B-frames and with options for fast decoding.
        qscale: MJPEG quality, 1 (best) to 31.
        crf: H.264 quality, 0 (best) to 51.
        keep_damaged: write the frames of a damaged video that can be decoded.

    Returns:
        Description of the damage; None if the video is intact.
    """
    import av

    resizer = Resizer(PIXEL_FORMATS[codec], short_side, multiple=2)
    with (
        ConstantRateReader(str(job.source), fps, average_rate=fps is None) as frames,
        atomic_target(job.target) as part,
    ):
        assert frames.rate is not None, 'average_rate guarantees a rate'
        # faststart: the index is at the start, where readers need no seek.
        with av.open(file_url(str(part)), 'w', format='mp4', options={'movflags': 'faststart'}) as container:
            stream: Any = None
            output: Any = None
            previous = None
            for position, frame in enumerate(frames):
                if frame is not previous:
                    previous, output = frame, resizer(frame)
                if stream is None:
                    options = _encoder_options(codec, gop, qscale, crf)
                    stream = container.add_stream(ENCODERS[codec], rate=frames.rate, options=options)
                    stream.width, stream.height, stream.pix_fmt = output.width, output.height, output.format.name
                    _set_format(stream.codec_context, output, frames.sample_aspect_ratio)
                output.pts, output.time_base = position, 1 / frames.rate
                # Otherwise the encoder would copy the frame types of the original.
                output.pict_type = av.video.frame.PictureType.NONE
                container.mux(stream.encode(output))
            container.mux(stream.encode(None))
        if frames.damage and not keep_damaged:
            raise ValueError(frames.damage)
    return frames.damage


def _encoder_options(codec: str, gop: int, qscale: int, crf: int) -> dict[str, str]:
    """Return FFmpeg options for fast decoding."""
    if codec == 'mjpeg':
        return {'qmin': str(qscale), 'qmax': str(qscale)}
    # fastdecode disables CABAC and the deblocking filter; sc_threshold 0 disables extra key frames at scene cuts.
    return {'crf': str(crf), 'g': str(gop), 'bf': '0', 'sc_threshold': '0', 'tune': 'fastdecode'}


def _set_format(encoder: Any, output: Any, sample_aspect_ratio: Fraction | None) -> None:
    encoder.thread_count = 1
    encoder.colorspace, encoder.color_range = output.colorspace, output.color_range
    if sample_aspect_ratio is not None:
        encoder.sample_aspect_ratio = sample_aspect_ratio
