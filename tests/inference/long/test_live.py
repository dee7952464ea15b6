import contextlib
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dsanet.inference.long import streams
from dsanet.inference.long.live import StreamPredictor, StreamStats
from dsanet.inference.long.predictor import predict_long
from dsanet.inference.long.segments import WindowScores
from tests.make_color_films import make_color_recognizer
from tests.stream_servers import make_ts, pipe, serve, serve_rtsp

ROOT = Path(__file__).parents[3]
SCENES = [('dark', 20), ('red', 30), ('green', 30), ('dark', 7)]  # at 1 fps


def windows_of_file(folder: Path, content: bytes) -> list[WindowScores]:
    (folder / 'film.ts').write_bytes(content)
    windows: list[WindowScores] = []
    predict_long(make_color_recognizer(), folder / 'film.ts', 10, 5, on_window=windows.append)
    return windows


@pytest.mark.parametrize('kind', ['http', 'pipe'])
def test_stream_has_the_scores_of_the_file(tmp_path: Path, kind: str) -> None:
    content = make_ts(SCENES)
    expected = windows_of_file(tmp_path, content)
    with serve(content) if kind == 'http' else pipe(tmp_path / 'pipe', content) as source:
        stream = StreamPredictor(make_color_recognizer(), source, 10, 5, allow_urls=kind == 'http')
        found = list(stream)
    assert [(w.start, w.end, w.num_frames) for w in found] == [(w.start, w.end, w.num_frames) for w in expected]
    assert all(np.array_equal(a.scores, b.scores) for a, b in zip(found, expected, strict=True))
    assert len(found) == stream.stats.num_windows == 17
    assert stream.stats.num_frames == 87
    assert (stream.stats.num_dropped_windows, stream.stats.num_unseen_frames) == (0, 0)
    assert len(stream.stats.latencies) == 17
    assert stream.fps == 1
    assert stream.name.endswith('live.ts' if kind == 'http' else 'pipe')


@pytest.mark.parametrize('protocol', ['tcp', pytest.param('udp', marks=pytest.mark.sweep)])
def test_stream_served_by_ffmpeg(tmp_path: Path, protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, '_TIMEOUT_S', 2.0)
    expected = windows_of_file(tmp_path, make_ts(SCENES))
    kind = socket.SOCK_STREAM if protocol == 'tcp' else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(('127.0.0.1', 0))
        url = f'{protocol}://127.0.0.1:{probe.getsockname()[1]}'
    command = [sys.executable, str(ROOT / 'tests' / 'ffmpeg_server.py'), str(tmp_path / 'film.ts'), url, '0.8']
    with subprocess.Popen(command) as server:
        stream = open_when_ready(url, server)
        found: list[WindowScores] = []
        with contextlib.nullcontext() if protocol == 'tcp' else pytest.raises(ValueError, match='no data for 2 s'):
            found += iter(stream)
    assert [w.num_frames for w in found] == [w.num_frames for w in expected]
    assert all(np.array_equal(a.scores, b.scores) for a, b in zip(found, expected, strict=True))


def test_stream_of_an_rtsp_server(tmp_path: Path) -> None:
    content = make_ts(SCENES)
    expected = windows_of_file(tmp_path, content)
    with serve_rtsp(content) as url:
        stream = StreamPredictor(make_color_recognizer(), url, 10, 5, allow_urls=True)
        found = list(stream)
    assert stream.stats.num_frames == 86  # a frame of MPEG-TS is complete when the next one begins
    assert [(w.start, w.num_frames) for w in found[:-1]] == [(w.start, w.num_frames) for w in expected[:-1]]
    assert all(np.array_equal(a.scores, b.scores) for a, b in zip(found[:-1], expected[:-1], strict=True))


def open_when_ready(url: str, server: subprocess.Popen[bytes]) -> StreamPredictor:
    while True:
        try:
            return StreamPredictor(make_color_recognizer(), url, 10, 5, allow_urls=True)
        except ValueError as error:
            if server.poll() is not None or 'refused' not in str(error):
                raise
            time.sleep(0.1)


def test_slow_model_drops_and_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    recognizer = make_color_recognizer()
    score = recognizer.score

    def slow_score(inputs: Any) -> Any:
        time.sleep(0.2)
        return score(inputs)

    monkeypatch.setattr(recognizer, 'score', slow_score)
    with serve(make_ts([('red', 20)], fps=10), seconds=1) as url:
        stream = StreamPredictor(recognizer, url, 0.2, 0.1, allow_urls=True)
        found = list(stream)
    stats = stream.stats
    assert stats.num_frames == 20
    assert stats.num_dropped_windows > 0
    assert stats.num_windows == len(found)
    assert stats.num_windows + stats.num_dropped_windows == 19
    seen = {i for w in found for i in range(int(10 * w.start), int(10 * w.start) + w.num_frames)}
    assert stats.num_unseen_frames == 20 - len(seen)
    assert min(stats.latencies) >= 0.2


def test_broken_stream_is_an_error_after_its_results() -> None:
    with serve(make_ts([('red', 400)]), share=0.5) as url:
        stream = StreamPredictor(make_color_recognizer(), url, 10, 10, allow_urls=True)
        with pytest.raises(ValueError, match='ended'):
            list(stream)
    assert 5 <= stream.stats.num_windows < 40


def test_summary_of_the_numbers() -> None:
    stats = StreamStats(10, 2, 3, 1)
    assert stats.to_dict()['latency_max'] is None
    stats.latencies.extend([0.1, 0.5, 0.2])
    assert stats.to_dict() == {
        'num_frames': 10,
        'num_unseen_frames': 2,
        'num_windows': 3,
        'num_dropped_windows': 1,
        'latency_median': 0.2,
        'latency_max': 0.5,
    }
