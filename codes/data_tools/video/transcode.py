"""From videos to MP4 files made for training: small, at a constant rate, any frame at hand at once."""

from fractions import Fraction
from typing import Any

from dsanet.data_tools.video.batch import VideoJob, writing
from dsanet.data_tools.video.constant_rate import ConstantRateReader, Resizer

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
    with ConstantRateReader(str(job.source), fps, own_rate=fps is None) as frames, writing(job.target) as part:
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
