"""The recognizer: frames in, scores or losses out. The only file that folds and unfolds videos, views and snippets.

Letters (see ``dsanet``): N videos, V views, U snippets, T frames, C channels, H x W pixels, K classes.
"""

import contextlib
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
from dsanet.models.weights.loading import load_weights

# How the scores of a video's views become one: mean of the scores, or mean of the probabilities.
AVERAGES = ('score', 'prob')


@MODELS.register_module()
class Recognizer3D(nn.Module):
    """A backbone over snippets, a head over views.

    Args:
        backbone: maps (N*V*U, 3, T, H, W) to (N*V*U, C, T', H', W').
        cls_head: maps the features and U to scores (N*V, K).
        module_cfg: what is inserted into the backbone, such as DSA, and where (``block_maker``); None for nothing.
        data_preprocessor: uint8 frames to normalized floats; None for ImageNet's mean and deviation.
        batch_augment: mixes the videos of a training batch, such as ``MixupCutmix``; None for nothing.
        average_views: 'score' or 'prob'. With 'prob' the results in eval mode are probabilities.
        max_views_per_forward: how many views go through the network at once in eval mode, whatever the batch size;
            None for all. Bounds the memory of testing with many views.

    Raises:
        ValueError: an argument outside of its range, or a head that does not fit the backbone.
    """

    section: ClassVar = 'model'  # where a config describes it; its parts are found by the annotations below
    raw_arguments: ClassVar = {'module_cfg': check_module_cfg}  # the modules need the channels where they go

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
            raise ValueError(f'max_views_per_forward={max_views_per_forward} must be at least 1, or None for all')
        if getattr(cls_head, 'test_window', None) is not None:
            if backbone.is_pooled:
                raise ValueError(f'cls_head.test_window needs feature maps; {type(backbone).__name__} pools them')
            if average_views != 'prob':
                raise ValueError("cls_head.test_window averages probabilities and goes with average_views='prob'")
        if not isinstance(getattr(backbone, 'out_channels', None), int):
            raise ValueError(
                f'{type(backbone).__name__} does not say its out_channels: its __init__ must set self.out_channels to '
                'the number of channels of the features'
            )
        if cls_head.in_channels != backbone.out_channels:
            raise ValueError(
                f'cls_head.in_channels={cls_head.in_channels} does not fit the backbone, '
                f'which yields {backbone.out_channels} channels'
            )
        self.data_preprocessor = data_preprocessor or DataPreprocessor()
        self.batch_augment = batch_augment
        self.backbone = backbone
        self.cls_head = cls_head
        self.average_views = average_views
        self.max_views_per_forward = max_views_per_forward
        insert_modules(backbone, module_cfg)
        backbone.train()  # so that norm_eval and frozen_stages hold for what was inserted

    @property
    def num_classes(self) -> int:
        """K."""
        return self.cls_head.num_classes

    @property
    def activation(self) -> str:
        """What still makes probabilities of the results in eval mode: 'softmax', 'sigmoid', or 'none' if they are."""
        return 'none' if self.average_views == 'prob' else self.cls_head.activation

    def init_weights(self) -> None:
        """Load the weights that the backbone's ``pretrained`` names, if any; report what matched.

        Raises:
            FileNotFoundError, ValueError: as ``load_weights``.
        """
        if self.backbone.pretrained is not None:
            try:
                load_weights(self.backbone, self.backbone.pretrained)
            except FileNotFoundError as error:
                raise FileNotFoundError(
                    f'model.backbone.pretrained: {error}. `bash pretrained/download_imgnet.sh DEPTH` fetches the '
                    'ImageNet ResNets; --cfg-options model.backbone.pretrained=None starts without'
                ) from error

    @torch.no_grad()
    def check_clip_shape(self, num_snippets: int, frames_per_snippet: int) -> None:
        """Check that samples of U snippets of T frames fit, long before there are any. Nothing is computed.

        What only torch refuses, such as fewer frames than a pooling is long, is left to the first batch: not all of its
        operators work without numbers.

        Raises:
            ValueError: U of the data unlike U of the modules, or a T that a module or the backbone does not take.
        """
        self._check_num_snippets(num_snippets)
        height, width = self.backbone.probe_shape[-2:]
        with contextlib.suppress(RuntimeError):
            to_meta(self.backbone)(torch.zeros(num_snippets, 3, frames_per_snippet, height, width, device='meta'))

    def forward(self, inputs: Tensor, label: Tensor | None = None) -> Tensor | dict[str, Tensor]:
        """Score videos, or compute the loss if labels are given.

        Args:
            inputs: uint8 frames (N, V, U, C, T, H, W).
            label: class of each video (N,), int64, or a weight for each class (N, K), float32; only for training and
                for a validation loss.

        Returns:
            Without labels: scores (N, K), averaged over views as ``average_views`` says.
            With labels: a dict of scalars, ``loss`` and, unless videos have several labels, ``top1``, the batch's
            accuracy in percent; of mixed videos the class with the largest share counts.

        Raises:
            ValueError: frames of another shape or type, or U of the data unlike U of the modules.
        """
        if inputs.dim() != 7:
            raise ValueError(f'inputs must have 7 dimensions (N, V, U, C, T, H, W), got {tuple(inputs.shape)}')
        num_videos, num_views, num_snippets = inputs.shape[:3]
        self._check_num_snippets(num_snippets)
        if label is not None:
            return self._losses(inputs, label)
        views = inputs.flatten(0, 1)  # (N*V, U, C, T, H, W)
        limit = self.max_views_per_forward or len(views)
        parts = [self._score(self.data_preprocessor(part)) for part in views.split(limit)]
        scores = torch.cat(parts).unflatten(0, (num_videos, num_views))  # (N, V, K)
        if self.average_views == 'prob':
            scores = self.cls_head.probabilities(scores)
        return scores.mean(dim=1)  # (N, K)

    def _score(self, views: Tensor) -> Tensor:
        """Score normalized views (N*V, U, C, T, H, W); returns (N*V, K)."""
        features = self.backbone(views.flatten(0, 1))  # (N*V*U, C, T', H', W')
        channels = self.cls_head.in_channels
        if features.dim() != 5 or features.shape[1] != channels:
            raise ValueError(
                f'{type(self.backbone).__name__} yields features {tuple(features.shape)}, but (N*V*U, C, T, H, W) with '
                f'C = out_channels = {channels} are expected'
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

    @torch.compiler.disable
    def _augment(self, frames: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Mix a batch, outside of what ``torch.compile`` compiles: each draw would break its graph."""
        assert self.batch_augment is not None, 'called only if there is something to do'
        return self.batch_augment(frames, label, self.num_classes)

    def _check_num_snippets(self, num_snippets: int) -> None:
        # Divisibility, which the modules check, is too weak: 8 snippets would pass for 4 and be mixed in two halves.
        for name, module in self.named_modules():
            expected = getattr(module, 'num_snippets', num_snippets)
            if expected != num_snippets:
                raise ValueError(
                    f'the data have num_snippets={num_snippets} snippets a view, but {type(module).__name__} in '
                    f'{name} has num_snippets={expected}'
                )
