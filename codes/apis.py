"""The Python API: build models from configs, and predict with trained ones. Import these names from ``dsanet``.

>>> from dsanet import build_model, inference_recognizer, init_recognizer
>>> build_model('kinetics/r50_e100_s1_8')(frames).shape  # (N, V, U, C, T, H, W) -> (N, K)
torch.Size([1, 400])
>>> model = init_recognizer('work_dirs/finetune_videos/best.pth')
>>> inference_recognizer(model, 'clip.mp4')
[('wave', 0.93), ('clap', 0.04), ...]
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dsanet.config.loading import load_config
from dsanet.config.registry import MODELS, TRANSFORMS, build
from dsanet.config.shipped import list_configs
from dsanet.datasets.classes import find_class_names
from dsanet.datasets.loader import collate
from dsanet.datasets.transforms.compose import Compose
from dsanet.engine.preparation import check_clip_shape, place_model
from dsanet.inference.loading import class_names_for_checkpoint, config_for_checkpoint
from dsanet.inference.model_sources import read_model
from dsanet.models.recognizers.recognizer3d import Recognizer3D
from dsanet.models.weights.loading import load_weights
from dsanet.utils.class_names import ClassNames
from dsanet.utils.files import check_path

__all__ = [
    'LoadedRecognizer',
    'build_model',
    'inference_recognizer',
    'init_recognizer',
    'list_models',
    'load_config',
    'load_weights',
]


def list_models(pattern: str = '*') -> list[str]:
    """Return the sorted names of DSANet's configs.

    Args:
        pattern: shell pattern of the names, such as ``'*tsm*'``.
    """
    return list_configs(pattern)


def build_model(
    config: str | Path | Mapping[str, Any], options: Iterable[str] = (), pretrained: bool = False
) -> Recognizer3D:
    """Build the recognizer of a config, on the CPU and in training mode.

    Args:
        config: a config file, one of :func:`list_models`, or a loaded config.
        options: overrides as for ``--cfg-options``, such as ``['num_classes=8']``.
        pretrained: load the weights file that the config names for its backbone. Otherwise all weights are random,
            drawn from torch's generator.

    Raises:
        FileNotFoundError, KeyError, ValueError: an error in the config or in the weights file.
    """
    model = build(load_config(config, options)['model'], MODELS, 'model')
    if pretrained:
        model.init_weights()
    return model


@dataclass(frozen=True)
class LoadedRecognizer:
    """A recognizer in eval mode with its preprocessing.

    Args:
        model: the recognizer.
        pipeline: the pipeline of the config's test dataset, so that a file is processed as in a test.
        class_names: names by class number, from the checkpoint or else the config; if neither has any, the numbers.
        device: device of the model.
    """

    model: Recognizer3D
    pipeline: Compose
    class_names: list[str]
    device: torch.device


def init_recognizer(
    config: str | Path | Mapping[str, Any],
    checkpoint: str | Path | None = None,
    device: str = 'cpu',
    options: Iterable[str] = (),
) -> LoadedRecognizer:
    """Load a trained recognizer from a DSANet checkpoint, or from a config and weights.

    Args:
        config: the config of the weights, as for :func:`build_model`; or a DSANet checkpoint, which includes its
            config: a file, ``local-dir:FOLDER`` or ``hf-hub:USER/NAME``.
        checkpoint: weights for all parameters of the config's model.
        device: such as 'cpu' or 'cuda:0'.
        options: overrides as for ``--cfg-options``, such as ``['model.average_views=prob']``.

    Raises:
        FileNotFoundError, KeyError, ValueError: an error in the config or weights, a checkpoint without a config, or
            a config with other class names.
    """
    given: str | Path | Mapping[str, Any] | None = config
    if checkpoint is None:
        if isinstance(config, Mapping):
            raise ValueError('init_recognizer requires a checkpoint in addition to a loaded config')
        given, checkpoint = None, config
    check_path(checkpoint, 'checkpoint')
    try:
        target = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device={device!r} must be a device such as 'cpu' or 'cuda:0'") from error
    checkpoint, content = read_model(checkpoint)
    loaded = config_for_checkpoint(checkpoint, content, given, options)
    model = build(loaded['model'], MODELS, 'model')
    check_clip_shape(model, loaded, ['test_dataloader'])
    load_weights(model, checkpoint, strict=True, content=content)
    # The data that a stored config refers to may have changed since, and is not used here.
    path = 'test_dataloader.dataset'
    data = find_class_names(loaded['test_dataloader']['dataset'], path) if given is not None else ClassNames(None, path)
    names = class_names_for_checkpoint(checkpoint, content, model.num_classes, data)
    steps = [
        build(step, TRANSFORMS, f'test_dataloader.dataset.pipeline.{i}')
        for i, step in enumerate(loaded['test_dataloader']['dataset']['pipeline'])
    ]
    pipeline = Compose(steps, ('path', 'label', 'index', 'rng'), owner='inference')
    place_model(model, target)
    model.eval()
    return LoadedRecognizer(model, pipeline, names or [str(k) for k in range(model.num_classes)], target)


@torch.no_grad()
def inference_recognizer(recognizer: LoadedRecognizer, path: str | Path) -> list[tuple[str, float]]:
    """Classify one video file with the same views as in a test.

    Args:
        recognizer: from :func:`init_recognizer`.
        path: the video file. Arrays of frames are not accepted.

    Returns:
        (class name, probability) of every class, the most probable first.

    Raises:
        FileNotFoundError, ValueError, RuntimeError: the video does not exist or cannot be read.
        TypeError: ``path`` is neither a str nor a Path.
    """
    if not isinstance(recognizer, LoadedRecognizer):
        raise TypeError(f'recognizer must come from init_recognizer, got {type(recognizer).__name__}')
    video = check_path(path, 'path', ' of a video file')
    # The label is not used, but collate requires one.
    record = {'path': video, 'label': -1, 'index': 0, 'rng': np.random.default_rng(0)}
    batch = collate([recognizer.pipeline(record)])
    scores = recognizer.model(batch['inputs'])[0]  # (K,)
    prob = scores if recognizer.model.activation == 'none' else recognizer.model.cls_head.probabilities(scores)
    order = prob.argsort(descending=True).tolist()
    return [(recognizer.class_names[k], prob[k].item()) for k in order]
