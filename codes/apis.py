"""The Python API: build models from configs, and predict with trained ones. Import these names from ``dsanet``.

>>> from dsanet import build_model, load_recognizer
>>> build_model('kinetics/r50_e100_s1_8')(frames).shape  # (N, V, U, C, T, H, W) -> (N, K)
torch.Size([1, 400])
>>> recognizer = load_recognizer('work_dirs/finetune_videos/best.pth')
>>> recognizer('clip.mp4', topk=2).labels
['wave', 'clap']
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dsanet.config.loading import load_config
from dsanet.config.registry import MODELS, build
from dsanet.config.shipped import list_configs
from dsanet.inference.long.predictor import predict_long
from dsanet.inference.prediction import Prediction
from dsanet.inference.recognizer import Recognizer, load_recognizer
from dsanet.inference.sources import Video
from dsanet.models.recognizers.recognizer3d import Recognizer3D
from dsanet.models.weights.loading import load_weights

__all__ = [
    'Prediction',
    'Recognizer',
    'build_model',
    'inference_recognizer',
    'init_recognizer',
    'list_models',
    'load_config',
    'load_recognizer',
    'load_weights',
    'predict_long',
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


def init_recognizer(
    config: str | Path | Mapping[str, Any],
    checkpoint: str | Path | None = None,
    device: str = 'cpu',
    options: Iterable[str] = (),
) -> Recognizer:
    """Load a trained recognizer: :func:`load_recognizer` with the arguments of mmaction.

    Args:
        config: the config of the weights, as for :func:`build_model`; or a DSANet checkpoint, which includes its
            config.
        checkpoint: weights for all parameters of the config's model.
        device: such as 'cpu' or 'cuda:0'.
        options: overrides as for ``--cfg-options``, such as ``['model.average_views=prob']``.

    Raises:
        FileNotFoundError, KeyError, ValueError: an error in the config or weights, a checkpoint without a config, or
            a config with other class names.
    """
    if checkpoint is not None:
        return load_recognizer(checkpoint, device, config=config, options=options)
    if isinstance(config, Mapping):
        raise ValueError('init_recognizer requires a checkpoint in addition to a loaded config')
    return load_recognizer(config, device, options=options)


def inference_recognizer(recognizer: Recognizer, video: Video) -> list[tuple[str, float]]:
    """Classify one video with the same views as in a test.

    Args:
        recognizer: from :func:`init_recognizer` or :func:`load_recognizer`.
        video: a video file, a folder of frames, frames (T, H, W, 3) uint8 RGB, or the content of a video file.

    Returns:
        (class name, probability) of every class, the most probable first.

    Raises:
        FileNotFoundError, ValueError: the video does not exist or cannot be read.
        TypeError: ``video`` is of another kind, or ``recognizer`` is not a recognizer.
    """
    if not isinstance(recognizer, Recognizer):
        raise TypeError(f'recognizer must come from init_recognizer, got {type(recognizer).__name__}')
    result = recognizer(video, topk=len(recognizer.class_names))
    if not isinstance(result, Prediction):
        raise TypeError(f'{video!r} is not a single video; call the recognizer itself with several videos')
    return list(zip(result.labels, result.probabilities, strict=True))
