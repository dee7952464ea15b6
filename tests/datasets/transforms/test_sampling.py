import itertools

import numpy as np
import pytest

from codes.datasets.transforms.sampling import (
    SampleSnippets,
    centre_starts,
    group_into_views,
    random_starts,
    snippet_frames,
)

FRAMES = (1, 2, 7, 8, 9, 31, 64, 65, 67, 300)
SETTINGS = [
    dict(num_snippets=u, frames_per_snippet=t, frame_interval=interval, num_groups=groups)
    for u, t, interval, groups in itertools.product((1, 3, 4), (1, 3, 8), (1, 2, 8), (1, 2, 3))
]


def sample(num_frames, seed=0, **setting):
    record = {'num_frames': num_frames, 'rng': np.random.default_rng(seed)}
    return SampleSnippets(**setting)(record)['frame_indices']


def check(indices, num_frames, num_snippets, frames_per_snippet, frame_interval, num_groups):
    assert indices.shape == (num_groups, num_snippets, frames_per_snippet)
    assert indices.dtype == np.int64
    assert indices.min() >= 0
    assert indices.max() < num_frames
    assert (np.diff(indices, axis=2) >= 0).all(), 'frames of a snippet must ascend'
    assert (np.diff(indices[:, :, 0], axis=1) >= 0).all(), 'snippets of a view must ascend'
    for view, snippet in np.ndindex(num_groups, num_snippets):
        start = indices[view, snippet, 0]
        expected = [min(start + k * frame_interval, num_frames - 1) for k in range(frames_per_snippet)]
        assert indices[view, snippet].tolist() == expected


@pytest.mark.parametrize('num_frames', FRAMES)
def test_centres_stay_in_the_video_and_ascend(num_frames):
    for setting in SETTINGS:
        check(sample(num_frames, **setting), num_frames, **setting)


@pytest.mark.parametrize('num_frames', FRAMES)
def test_random_snippets_stay_in_the_video_and_ascend(num_frames):
    for setting, seed in itertools.product(SETTINGS, range(5)):
        if setting['num_groups'] == 1:
            check(sample(num_frames, seed, random=True, **setting), num_frames, **setting)


def test_centres_are_those_of_the_drawing_in_the_docstring():
    assert sample(16, num_snippets=2, frames_per_snippet=3, frame_interval=2).tolist() == [[[2, 4, 6], [8, 10, 12]]]


def test_short_video_starts_at_zero_and_repeats_its_last_frame():
    expected = [[[0, 2, 3], [0, 2, 3]]]
    setting = dict(num_snippets=2, frames_per_snippet=3, frame_interval=2)
    assert sample(4, **setting).tolist() == expected
    assert sample(4, random=True, **setting).tolist() == expected
    assert sample(6, **setting).tolist() == [[[0, 2, 4], [0, 2, 4]]]


def test_interleaved_groups_take_every_other_snippet():
    starts = centre_starts(num_frames=80, span=1, num_snippets=8)
    assert starts.tolist() == [5, 15, 25, 35, 45, 55, 65, 75]
    assert group_into_views(starts, 2).tolist() == [[5, 25, 45, 65], [15, 35, 55, 75]]
    both = sample(80, num_snippets=4, frames_per_snippet=1, num_groups=2)
    assert both[:, :, 0].tolist() == [[5, 25, 45, 65], [15, 35, 55, 75]]


def test_centre_starts_halve_their_segments_exactly():
    for num_frames, span, snippets in itertools.product(range(1, 60), (1, 5, 16), range(1, 12)):
        num_starts = max(num_frames - span + 1, 1)
        slow = [int((u + 0.5) * num_starts / snippets + 1e-9) for u in range(snippets)]
        assert centre_starts(num_frames, span, snippets).tolist() == slow


def test_random_starts_cover_each_segment_and_nothing_else():
    # 300 - 64 + 1 = 237 starts in 4 segments of 59: the paper's 4 x 8 frames, 8 apart.
    draws = np.stack([random_starts(300, 64, 4, np.random.default_rng(seed)) for seed in range(3000)])
    for u in range(4):
        assert set(draws[:, u].tolist()) == set(range(59 * u, 59 * (u + 1)))


def test_fewer_starts_than_snippets_are_drawn_from_all_and_sorted():
    draws = np.stack([random_starts(66, 64, 4, np.random.default_rng(seed)) for seed in range(200)])
    assert set(draws.ravel().tolist()) == {0, 1, 2}
    assert (np.diff(draws, axis=1) >= 0).all()


def test_snippet_frames_repeat_the_last_frame_beyond_the_end():
    indices = snippet_frames(np.array([[0, 5]]), frames_per_snippet=4, frame_interval=3, num_frames=10)
    assert indices.tolist() == [[[0, 3, 6, 9], [5, 8, 9, 9]]]


def test_random_sampling_depends_on_the_generator_only():
    setting = dict(num_snippets=4, frames_per_snippet=8, frame_interval=2, random=True)
    assert (sample(300, seed=1, **setting) == sample(300, seed=1, **setting)).all()
    assert (sample(300, seed=1, **setting) != sample(300, seed=2, **setting)).any()


@pytest.mark.parametrize('name', ['num_snippets', 'frames_per_snippet', 'frame_interval', 'num_groups'])
@pytest.mark.parametrize('value', [0, -1, 1.5, True])
def test_counts_must_be_positive_whole_numbers(name, value):
    with pytest.raises(ValueError, match=f'{name} must be a whole number of at least 1, got {value}'):
        SampleSnippets(**(dict(num_snippets=4, frames_per_snippet=8) | {name: value}))


def test_random_views_are_refused():
    with pytest.raises(ValueError, match='random=True goes with num_groups=1, got num_groups=2'):
        SampleSnippets(4, 8, num_groups=2, random=True)


def test_video_without_frames_is_refused():
    with pytest.raises(ValueError, match='num_frames=0: a video needs at least one frame'):
        sample(0, num_snippets=4, frames_per_snippet=8)
