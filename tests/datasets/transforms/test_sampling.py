import itertools

import numpy as np
import pytest

from dsanet.datasets.transforms.sampling import (
    SampleSegments,
    SampleSnippets,
    center_starts,
    group_into_views,
    random_segment_frames,
    random_starts,
)

FRAMES = (1, 2, 7, 8, 9, 31, 64, 65, 67, 300)
SETTINGS = [
    dict(num_snippets=u, frames_per_snippet=t, frame_interval=interval, num_groups=groups)
    for u, t, interval, groups in itertools.product((1, 3, 4), (1, 3, 8), (1, 2, 8), (1, 2, 3))
]


def sample(num_frames, seed=0, **setting):
    record = {'num_frames': num_frames, 'rng': np.random.default_rng(seed)}
    return SampleSnippets(**setting)(record)['frame_indices']


def sample_segments(num_frames, seed=0, **setting):
    record = {'num_frames': num_frames, 'rng': np.random.default_rng(seed)}
    return SampleSegments(**setting)(record)['frame_indices']


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
def test_center_snippets_are_in_range_and_ascending(num_frames):
    for setting in SETTINGS:
        check(sample(num_frames, **setting), num_frames, **setting)


@pytest.mark.parametrize('num_frames', FRAMES)
def test_random_snippets_are_in_range_and_ascending(num_frames):
    for setting, seed in itertools.product(SETTINGS, range(5)):
        if setting['num_groups'] == 1:
            check(sample(num_frames, seed, random=True, **setting), num_frames, **setting)


def test_center_snippets_match_docstring_example():
    assert sample(16, num_snippets=2, frames_per_snippet=3, frame_interval=2).tolist() == [[[2, 4, 6], [8, 10, 12]]]


def test_short_video_repeats_its_last_frame():
    expected = [[[0, 2, 3], [0, 2, 3]]]
    setting = dict(num_snippets=2, frames_per_snippet=3, frame_interval=2)
    assert sample(4, **setting).tolist() == expected
    assert sample(4, random=True, **setting).tolist() == expected
    assert sample(6, **setting).tolist() == [[[0, 2, 4], [0, 2, 4]]]


def test_groups_are_interleaved_in_time():
    starts = center_starts(num_frames=80, span=1, num_snippets=8)
    assert starts.tolist() == [5, 15, 25, 35, 45, 55, 65, 75]
    assert group_into_views(starts, 2).tolist() == [[5, 25, 45, 65], [15, 35, 55, 75]]
    both = sample(80, num_snippets=4, frames_per_snippet=1, num_groups=2)
    assert both[:, :, 0].tolist() == [[5, 25, 45, 65], [15, 35, 55, 75]]


def test_center_starts_are_segment_centers():
    for num_frames, span, snippets in itertools.product(range(1, 60), (1, 5, 16), range(1, 12)):
        num_starts = max(num_frames - span + 1, 1)
        slow = [int((u + 0.5) * num_starts / snippets + 1e-9) for u in range(snippets)]
        assert center_starts(num_frames, span, snippets).tolist() == slow


def test_random_starts_cover_exactly_their_segments():
    # 300 - 64 + 1 = 237 starts in 4 segments of 59, for 4 x 8 frames with interval 8 as in the paper.
    draws = np.stack([random_starts(300, 64, 4, np.random.default_rng(seed)) for seed in range(3000)])
    for u in range(4):
        assert set(draws[:, u].tolist()) == set(range(59 * u, 59 * (u + 1)))


def test_few_starts_are_drawn_from_all_sorted():
    draws = np.stack([random_starts(66, 64, 4, np.random.default_rng(seed)) for seed in range(200)])
    assert set(draws.ravel().tolist()) == {0, 1, 2}
    assert (np.diff(draws, axis=1) >= 0).all()


def test_random_sampling_depends_only_on_the_generator():
    setting = dict(num_snippets=4, frames_per_snippet=8, frame_interval=2, random=True)
    assert (sample(300, seed=1, **setting) == sample(300, seed=1, **setting)).all()
    assert (sample(300, seed=1, **setting) != sample(300, seed=2, **setting)).any()


@pytest.mark.parametrize('name', ['num_snippets', 'frames_per_snippet', 'frame_interval', 'num_groups'])
@pytest.mark.parametrize('value', [0, -1, 1.5, True])
def test_counts_must_be_positive_whole_numbers(name, value):
    tokens = rf'{name} .*\b1\b.*{value}'
    setting = dict(num_snippets=4, frames_per_snippet=8) | {name: value}
    with pytest.raises(ValueError, match=tokens):
        SampleSnippets(**setting)
    if name != 'frame_interval':
        with pytest.raises(ValueError, match=tokens):
            SampleSegments(**setting)


@pytest.mark.parametrize('sampler', [SampleSnippets, SampleSegments])
def test_random_sampling_with_groups_is_refused(sampler):
    with pytest.raises(ValueError, match='random=True .*num_groups=1.*num_groups=2'):
        sampler(4, 8, num_groups=2, random=True)


@pytest.mark.parametrize('sampler', [sample, sample_segments])
def test_video_without_frames_is_refused(sampler):
    with pytest.raises(ValueError, match='num_frames=0'):
        sampler(0, num_snippets=4, frames_per_snippet=8)


def test_segments_match_docstring_example():
    setting = dict(num_snippets=2, frames_per_snippet=3)
    assert sample_segments(12, **setting).tolist() == [[[1, 3, 5], [7, 9, 11]]]
    assert sample_segments(12, num_groups=2, **setting).tolist() == [[[0, 2, 4], [6, 8, 10]], [[1, 3, 5], [7, 9, 11]]]
    assert sample_segments(4, **setting).tolist() == [[[0, 1, 1], [2, 3, 3]]]
    assert sample_segments(4, random=True, **setting).tolist() == [[[0, 1, 1], [2, 3, 3]]]


SEGMENT_SETTINGS = list(itertools.product((1, 2, 4), (1, 3, 8), (1, 2, 3)))


@pytest.mark.parametrize('num_frames', FRAMES)
def test_each_view_has_one_frame_per_part(num_frames):
    for num_snippets, frames_per_snippet, num_groups in SEGMENT_SETTINGS:
        indices = sample_segments(
            num_frames, num_snippets=num_snippets, frames_per_snippet=frames_per_snippet, num_groups=num_groups
        )
        assert indices.shape == (num_groups, num_snippets, frames_per_snippet)
        assert indices.dtype == np.int64
        parts = num_snippets * frames_per_snippet
        for view in indices.reshape(num_groups, parts):
            assert (np.diff(view) >= 0).all()
            for part, frame in enumerate(view.tolist()):
                assert part * num_frames / parts - 1 < frame < (part + 1) * num_frames / parts
        if num_frames >= parts * num_groups:
            assert len(set(indices.ravel().tolist())) == indices.size, 'all frames of all views must differ'
        else:
            assert set(indices.ravel().tolist()) == set(range(num_frames)), 'every frame must be sampled'


@pytest.mark.parametrize(('num_frames', 'num_parts'), [(12, 6), (13, 5), (8, 8), (31, 8)])
def test_random_segments_cover_exactly_their_parts(num_frames, num_parts):
    draws = np.stack([random_segment_frames(num_frames, num_parts, np.random.default_rng(s)) for s in range(300)])
    seen = [sorted(set(column.tolist())) for column in draws.T]
    edges = [int(part * num_frames / num_parts) for part in range(num_parts)] + [num_frames]
    assert seen == [list(range(low, high)) for low, high in itertools.pairwise(edges)]
    assert sorted(itertools.chain(*seen)) == list(range(num_frames))


def test_random_segments_become_snippets_in_time_order():
    setting = dict(num_snippets=2, frames_per_snippet=4, random=True)
    indices = sample_segments(100, seed=3, **setting)
    assert indices.shape == (1, 2, 4)
    assert indices.ravel().tolist() == random_segment_frames(100, 8, np.random.default_rng(3)).tolist()
    assert (np.diff(indices.ravel()) > 0).all()
    assert (indices != sample_segments(100, seed=4, **setting)).any()
