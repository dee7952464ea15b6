import numpy as np
import pytest
import torch

from dsanet.datasets import VideoDataset
from dsanet.datasets.transforms import CenterCrop, DecodeVideo, OpenVideo, PackInputs, SampleSnippets, ThreeCrop
from tests.make_videos import read_center, read_index, write_video

NUM_FRAMES, U, T, INTERVAL = 100, 4, 3, 2


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data')
    write_video(folder / 'a.mp4', NUM_FRAMES)
    (folder / 'test.txt').write_text('a.mp4 2\n')
    return folder


@pytest.mark.parametrize('num_groups', [1, 2])
@pytest.mark.parametrize('num_crops', [1, 3])
def test_views_are_crops_of_interleaved_snippets(data, num_crops, num_groups):
    pipeline = [
        OpenVideo(),
        SampleSnippets(U, T, INTERVAL, num_groups=num_groups),
        DecodeVideo(),
        ThreeCrop(72) if num_crops == 3 else CenterCrop(72),
        PackInputs(),
    ]
    inputs = VideoDataset(pipeline, str(data / 'test.txt'), str(data))[0]['inputs']
    assert inputs.shape == (num_crops * num_groups, U, 3, T, 72, 72)
    assert inputs.dtype == torch.uint8

    # The starts of all snippets, and the centers of the crops of a frame 128 pixels wide, by hand.
    num_starts = NUM_FRAMES - T * INTERVAL + 1
    num_all = U * num_groups
    starts = [int((s + 0.5) * num_starts / num_all) for s in range(num_all)]
    centers = [36 / 128, 64 / 128, 92 / 128] if num_crops == 3 else [64 / 128]
    for view in range(num_crops * num_groups):
        crop, group = divmod(view, num_groups)
        for u in range(U):
            frames = inputs[view, u].permute(1, 2, 3, 0)  # (T, H, W, C)
            start = starts[group + u * num_groups]
            assert [read_index(frame) for frame in frames] == [start + k * INTERVAL for k in range(T)]
            assert [read_center(frame) for frame in frames] == pytest.approx([centers[crop]] * T, abs=0.03)


def test_inputs_share_channels_last_memory_with_frames():
    frames = np.random.default_rng(0).integers(0, 256, (2 * 4 * 3, 5, 6, 3), np.uint8)
    record = {'frames': frames, 'frame_indices': np.zeros((2, 4, 3), np.int64)}
    inputs = PackInputs()(record)['inputs']
    assert inputs.shape == (2, 4, 3, 3, 5, 6)
    assert inputs.data_ptr() == frames.ctypes.data
    assert inputs.permute(0, 1, 3, 4, 5, 2).is_contiguous()
    for v, u, c, t, h, w in [(1, 2, 0, 1, 4, 5), (0, 3, 2, 2, 0, 1), (1, 0, 1, 0, 3, 3)]:
        assert inputs[v, u, c, t, h, w] == frames[v * 12 + u * 3 + t, h, w, c]


def test_cropped_frames_are_packed():
    frames = np.arange(2 * 6 * 8 * 3, dtype=np.uint8).reshape(2, 6, 8, 3)
    record = {'frames': frames[:, 1:4, 2:7], 'frame_indices': np.zeros((1, 1, 2), np.int64)}
    inputs = PackInputs()(record)['inputs']
    assert (inputs[0, 0].permute(1, 2, 3, 0).numpy() == frames[:, 1:4, 2:7]).all()


def test_only_label_path_and_index_are_kept():
    record = {
        'frames': np.zeros((1, 2, 2, 3), np.uint8),
        'frame_indices': np.zeros((1, 1, 1), np.int64),
        'rng': np.random.default_rng(0),
        'num_frames': 7,
        'path': 'a.mp4',
    }
    assert set(PackInputs()(dict(record))) == {'inputs', 'path'}
    assert set(PackInputs()(record | {'label': 3, 'index': 0})) == {'inputs', 'path', 'label', 'index'}
