"""Clips of a video that are decoded together equal those that are decoded one by one."""

import numpy as np
import pytest
import torch

from dsanet.datasets import MixedDataset, RawFramesDataset, VideoDataset, build_dataloader
from dsanet.datasets.loader import EpochSampler
from dsanet.datasets.transforms import (
    DecodeRawFrames,
    DecodeVideo,
    Flip,
    OpenVideo,
    PackInputs,
    RandomResizedCrop,
    SampleSnippets,
    decoding,
)
from dsanet.datasets.video import pyav_reader
from dsanet.datasets.video.readers import READERS, is_installed
from tests.make_videos import write_frames, write_video

DECODERS = [name for name in READERS if is_installed(name)]


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp('data')
    for name in 'ab':
        write_video(root / f'{name}.mp4', 60, g='60', **{'x264-params': 'scenecut=0'})
        write_frames(root / name, 20)
    (root / 'videos.txt').write_text('a.mp4 0\nb.mp4 1\na.mp4 2\n')
    (root / 'frames.txt').write_text('a 20 0\nb 20 1\n')
    (root / 'bad.txt').write_text('a.mp4 0\nnone.mp4 0\n')
    return root


def augmentation():
    return [RandomResizedCrop(16), Flip(), PackInputs()]


def videos(root, decoder='pyav', list_file='videos.txt'):
    steps = [OpenVideo(decoder), SampleSnippets(2, 3, random=True), DecodeVideo(), *augmentation()]
    return VideoDataset(steps, str(root / list_file), str(root))


def frames(root):
    steps = [SampleSnippets(2, 3, random=True), DecodeRawFrames(), *augmentation()]
    return RawFramesDataset(steps, str(root / 'frames.txt'), str(root))


def check_clips(dataset, keys):
    together = dataset.__getitems__(keys)
    alone = [dataset[key] for key in keys]
    for one, other in zip(together, alone, strict=True):
        assert one.keys() == other.keys()
        assert torch.equal(one['inputs'], other['inputs'])
        assert {key: one[key] for key in one if key != 'inputs'} == {key: other[key] for key in one if key != 'inputs'}
    assert not torch.equal(together[0]['inputs'], together[1]['inputs']), 'each clip has its own random numbers'
    return together


@pytest.mark.parametrize('isolated', [False, True])
@pytest.mark.parametrize('decoder', DECODERS)
def test_clips_equal_those_loaded_alone(root, monkeypatch, decoder, isolated):
    monkeypatch.setattr(decoding, 'can_isolate', lambda: isolated)
    check_clips(videos(root, decoder), [(3, 1, 0), (3, 1, 1), (3, 1, 2), (3, 0, 4), (3, 0, 5), (4, 0, 0)])


def test_clips_of_frames_and_of_mixtures_are_equal(root):
    check_clips(frames(root), [(0, 1, 0), (0, 1, 1)])
    check_clips(MixedDataset([videos(root), frames(root)]), [(1, 4, 2), (1, 4, 3), (1, 0, 0), (1, 0, 1)])


def test_frames_of_clips_are_decoded_once(root, monkeypatch):
    opened, decoded = [], []
    real_open, real_decode = pyav_reader.open_video, pyav_reader.decode_all

    def decode(*args, **options):
        for frame in real_decode(*args, **options):
            decoded.append(frame.pts)
            yield frame

    dataset = videos(root)
    dataset[0]  # the order of the file is confirmed once
    monkeypatch.setattr(pyav_reader, 'open_video', lambda path: opened.append(path) or real_open(path))
    monkeypatch.setattr(pyav_reader, 'decode_all', decode)
    keys = [(0, 0, number) for number in range(6)]
    alone = [dataset[key] for key in keys]
    assert len(opened) == 6
    num_alone = len(decoded)
    opened.clear()
    decoded.clear()
    dataset.__getitems__(keys)
    assert len(opened) == 1
    assert len(decoded) == len(set(decoded)) <= 60
    assert len(decoded) < 0.4 * num_alone
    assert len(alone) == 6


def test_class_of_the_user_makes_each_clip(root):
    class Numbered(VideoDataset):
        def make_sample(self, index, rng):
            return super().make_sample(index, rng) | {'number': float(rng.random())}

    check_clips(Numbered(videos(root).pipeline.transforms, str(root / 'videos.txt'), str(root)), [(0, 1, 0), (0, 1, 1)])


def test_each_clip_of_a_bad_video_is_replaced(root):
    loader = build_dataloader(videos(root, list_file='bad.txt'), 4, 0, training=True, clips_per_video=2)
    (batch,) = loader
    assert sorted(batch['index'].tolist()) == [0, 0, 0, 0]
    assert [[case['path'] for case in bad] for bad in batch['bad']] == [[str(root / 'none.mp4')]] * 2


@pytest.mark.parametrize('num_workers', [0, 1])
def test_batch_has_all_clips_of_its_videos(root, num_workers):
    dataset = videos(root)
    loader = build_dataloader(dataset, 4, num_workers, training=True, seed=5, clips_per_video=2, repeat=2)
    loader.sampler.set_epoch(1)
    batches = list(loader)
    assert len(batches) == 3  # of 3 videos x 2 passes x 2 clips
    keys = list(loader.sampler)
    for number, batch in enumerate(batches):
        chosen = keys[4 * number : 4 * number + 4]
        assert batch['index'].tolist() == [index for _, index, _ in chosen]
        assert torch.equal(batch['inputs'], torch.stack([dataset[key]['inputs'] for key in chosen]))
    loader.kill_workers()


@pytest.mark.parametrize('first', [0, 6])
@pytest.mark.parametrize('world_size', [1, 2])
def test_epoch_has_each_clip_once(world_size, first):
    samplers = [EpochSampler(10, 6, 7, rank, world_size, 2, clips_per_video=3) for rank in range(world_size)]
    plain = EpochSampler(10, 2, 7, 0, 1, 2)
    for sampler in (*samplers, plain):
        sampler.set_epoch(4, first if sampler is not plain else 0)
    per_process = [list(sampler) for sampler in samplers]
    assert [len(keys) + first for keys in per_process] == [len(sampler) for sampler in samplers]
    seen = []
    for keys in per_process:
        for clips in np.array(keys).reshape(-1, 3, 3):
            assert len({tuple(key) for key in clips[:, :2].tolist()}) == 1
            assert (clips[:, 2] // 3 == clips[0, 2] // 3).all()
            assert clips[:, 2].tolist() == [clips[0, 2], clips[0, 2] + 1, clips[0, 2] + 2]
            seen.append((int(clips[0, 1]), int(clips[0, 2]) // 3))
    assert len(seen) == len(set(seen))
    order = [(index, repetition) for _, index, repetition in plain]
    assert set(seen) == set(order[first // 3 * world_size : len(samplers[0]) * world_size // 3])


def test_clips_must_fill_batches_of_training(root):
    dataset = videos(root)
    with pytest.raises(ValueError, match=r'batch_size=4 .*clips_per_video=3'):
        build_dataloader(dataset, 4, 0, training=True, clips_per_video=3)
    with pytest.raises(ValueError, match=r'clips_per_video .*\b1\b.*\b0$'):
        build_dataloader(dataset, 4, 0, training=True, clips_per_video=0)
    with pytest.raises(ValueError, match='clips_per_video'):
        build_dataloader(dataset, 4, 0, training=False, clips_per_video=2)
