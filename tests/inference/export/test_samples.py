from pathlib import Path

import numpy as np
import pytest
import torch

from dsanet.config.registry import TRANSFORMS, build
from dsanet.datasets.transforms.compose import Compose
from dsanet.inference.export.samples import draw_video, make_views
from tests.make_export import PIPELINE
from tests.make_videos import read_index, write_frames, write_video


def test_generated_videos_move_and_differ() -> None:
    frames = draw_video(40, 60, 0)
    assert frames.shape == (64, 40, 60, 3)
    assert frames.dtype == np.uint8
    assert all((frames[i] != frames[i + 1]).any() for i in range(63))
    assert (frames != draw_video(40, 60, 1)).any()
    assert (frames == draw_video(40, 60, 0)).all()


@pytest.mark.parametrize('number', [2, 5, 60])
def test_views_have_number_and_shape(number: int) -> None:
    num_views, views = make_views(PIPELINE, None, number)
    assert num_views == 6
    assert views.shape == (number, 2, 2, 16, 16, 3)
    assert views.dtype == torch.uint8
    first = views[: min(number, 12)]
    assert len(torch.unique(first.flatten(1), dim=0)) == len(first)


def test_views_of_a_video_equal_the_test(tmp_path: Path) -> None:
    video = write_video(tmp_path / 'a.mp4', 20)
    folders = [{**PIPELINE[0], 'num_groups': 1}, {'type': 'DecodeRawFrames'}, {'type': 'CenterCrop', 'size': 64}]
    files = [{'type': 'OpenVideo', 'decoder': 'opencv'}, folders[0], {'type': 'DecodeVideo'}, folders[2]]
    for pipeline in (folders, files):
        pipeline.append({'type': 'PackInputs'})
    steps = [build(step, TRANSFORMS) for step in files]
    record = {'path': video, 'label': 0, 'index': 0, 'rng': np.random.default_rng(0)}
    expected = Compose(steps, tuple(record), owner='test')(record)['inputs'].permute(0, 1, 3, 4, 5, 2)
    for pipeline in (folders, files):
        views = make_views(pipeline, video, 3)[1]
        assert torch.equal(views[0], expected[0])
        assert torch.equal(views[1], expected[0].flip(3))
        assert torch.equal(views[2], expected[0].flip(1))
    # Of 20 frames, 19 starts: snippets at 19 // 4 and 3 * 19 // 4.
    assert [read_index(frame) for frame in expected.reshape(4, 64, 64, 3)] == [4, 5, 14, 15]


@pytest.mark.parametrize('sampling', [{'fps': 7.5}, {'fps': 0.5}, {'seconds': 0.2}])
def test_views_sampled_by_time_use_every_other_frame(sampling: dict, tmp_path: Path) -> None:
    crop = {'type': 'CenterCrop', 'size': 64}
    steps = [PIPELINE[0] | sampling, PIPELINE[1], crop, PIPELINE[4]]
    assert make_views(steps, None, 2)[1].shape == (2, 2, 2, 64, 64, 3)
    views = make_views(steps, write_frames(tmp_path / 'clip', 64), 2)[1]
    # Of 64 frames, snippets of 4: starts at 1/8, 3/8, 5/8 and 7/8 of 60 frames, 7.5, 22.5, 37.5 and 52.5.
    assert [read_index(frame.numpy()) for frame in views.flatten(0, 2)] == [7, 9, 37, 39, 22, 24, 52, 54]
