"""The ordered-actions dataset: labels match the videos, and no single snippet shows the order."""

from collections import Counter
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from dsanet.data_tools.ordered_actions import (
    CLASSES,
    DIRECTIONS,
    EVENT_FRAMES,
    EVENT_STARTS,
    NUM_FRAMES,
    draw_video,
    make_dataset,
    split_labels,
    write_video,
)
from dsanet.datasets.transforms.sampling import center_starts, random_starts

EVENTS = [range(start, start + EVENT_FRAMES) for start in EVENT_STARTS]
SMALL = {'num_videos': 16, 'val_fraction': 0.5, 'size': 32}


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


# Measure a video from its pixels -----------------------------------------------------------------


def find_shape(frame: np.ndarray) -> np.ndarray:
    """Return the mask (H, W) of the shape: its brightest channel is at least 144, the background at most 121."""
    return frame.max(axis=-1) > 132


def center_of(mask: np.ndarray) -> np.ndarray:
    """Return the center (y, x) of a shape that may wrap around, as a circular mean."""
    size = len(mask)
    angles = 2 * np.pi * np.argwhere(mask) / size
    return np.arctan2(np.sin(angles).mean(axis=0), np.cos(angles).mean(axis=0)) * size / (2 * np.pi) % size


def steps_of(frames: np.ndarray) -> np.ndarray:
    """Return the motion (dy, dx) between consecutive frames in pixels."""
    size = frames.shape[1]
    centers = np.array([center_of(find_shape(frame)) for frame in frames])
    return (np.diff(centers, axis=0) + size / 2) % size - size / 2


def direction_of(frames: np.ndarray) -> str:
    dy, dx = steps_of(frames).mean(axis=0)
    if abs(dx) > abs(dy):
        return 'right' if dx > 0 else 'left'
    return 'down' if dy > 0 else 'up'


def shape_of(frame: np.ndarray) -> str:
    """Return the shape: a disc fills 79 % of its bounding box, a cross less than half."""
    mask = find_shape(frame)
    size = len(mask)
    middle = np.rint(size // 2 - center_of(mask)).astype(int)
    mask = np.roll(mask, middle, axis=(0, 1))
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return 'disc' if box.mean() > 0.6 else 'cross'


# The videos ---------------------------------------------------------------------------------------


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('label', range(len(CLASSES)))
def test_video_matches_its_class(label, seed):
    video = draw_video(label, rng(seed))
    first, second = (video[event.start : event.stop] for event in EVENTS)

    assert direction_of(first) == direction_of(second)
    shapes = [{shape_of(frame) for frame in event} for event in (first, second)]
    assert [len(names) for names in shapes] == [1, 1]
    assert CLASSES[label] == f'moving {direction_of(first)}: {shapes[0].pop()} then {shapes[1].pop()}'


@pytest.mark.parametrize('size', [32, 40, 64])
def test_shape_is_visible_only_during_events(size):
    for seed in range(8):
        video = draw_video(seed, rng(seed), size)
        assert video.shape == (NUM_FRAMES, size, size, 3)
        assert video.dtype == np.uint8
        for index, frame in enumerate(video):
            is_event = any(index in event for event in EVENTS)
            assert (find_shape(frame).mean() > 0.02) == is_event


def test_consecutive_event_frames_show_the_direction():
    for seed in range(20):
        label = seed % len(CLASSES)
        video = draw_video(label, rng(seed))
        forward = np.array(list(DIRECTIONS.values())[label // 2])
        for event in EVENTS:
            steps = steps_of(video[event.start : event.stop])
            assert (steps @ forward > 1).all()
            assert (np.abs(steps @ forward[::-1]) < 1).all()


def test_unknown_label_is_an_error():
    with pytest.raises(ValueError, match=r'label.*\b0 to 7, got 8'):
        draw_video(8, rng(0))


# Only the order of the snippets shows the order of the events -------------------------------------


@pytest.mark.parametrize('direction', range(4))
def test_orders_differ_only_in_the_first_shape(direction):
    disc_first = draw_video(2 * direction, rng(7))
    cross_first = draw_video(2 * direction + 1, rng(7))
    for index, (one, other) in enumerate(zip(disc_first, cross_first, strict=True)):
        differs = (one != other).any(axis=-1)
        if any(index in event for event in EVENTS):
            # Blended border pixels are too dark for the mask: allow one more ring of pixels.
            shapes = (find_shape(one) | find_shape(other)).astype(np.uint8)
            assert differs.any()
            assert not differs[cv2.dilate(np.pad(shapes, 1, 'wrap'), np.ones((3, 3)))[1:-1, 1:-1] == 0].any()
        else:
            assert not differs.any()


@pytest.mark.parametrize('shape', ['disc', pytest.param('cross', marks=pytest.mark.sweep)])
def test_events_look_alike_in_both_halves(shape):
    """Mean measurements of both halves agree within four standard errors."""
    measured = ([], [])
    for seed in range(240):
        half = seed % 2
        order = half if shape == 'disc' else 1 - half
        event = EVENTS[half]
        frames = draw_video(seed // 2 % 4 * 2 + order, rng(seed), 32)[event.start : event.stop]
        masks = np.array([find_shape(frame) for frame in frames])
        speeds = np.abs(steps_of(frames)).max(axis=1)
        angles = 2 * np.pi * np.array([center_of(mask) for mask in masks[[0, 5, -1]]]).ravel() / 32
        measured[half].append(
            np.concatenate(
                [
                    masks.mean(axis=(1, 2)),
                    speeds,
                    np.sin(angles),
                    np.cos(angles),
                    frames[masks].mean(axis=0),
                    frames[masks].std(axis=0),
                    frames[~masks].mean(axis=0),
                    frames[~masks].std(axis=0),
                ]
            )
        )
    first, second = (np.array(values) for values in measured)  # (120, quantities)
    standard_error = np.sqrt(first.var(axis=0) / len(first) + second.var(axis=0) / len(second))
    assert (np.abs(first.mean(axis=0) - second.mean(axis=0)) < 4 * standard_error).all()


@pytest.mark.parametrize('interval', [1, 2])
def test_no_snippet_contains_both_events(interval):
    for start in range(NUM_FRAMES - 3 * interval):
        snippet = {start + interval * step for step in range(4)}
        assert sum(bool(snippet & set(event)) for event in EVENTS) <= 1


def test_training_samples_both_events_alike():
    generator = rng(0)
    draws = [random_starts(NUM_FRAMES, 8, 4, generator) for _ in range(1000)]  # snippets of 4 frames at interval 2
    first, second, third, fourth = (set(segment) for segment in np.stack(draws, axis=1).tolist())
    shift = EVENT_STARTS[1] - EVENT_STARTS[0]
    assert third == {start + shift for start in first}
    assert fourth == {start + shift for start in second}


@pytest.mark.parametrize('interval', [1, 2])
def test_evaluation_snippets_contain_only_event_frames(interval):
    starts = center_starts(NUM_FRAMES, 4 * interval, 4)
    for start, event in zip(starts, (EVENTS[0], EVENTS[0], EVENTS[1], EVENTS[1]), strict=True):
        assert {start + interval * step for step in range(4)} <= set(event)


# The files ----------------------------------------------------------------------------------------


def decode_with_av(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format='rgb24') for frame in container.decode(video=0)])


def test_decoded_frames_keep_their_colors(tmp_path):
    frames = draw_video(5, rng(1))
    write_video(tmp_path / 'video.mp4', frames)
    error = decode_with_av(tmp_path / 'video.mp4').astype(int) - frames
    assert np.abs(error).mean() < 4
    assert np.abs(error.mean(axis=(0, 1, 2))).max() < 1.5  # no color shift


def test_decoded_frame_does_not_depend_on_time(tmp_path):
    frames = draw_video(2, rng(3))
    shuffled = rng(0).permutation(NUM_FRAMES)
    write_video(tmp_path / 'video.mp4', frames)
    write_video(tmp_path / 'shuffled.mp4', frames[shuffled])
    decoded = decode_with_av(tmp_path / 'video.mp4')
    np.testing.assert_array_equal(decode_with_av(tmp_path / 'shuffled.mp4'), decoded[shuffled])


@pytest.mark.parametrize(('num_videos', 'val_fraction'), [(640, 0.25), (37, 0.3), (16, 0.5)])
def test_classes_are_balanced_in_every_split(num_videos, val_fraction):
    train, val = split_labels(num_videos, val_fraction, rng(0))
    assert len(train) + len(val) == num_videos
    assert len(val) == round(num_videos * val_fraction)
    for labels in (train, val, np.concatenate([train, val])):
        counts = np.bincount(labels, minlength=len(CLASSES))
        assert counts.max() - counts.min() <= 1


def read_all(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def test_lists_contain_every_video_once(tmp_path):
    make_dataset(tmp_path, **SMALL)
    listed = []
    for name in ('train.txt', 'val.txt'):
        rows = [line.split() for line in (tmp_path / name).read_text().splitlines()]
        assert Counter(int(label) for _, label in rows) == Counter(range(8))
        listed += [path for path, _ in rows]
    assert sorted(listed) == sorted(name for name in read_all(tmp_path) if name.endswith('.mp4'))
    assert (tmp_path / 'classes.txt').read_text().splitlines() == list(CLASSES)
    assert CLASSES[:2] == ('moving right: disc then cross', 'moving right: cross then disc')


def test_listed_label_matches_the_video_file(tmp_path):
    make_dataset(tmp_path, **SMALL)
    for line in (tmp_path / 'val.txt').read_text().splitlines():
        name, label = line.split()
        frames = decode_with_av(tmp_path / name)
        shapes = [shape_of(frames[event[4]]) for event in EVENTS]
        direction = direction_of(frames[EVENTS[0].start : EVENTS[0].stop])
        assert CLASSES[int(label)] == f'moving {direction}: {shapes[0]} then {shapes[1]}'


def test_equal_seeds_give_identical_files(tmp_path):
    for name, seed in (('one', 3), ('same', 3), ('other', 4)):
        make_dataset(tmp_path / name, seed=seed, **SMALL)
    one, same, other = (read_all(tmp_path / name) for name in ('one', 'same', 'other'))
    assert one == same
    videos = [name for name in one if name.endswith('.mp4')]
    assert all(one[name] != other[name] for name in videos)
    assert len({one[name] for name in videos}) == len(videos)


# Repeated and invalid calls -----------------------------------------------------------------------


def test_complete_dataset_is_not_rewritten(tmp_path):
    assert make_dataset(tmp_path, **SMALL)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*')}
    assert not make_dataset(tmp_path, **SMALL)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*')}


@pytest.mark.parametrize('lost', ['val.txt', 'videos/00003.mp4'])
def test_incomplete_dataset_is_rewritten(tmp_path, lost):
    make_dataset(tmp_path, **SMALL)
    whole = read_all(tmp_path)
    (tmp_path / lost).unlink()
    assert make_dataset(tmp_path, **SMALL)
    assert read_all(tmp_path) == whole


def test_overwrite_replaces_a_dataset_with_other_arguments(tmp_path):
    make_dataset(tmp_path, **SMALL)
    before = read_all(tmp_path)
    with pytest.raises(FileExistsError, match=r'seed\W+0\W.*\b1\b.*--overwrite'):
        make_dataset(tmp_path, seed=1, **SMALL)
    assert read_all(tmp_path) == before
    assert make_dataset(tmp_path, seed=1, overwrite=True, **SMALL)
    assert read_all(tmp_path).keys() == before.keys()
    assert read_all(tmp_path) != before


@pytest.mark.parametrize('overwrite', [False, True])
def test_other_files_are_never_deleted(tmp_path, overwrite):
    (tmp_path / 'thesis.txt').write_text('years of work')
    with pytest.raises(FileExistsError, match=str(tmp_path)):
        make_dataset(tmp_path, overwrite=overwrite, **SMALL)
    with pytest.raises(FileExistsError, match='thesis.txt'):
        make_dataset(tmp_path / 'thesis.txt', overwrite=overwrite, **SMALL)
    assert read_all(tmp_path) == {'thesis.txt': b'years of work'}
