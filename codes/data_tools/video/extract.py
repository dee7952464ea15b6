"""Extract the frames of videos as JPEG files."""

from fractions import Fraction

import cv2
import numpy as np

from dsanet.data_tools.video.batch import VideoJob
from dsanet.data_tools.video.constant_rate import ConstantRateReader, Resizer
from dsanet.data_tools.video.targets import atomic_target

FILENAME_TMPL = 'img_{:05d}.jpg'


def extract_frames(
    job: VideoJob,
    short_side: int | None = 256,
    fps: Fraction | None = None,
    quality: int = 90,
    keep_damaged: bool = False,
) -> str | None:
    """Write the frames of a video to a folder, numbered from 1.

    Args:
        job: the video and the folder.
        short_side: size of the shorter side in pixels; smaller videos keep their size. None keeps the size.
        fps: frames per second; None for every frame of the video.
        quality: JPEG quality, 1 to 100.
        keep_damaged: write the frames of a damaged video that can be decoded.

    Returns:
        Description of the damage; None if the video is intact.
    """
    resizer = Resizer('bgr24', short_side)
    with ConstantRateReader(str(job.source), fps) as frames, atomic_target(job.target) as folder:
        folder.mkdir()
        previous, data = None, b''
        for number, frame in enumerate(frames, start=1):
            if frame is not previous:
                previous, data = frame, _encode(resizer(frame).to_ndarray(), quality)
            (folder / FILENAME_TMPL.format(number)).write_bytes(data)
        if frames.damage and not keep_damaged:
            raise ValueError(frames.damage)
    return frames.damage


def _encode(image: np.ndarray, quality: int) -> bytes:
    success, data = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert success, f'OpenCV cannot encode an image of shape {image.shape}'
    return data.tobytes()
