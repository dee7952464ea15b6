"""SampleSnippets with ``fps`` or ``seconds``: the same moments of videos of any frame rate."""

from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dsanet.datasets import MixedDataset, RawFramesDataset, VideoDataset, WebVideoDataset, build_dataloader
from dsanet.datasets.transforms import DecodeRawFrames, DecodeVideo, OpenVideo, PackInputs, SampleSnippets, decoding
from dsanet.datasets.transforms.base import BadSample
from dsanet.datasets.transforms.sampling import film_seconds, shown_frames
from dsanet.datasets.video import pyav_reader
from dsanet.datasets.video.readers import READERS, is_installed
from dsanet.inference.pipelines import build_pipeline, complete_record, find_sampling
from dsanet.inference.sources import find_sources
from tests.make_videos import draw_frames, read_index, write_frames, write_timed_video, write_video

MS = Fraction(1, 1000)
FOUR_AT_5 = dict(num_snippets=1, frames_per_snippet=4, fps=5)
# Frames 0 to 15 of the motion at 30 fps, then every third one, with a gap of 0.4 s
SHOWN = [*range(16), *(n for n in range(18, 60, 3) if not 30 < n < 42)]
DECODERS = [name for name in READERS if is_installed(name)]


class Film:
    """The times of a video, as an open reader."""

    path = 'film'

    def __init__(self, times: Any) -> None:
        self.frame_times = np.array(times, np.float64)


def sample(times: Any, seed: int = 0, **setting: Any) -> Any:
    record = {'num_frames': len(times), 'rng': np.random.default_rng(seed), 'reader': Film(times), 'fps': None}
    return SampleSnippets(**setting)(record)['frame_indices']


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of one motion: frame n of the motion is shown from n/30 s."""
    root = tmp_path_factory.mktemp('motion')
    write_timed_video(root / 'fast.mp4', range(60), range(60), Fraction(1, 30))
    write_timed_video(root / 'slow.mkv', [round(n * 1000 / 15) for n in range(30)], range(0, 60, 2), MS)
    write_timed_video(root / 'varies.mp4', SHOWN, SHOWN, Fraction(1, 30))
    write_timed_video(root / 'varies.ts', [3000 * n for n in SHOWN], SHOWN, Fraction(1, 90000))
    write_frames(root / 'folder', 60)
    (root / 'videos.txt').write_text('fast.mp4 0\nslow.mkv 1\nvaries.mp4 2\nvaries.ts 2\n')
    (root / 'folders.txt').write_text('folder 60 3\n')
    return root


def videos(root: Path, decoder: str = 'pyav', **setting: Any) -> VideoDataset:
    steps = [OpenVideo(decoder), SampleSnippets(**FOUR_AT_5 | setting), DecodeVideo(), PackInputs()]
    return VideoDataset(steps, str(root / 'videos.txt'), str(root))


def numbers(item: Any) -> list[int]:
    """Return what the frames of a sample show."""
    return [read_index(frame.numpy()) for frame in item['inputs'].movedim(2, -1).flatten(0, 2)]  # (V*U*T, H, W, C)


@pytest.mark.parametrize(('rate', 'expected'), [(30, [15, 18, 21]), (25, [12, 15, 17]), (6, [3, 3, 4])])
def test_frames_of_constant_rates_match_docstring(rate: int, expected: list[int]) -> None:
    times = np.arange(2 * rate) / rate
    assert shown_frames(times, np.array([0.5, 0.6, 0.7])).tolist() == expected


def test_frames_equal_slow_loop_with_variable_rate() -> None:
    rng = np.random.default_rng(0)
    for u, t, groups, fps in product((1, 3), (1, 4), (1, 2), (Fraction(5, 2), 8, 40)):
        ticks = np.cumsum(rng.integers(20, 90, 50)) - 20
        ticks = (ticks - ticks[0]).tolist()  # milliseconds
        setting = dict(num_snippets=u, frames_per_snippet=t, num_groups=groups, fps=fps)
        found = sample([tick / 1000 for tick in ticks], **setting)
        room = max(Fraction(ticks[-1] * 50, 49) - 1000 * t / Fraction(fps), 0)
        for g, s, k in np.ndindex(found.shape):
            start = Fraction(2 * (s * groups + g) + 1, 2 * u * groups) * room
            at = start + 1000 * k / Fraction(fps)
            assert found[g, s, k] == max(i for i, tick in enumerate(ticks) if tick <= at + Fraction(11, 10))


def test_seconds_are_the_length_of_a_snippet() -> None:
    times = np.arange(90) / 30
    settings = dict(num_snippets=2, frames_per_snippet=4)
    assert (sample(times, **settings, seconds=0.8) == sample(times, **settings, fps=5)).all()
    assert (sample(times, **settings, seconds=0.8) == sample(times, **settings, fps=6)).mean() < 1


def test_whole_interval_of_constant_rate_equals_frame_interval() -> None:
    """An interval of 6 frames at 30 fps is one of 0.2 s; starts differ by less than a frame."""
    times = np.arange(100) / 30
    by_time = sample(times, num_snippets=3, frames_per_snippet=4, fps=5)
    by_frame = sample(times, num_snippets=3, frames_per_snippet=4, frame_interval=6)
    assert (np.diff(by_time) == 6).all()
    assert abs(by_time - by_frame).max() <= 1


def test_random_starts_are_uniform_in_their_parts() -> None:
    times = np.arange(600) / 30  # 20 s
    setting = dict(num_snippets=2, frames_per_snippet=2, fps=10, random=True)
    starts = np.stack([sample(times, seed, **setting)[0, :, 0] / 30 for seed in range(2000)])  # (2000, U)
    for part in range(2):
        low, high = part * 9.9, (part + 1) * 9.9
        assert (starts[:, part] >= low - 1 / 30).all()
        assert (starts[:, part] < high + 0.001).all()
        counts = np.histogram(starts[:, part], 9, (low, high))[0]
        assert abs(counts - 2000 / 9).max() < 5 * np.sqrt(2000 / 9)
    assert np.array_equal(sample(times, 7, **setting), sample(times, 7, **setting))


@pytest.mark.parametrize('number', [1, 2, 3])
def test_short_videos_repeat_the_last_frame(number: int) -> None:
    found = sample(np.arange(number) / 30, num_snippets=2, frames_per_snippet=5, fps=10)
    assert found.tolist() == [[[0, *[number - 1] * 4]] * 2]
    assert film_seconds(np.array([0.0])) == 0


def test_rounded_times_do_not_shift_frames() -> None:
    """Matroska rounds times to milliseconds; sampling at the rate of the video takes each frame once."""
    for rate, offset in product((24, 25, 30000 / 1001, 30, 50, 60000 / 1001, 120), (0, 0.021, 0.0333)):
        rounded = np.round((np.arange(300) / rate + offset) * 1000) / 1000
        found = shown_frames(rounded - rounded[0], np.arange(300) / rate)
        assert found.tolist() == list(range(300))


@pytest.mark.parametrize('isolated', [False, True])
@pytest.mark.parametrize('decoder', DECODERS)
def test_films_of_all_rates_show_the_same_moments(
    root: Path, monkeypatch: pytest.MonkeyPatch, decoder: str, isolated: bool
) -> None:
    monkeypatch.setattr(decoding, 'can_isolate', lambda: isolated)
    dataset = videos(root, decoder)
    # Centers of a film of 2 s, and of one whose last frame is shown as long as the average
    assert numbers(dataset[0]) == numbers(dataset[1]) == [18, 24, 30, 36]
    start = (Fraction(57, 30) * len(SHOWN) / (len(SHOWN) - 1) - Fraction(4, 5)) / 2
    expected = [max(n for n in SHOWN if Fraction(n, 30) <= start + Fraction(k, 5)) for k in range(4)]
    assert numbers(dataset[2]) == expected
    if decoder == 'pyav':
        assert numbers(dataset[3]) == expected


def test_folders_need_a_rate(root: Path) -> None:
    steps = [SampleSnippets(**FOUR_AT_5), DecodeRawFrames(), PackInputs()]
    with pytest.raises(ValueError, match='fps'):
        RawFramesDataset(steps, str(root / 'folders.txt'), str(root))
    with pytest.raises(ValueError, match=r'fps .*0\.001'):
        RawFramesDataset(steps, str(root / 'folders.txt'), str(root), fps=0)
    folders = RawFramesDataset(steps, str(root / 'folders.txt'), str(root), fps=30)
    assert numbers(folders[0]) == [18, 24, 30, 36]
    mixed = MixedDataset([videos(root), folders])
    assert [numbers(mixed[i]) for i in (0, 1, 4)] == [[18, 24, 30, 36]] * 3


def test_clips_of_a_video_are_those_loaded_alone(root: Path) -> None:
    dataset = videos(root, random=True)
    keys = [(0, index, clip) for index in (1, 2, 3) for clip in (0, 1)]
    together = [numbers(item) for item in dataset.__getitems__(keys)]
    assert together == [numbers(dataset[key]) for key in keys]
    assert together[0] != together[1]


def test_spans_start_at_their_first_frame(root: Path) -> None:
    (root / 'spans.csv').write_text('video,label,start,end\nfast.mp4,0,0.5,1.5\nslow.mkv,1,0.5,1.5\nvaries.ts,1,1,2\n')
    steps = [OpenVideo(), SampleSnippets(**FOUR_AT_5), DecodeVideo(), PackInputs()]
    dataset = VideoDataset(steps, str(root / 'spans.csv'), str(root))
    assert numbers(dataset[0]) == [18, 24, 30, 36]  # start + 0.1 s
    # Frames of 15 fps are shown from 8/15 s: 16 to 44 of the motion, 1 s; starts 0.1 s after it.
    assert numbers(dataset[1]) == [18, 24, 30, 36]
    # 30, then 42, 45, ... of the motion
    times = [(n - 30) / 30 for n in (30, 42, 45, 48, 51, 54, 57)]
    start = (film_seconds(np.array(times)) - 0.8) / 2
    indices = shown_frames(np.array(times), start + np.arange(4) / 5)
    assert numbers(dataset[2]) == [(30, 42, 45, 48, 51, 54, 57)[i] for i in indices]


def test_times_without_an_index_are_found_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    read = pyav_reader.read_ticks
    monkeypatch.setattr(pyav_reader, 'read_ticks', lambda path: (calls.append(path), read(path))[1])
    copy = root / 'copy.ts'
    copy.write_bytes((root / 'varies.ts').read_bytes())
    for _ in range(3):
        reader = pyav_reader.PyAVReader(str(copy))
        assert reader.frame_times[[0, 15]].tolist() == pytest.approx([0, 0.5])
        reader.close()
    reader = pyav_reader.PyAVReader(str(root / 'fast.mp4'))  # has an index: nothing is decoded
    assert reader.frame_times[[0, 15, 59]].tolist() == pytest.approx([0, 0.5, 59 / 30])
    reader.close()
    assert calls == [str(copy)]


def test_rate_is_used_where_times_are_unknown(tmp_path: Path) -> None:
    """AVI does not store when B-frames are shown."""
    reader = pyav_reader.PyAVReader(write_video(tmp_path / 'a.avi', 30))
    assert reader.index is None
    assert reader.frame_times.tolist() == pytest.approx([n / 25 for n in range(30)])
    reader.close()


def test_prediction_reads_every_kind_by_time(root: Path) -> None:
    steps = [{'type': 'OpenVideo'}, {'type': 'SampleSnippets', **FOUR_AT_5}, {'type': 'DecodeVideo'}]
    steps.append({'type': 'PackInputs'})

    def read(video: Any, fps: float | None, config_fps: float | None = None) -> tuple[list[int], Any]:
        source = find_sources(video, fps)[0][0]
        with source.open() as record:
            facts = complete_record(record)
            return numbers(build_pipeline(steps, source.kind, config_fps)(record)), facts['fps']

    for video, fps in ((root / 'slow.mkv', None), (root / 'folder', 30), (draw_frames(60), 30)):
        assert read(video, fps)[0] == [18, 24, 30, 36]
    assert read(root / 'folder', None, config_fps=30) == ([18, 24, 30, 36], 30)
    assert read(root / 'folder', 60, config_fps=30)[1] == 60
    with pytest.raises(ValueError, match='fps'):
        read(root / 'folder', None)
    with pytest.raises(BadSample, match='rate'):
        read(draw_frames(60), None)


def test_shards_are_sampled_by_time(root: Path, tmp_path: Path) -> None:
    webdataset = pytest.importorskip('webdataset', reason='shards need the package webdataset')
    with webdataset.TarWriter(str(tmp_path / 'a.tar')) as writer:
        for name in ('fast.mp4', 'slow.mkv'):
            suffix = Path(name).suffix[1:]
            writer.write({'__key__': Path(name).stem, suffix: (root / name).read_bytes(), 'cls': '0'})
    steps = [OpenVideo(), SampleSnippets(**FOUR_AT_5), DecodeVideo(), PackInputs()]
    dataset = WebVideoDataset(steps, str(tmp_path / 'a.tar'), num_videos=2)
    loader = build_dataloader(dataset, 2, 0, training=True)
    batch = next(iter(loader))
    assert [numbers({'inputs': one}) for one in batch['inputs']] == [[18, 24, 30, 36]] * 2


@pytest.mark.parametrize(
    ('options', 'names'),
    [
        (dict(frame_interval=2, fps=10), 'frame_interval=2 and fps=10'),
        (dict(fps=10, seconds=1), 'fps=10 and seconds=1'),
        (dict(fps=0), 'fps'),
        (dict(seconds=-1), 'seconds'),
        (dict(fps='10'), 'fps'),
    ],
)
def test_wrong_distances_raise(options: dict[str, Any], names: str) -> None:
    with pytest.raises(ValueError, match=names):
        SampleSnippets(1, 4, **options)


def test_description_of_sampling_names_one_distance() -> None:
    steps = [{'type': 'SampleSnippets', 'num_snippets': 1, 'frames_per_snippet': 2}]
    for given in ({}, {'frame_interval': 4}, {'fps': 5}, {'seconds': 2}):
        found = find_sampling([steps[0] | given])
        assert found == steps[0] | {'num_groups': 1, 'random': False} | (given or {'frame_interval': 1})
