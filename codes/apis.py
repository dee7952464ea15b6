"""Using a trained recogniser from Python, for configs that test on video files.

>>> model = init_recognizer('configs/custom/finetune_videos.py', 'best.pth', options=['num_classes=12'])
>>> inference_recognizer(model, 'clip.mp4')
[('wave', 0.93), ('clap', 0.04), ...]
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from dsanet.config.loading import Config, load_config
from dsanet.config.registry import MODELS, TRANSFORMS, build
from dsanet.datasets.loader import collate
from dsanet.datasets.transforms.compose import Compose
from dsanet.engine.preparation import check_sampling, place_model
from dsanet.models.recognizers.recognizer3d import Recognizer3D
from dsanet.models.weights.loading import load_weights
from dsanet.utils.checkpoint_io import read_checkpoint


@dataclass(frozen=True)
class LoadedRecognizer:
    """A recogniser in eval mode with what it takes to feed it.

    Args:
        model: the recogniser.
        pipeline: the steps of the config's test data set, so that a file is seen as in a test.
        class_names: names by class number; the numbers as text if the checkpoint has no names.
        device: where the model is.
    """

    model: Recognizer3D
    pipeline: Compose
    class_names: list[str]
    device: torch.device


def init_recognizer(
    config: str | Path | Config, checkpoint: str | Path, device: str = 'cpu', options: Iterable[str] = ()
) -> LoadedRecognizer:
    """Build a config's model and load its weights.

    Args:
        config: a config file, or a config that is loaded already.
        checkpoint: weights that fit it to the last key.
        device: such as 'cpu' or 'cuda:0'.
        options: overrides as for ``--cfg-options``, a list such as ``['num_classes=8']``; for a config file only.

    Raises:
        FileNotFoundError, KeyError, ValueError: as ``load_config`` and ``load_weights``.
    """
    if isinstance(config, Config) and list(options):
        raise ValueError('options are for a config file; this config is loaded already')
    loaded = config if isinstance(config, Config) else load_config(config, options)
    model = build(loaded['model'], MODELS, 'model')
    check_sampling(model, loaded, ['test_dataloader'])
    load_weights(model, checkpoint, strict=True)
    names = read_checkpoint(checkpoint).get('class_names') or [str(k) for k in range(model.num_classes)]
    steps = [
        build(step, TRANSFORMS, f'test_dataloader.dataset.pipeline.{i}')
        for i, step in enumerate(loaded['test_dataloader']['dataset']['pipeline'])
    ]
    pipeline = Compose(steps, ('path', 'label', 'index', 'rng'), owner='inference')
    target = torch.device(device)
    place_model(model, target)
    model.eval()
    return LoadedRecognizer(model, pipeline, names, target)


@torch.no_grad()
def inference_recognizer(recognizer: LoadedRecognizer, path: str | Path) -> list[tuple[str, float]]:
    """Classify one video file, with the same views as in a test.

    Args:
        recognizer: from :func:`init_recognizer`.
        path: the video.

    Returns:
        (class name, probability) for every class, the most probable first.

    Raises:
        FileNotFoundError, ValueError, RuntimeError: the video is missing or cannot be read.
    """
    # The label is not known and not used; the collate function wants one.
    record = {'path': str(path), 'label': -1, 'index': 0, 'rng': np.random.default_rng(0)}
    batch = collate([recognizer.pipeline(record)])
    scores = recognizer.model(batch['inputs'])[0]  # (K,)
    prob = scores if recognizer.model.activation == 'none' else recognizer.model.cls_head.probabilities(scores)
    order = prob.argsort(descending=True).tolist()
    return [(recognizer.class_names[k], prob[k].item()) for k in order]
