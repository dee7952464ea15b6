from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dsanet.datasets.video import pyav_reader
from dsanet.datasets.video.readers import Frames, Indices
from dsanet.inference.long import films
from dsanet.inference.long.films import Film, FrameClock
from dsanet.inference.long.windows import Window, WindowSpec
from tests.make_videos import read_index, write_timed_video, write_video

BASE = Fraction(1, 90000)


def times_of(pts: list[int | None], rate: int | None = 30) -> list[float]:
    clock = FrameClock(None if rate is None else Fraction(rate))
    return [round(float(clock(SimpleNamespace(pts=p, time_base=BASE))), 6) for p in pts]


def test_times_start_at_the_first_frame() -> None:
    assert times_of([9000, 12000, 18000]) == [0, 0.033333, 0.1]


def test_missing_times_follow_the_nominal_rate() -> None:
    assert times_of([None, None, None], 10) == [0, 0.1, 0.2]
    assert times_of([9000, None, 27000], 10) == [0, 0.1, 0.2]
    assert times_of([None, None], None) == [0, 0.04]


def test_restarted_times_continue() -> None:
    assert times_of([900000, 909000, 0, 9000, 18000], 10) == [0, 0.1, 0.2, 0.3, 0.4]
    assert times_of([0, 9000, 9000, 18000], 10) == [0, 0.1, 0.2, 0.3]


def first_and_last(window: Window) -> Indices:
    return np.unique([0, len(window.frames) - 1])


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Times of all frames that a decoder returns."""
    found: list[int] = []

    def counted(*arguments: Any, **options: Any) -> Iterator[Any]:
        for frame in original(*arguments, **options):
            found.append(frame.pts)
            yield frame

    original = pyav_reader.decode_all
    monkeypatch.setattr(pyav_reader, 'decode_all', counted)
    monkeypatch.setattr(films, 'decode_all', counted)
    return found


@pytest.mark.parametrize('name', ['a.mp4', 'a.mkv', 'a.avi', 'a.ts'])
def test_windows_get_their_frames_decoded_once(tmp_path: Any, name: str, decoded: list[int]) -> None:
    codec = 'mpeg4' if name.endswith('avi') else 'libx264'
    film = Film(write_video(tmp_path / name, 100, codec=codec))
    decoded.clear()
    frames = list(film.frames(WindowSpec(1, 0.4), first_and_last, lambda image: image))
    film.close()
    assert film.fps == 25
    assert [round(float(frame.time), 3) for frame in frames] == [round(i / 25, 3) for i in range(100)]
    needed = {i for k in range(9) for i in (10 * k, min(10 * k + 24, 99))}
    with_image = [i for i, frame in enumerate(frames) if frame.image is not None]
    if name in ('a.mp4', 'a.mkv'):
        assert with_image == sorted(needed)
    else:
        assert with_image == list(range(100))
    assert [read_index(frames[i].image) for i in with_image] == with_image
    assert len(decoded) <= 100
    assert len(set(decoded)) == len(decoded), 'no frame is decoded twice'


def test_key_frames_are_skipped_between_needed_frames(tmp_path: Any, decoded: list[int]) -> None:
    film = Film(write_video(tmp_path / 'a.mp4', 200, g='1', bf='0'))
    decoded.clear()
    list(film.frames(WindowSpec(4, 4), first_and_last, lambda image: image))
    assert len(decoded) == 4, 'two frames of each window'
    film.close()


def test_frames_are_prepared(tmp_path: Any) -> None:
    def halve(image: Frames) -> Frames:
        return image[::2, ::2]

    for name in ('a.mp4', 'a.ts'):
        film = Film(write_video(tmp_path / name, 10))
        frames = list(film.frames(WindowSpec(), first_and_last, halve))
        assert frames[0].image is not None
        assert frames[0].image.shape == (36, 64, 3)
        assert [frame.image.shape for frame in film.all_frames() if frame.image is not None] == [(72, 128, 3)] * 10
        film.close()


def test_wrong_files_are_errors(tmp_path: Any) -> None:
    (tmp_path / 'a.mp4').write_bytes(b'\0' * 1000)
    with pytest.raises(ValueError, match='video'):
        Film(str(tmp_path / 'a.mp4'))
    with pytest.raises(FileNotFoundError):
        Film(str(tmp_path / 'missing.mp4'))


@pytest.mark.parametrize(
    ('length', 'number', 'wanted'), [(24, 12, [*range(1, 24, 2)]), (3, 12, [0, 1, 2]), (9, 2, [2, 6])]
)
def test_strip_has_frames_of_equal_parts(tmp_path: Path, length: int, number: int, wanted: list[int]) -> None:
    write_video(tmp_path / 'a.mp4', length)
    strip = films.read_strip(str(tmp_path / 'a.mp4'), number)  # 128 x 72 pixels, in squares of 128
    assert strip.shape[1:] == (128, 128, 3)
    assert (strip[:, [0, 27, 100, 127]] == 255).all()
    assert [read_index(frame[28:100]) for frame in strip] == wanted


def test_strip_follows_the_time_of_frames(tmp_path: Path) -> None:
    ticks = [*range(0, 40), 40, 240, 440]  # 4 s with 40 frames, then 60 s with 3
    write_timed_video(tmp_path / 'a.mkv', ticks, range(43), Fraction(1, 10))
    strip = films.read_strip(str(tmp_path / 'a.mkv'), 4)
    # The middles are at 5.7, 17, 28.3 and 39.6 s, a little later if the last frame is shown longer.
    assert [read_index(frame[28:100]) for frame in strip] == [40, 40, 41, 41]


@pytest.mark.parametrize('name', ['a.ts', 'a.h264'])
def test_formats_without_index_have_no_strip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    write_video(tmp_path / name, 24)
    monkeypatch.setattr(films, 'PyAVReader', None)  # it would decode the film again, several times
    assert films.read_strip(str(tmp_path / name), 2) is None
