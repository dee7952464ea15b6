"""Uploaded files: who may read them, and that they are removed.

Gradio stores an upload as ``FOLDER/HASH/NAME``, so two users who upload the same video share a file. A handler
therefore reads a hard link of its own, and the upload itself is removed when it is a minute old, used or not.
"""

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from dsanet.datasets.media_files import is_video

MAX_AGE_S = 60.0
_CHECK_EVERY_S = 1.0


class Uploads:
    """A temporary folder for uploads. As a context manager it is removed at the end, with all files.

    Args:
        max_age: seconds after which an upload is removed; a handler has to open it before.

    Attributes:
        folder: Gradio writes here.
    """

    def __init__(self, max_age: float = MAX_AGE_S) -> None:
        self.max_age = max_age
        self._root = tempfile.TemporaryDirectory(prefix='dsanet-web-', ignore_cleanup_errors=True)
        root = Path(self._root.name).resolve()
        self.folder = root / 'uploads'
        self._links = root / 'links'
        for folder in (self.folder, self._links):
            folder.mkdir()
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._remove_regularly, name='uploads', daemon=True)

    def __enter__(self) -> 'Uploads':
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._is_closed.set()
        self._thread.join()
        self._root.cleanup()

    @contextlib.contextmanager
    def open(self, path: str) -> Iterator[Path]:
        """Yield a link to an upload with its name; the link is removed afterward.

        Raises:
            ValueError: it is not a file in the folder of uploads, or its name is not that of a video.
            FileNotFoundError: it was removed already.
        """
        upload = Path(os.path.abspath(path))
        if not upload.is_relative_to(self.folder) or upload.is_symlink():
            raise ValueError(f'{upload.name} is not an uploaded file')
        if not is_video(upload.name):
            raise ValueError(f'{upload.name} is not a video: the name must end in .mp4, .avi, .mkv, .mov or similar')
        if not upload.is_file():
            raise FileNotFoundError(f'{upload.name} is no longer on the server; upload it again')
        with tempfile.TemporaryDirectory(dir=self._links) as folder:
            link = Path(folder) / upload.name
            os.link(upload, link)
            yield link

    def remove_old(self) -> None:
        """Remove the uploads that are too old, and empty folders."""
        limit = time.time() - self.max_age
        for folder, _, names in os.walk(self.folder, topdown=False):
            for name in names:
                file = os.path.join(folder, name)
                with contextlib.suppress(OSError):  # moved by the server since
                    if os.stat(file, follow_symlinks=False).st_mtime < limit:
                        os.unlink(file)
            if Path(folder) != self.folder:
                with contextlib.suppress(OSError):  # not empty
                    if os.stat(folder).st_mtime < limit:
                        os.rmdir(folder)

    def _remove_regularly(self) -> None:
        while not self._is_closed.wait(_CHECK_EVERY_S):
            self.remove_old()
