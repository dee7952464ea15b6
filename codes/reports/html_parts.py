"""Text, tables and pictures inside HTML and SVG."""

import base64
from collections.abc import Sequence
from html import escape

import cv2

from dsanet.data_tools.visualization import Image
from dsanet.utils.text import printable


def html_text(value: object) -> str:
    """Return a value as text for HTML, without control characters."""
    return escape(printable(str(value)))


def html_name(value: object) -> str:
    """Return a name as text for HTML; if it runs from right to left, the text around it stays in place."""
    return f'<bdi>{html_text(value)}</bdi>'


def jpeg_uri(image: Image, quality: int) -> str:
    """Return an RGB image (H, W, 3) as a data URI of a JPEG file."""
    return _data_uri(image, 'jpeg', [cv2.IMWRITE_JPEG_QUALITY, quality])


def png_uri(image: Image) -> str:
    """Return an RGB image (H, W, 3) as a data URI of a PNG file."""
    return _data_uri(image, 'png', [cv2.IMWRITE_PNG_COMPRESSION, 9])


def _data_uri(image: Image, kind: str, options: Sequence[int]) -> str:
    is_encoded, data = cv2.imencode(f'.{kind}', cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    assert is_encoded, f'OpenCV cannot encode {image.shape} as {kind}'
    return f'data:image/{kind};base64,' + base64.b64encode(data.tobytes()).decode()


def html_table(caption: str, header: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """Return a table; the cells are HTML, and those of the columns ``numbers`` are aligned to the right."""

    def kind(column: int) -> str:
        return ' class="number"' if column in numbers else ' class="text"'

    head = ''.join(f'<th scope="col"{kind(i)}>{cell}</th>' for i, cell in enumerate(header))
    body = ''.join(
        f'<tr><th scope="row">{row[0]}</th>'
        + ''.join(f'<td{kind(i)}>{cell}</td>' for i, cell in enumerate(row[1:], 1))
        + '</tr>'
        for row in rows
    )
    # A scrollable area needs the focus, so that the arrow keys scroll it.
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{caption}"><table><caption>{caption}</caption>'
        f'<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )
