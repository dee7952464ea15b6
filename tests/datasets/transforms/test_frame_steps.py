"""Steps that are applied while a video is decoded give the same frames as one step after the other."""

import re

import cv2
import numpy as np
import pytest

from dsanet.datasets.transforms import (
    CenterCrop,
    ColorJitter,
    Compose,
    DecodeRawFrames,
    DecodeVideo,
    Flip,
    MultiScaleCrop,
    OpenVideo,
    RandomResizedCrop,
    Resize,
    SampleSnippets,
    TenCrop,
    ThreeCrop,
    decoding,
)
from dsanet.datasets.transforms.base import BadSample
from dsanet.datasets.video import picture, subprocess_reader
from dsanet.datasets.video.frame_store import FrameStore
from dsanet.datasets.video.readers import READERS, VideoReader, is_installed
from tests.make_odd_videos import KINDS
from tests.make_videos import rotate_video, write_frames, write_video

DECODERS = [name for name in READERS if is_installed(name)]
STEPS = {
    'train': lambda: [RandomResizedCrop((24, 32)), Flip(), ColorJitter(0.2)],
    'multi scale': lambda: [MultiScaleCrop(40)],
    'validation': lambda: [Resize(37), CenterCrop(30)],
    'three crops': lambda: [Resize(33), ThreeCrop(20)],
    'ten crops': lambda: [CenterCrop((50, 60)), RandomResizedCrop(24), TenCrop(20)],
    'crop only': lambda: [CenterCrop((41, 33))],
    'crops only': lambda: [ThreeCrop((72, 50)), Resize(40)],
}
SAMPLING = {'num_snippets': 2, 'frames_per_snippet': 3, 'frame_interval': 2}


@pytest.fixture(scope='module')
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp('video') / 'a.mp4', 40, bf='3')


@pytest.fixture(scope='module')
def rotated(tmp_path_factory):
    path = write_video(tmp_path_factory.mktemp('video') / 'b.mp4', 40)
    rotate_video(path)
    return path


@pytest.fixture(autouse=True)
def _fresh():
    yield
    while subprocess_reader._IDLE:
        subprocess_reader._IDLE.pop().end()


def record_of(path, seed=0):
    return {'path': path, 'rng': np.random.default_rng(seed)}


def check_equal(steps, record, other):
    """Compare Compose with one step after the other."""
    together = Compose(steps, tuple(record), 'test')(record)
    for step in steps:
        other = step(other)
    np.testing.assert_array_equal(together['frames'], other['frames'])
    assert together['rng'].bit_generator.state == other['rng'].bit_generator.state, 'same random numbers'


def video_steps(kind, decoder='pyav', num_groups=1):
    sampling = SampleSnippets(**SAMPLING, num_groups=num_groups, random=num_groups == 1)
    return [OpenVideo(decoder), sampling, DecodeVideo(), *STEPS[kind]()]


@pytest.mark.parametrize(
    ('decoder', 'isolated', 'kind'),
    [('pyav', False, kind) for kind in STEPS]
    + [(decoder, isolated, 'three crops') for decoder in DECODERS for isolated in (False, True)]
    + [('pyav', True, 'train')],
)
def test_steps_while_decoding_change_nothing(video, rotated, monkeypatch, decoder, isolated, kind):
    monkeypatch.setattr(decoding, 'can_isolate', lambda: isolated)
    for path in (video, rotated):
        if decoder == 'decord' and path == rotated:
            continue  # it cannot read rotated videos of this size
        for num_groups in (1, 2):
            check_equal(video_steps(kind, decoder, num_groups), record_of(path), record_of(path))


@pytest.mark.sweep
@pytest.mark.parametrize('kind', [kind for kind in KINDS if kind not in ('Two video streams', 'Rotated by 30 degrees')])
def test_odd_videos_are_cropped_exactly(tmp_path, kind):
    path = str(KINDS[kind](tmp_path, re.sub(r'\W+', '_', kind)).path)
    for name in STEPS:
        for seed in range(4):
            check_equal(video_steps(name), record_of(path, seed), record_of(path, seed))


@pytest.mark.parametrize('kind', STEPS)
def test_raw_frames_are_cropped_while_reading(tmp_path, kind):
    folder = write_frames(tmp_path / 'a', 12)
    steps = [SampleSnippets(**SAMPLING, random=True), DecodeRawFrames(), *STEPS[kind]()]
    start = {'num_frames': 12, 'filename_tmpl': 'img_{:05d}.jpg', 'start_index': 1}
    check_equal(steps, record_of(folder) | start, record_of(folder) | start)


def test_only_crops_are_kept_and_copied(video, monkeypatch):
    shapes = []
    init = FrameStore.__init__

    def watch(self, num_frames, allocate, plan=None):
        init(self, num_frames, lambda shape: shapes.append(shape) or allocate(shape), plan)

    monkeypatch.setattr(FrameStore, '__init__', watch)
    converted = []
    real = picture.FrameConverter._to_rgb
    monkeypatch.setattr(
        picture.FrameConverter,
        '_to_rgb',
        lambda self, frame, **target: converted.append(frame.height * frame.width) or real(self, frame, **target),
    )
    crop = RandomResizedCrop(16, area_range=(0.2, 0.25))
    Compose([OpenVideo(), SampleSnippets(2, 3), DecodeVideo(), crop], ('path', 'rng'), 'test')(record_of(video))
    assert shapes == [(6, 16, 16, 3)]
    assert len(converted) == 6
    assert max(converted) < 0.3 * 72 * 128, 'pixels converted to RGB'


def test_subprocess_returns_only_crops(video, monkeypatch):
    monkeypatch.setattr(decoding, 'can_isolate', lambda: True)
    steps = [OpenVideo(), SampleSnippets(**SAMPLING, num_groups=3), DecodeVideo(), Resize(36), ThreeCrop(36)]
    frames = Compose(steps, ('path', 'rng'), 'test')(record_of(video))['frames']
    assert frames.shape == (3 * 3 * 6, 36, 36, 3)
    assert [process.memory.num_bytes for process in subprocess_reader._IDLE] == [3 * 6 * 36 * 64 * 3], (
        'each distinct frame once, for all crops'
    )


@pytest.mark.parametrize('isolated', [False, True])
@pytest.mark.parametrize('step', [CenterCrop(100), ThreeCrop((10, 200))])
def test_too_large_crop_is_not_a_bad_video(video, monkeypatch, isolated, step):
    monkeypatch.setattr(decoding, 'can_isolate', lambda: isolated)
    steps = [OpenVideo(), SampleSnippets(**SAMPLING), DecodeVideo(), step]
    with pytest.raises(ValueError, match='100x100|10x200') as caught:
        Compose(steps, ('path', 'rng'), 'test')(record_of(video))
    assert not isinstance(caught.value, BadSample)


def test_changed_steps_are_not_applied_early(video):
    class Twice(Resize):
        def __call__(self, record):
            record['calls'] = record.get('calls', 0) + 1
            return super().__call__(record)

    steps = [OpenVideo(), SampleSnippets(**SAMPLING), DecodeVideo(), Resize(50), Twice(40), CenterCrop(30)]
    record = Compose(steps, ('path', 'rng'), 'test')(record_of(video))
    assert (record['calls'], record['frames'].shape) == (1, (6, 30, 30, 3))


def test_reader_with_its_own_memory_is_cropped():
    class Reader(VideoReader):
        path, num_frames = 'a', 3
        frames = np.random.default_rng(0).integers(0, 256, (3, 50, 60, 3), np.uint8)

        def _read(self, indices):
            memory = self.allocate((len(indices), 50, 60, 3))
            memory[:] = self.frames[indices]
            return memory

        def close(self):
            pass

    shared = np.zeros((3, 60, 72, 3), np.uint8)
    reader = Reader()
    reader.allocate = lambda shape: shared.reshape(-1)[: np.prod(shape)].reshape(shape)
    record = {'reader': reader, 'frame_indices': np.array([[[0, 2]]]), 'rng': None}
    frames = DecodeVideo().decode([record], [Resize(60)])[0]['frames']
    expected = [cv2.resize(Reader.frames[index], (72, 60)) for index in (0, 2)]
    np.testing.assert_array_equal(frames, expected)
    assert np.shares_memory(frames, shared)
