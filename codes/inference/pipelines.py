"""Pipelines for the videos of a user, from the test pipeline of a config, whichever kind of videos that one reads."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dsanet.config.registry import TRANSFORMS, build
from dsanet.datasets.transforms.base import Record, Transform
from dsanet.datasets.transforms.compose import Compose

VIEWS = ('test', 'fast')
_DISTANCES = ('frame_interval', 'fps', 'seconds')  # of the frames of a snippet
_INITIAL = ('path', 'label', 'index', 'rng')
# Keys of the initial record for each kind of source.
_PROVIDED = {
    'video': _INITIAL,
    'frames': (*_INITIAL, 'num_frames', 'fps', 'filename_tmpl', 'start_index'),
    'array': (*_INITIAL, 'reader', 'num_frames', 'fps'),
}


class _Note(Transform):
    """Store facts about the video in the dict ``record['facts']``, which the caller keeps."""

    requires = ('frame_indices', 'num_frames', 'fps')

    def __call__(self, record: Record) -> Record:
        facts = record['facts']
        facts['frame_indices'] = record['frame_indices']
        facts['frame_times'] = record.get('frame_times')
        facts['num_frames'] = record['num_frames']
        facts['fps'] = record['fps']
        return record


class _DefaultRate(Transform):
    """Use the frame rate in the config for folders whose rate the caller does not know."""

    requires = ('fps',)

    def __init__(self, fps: float) -> None:
        self.fps = fps

    def __call__(self, record: Record) -> Record:
        if record['fps'] is None:
            record['fps'] = self.fps
        return record


def find_test_dataset(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the config of the test dataset; the first one of a mixture."""
    dataset = config['test_dataloader']['dataset']
    return dataset['datasets'][0] if 'datasets' in dataset else dataset


def choose_views(steps: Sequence[Mapping[str, Any]], views: str) -> list[dict[str, Any]]:
    """Return the steps of a pipeline for 'test', all views of the config, or 'fast', the center of a single view.

    Raises:
        ValueError: ``views`` is neither.
    """
    if views not in VIEWS:
        raise ValueError(f'views={views!r} must be one of {", ".join(VIEWS)}')
    if views == 'test':
        return [dict(step) for step in steps]
    return [_with_one_view(step) for step in steps]


def _with_one_view(step: Mapping[str, Any]) -> dict[str, Any]:
    if step['type'] in ('ThreeCrop', 'TenCrop'):
        return {'type': 'CenterCrop', 'size': step['size']}
    return {**step, **({'num_groups': 1} if 'num_groups' in step else {})}


def complete_record(record: Record, index: int = 0) -> dict[str, Any]:
    """Add what a pipeline requires in addition to the video, in place; return the dict of facts that it will fill.

    Args:
        record: from ``Source.open``.
        index: number of the video.
    """
    facts: dict[str, Any] = {}
    # The label is not used, but PackInputs requires one. The generator is that of a test.
    record |= {'label': -1, 'index': index, 'rng': np.random.default_rng(0), 'facts': facts}
    return facts


def with_defaults(step: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of a transform with the default values of all arguments that it does not set.

    Of ``frame_interval``, ``fps`` and ``seconds``, a sampling step has the one that is used.
    """
    parameters = inspect.signature(TRANSFORMS.module_dict[step['type']]).parameters.values()
    complete = {'type': step['type'], **{one.name: step.get(one.name, one.default) for one in parameters}}
    if complete.keys() >= set(_DISTANCES):
        unused = {name for name in _DISTANCES if complete[name] is None}
        complete = {name: value for name, value in complete.items() if name not in unused}
        if len(unused) == len(_DISTANCES):
            complete['frame_interval'] = 1
    return complete


def find_sampling(steps: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the step of a pipeline that samples snippets, with all its arguments; None if there is none."""
    complete = map(with_defaults, steps)
    return next((step for step in complete if {'num_snippets', 'frames_per_snippet'} <= step.keys()), None)


def build_pipeline(steps: Sequence[Mapping[str, Any]], kind: str, fps: float | None = None) -> Compose:
    """Build a pipeline for a kind of source; its record needs a dict ``facts`` in addition to the keys of a dataset.

    Args:
        steps: of a config, for video files or for folders of frames.
        kind: see ``Source``.
        fps: frames per second of folders of frames, if the caller of the pipeline does not know them; None if unknown.

    Raises:
        ValueError: the steps neither read a video file nor a folder of frames, and the kind is another one, or they
            do not end with the input of a model.
    """
    types = [step['type'] for step in steps]
    adapted: list[Mapping[str, Any]] = []
    for step in steps:
        if step['type'] == 'OpenVideo' and kind != 'video':
            continue
        if step['type'] in ('DecodeVideo', 'DecodeRawFrames'):
            step = {'type': 'DecodeRawFrames'} if kind == 'frames' else {'type': 'DecodeVideo'}
        adapted.append(step)
    if kind == 'video' and 'OpenVideo' not in types and 'DecodeRawFrames' in types:
        adapted.insert(0, {'type': 'OpenVideo'})
    transforms = [build(step, TRANSFORMS, f'test_dataloader.dataset.pipeline.{i}') for i, step in enumerate(adapted)]
    if kind == 'frames' and fps is not None:
        transforms.insert(0, _DefaultRate(fps))
    place = next((i for i, step in enumerate(transforms) if 'frame_indices' in step.provides), None)
    if place is not None:
        transforms.insert(place + 1, _Note())
    pipeline = Compose(transforms, _PROVIDED[kind], owner='inference')
    if 'inputs' not in pipeline.provides:
        raise ValueError('test_dataloader.dataset.pipeline does not provide inputs; add PackInputs at its end')
    return pipeline
