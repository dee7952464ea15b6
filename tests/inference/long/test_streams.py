import os
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from dsanet.datasets.video.readers import Frames
from dsanet.inference.long.streams import LiveWindows, is_stream, open_stream, stream_name
from dsanet.inference.long.windows import WindowSpec
from tests.stream_servers import make_ts, serve


class FakeContainer:
    """A container whose packets are frames; each takes some seconds to arrive."""

    def __init__(self, num_frames: int, fps: int, seconds: float = 0, error: Exception | None = None) -> None:
        codec = SimpleNamespace(decode=lambda _: [])
        stream = SimpleNamespace(average_rate=Fraction(fps), thread_type='', codec_context=codec)
        self.streams = SimpleNamespace(video=[stream])
        self.is_closed = False
        self._arguments = num_frames, fps, seconds, error

    def demux(self, _stream: Any) -> Iterator[Any]:
        num_frames, fps, seconds, error = self._arguments
        for i in range(num_frames):
            time.sleep(seconds)
            frame = av.VideoFrame.from_ndarray(np.full((2, 2, 3), i % 256, np.uint8), format='rgb24')
            frame.pts, frame.time_base = i, Fraction(1, fps)
            yield SimpleNamespace(decode=lambda frame=frame: [frame])
        if error is not None:
            raise error

    def close(self) -> None:
        self.is_closed = True


def keep(image: Frames) -> Frames:
    return image


def test_busy_model_drops_windows_and_gets_the_newest() -> None:
    container = FakeContainer(100, 100, 0.01)
    windows = LiveWindows(container, WindowSpec(0.1, 0.05), keep)
    found = []
    for window in windows:
        found.append(window)
        time.sleep(0.25)
    assert windows.num_frames == 100
    assert windows.num_dropped_windows >= 5
    assert len(found) + windows.num_dropped_windows == 19
    assert found[-1].is_last, 'the last window is never dropped'
    starts = [window.start for window in found]
    assert starts == sorted(set(starts))
    for window in found:
        numbers = [int(frame.image[0, 0, 0]) for frame in window.frames if frame.image is not None]
        assert numbers == list(range(int(100 * window.start), min(int(100 * window.start) + 10, 100)))
    assert container.is_closed


def test_source_faster_than_its_clock_waits() -> None:
    windows = LiveWindows(FakeContainer(500, 5), WindowSpec(10, 5), keep)
    starts = []
    for window in windows:
        starts.append(window.start)
        time.sleep(0.01)
    assert starts == [5 * k for k in range(19)]
    assert windows.num_dropped_windows == 0


def test_request_ends_the_iteration() -> None:
    requests: list[bool] = []
    container = FakeContainer(10_000, 5, 0.001)
    windows = LiveWindows(container, WindowSpec(10, 5), keep, lambda: bool(requests))
    for number, _ in enumerate(windows):
        if number == 2:
            requests.append(True)
    assert number == 2
    windows.close()
    assert container.is_closed
    assert windows.num_frames < 10_000


def test_error_of_the_source_is_kept() -> None:
    windows = LiveWindows(FakeContainer(30, 10, error=OSError('broken')), WindowSpec(1, 1), keep)
    assert [float(window.start) for window in windows] == [0, 1, 2]
    assert isinstance(windows.error, OSError)


def test_sources_that_are_only_streams(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / 'pipe')
    (tmp_path / 'a.mp4').touch()
    found = [
        is_stream(source)
        for source in ('-', '/dev/null', str(tmp_path / 'pipe'), 'rtsp://x/y', 'udp://@:5000', 'http://x/y.mp4')
    ]
    assert found == [True, True, True, True, True, False]
    assert not is_stream(str(tmp_path / 'a.mp4'))
    assert not is_stream(str(tmp_path / 'missing'))


def test_name_has_no_password() -> None:
    assert stream_name('rtsp://me:secret@camera:554/live?token=abc') == 'rtsp://camera:554/live'
    assert stream_name('-') == 'stdin'
    assert stream_name('/dev/video0') == '/dev/video0'


@pytest.mark.parametrize(
    'source', ['/dev/video99', '/dev/null', __file__, 'http://me:secret@127.0.0.1:1/x', 'gopher://x/y', 'file:///etc/x']
)
def test_wrong_sources_are_errors(source: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        open_stream(source, allow_urls=True)
    assert 'secret' not in str(caught.value)
    assert (caught.type is FileNotFoundError) == (source == '/dev/video99')


def test_network_is_not_used_unless_asked_for() -> None:
    with pytest.raises(ValueError, match='--allow-urls'):
        open_stream('http://127.0.0.1:1/x')


def test_stream_cannot_refer_to_files(tmp_path: Path) -> None:
    (tmp_path / 'a.ts').write_bytes(make_ts([('red', 30)]))
    playlist = f'#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3.0,\nfile://{tmp_path}/a.ts\n#EXT-X-ENDLIST\n'
    with serve(playlist.encode()) as url, pytest.raises(ValueError, match='opened|no video'):
        open_stream(url.replace('live.ts', 'x.m3u8'), allow_urls=True)


def test_stream_without_video_is_an_error() -> None:
    with serve(b'hello' * 1000) as url, pytest.raises(ValueError, match='cannot be opened'):
        open_stream(url, allow_urls=True)
