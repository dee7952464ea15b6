from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dsanet.config.loading import load_config
from dsanet.config.shipped import list_configs
from dsanet.inference.pipelines import build_pipeline, choose_views, find_test_dataset
from dsanet.inference.sources import find_sources
from tests.make_videos import draw_frames, read_index, write_frames, write_video

SAMPLE = {'type': 'SampleSnippets', 'num_snippets': 2, 'frames_per_snippet': 2, 'num_groups': 2}
REST = [{'type': 'ThreeCrop', 'size': 72}, {'type': 'PackInputs'}]
FILES = [{'type': 'OpenVideo'}, SAMPLE, {'type': 'DecodeVideo'}, *REST]
FOLDERS = [SAMPLE, {'type': 'DecodeRawFrames'}, *REST]


def read(steps: list[dict[str, Any]], video: Any) -> tuple[Any, dict[str, Any]]:
    source = find_sources(video, fps=25)[0][0]
    facts: dict[str, Any] = {}
    with source.open() as record:
        record |= {'label': -1, 'index': 0, 'rng': np.random.default_rng(0), 'facts': facts}
        return build_pipeline(steps, source.kind)(record)['inputs'], facts


@pytest.mark.parametrize('steps', [FILES, FOLDERS])
def test_every_kind_is_read_alike(tmp_path: Path, steps: list[dict[str, Any]]) -> None:
    write_video(tmp_path / 'a.mp4', 40)
    write_frames(tmp_path / 'a', 40)
    indices = []
    for video in (tmp_path / 'a.mp4', tmp_path / 'a', draw_frames(40)):
        inputs, facts = read(steps, video)
        assert inputs.shape == (6, 2, 3, 2, 72, 72)
        assert (facts['num_frames'], facts['fps']) == (40, 25)
        assert facts['frame_indices'].tolist() == [[[4, 5], [24, 25]], [[14, 15], [34, 35]]]
        indices.append([[read_index(frame.permute(1, 2, 0)) for frame in inputs[v, 1].movedim(1, 0)] for v in range(6)])
    assert indices == [[[24, 25], [34, 35]] * 3] * 3


def test_fast_views_are_the_center_of_one() -> None:
    assert choose_views(FILES, 'test') == FILES
    inputs, facts = read(choose_views(FILES, 'fast'), draw_frames(40))
    assert inputs.shape == (1, 2, 3, 2, 72, 72)
    assert facts['frame_indices'].tolist() == [[[9, 10], [29, 30]]]
    with pytest.raises(ValueError, match='slow.*test, fast'):
        choose_views(FILES, 'slow')


@pytest.mark.parametrize('name', list_configs())
def test_every_config_reads_every_kind(name: str) -> None:
    config = load_config(name, ['num_classes=3'] if name.startswith('custom/') else [])
    steps = find_test_dataset(config)['pipeline']
    for views in ('test', 'fast'):
        for kind in ('video', 'frames', 'array'):
            assert 'inputs' in build_pipeline(choose_views(steps, views), kind).provides


def test_pipeline_without_inputs_raises() -> None:
    with pytest.raises(ValueError, match='PackInputs'):
        build_pipeline(FILES[:-1], 'video')


def test_first_part_of_a_mixture_is_used() -> None:
    part = {'type': 'VideoDataset', 'pipeline': FILES}
    mixture = {'type': 'MixedDataset', 'datasets': [part, {'type': 'RawFramesDataset', 'pipeline': FOLDERS}]}
    assert find_test_dataset({'test_dataloader': {'dataset': mixture}}) == part
    assert find_test_dataset({'test_dataloader': {'dataset': part}}) == part
