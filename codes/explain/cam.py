"""Class activation maps: where a recognizer finds a class, in each frame of each snippet.

Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization, Selvaraju et al., ICCV 2017,
arXiv 1610.02391, section 3. With A[u, c] the features of snippet u and y the score of a class::

    weight[u, c] = mean over T', H', W' of dy / dA[u, c]
    map[u]       = ReLU(sum over c of weight[u, c] * A[u, c])

Letters (see ``dsanet``): V views, U snippets, T frames, C channels, H x W pixels, K classes.
"""

import contextlib
import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from dsanet.config.arguments import nearest
from dsanet.inference.pipelines import build_pipeline, choose_views
from dsanet.inference.recognizer import Recognizer
from dsanet.inference.samples import LoadedSamples, load_samples
from dsanet.inference.sources import Source
from dsanet.models.backbones.feature_layout import first_tensor, replace_first

_MAX_LISTED = 8

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ActivationMaps:
    """The maps of one view of a video.

    Args:
        video: name of the video.
        layer: name of the module whose features the maps are of.
        label: class of the maps.
        score: its output before softmax or sigmoid.
        probability: its probability.
        is_predicted: whether it is the class with the highest score.
        frames: uint8 (U, T, H, W, 3), RGB, as the network sees them.
        frame_indices: (U, T), frames in the video.
        num_frames: number of frames of the video.
        maps: float32 (U, T', H', W') >= 0, of the size of the layer.
    """

    video: str
    layer: str
    label: str
    score: float
    probability: float
    is_predicted: bool
    frames: npt.NDArray[np.uint8]
    frame_indices: npt.NDArray[np.int64]
    num_frames: int
    maps: npt.NDArray[np.float32]

    @property
    def is_empty(self) -> bool:
        """True if all maps are zero, as no channel with a positive sum speaks for the class."""
        return not self.maps.any()

    def scaled(self) -> npt.NDArray[np.float32]:
        """Return the maps in the size of the frames, (U, T, H, W), divided by their largest value in the video."""
        large = nn.functional.interpolate(
            torch.from_numpy(self.maps)[:, None], self.frames.shape[1:4], mode='trilinear', align_corners=False
        )[:, 0]  # (U, T, H, W)
        return (large / large.max().clamp(min=torch.finfo(torch.float32).tiny)).numpy()

    def shares(self) -> npt.NDArray[np.float32]:
        """Return the share of each snippet in the sum of all maps, (U,); zeros if all maps are zero."""
        sums = self.maps.sum(axis=(1, 2, 3))
        total = sums.sum()
        return sums / total if total > 0 else sums


def explain_video(
    recognizer: Recognizer, source: Source, layer: str | None = None, label: str | None = None
) -> ActivationMaps:
    """Compute the maps of a video, for the center of a single view.

    Args:
        recognizer: the model.
        source: the video.
        layer: name of a module; None for the last one with positions in time and space.
        label: name of a class; None for the predicted one.

    Raises:
        ValueError: the video cannot be read, or there is no such class or layer.
        FileNotFoundError: the video does not exist.
    """
    source.check_exists()
    _check_label(recognizer, label)  # before the video is read
    pipeline = build_pipeline(choose_views(recognizer.steps, 'fast'), source.kind, recognizer.frames_fps)
    samples = next(load_samples([source], {source.kind: pipeline}, 1))
    if samples.errors:
        raise ValueError(samples.errors[0])
    return explain_samples(recognizer, samples, source.name, layer, label)


def explain_samples(
    recognizer: Recognizer, samples: LoadedSamples, video: str, layer: str | None = None, label: str | None = None
) -> ActivationMaps:
    """Compute the maps of a video that is loaded already.

    Args:
        recognizer: the model.
        samples: of one video, which could be read; the maps are of its first view.
        video: its name.
        layer, label: see :func:`explain_video`.

    Raises:
        ValueError: there is no such class or layer.
    """
    _check_label(recognizer, label)
    names = recognizer.class_names
    view = samples.batches[0]['inputs'][0, 0]  # (U, C, T, H, W)
    maps, scores, layer = compute_maps(recognizer, view, layer, None if label is None else names.index(label))
    best = int(scores.argmax())
    number = best if label is None else names.index(label)
    if not maps.any():
        logger.warning('%s: all maps of %s are zero: nothing in this layer speaks for %r', video, layer, names[number])
    return ActivationMaps(
        video,
        layer,
        names[number],
        float(scores[number]),
        float(recognizer.model.cls_head.probabilities(scores)[number]),
        number == best,
        view.permute(0, 2, 3, 4, 1).numpy(),  # (U, T, H, W, C)
        samples.facts[0]['frame_indices'][0],
        samples.facts[0]['num_frames'],
        maps.numpy(),
    )


def _check_label(recognizer: Recognizer, label: str | None) -> None:
    names = recognizer.class_names
    if label is not None and label not in names:
        raise ValueError(f'class={label!r} must be one of {_join(names)}.{nearest(label, names)}')


def compute_maps(
    recognizer: Recognizer, view: Tensor, layer: str | None = None, class_index: int | None = None
) -> tuple[Tensor, Tensor, str]:
    """Compute the maps of a view.

    Args:
        recognizer: the model.
        view: uint8 (U, C, T, H, W).
        layer: name of a module; None for ``Backbone.cam_layer``, or the last layer before it with at least 2 x 2
            positions if it has a single one, as with small frames.
        class_index: the class; None for that with the highest score.

    Returns:
        Maps (U, T', H', W'), scores (K,) and the name of the layer, float32 on the CPU.

    Raises:
        ValueError: the layer does not exist, or has no positions in time and space.
    """
    backbone = recognizer.model.backbone
    name = layer or '.'.join(filter(None, ('backbone', backbone.cam_layer)))
    if not name.startswith('backbone') or name not in dict(recognizer.model.named_modules()):
        raise _layer_error(name, 'does not exist in the backbone', recognizer, view)
    found = _run(recognizer, view, name, class_index)
    if found is None and layer is None:
        earlier = _find_earlier_layer(name, _find_layers(recognizer, view))
        if earlier is not None:
            logger.info('%s has a single position in each frame; the maps are those of %s', name, earlier)
            found, name = _run(recognizer, view, earlier, class_index), earlier
    if found is None:
        raise _layer_error(name, 'has no positions in time and space, or is used several times', recognizer, view)
    return *found, name


def _run(recognizer: Recognizer, view: Tensor, name: str, class_index: int | None) -> tuple[Tensor, Tensor] | None:
    """Return the maps of a layer and the scores; None if the layer has no maps."""
    model = recognizer.model
    leaves: list[Tensor] = []
    scores: list[Tensor] = []

    def cut(_module: nn.Module, _arguments: Any, output: Any) -> Any:
        features = first_tensor(output)
        if features is None:
            return output
        # The graph starts here: gradients do not depend on which weights are frozen.
        leaves.append(features.detach().requires_grad_())
        return replace_first(output, leaves[-1].clone())  # the next layer may change it in place

    # Threads that share the model must not run through each other's hooks.
    with recognizer.lock, contextlib.ExitStack() as hooks, torch.enable_grad():
        hook = model.get_submodule(name).register_forward_hook(cut)
        hooks.callback(hook.remove)
        hook = model.cls_head.register_forward_hook(lambda _module, _arguments, output: scores.append(output))
        hooks.callback(hook.remove)
        model(view[None, None].to(recognizer.device))
        score = scores[0][0]  # (K,)
        number = int(score.argmax()) if class_index is None else class_index
        found = len(leaves) == 1 and score.requires_grad
        gradient = torch.autograd.grad(score[number], leaves[0])[0] if found else None
    features = _to_maps(leaves[0].detach(), name, model.backbone, len(view)) if found else None
    if gradient is None or features is None:
        return None
    slopes = _to_maps(gradient, name, model.backbone, len(view))
    assert slopes is not None, 'a gradient has the shape of its features'
    weights = slopes.mean(dim=(2, 3, 4), keepdim=True)  # (U, C, 1, 1, 1)
    maps = (weights * features).sum(dim=1).relu()  # (U, T', H', W')
    return maps.float().cpu(), score.detach().float().cpu()


def _to_maps(output: Tensor, name: str, backbone: Any, num_snippets: int) -> Tensor | None:
    """Return an output as (U, C, T', H', W'); None if it has no such axes."""
    submodule = name.removeprefix('backbone').removeprefix('.')
    layout = backbone.feature_layout(submodule, output.shape)
    maps = None if layout is None else layout.unpack(output)
    if maps is None or len(maps) != num_snippets or math.prod(maps.shape[3:]) == 1:
        return None
    return maps  # (U, C, T', H', W')


def _layer_error(name: str, problem: str, recognizer: Recognizer, view: Tensor) -> ValueError:
    layers = sorted(_find_layers(recognizer, view), key=lambda layer: layer.count('.'))  # the upper levels first
    return ValueError(f'layer={name!r} {problem}; choose one of {_join(layers)}.{nearest(name, layers)}')


def _find_earlier_layer(name: str, layers: dict[str, tuple[int, int]]) -> str | None:
    """Return the last layer with at least 2 x 2 positions, on the level of ``name`` if there is one.

    Args:
        name: the layer that is replaced.
        layers: from :func:`_find_layers`.

    Returns:
        The layer; the one with the most positions if none has 2 x 2; None if there are no layers.
    """
    wide = [one for one, size in layers.items() if min(size) > 1]
    on_level = [one for one in wide if one.count('.') == name.count('.')]
    if wide:
        return (on_level or wide)[-1]
    return max(layers, key=lambda one: math.prod(layers[one]), default=None)


@torch.no_grad()
def _find_layers(recognizer: Recognizer, view: Tensor) -> dict[str, tuple[int, int]]:
    """Return height and width of the maps of each layer that has maps and is used once, in the order of the results."""
    model = recognizer.model
    found: list[tuple[str, tuple[int, int]]] = []
    with recognizer.lock, contextlib.ExitStack() as hooks:
        for name, module in model.named_modules():
            if name.startswith('backbone'):

                def note(_module: nn.Module, _arguments: Any, output: Any, name: str = name) -> None:
                    features = first_tensor(output)
                    maps = None if features is None else _to_maps(features, name, model.backbone, len(view))
                    if maps is not None:
                        found.append((name, (maps.shape[3], maps.shape[4])))

                hook = module.register_forward_hook(note)
                hooks.callback(hook.remove)
        model(view[None, None].to(recognizer.device))
    calls = Counter(name for name, _ in found)
    return {name: size for name, size in found if calls[name] == 1}


def _join(names: Sequence[str]) -> str:
    more = len(names) - _MAX_LISTED
    return ', '.join(names[:_MAX_LISTED]) + f' and {more} more' * (more > 0)
