"""The recognizer: from frames to scores or losses. Only this file folds and unfolds videos, views and snippets.

Letters (see ``dsanet``): N videos, V views, U snippets, T frames, C channels, H x W pixels, K classes.
"""

import contextlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dsanet.config.registry import MODELS
from dsanet.models.backbones.base import Backbone
from dsanet.models.batch_augment import BatchAugment
from dsanet.models.data_preprocessor import DataPreprocessor
from dsanet.models.heads.base import ClsHead
from dsanet.models.modules_maker.block_maker import check_module_cfg, insert_modules, to_meta
from dsanet.models.optimization import fold_batch_norms
from dsanet.models.weights.loading import load_weights

LOGGER = logging.getLogger(__name__)

# Ways to combine the views of a video: mean of the scores or of the probabilities.
AVERAGES = ('score', 'prob')


@MODELS.register_module()
class Recognizer3D(nn.Module):
    """A backbone for snippets and a head for views.

    Args:
        backbone: maps (N*V*U, 3, T, H, W) to (N*V*U, C, T', H', W').
        cls_head: maps the features and U to scores (N*V, K).
        module_cfg: modules to insert into the backbone, such as DSA, and their places (``block_maker``); None for
            none.
        data_preprocessor: normalizes uint8 frames; None for the mean and standard deviation of ImageNet.
        batch_augment: mixes the videos of a training batch, such as ``MixupCutmix``; None for no mixing.
        average_views: 'score' or 'prob'. With 'prob' the outputs in eval mode are probabilities.
        max_views_per_forward: maximum number of views per forward pass of the network in eval mode, which limits the
            memory of tests with many views; None for all.
    """

    section: ClassVar = 'model'  # the config section of this class
    raw_arguments: ClassVar = {'module_cfg': check_module_cfg}  # built later, when the channels are known

    def __init__(
        self,
        backbone: Backbone,
        cls_head: ClsHead,
        module_cfg: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        data_preprocessor: DataPreprocessor | None = None,
        batch_augment: BatchAugment | None = None,
        average_views: str = 'score',
        max_views_per_forward: int | None = None,
    ) -> None:
        super().__init__()
        if average_views not in AVERAGES:
            raise ValueError(f'average_views={average_views!r} must be one of {", ".join(AVERAGES)}')
        if max_views_per_forward is not None and max_views_per_forward < 1:
            raise ValueError(f'max_views_per_forward={max_views_per_forward} must be at least 1, or None')
        if getattr(cls_head, 'test_window', None) is not None:
            if backbone.is_pooled:
                raise ValueError(f'cls_head.test_window requires feature maps; {type(backbone).__name__} pools them')
            if average_views != 'prob':
                raise ValueError("cls_head.test_window averages probabilities and requires average_views='prob'")
        if not isinstance(getattr(backbone, 'out_channels', None), int):
            raise ValueError(
                f'{type(backbone).__name__} has no out_channels; its __init__ must set self.out_channels to the number '
                'of channels of the features'
            )
        if cls_head.in_channels != backbone.out_channels:
            raise ValueError(
                f'cls_head.in_channels={cls_head.in_channels} must be {backbone.out_channels}, the number of channels '
                'of the backbone'
            )
        self.data_preprocessor = data_preprocessor or DataPreprocessor()
        self.batch_augment = batch_augment
        self.backbone = backbone
        self.cls_head = cls_head
        self.average_views = average_views
        self.max_views_per_forward = max_views_per_forward
        insert_modules(backbone, module_cfg)
        backbone.train()  # applies norm_eval and frozen_stages to the inserted modules

    @property
    def num_classes(self) -> int:
        """K."""
        return self.cls_head.num_classes

    @property
    def activation(self) -> str:
        """Function from outputs in eval mode to probabilities, 'softmax', 'sigmoid', or 'none' for probabilities."""
        return 'none' if self.average_views == 'prob' else self.cls_head.activation

    def init_weights(self) -> None:
        """Load the backbone's ``pretrained`` file, if any, and log what matched."""
        if self.backbone.pretrained is not None:
            try:
                load_weights(self.backbone, self.backbone.pretrained)
            except FileNotFoundError as error:
                kind, colon, place = str(self.backbone.pretrained).partition(':')
                if colon and kind in ('local-dir', 'hf-hub'):
                    folder = place.rstrip('/') if kind == 'local-dir' else 'FOLDER'
                    download = '' if kind == 'local-dir' else f' after `hf download {place} --local-dir FOLDER`'
                    raise FileNotFoundError(
                        f'model.backbone.pretrained must be a file, got {self.backbone.pretrained!r}; use '
                        f'{folder}/model.safetensors{download}'
                    ) from error
                raise FileNotFoundError(
                    f'model.backbone.pretrained: {error}. Download the weights (ImageNet ResNets: `bash '
                    'pretrained/download_imgnet.sh DEPTH`; others: see the top of the config), or train from scratch '
                    'with --cfg-options model.backbone.pretrained=None'
                ) from error

    @torch.no_grad()
    def check_clip_shape(
        self, num_snippets: int, frames_per_snippet: int, frame_size: tuple[int, int] | None = None
    ) -> None:
        """Check that the model accepts U snippets of T frames of a (height, width), if known, on the meta device.

        Errors of torch itself, such as a pooling longer than the input, are ignored here and raised by the first
        batch, because some operators do not work on the meta device.
        """
        self._check_num_snippets(num_snippets)
        height, width = frame_size or self.backbone.probe_shape[-2:]
        with contextlib.suppress(RuntimeError):
            to_meta(self.backbone)(torch.zeros(num_snippets, 3, frames_per_snippet, height, width, device='meta'))

    def forward(self, inputs: Tensor, label: Tensor | None = None) -> Tensor | dict[str, Tensor]:
        """Compute scores, or the loss if labels are given.

        Args:
            inputs: uint8 frames (N, V, U, C, T, H, W).
            label: classes (N,) int64 or soft labels (N, K) float32, for training and validation losses.

        Returns:
            Scores (N, K), averaged over views by ``average_views``; or with labels a dict of scalars, ``loss`` and, for
            one label per video, ``top1``, the batch accuracy in percent. The label of a mixed video is the class with
            the largest share.
        """
        if inputs.dim() != 7:
            raise ValueError(f'inputs must have 7 dimensions (N, V, U, C, T, H, W), got {tuple(inputs.shape)}')
        num_videos, num_views, num_snippets = inputs.shape[:3]
        self._check_num_snippets(num_snippets)
        if label is not None:
            return self._losses(inputs, label)
        views = inputs.flatten(0, 1)  # (N*V, U, C, T, H, W)
        limit = self.max_views_per_forward
        # Without a limit nothing depends on the number of views, which torch.export keeps variable.
        parts = [views] if limit is None else views.split(limit)
        scores = torch.cat([self._score(self.data_preprocessor(part)) for part in parts])  # (N*V, K)
        scores = scores.unflatten(0, (num_videos, num_views))  # (N, V, K)
        if self.average_views == 'prob':
            scores = self.cls_head.probabilities(scores)
        return scores.mean(dim=1)  # (N, K)

    def _score(self, views: Tensor) -> Tensor:
        """Return the scores (N*V, K) of normalized views (N*V, U, C, T, H, W)."""
        features = self.backbone(views.flatten(0, 1))  # (N*V*U, C, T', H', W')
        channels = self.cls_head.in_channels
        if features.dim() != 5 or features.shape[1] != channels:
            raise ValueError(
                f'{type(self.backbone).__name__} returned features {tuple(features.shape)}, expected '
                f'(N*V*U, C, T, H, W) with C = out_channels = {channels}'
            )
        return self.cls_head(features, num_snippets=views.shape[1])  # (N*V, K)

    def _losses(self, inputs: Tensor, label: Tensor) -> dict[str, Tensor]:
        frames = self.data_preprocessor(inputs)
        label = label.to(frames.device, non_blocking=True)
        is_one_class = label.dim() == 1
        if self.batch_augment is not None and self.training:
            frames, label = self._augment(frames, label)
        scores = self._score(frames.flatten(0, 1)).unflatten(0, frames.shape[:2]).mean(dim=1)  # (N, K)
        losses = {'loss': self.cls_head.loss(scores, label)}
        if is_one_class:
            best = label if label.dim() == 1 else label.argmax(dim=1)
            losses['top1'] = (scores.argmax(dim=1) == best).float().mean() * 100
        return losses

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile as ``nn.Module.compile``, except for the batch augmentation."""
        # Each random draw would cause a graph break. Not a decorator, which would import the compiler in each process.
        self._augment = torch.compiler.disable(self._augment)  # type: ignore[method-assign]
        super().compile(*args, **kwargs)

    def optimize(self, compile: bool = False, amp: str | None = None) -> None:
        """Make inference faster; scores change by rounding only. The model cannot be trained afterwards.

        Batch norms are folded into convolutions.

        Args:
            compile: also compile the model for its constant weights, which takes a minute and a C++ compiler. Not done
                on a CPU with ``amp``, where the compiled model is slower.
            amp: the precision of the forward passes, 'bf16' or 'fp16'; None for float32.
        """
        self.eval()
        fold_batch_norms(self.backbone)
        self.requires_grad_(False)
        if compile and amp is not None and next(self.parameters()).device.type == 'cpu':
            LOGGER.info('Not compiling the model: on a CPU, it would be slower in %s', amp)
        elif compile:
            self.compile(options={'freezing': True})

    def _augment(self, frames: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        assert self.batch_augment is not None, 'only called with a batch_augment'
        return self.batch_augment(frames, label, self.num_classes)

    def _check_num_snippets(self, num_snippets: int) -> None:
        # Modules check divisibility only: 8 snippets would pass with num_snippets=4 and be mixed in two halves.
        for name, module in self.named_modules():
            expected = getattr(module, 'num_snippets', num_snippets)
            if expected != num_snippets:
                raise ValueError(
                    f'the data has num_snippets={num_snippets} per view, but {type(module).__name__} in {name} has '
                    f'num_snippets={expected}'
                )
