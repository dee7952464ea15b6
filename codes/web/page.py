"""The page of ``dsanet web``: a field for a video, and its result.

Gradio is optional and slow to import, so it is imported in functions.
"""

import importlib.util
import logging
import os
import threading
from collections.abc import Callable
from typing import Any

from dsanet.datasets.media_files import VIDEO_EXTENSIONS
from dsanet.datasets.transforms.base import check_count
from dsanet.inference.long.windows import DEFAULT_WINDOW_S, WindowSpec
from dsanet.inference.recognizer import Recognizer
from dsanet.utils.text import printable
from dsanet.web.analysis import analyze_video
from dsanet.web.decoding import start_server
from dsanet.web.drawing import CSS, draw_analysis, draw_error
from dsanet.web.uploads import Uploads

LOGGER = logging.getLogger(__name__)

MAX_SIZE_MB = 200
_MAX_WAITING = 32  # users whose videos wait; fewer than the threads of the server


def check_gradio() -> None:
    """Raise a ValueError if Gradio is not installed."""
    if importlib.util.find_spec('gradio') is None:
        raise ValueError('dsanet web requires Gradio: pip install gradio')


def _import_gradio(folder: str) -> Any:
    """Return Gradio, set up to store files in ``folder`` and to send no statistics."""
    check_gradio()
    # Read at import, and when components are made.
    os.environ |= {'GRADIO_TEMP_DIR': folder, 'GRADIO_ANALYTICS_ENABLED': 'False', 'HF_HUB_DISABLE_TELEMETRY': '1'}
    import gradio

    return gradio


def build_page(recognizer: Recognizer, title: str, uploads: Uploads, window: float) -> Any:
    """Return the page as Gradio ``Blocks``.

    Args:
        recognizer: from ``load_recognizer``; all users share it.
        title: of the page.
        uploads: the folder of Gradio's uploads.
        window: seconds of a window, for videos that are longer.

    Raises:
        ValueError: Gradio is not installed.
    """
    gradio = _import_gradio(str(uploads.folder))

    def show(upload: dict[str, Any] | None, progress: Any = gradio.Progress()) -> tuple[None, str]:  # noqa: B008
        if upload is None:
            return None, ''
        progress(0, desc='Reading the video')
        return None, analyze_upload(
            recognizer, uploads, upload['path'], window, lambda part: progress(part, desc='Predicting over time')
        )

    with gradio.Blocks(title=title, analytics_enabled=False) as page:
        gradio.Markdown(f'# {title}')
        field = gradio.File(label='Video', file_types=list(VIDEO_EXTENSIONS), height=150, elem_id='video')
        result = gradio.HTML(elem_id='result', min_height=120)
        # Without preprocessing, which leaves an empty file for each upload.
        field.upload(
            show,
            field,
            [field, result],
            preprocess=False,
            concurrency_limit=None,
            show_progress_on=[result],
            api_visibility='private',
        )
    return page


def analyze_upload(
    recognizer: Recognizer, uploads: Uploads, path: str, window: float, on_progress: Callable[[float], object]
) -> str:
    """Return the result for an upload, or a message, as HTML."""
    try:
        with uploads.open(path) as file:
            return draw_analysis(analyze_video(recognizer, file, window, on_progress))
    except (OSError, ValueError) as error:
        LOGGER.warning('Upload not predicted: %s', printable(str(error)))
        return draw_error(str(error))


def serve(
    recognizer: Recognizer,
    title: str,
    host: str = '127.0.0.1',
    port: int = 7860,
    max_size: int = MAX_SIZE_MB,
    window: float = DEFAULT_WINDOW_S,
    on_start: Callable[[str], object] | None = None,
) -> None:
    """Serve the page until Ctrl-C. Uploads are removed after a minute, and all of them at the end.

    Args:
        recognizer: from ``load_recognizer``.
        title: of the page.
        host: address to listen on; the default is reachable only from this machine.
        port: TCP port.
        max_size: largest video in MB (2^20 bytes, as the page counts them).
        window: seconds of a window, for videos that are longer.
        on_start: called with the URL.

    Raises:
        ValueError: Gradio is not installed, or an argument is out of range.
        OSError: the server cannot listen on this address.
    """
    check_count('max_size', max_size)
    WindowSpec(window)
    start_server()  # before there are threads
    with Uploads() as uploads:
        page = build_page(recognizer, title, uploads, window)
        gradio = _import_gradio(str(uploads.folder))
        page.queue(max_size=_MAX_WAITING)
        # The default theme loads fonts from a server.
        fonts = ['system-ui', 'sans-serif']
        _, url, _ = page.launch(
            server_name=host,
            server_port=port,
            max_file_size=max_size * 2**20,
            theme=gradio.themes.Default(font=fonts, font_mono=['monospace']),
            css=CSS,
            footer_links=[],
            share=False,
            ssr_mode=False,
            run_history=False,
            enable_monitoring=False,
            mcp_server=False,
            pwa=False,
            quiet=True,
            prevent_thread_lock=True,
        )
        try:
            if on_start is not None:
                on_start(url)
            threading.Event().wait()  # until Ctrl-C
        finally:
            page.close(verbose=False)
