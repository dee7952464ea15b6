"""Text and pictures inside HTML and SVG."""

import base64
from html import escape

import cv2

from dsanet.data_tools.visualization import Image
from dsanet.utils.text import printable


def html_text(value: object) -> str:
    """Return a value as text for HTML, without control characters."""
    return escape(printable(str(value)))


def jpeg_uri(image: Image, quality: int) -> str:
    """Return an RGB image (H, W, 3) as a data URI of a JPEG file."""
    is_encoded, data = cv2.imencode('.jpg', cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert is_encoded, f'OpenCV cannot encode {image.shape} as JPEG'
    return 'data:image/jpeg;base64,' + base64.b64encode(data.tobytes()).decode()
