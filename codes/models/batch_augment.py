"""Augmentation that mixes the videos of a batch on the device, based on torchvision.

mixup, Zhang et al., arXiv 1710.09412; CutMix, Yun et al., arXiv 1905.04899.

Letters (see ``dsanet``): N videos, V views, U snippets, T frames, C channels, H x W pixels, K classes.
"""

import torch
from torch import Tensor, nn

from dsanet.config.registry import MODELS
from dsanet.models.losses import one_hot


class BatchAugment(nn.Module):
    """Base class of augmentations of a whole training batch.

    The arguments of forward are normalized frames (N, V, U, C, T, H, W), labels and K; it returns frames and labels.

    Attributes:
        min_batch_size: number of videos per process that the augmentation needs to have an effect.
    """

    min_batch_size: int = 1

    def forward(self, frames: Tensor, label: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
        raise NotImplementedError(f'{type(self).__name__} does not implement forward')


@MODELS.register_module()
class MixupCutmix(BatchAugment):
    """Mix each video of a batch, and its label, with its neighbor; one random draw per batch.

    Mixup blends whole clips; CutMix replaces a box, the same in all frames. With both, one of them is drawn.

    Args:
        mixup_alpha: parameter of the Beta distribution of the mixing ratio; 0 for no mixup.
        cutmix_alpha: the same for CutMix; 0 for no CutMix.
        prob: share of the batches that are mixed.
    """

    min_batch_size = 2  # a single video has no neighbor

    def __init__(self, mixup_alpha: float = 0.8, cutmix_alpha: float = 1.0, prob: float = 1.0) -> None:
        super().__init__()
        if min(mixup_alpha, cutmix_alpha) < 0 or max(mixup_alpha, cutmix_alpha) == 0:
            raise ValueError(
                f'mixup_alpha={mixup_alpha}, cutmix_alpha={cutmix_alpha}: both must be >= 0, at least one > 0'
            )
        if not 0 < prob <= 1:
            raise ValueError(f'prob={prob!r} must be in (0, 1]')
        from torchvision.transforms import v2  # imported here because it takes seconds

        self.prob = prob
        self.choices = []
        with torch.device('cpu'):  # also if the model is built on the meta device
            if mixup_alpha:
                self.choices.append(v2.MixUp(alpha=mixup_alpha))
            if cutmix_alpha:
                self.choices.append(v2.CutMix(alpha=cutmix_alpha))

    def forward(self, frames: Tensor, label: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
        """Mix a batch.

        Args:
            frames: normalized (N, V, U, C, T, H, W).
            label: classes (N,), or soft labels (N, K).
            num_classes: K.

        Returns:
            Frames of the same shape and memory format, and soft labels (N, K).
        """
        target = one_hot(label, num_classes)  # (N, K)
        if torch.rand(()) >= self.prob:
            return frames, target
        from torchvision.tv_tensors import Video

        choice = self.choices[int(torch.randint(len(self.choices), ()))]
        # torchvision cuts along the last two of five dimensions; this order keeps the channels-last memory format.
        videos = Video(frames.movedim(3, 1).flatten(2, 4))  # (N, C, V*U*T, H, W)
        mixed, target = choice(videos, target)
        sizes = [frames.shape[dim] for dim in (1, 2, 4)]
        mixed = mixed.as_subclass(Tensor).unflatten(2, sizes).movedim(1, 3)  # (N, V, U, C, T, H, W)
        return mixed, target
