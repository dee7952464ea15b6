"""From videos to folders of JPEG frames."""

from fractions import Fraction

import cv2
import numpy as np

from dsanet.data_tools.video.batch import VideoJob, writing
from dsanet.data_tools.video.constant_rate import ConstantRateReader, Resizer

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
    with ConstantRateReader(str(job.source), fps) as frames, writing(job.target) as folder:
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
