"""Augmentation that mixes the videos of a batch, on the device. The implementation is torchvision's.

mixup, Zhang et al., arXiv 1710.09412; CutMix, Yun et al., arXiv 1905.04899.

Letters (see ``dsanet``): N videos, V views, U snippets, T frames, C channels, H x W pixels, K classes.
"""

import torch
from torch import Tensor, nn

from dsanet.config.registry import MODELS
from dsanet.models.losses import one_hot


class BatchAugment(nn.Module):
    """A change of whole training batches: normalized frames (N, V, U, C, T, H, W), labels and K in, both out.

    Attributes:
        min_batch_size: videos that a batch of one process must have for there to be something to do.
    """

    min_batch_size: int = 1

    def forward(self, frames: Tensor, label: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
        raise NotImplementedError(f'{type(self).__name__} has no forward')


@MODELS.register_module()
class MixupCutmix(BatchAugment):
    """Mix each video of a batch with its neighbor, and their labels alike; one draw for a batch.

    Mixup adds whole clips, CutMix replaces a box, the same one in all frames. With both, one of them is drawn.

    Args:
        mixup_alpha: of the Beta distribution that the share is drawn from; 0 for no mixup.
        cutmix_alpha: likewise; 0 for no CutMix.
        prob: share of the batches that are mixed.

    Raises:
        ValueError: an argument outside of its range, or nothing to do.
    """

    min_batch_size = 2  # a single video would be mixed with itself

    def __init__(self, mixup_alpha: float = 0.8, cutmix_alpha: float = 1.0, prob: float = 1.0) -> None:
        super().__init__()
        if min(mixup_alpha, cutmix_alpha) < 0 or max(mixup_alpha, cutmix_alpha) == 0:
            raise ValueError(f'mixup_alpha={mixup_alpha} and cutmix_alpha={cutmix_alpha}: none below 0, one above')
        if not 0 < prob <= 1:
            raise ValueError(f'prob={prob!r} must lie in (0, 1]')
        from torchvision.transforms import v2  # here, because it takes seconds that few runs need to spend

        self.prob = prob
        self.choices = []
        with torch.device('cpu'):  # shares are drawn there, even if the model is built without numbers, on 'meta'
            if mixup_alpha:
                self.choices.append(v2.MixUp(alpha=mixup_alpha))
            if cutmix_alpha:
                self.choices.append(v2.CutMix(alpha=cutmix_alpha))

    def forward(self, frames: Tensor, label: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
        """Mix a batch.

        Args:
            frames: normalized (N, V, U, C, T, H, W).
            label: classes (N,), or a weight for each class (N, K).
            num_classes: K.

        Returns:
            Frames of the same shape, the channels last in memory if they were, and weights of the classes (N, K).
        """
        target = one_hot(label, num_classes)  # (N, K)
        if torch.rand(()) >= self.prob:
            return frames, target
        from torchvision.tv_tensors import Video

        choice = self.choices[int(torch.randint(len(self.choices), ()))]
        # torchvision cuts along the last two of five dimensions, and in this order keeps the channels last in memory.
        videos = Video(frames.movedim(3, 1).flatten(2, 4))  # (N, C, V*U*T, H, W)
        mixed, target = choice(videos, target)
        sizes = [frames.shape[dim] for dim in (1, 2, 4)]
        mixed = mixed.as_subclass(Tensor).unflatten(2, sizes).movedim(1, 3)  # (N, V, U, C, T, H, W)
        return mixed, target
