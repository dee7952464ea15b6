import weakref
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest

from dsanet.config.registry import TRANSFORMS
from dsanet.inference.long.windows import TimedFrame, Window, WindowPipeline, WindowSpec, exact_seconds, slide
from tests.make_color_films import make_color_recognizer
from tests.make_videos import draw_frames


def frames_at(times: list[Fraction]) -> Iterator[TimedFrame]:
    return (TimedFrame(time) for time in times)


def expected_windows(times: list[Fraction], length: Fraction, stride: Fraction) -> list[tuple[Fraction, list[int]]]:
    """Return start and frame numbers of the windows that have frames, by a search over all frames for each."""
    found = []
    k = 0
    while True:
        numbers = [i for i, time in enumerate(times) if k * stride <= time < k * stride + length]
        if numbers:
            found.append((k * stride, numbers))
        if len(times) - 1 in numbers:
            return found
        k += 1


@pytest.mark.parametrize(('length', 'stride'), [(4, None), (1.2, 0.4), (1, 1), (0.1, 0.1), (0.3, 0.07), (99, 1)])
@pytest.mark.parametrize('kind', ['25 fps', '29.97 fps', 'gap', 'one frame', 'random'])
def test_windows_are_those_of_a_search(length: float, stride: float | None, kind: str) -> None:
    rng = np.random.default_rng(0)
    times = {
        '25 fps': [Fraction(i, 25) for i in range(300)],
        '29.97 fps': [Fraction(1001 * i, 30000) for i in range(200)],
        'gap': [Fraction(i, 25) for i in (*range(30), *range(400, 450), *range(1000, 1003))],
        'one frame': [Fraction(0)],
        'random': [Fraction(0), *(Fraction(int(x), 1000) for x in np.cumsum(rng.integers(1, 400, 100)))],
    }[kind]
    spec = WindowSpec(length, stride)
    windows = list(slide(frames_at(times), spec))
    assert spec.stride == (spec.length / 2 if stride is None else exact_seconds(stride))
    expected = expected_windows(times, spec.length, spec.stride)
    assert [(w.start, list(range(w.first_frame, w.first_frame + len(w.frames)))) for w in windows] == expected
    for window, (_, numbers) in zip(windows, expected, strict=True):
        assert [frame.time for frame in window.frames] == [times[i] for i in numbers]
    assert all(w.end == w.start + spec.length for w in windows[:-1])
    assert [w.is_last for w in windows] == [False] * (len(windows) - 1) + [True]
    assert times[-1] < windows[-1].end <= windows[-1].start + spec.length


def test_decimal_boundaries_are_exact() -> None:
    times = [Fraction(i, 10) for i in range(40)]
    windows = list(slide(frames_at(times), WindowSpec(0.3, 0.1)))
    assert [w.first_frame for w in windows] == list(range(38))
    assert {len(w.frames) for w in windows} == {3}


def test_last_window_ends_with_the_film() -> None:
    windows = list(slide(frames_at([Fraction(i, 10) for i in range(25)]), WindowSpec(1, 0.5)))
    assert [(float(w.start), float(w.end)) for w in windows] == [(0, 1), (0.5, 1.5), (1, 2), (1.5, 2.5)]


def test_window_is_complete_with_the_next_frame() -> None:
    seen = []

    def arriving() -> Iterator[TimedFrame]:
        for i in range(30):
            seen.append(i)
            yield TimedFrame(Fraction(i, 10))

    windows = slide(arriving(), WindowSpec(1, 0.5))
    for last in (10, 15, 20):
        next(windows)
        assert seen[-1] == last


def test_only_frames_of_one_window_are_kept() -> None:
    images: list[weakref.ref[np.ndarray]] = []
    most = 0

    def arriving() -> Iterator[TimedFrame]:
        nonlocal most
        for i in range(300):
            image = np.zeros((2, 2, 3), np.uint8)
            images.append(weakref.ref(image))
            yield TimedFrame(Fraction(i, 10), image)
            most = max(most, sum(reference() is not None for reference in images))

    for window in slide(arriving(), WindowSpec(2, 0.5)):
        assert len(window.frames) <= 20
    assert most <= 20 + 5 + 2, 'the frames of a window and of a stride'


@pytest.mark.parametrize(
    ('length', 'stride'),
    [
        (0, None),
        (-1, None),
        (float('nan'), None),
        (float('inf'), None),
        ('2', None),
        (1e-9, None),
        (2, 0),
        (2, 1e-5),
        (2, 2.1),
    ],
)
def test_wrong_lengths_are_errors(length: float, stride: float | None) -> None:
    with pytest.raises(ValueError, match='window|stride'):
        WindowSpec(length, stride)


def test_pipeline_gives_the_input_of_the_frames_alone() -> None:
    recognizer = make_color_recognizer()
    pipeline = WindowPipeline(recognizer, 'film', 25)
    images = draw_frames(30, 48, 64)
    frames = tuple(TimedFrame(Fraction(i, 25), pipeline.prepare(image)) for i, image in enumerate(images))
    window = next(slide(frames, WindowSpec(2)))
    record = {'reader': None, 'num_frames': 30, 'path': 'x', 'label': 0, 'rng': np.random.default_rng(0)}
    types = [step['type'] for step in recognizer.steps]
    for step in recognizer.steps[1:]:
        transform = TRANSFORMS.module_dict[step['type']](**{k: v for k, v in step.items() if k != 'type'})
        if step['type'] == 'DecodeVideo':
            record['frames'] = images[record['frame_indices'].reshape(-1)]
        else:
            record = transform(record)
    assert 'Resize' in types
    assert pipeline(window).numpy().shape == (1, 1, 2, 3, 2, 16, 16)
    assert np.array_equal(pipeline(window)[0].numpy(), record['inputs'].numpy())


def test_each_frame_is_resized_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = WindowPipeline(make_color_recognizer(), 'film')
    image = pipeline.prepare(np.zeros((48, 64, 3), np.uint8))
    assert image.shape == (16, 21, 3)
    monkeypatch.setattr(TRANSFORMS.module_dict['Resize'], '__call__', lambda *_: pytest.fail('resized again'))
    pipeline(next(slide([TimedFrame(Fraction(0), image)], WindowSpec(1))))


def test_sample_has_the_frames_that_are_read() -> None:
    pipeline = WindowPipeline(make_color_recognizer(), 'film')
    for number in (1, 2, 3, 10, 41):
        starts = [(2 * u + 1) * max(number - 1, 1) // 4 for u in range(2)]
        expected = sorted({min(start + t, number - 1) for start in starts for t in range(2)})
        window = Window(Fraction(0), Fraction(1), 0, tuple(TimedFrame(Fraction(i)) for i in range(number)))
        assert pipeline.sample(window).tolist() == expected


def test_windows_are_sampled_by_time() -> None:
    recognizer = make_color_recognizer()
    recognizer.steps[1].update(num_snippets=1, frames_per_snippet=3, fps=2)
    recognizer.steps[3:5] = [{'type': 'CenterCrop', 'size': 16}]
    pipeline = WindowPipeline(recognizer, 'film', fps=None)
    ticks = [0, 1, 2, 3, 9, 10, 17, 18, 19, 20, 21]  # tenths of a second
    images = [np.full((16, 16, 3), tick, np.uint8) for tick in ticks]
    frames = [TimedFrame(Fraction(tick, 10), image) for tick, image in zip(ticks, images, strict=True)]
    for window in slide(frames, WindowSpec(2, 0.5)):
        times = [frame.time - window.frames[0].time for frame in window.frames]
        length = times[-1] * len(times) / max(len(times) - 1, 1)
        start = max(length - Fraction(3, 2), Fraction(0)) / 2
        expected = [max(i for i, t in enumerate(times) if t <= start + Fraction(k, 2)) for k in range(3)]
        assert pipeline.sample(window).tolist() == sorted(set(expected))
        shown = pipeline(window)[0, 0, 0, 0, :, 0, 0].tolist()
        assert shown == [ticks[window.first_frame + i] for i in expected]
