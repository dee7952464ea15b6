"""Open cameras, pipes and network streams, and read their windows in a thread that never falls behind.

A stream cannot wait. While the model is busy, one complete window waits; if the next one is complete before the model
is free, it replaces the waiting one, which is dropped and counted. So memory is constant, and a result is at most two
model calls old. A source that delivers faster than it was recorded, such as a file through a pipe, is read at the speed
of the model instead, but not slower than it was recorded.
"""

import contextlib
import errno
import os
import re
import stat
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from dsanet.datasets.video.opening import FORMATS, decode_all
from dsanet.datasets.video.picture import FrameConverter
from dsanet.datasets.video.readers import Frames
from dsanet.inference.long.films import FrameClock
from dsanet.inference.long.windows import TimedFrame, Window, WindowSpec, slide

# Protocols that FFmpeg may use for each kind of URL; none reads files of this machine.
_PROTOCOLS = {
    'http': 'http,tcp',
    'https': 'https,tls,tcp',
    'rtsp': 'rtsp,rtp,rtcp,udp,tcp',
    'rtsps': 'rtsp,rtsps,rtp,rtcp,srtp,udp,tls,tcp',
    'rtmp': 'rtmp,tcp',
    'udp': 'udp',
    'tcp': 'tcp',
}
_FORMATS = f'{FORMATS},hls,rtsp,rtp,sdp'
_URL = re.compile(r'([a-z][a-z0-9+.-]*)://', re.IGNORECASE)
_TIMEOUT_S = 15.0  # for opening, and for the next data
_POLL_S = 0.2


def is_stream(source: str) -> bool:
    """Return whether a source can only be read as a stream: '-', a device, a pipe, or a URL that is not of the web."""
    match = _URL.match(source)
    if match is not None:
        return match[1].lower() not in ('http', 'https')
    if source == '-':
        return True
    try:
        mode = os.stat(source).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)


def check_scheme(source: str) -> None:
    """Raise a ValueError if a URL has a scheme that is not read, such as ftp."""
    match = _URL.match(source)
    if match is not None and match[1].lower() not in _PROTOCOLS:
        raise ValueError(
            f'{stream_name(source)}: nothing is read through {match[1].lower()}; allowed: {", ".join(_PROTOCOLS)}'
        )


def stream_name(source: str) -> str:
    """Return the name of a stream for results: without password and query of a URL."""
    if source == '-':
        return 'stdin'
    if not _URL.match(source):
        return source
    parts = urlsplit(source)
    return f'{parts.scheme}://{parts.netloc.rpartition("@")[2]}{parts.path}'


def open_stream(source: str, allow_urls: bool = False) -> Any:
    """Open a stream.

    Args:
        source: '-' for standard input, a device such as /dev/video0, a named pipe, or a URL.
        allow_urls: open URLs.

    Returns:
        A PyAV container, which the caller closes.

    Raises:
        ValueError: the source is of another kind, has no video, or sends nothing.
        FileNotFoundError: there is no such device.
    """
    import av

    name = stream_name(source)
    arguments = _arguments(source, allow_urls)
    try:
        container: Any = av.open(**arguments, metadata_errors='replace', timeout=_TIMEOUT_S)
    except (av.error.FFmpegError, OSError) as error:
        raise ValueError(f'stream {name} cannot be opened: {describe_error(error)}') from error
    if not container.streams.video or container.streams.video[0].codec_context is None:
        container.close()
        raise ValueError(f'stream {name} has no video that FFmpeg can decode')
    return container


def describe_error(error: Exception, has_frames: bool = False) -> str:
    """Return the reason of an error of FFmpeg, without the URL, which may have a password.

    Args:
        error: of FFmpeg.
        has_frames: whether frames arrived before.
    """
    import av

    if isinstance(error, av.error.ExitError):
        return f'no data for {_TIMEOUT_S:g} s'
    text = str(getattr(error, 'strerror', None) or error)
    # An MP4 file with its index at the end needs a seek, which many servers refuse with EIO.
    is_format = isinstance(error, av.error.InvalidDataError) or getattr(error, 'errno', None) == errno.EIO
    if is_format and not has_frames:
        return f'{text}; MPEG-TS, Matroska and fragmented MP4 can be streamed, other MP4 files cannot'
    return text


def _arguments(source: str, allow_urls: bool) -> dict[str, Any]:
    """Return the arguments of ``av.open``."""
    if source == '-':
        return {'file': 'pipe:0', 'container_options': {'protocol_whitelist': 'pipe', 'format_whitelist': FORMATS}}
    match = _URL.match(source)
    if match is None:
        return _device_arguments(source)
    check_scheme(source)
    scheme = match[1].lower()
    if not allow_urls:
        raise ValueError(
            f'{stream_name(source)} is a URL, and nothing is read from the network unless asked for: use --allow-urls'
        )
    options = {'protocol_whitelist': _PROTOCOLS[scheme], 'format_whitelist': _FORMATS}
    if scheme in ('rtsp', 'rtsps'):
        options['rtsp_flags'] = 'prefer_tcp'  # UDP loses packets
    return {'file': source, 'container_options': options}


def _device_arguments(source: str) -> dict[str, Any]:
    path = os.path.abspath(source)
    if not os.path.exists(path):
        raise FileNotFoundError(
            f'{path} does not exist; a stream is a device such as /dev/video0, a named pipe, - for standard input, or '
            f'a URL ({", ".join(_PROTOCOLS)})'
        )
    mode = os.stat(path).st_mode
    if stat.S_ISFIFO(mode):
        options = {'protocol_whitelist': 'file', 'format_whitelist': FORMATS}
        return {'file': f'file:{path}', 'container_options': options}
    if not stat.S_ISCHR(mode):
        raise ValueError(f'{path} is not a stream; predict a video file with --long')
    return {'file': path, 'format': 'v4l2'}


def _is_end_of_response(container: Any, error: Exception) -> bool:
    """Return True for the end of an HTTP response without a length, which FFmpeg reports as an input error."""
    return getattr(error, 'errno', None) == errno.EIO and container.name.startswith('http') and container.size <= 0


class LiveWindows:
    """The windows of a stream, read in a thread; see the module. Iterate over it once.

    Args:
        container: from :func:`open_stream`; it is closed at the end.
        spec: the windows.
        prepare: applied to each decoded frame.
        should_stop: called several times per second; the iteration ends if it returns True.
        begin: when the stream was opened, ``time.monotonic()``: its first frame is not older. None for now.

    Attributes:
        num_frames: number of frames that arrived.
        num_dropped_windows: number of windows that were replaced while they waited.
        error: why the stream ended early; None if it ended by itself or was stopped.
    """

    def __init__(
        self,
        container: Any,
        spec: WindowSpec,
        prepare: Callable[[Frames], Frames],
        should_stop: Callable[[], bool] | None = None,
        begin: float | None = None,
    ) -> None:
        self.num_frames = 0
        self.num_dropped_windows = 0
        self.error: Exception | None = None
        self._container = container
        self._spec = spec
        self._prepare = prepare
        self._should_stop = should_stop or (lambda: False)
        self._waiting: Window | None = None
        self._changed = threading.Condition()
        self._is_finished = False
        self._is_closed = False
        self._begin = time.monotonic() if begin is None else begin
        self._thread = threading.Thread(target=self._read, name='stream', daemon=True)

    def __iter__(self) -> Iterator[Window]:
        self._thread.start()
        while not self._should_stop():
            with self._changed:
                if self._waiting is None and not self._is_finished:
                    self._changed.wait(_POLL_S)
                window, self._waiting = self._waiting, None
                self._changed.notify_all()
            if window is not None:
                yield window
            elif self._is_finished:
                return

    def close(self) -> None:
        """Stop the thread. One that waits for data ends when data or the timeout arrives."""
        self._is_closed = True
        if self._thread.is_alive():
            self._thread.join(2 * _POLL_S)

    def _read(self) -> None:
        try:
            for window in slide(self._frames(), self._spec):
                self._hand_over(window)
                if self._is_closed:
                    break
        except Exception as error:  # reported by the thread that iterates
            self.error = error
        finally:
            with self._changed:
                self._is_finished = True
                self._changed.notify_all()
            self._container.close()

    def _frames(self) -> Iterator[TimedFrame]:
        stream = self._container.streams.video[0]
        stream.thread_type = 'NONE'  # threads would delay frames
        clock, convert = FrameClock(stream.average_rate), FrameConverter()
        for frame in self._decode(stream):
            now = time.monotonic()
            self.num_frames += 1
            yield TimedFrame(clock(frame), self._prepare(np.ascontiguousarray(convert(frame))), now)
            if self._is_closed:
                return

    def _decode(self, stream: Any) -> Iterator[Any]:
        """Yield the frames until the stream ends or breaks off."""
        import av

        try:
            yield from decode_all(self._container, stream)
        except (av.error.FFmpegError, OSError) as error:
            if not _is_end_of_response(self._container, error):
                self.error = error
            with contextlib.suppress(av.error.FFmpegError):
                for frame in stream.codec_context.decode(None):  # frames that wait for later ones
                    frame.time_base = stream.time_base
                    yield frame

    def _hand_over(self, window: Window) -> None:
        """Give a window to the iteration: wait for it while the stream is ahead of the clock, then drop."""
        due = self._begin + float(window.end)
        with self._changed:
            while self._waiting is not None and not self._is_closed:
                # Nothing follows the last window, so it can wait.
                seconds = _POLL_S if window.is_last else due - time.monotonic()
                if seconds <= 0:
                    self.num_dropped_windows += 1
                    break
                self._changed.wait(min(seconds, _POLL_S))
            self._waiting = window
            self._changed.notify_all()
