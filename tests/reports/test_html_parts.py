import base64

import cv2
import numpy as np

from dsanet.reports.html_parts import html_name, html_text, jpeg_uri


def test_text_is_escaped_and_printable() -> None:
    assert html_text('<b>"x" & y</b>') == '&lt;b&gt;&quot;x&quot; &amp; y&lt;/b&gt;'
    assert html_text(3) == '3'
    assert '\x1b' not in html_text('a\x1b[0m')
    assert html_name('<مشي>') == '<bdi>&lt;مشي&gt;</bdi>'


def test_picture_is_rgb() -> None:
    image = np.zeros((32, 48, 3), np.uint8)
    image[..., 0], image[:, 24:, 1] = 200, 90
    kind, _, content = jpeg_uri(image, 80).partition(',')
    assert kind == 'data:image/jpeg;base64'
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(content), np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    assert np.abs(decoded[:, :, ::-1].astype(int) - image).mean() < 4
