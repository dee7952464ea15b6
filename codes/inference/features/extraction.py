"""Features: the values of a layer of a recognizer, for all videos, on one or several processes.

Letters (see ``dsanet``): N videos, V views, U snippets, T frames, C channels, H x W pixels; D channels of a feature.
"""

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from dsanet.config.arguments import nearest
from dsanet.datasets.workers import WatchedLoader
from dsanet.engine.evaluator import process_batches
from dsanet.inference.features.files import VideoFeatures, is_finished, video_path, write_features
from dsanet.inference.recognizer import Recognizer
from dsanet.inference.samples import LoadedSamples
from dsanet.inference.sources import Source
from dsanet.models.backbones.feature_layout import first_tensor
from dsanet.utils import distributed

LOGGER = logging.getLogger(__name__)


class FeatureExtractor:
    """Return the values of a layer for each snippet, averaged over all other axes but the channels.

    Unlike a recognizer, it must not be used by several threads: they would see each other's layers.

    Args:
        recognizer: the model.
        layer: name of a module of the model; None for the input of the head, which is what the classifiers of
            ``I3DClsHead`` and ``TSNHead`` get after their pooling.

    Raises:
        ValueError: the model has no such module.
    """

    def __init__(self, recognizer: Recognizer, layer: str | None = None) -> None:
        self.recognizer = recognizer
        self.layer = layer
        names = {name: module for name, module in recognizer.model.named_modules() if name}
        if layer is not None and layer not in names:
            hint = nearest(layer, names) or f' Examples: {", ".join(list(names)[:4])}.'
            raise ValueError(f'layer={layer!r} is not a module of the model.{hint}')
        self._module = recognizer.model.cls_head if layer is None else names[layer]
        self._is_in_backbone = layer is not None and layer.startswith('backbone.')

    @torch.no_grad()
    def __call__(self, inputs: Tensor) -> Tensor:
        """Return the features of videos.

        Args:
            inputs: uint8 frames (N, V, U, C, T, H, W).

        Returns:
            (N, V, U, D) float32 on the CPU; (N, V, 1, D) if the layer combines the snippets of a view.

        Raises:
            ValueError: the layer is not used exactly once in a forward pass, or has no axis of snippets or views.
        """
        num_videos, num_views, num_snippets = inputs.shape[:3]
        # The model may split the views into several forward passes; each begins with the preprocessor.
        passes: list[tuple[int, list[Tensor]]] = []

        def receive(output: Any) -> None:
            size, rows = passes[-1]
            rows.append(self._pool(output, size, num_snippets))  # at once: the next layer may change it in place

        with contextlib.ExitStack() as hooks:
            hook: Any = self.recognizer.model.data_preprocessor.register_forward_pre_hook(
                lambda _module, arguments: passes.append((len(arguments[0]), []))
            )
            hooks.callback(hook.remove)
            hook = self._register(receive)
            hooks.callback(hook.remove)
            self.recognizer.score(inputs)
        if numbers := [len(rows) for _, rows in passes if len(rows) != 1]:
            raise ValueError(f'layer={self.layer!r} is called {numbers[0]} times in a forward pass; choose another')
        return torch.cat([rows[0] for _, rows in passes]).unflatten(0, (num_videos, num_views)).cpu()  # (N, V, U, D)

    def _register(self, receive: Callable[[Any], None]) -> Any:
        if self.layer is not None:
            return self._module.register_forward_hook(lambda _module, _arguments, output: receive(output))
        return self._module.register_forward_pre_hook(lambda _module, arguments: receive(arguments[0]))

    def _pool(self, output: Any, num_views: int, num_snippets: int) -> Tensor:
        """Return (N*V, U, D), or (N*V, 1, D), for the output of a forward pass with ``num_views`` views N*V."""
        # In the head, the tuple of nn.MultiheadAttention is not meant.
        found = first_tensor(output) if self._is_in_backbone or not isinstance(output, tuple) else None
        if found is None or not found.is_floating_point() or found.dim() < 2:
            kind = type(output).__name__ if found is None else tuple(found.shape)
            raise ValueError(f'layer={self.layer!r} returns {kind}, not features; choose another')
        output = found.movedim(-1, 1) if self._is_channels_last(found) else found
        # The mean of the heads, so that the features are bit for bit what the classifier gets.
        rows = (output.mean(dim=tuple(range(2, output.dim()))) if output.dim() > 2 else output).float()  # (rows, D)
        per_view, rest = divmod(len(rows), num_views)
        if rest or (per_view % num_snippets and per_view != 1):
            raise ValueError(
                f'layer={self.layer!r} has {len(rows)} rows for {num_views} views of {num_snippets} snippets; choose '
                'another'
            )
        rows = rows.unflatten(0, (num_views, per_view))  # (N*V, rows, D)
        if per_view == 1:
            return rows.clone()  # not the output itself
        return rows.unflatten(1, (num_snippets, -1)).mean(dim=2)  # (N*V, U, D)

    def _is_channels_last(self, output: Tensor) -> bool:
        layout = None
        if self.layer is not None and self._is_in_backbone:
            backbone = self.recognizer.model.backbone
            layout = backbone.feature_layout(self.layer.removeprefix('backbone.'), output.shape)
        if layout is None or layout.axes == 'BCTHW':
            return self.layer is not None and isinstance(self._module, nn.Linear | nn.LayerNorm)
        return layout.is_channels_last


def summarize(
    rows: npt.NDArray[np.float32], facts: Mapping[str, Any], source: Source, level: str, in_time_order: bool = False
) -> VideoFeatures:
    """Return the features of a video at a level, with their times.

    Args:
        rows: (V, U, D), crop-major as in ``ThreeCrop``.
        facts: from the pipeline: ``frame_indices`` and, if sampled by time, ``frame_times`` (G, U, T); ``num_frames``,
            ``fps``.
        source: the video.
        level: see ``VideoFeatures``.
        in_time_order: for level 'snippet', return all snippets in time order (G*U, D), averaged over the crops.

    Raises:
        ValueError: the layer has no rows of snippets.
    """
    places = facts['frame_indices'].mean(axis=2)  # (G, U), frame numbers
    num_groups, num_snippets = places.shape
    begin = (source.span[0] or 0.0) if source.span is not None else 0.0
    if facts.get('frame_times') is not None:
        times = begin + facts['frame_times'].mean(axis=2)  # (G, U)
    else:
        times = begin + places / facts['fps'] if facts['fps'] else np.full(places.shape, np.nan)
    if level == 'snippet' and rows.shape[1] != num_snippets:
        raise ValueError('the layer combines the snippets of a view; use --level clip or video')
    if level == 'snippet' and in_time_order:
        order = places.ravel().argsort(kind='stable')
        mean = rows.reshape(-1, *places.shape, rows.shape[2]).mean(axis=0)  # (G, U, D)
        features, times = mean.reshape(-1, rows.shape[2])[order], times.ravel()[order]  # (G*U, D)
    else:
        times = np.tile(times, (len(rows) // num_groups, 1))  # (V, U)
        features = rows
        if level != 'snippet':
            features, times = rows.mean(axis=1), times.mean(axis=1)  # (V, D)
        if level == 'video':
            features, times = features.mean(axis=0), times.mean()  # (D,)
    path, num_frames = video_path(source), facts['num_frames']
    return VideoFeatures(features, np.asarray(times, np.float64), path, num_frames, facts['fps'], source.labels)


def extract(
    extractor: FeatureExtractor,
    loader: WatchedLoader,
    sources: Sequence[Source],
    files: Sequence[Path],
    level: str,
    before_writing: Callable[[], None],
) -> tuple[int, dict[int, str]]:
    """Write the features of every video that has none yet, each exactly once, on any number of processes.

    Batches are those of a test: they do not depend on the number of processes, and a batch is skipped if all of its
    videos have features. So features are bit-identical on any number of processes, and after an interruption.

    Args:
        extractor: the model and layer.
        loader: from ``build_sample_loader``.
        sources, files: videos, and their files.
        level: see ``VideoFeatures``; NPY files have snippets in time order.
        before_writing: called before each file is written.

    Returns:
        The number of videos that had features before, and the reason for each video that has none, by its index; the
        same in all processes.

    Raises:
        OSError: a file cannot be written, or a machine error.
        ValueError: the layer does not have such features, or a file has the features of another video.
    """
    here = [i for i, (s, file) in enumerate(zip(sources, files, strict=True)) if _is_done(s, file)]
    done = {index for of_rank in distributed.all_gather_object(here) for index in of_rank}
    size = loader.batch_size or 1
    batches = [range(start, min(start + size, len(sources))) for start in range(0, len(sources), size)]
    loader.sampler.skip_batches(n for n, batch in enumerate(batches) if done.issuperset(batch))  # type: ignore[attr-defined]
    problems: dict[int, str] = {}

    def write(samples: LoadedSamples) -> None:
        problems.update(_write(extractor, samples, sources, files, level, before_writing))

    process_batches(loader, write, 'features', (OSError, ValueError))
    return len(done), {k: v for of_rank in distributed.all_gather_object(problems) for k, v in of_rank.items()}


def _is_done(source: Source, file: Path) -> bool:
    return is_finished(file, video_path(source), source.labels)


def _write(
    extractor: FeatureExtractor,
    samples: LoadedSamples,
    sources: Sequence[Source],
    files: Sequence[Path],
    level: str,
    before_writing: Callable[[], None],
) -> dict[int, str]:
    """Write the features of some videos; return the reason for each that has none."""
    problems = dict(samples.errors)
    for batch in samples.batches:
        for index, rows in zip(batch['index'].tolist(), extractor(batch['inputs']).numpy(), strict=True):
            if not np.isfinite(rows).all():
                problems[index] = f'{sources[index].name}: the features are not finite'
                continue
            is_npy = files[index].suffix == '.npy'
            content = summarize(rows, samples.facts[index], sources[index], level, in_time_order=is_npy)
            before_writing()
            write_features(content, files[index])
    for text in problems.values():
        LOGGER.warning('No features: %s', text)
    return problems
