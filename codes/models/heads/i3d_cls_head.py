"""Classification head: pool, classify each snippet, average over snippets.

Letters (see ``dsanet``): N videos, V views, U snippets, T frames, C channels, H x W pixels, K classes.
"""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from dsanet.config.registry import MODELS
from dsanet.models.heads.base import ClsHead, init_linear
from dsanet.models.losses import Loss


@MODELS.register_module()
class I3DClsHead(ClsHead):
    """Average pooling, dropout, one linear layer for each snippet, and the mean of the scores over the snippets.

    Pooling is over the whole feature map, so test frames can be larger than the training crop. The scores are then
    averages over the positions, which is the fully convolutional testing of MVFNet's release. Non-local Networks
    (arXiv 1711.07971, section 4) and SlowFast average the *probabilities* of windows instead: use ``test_window``.

    Args:
        num_classes: K.
        in_channels: C, channels of the backbone's output.
        dropout: dropout probability of a pooled feature.
        init_std: standard deviation of the initial weights.
        test_window: (height, width) of the feature map in training, (7, 7) for crops of 224 pixels and a stride of 32.
            In eval mode each window of this size is classified and the probabilities are averaged; the scores are
            their logarithms. Requires ``average_views='prob'`` and a softmax loss. None for global pooling.
        loss: the training loss; None for cross entropy.
    """

    def __init__(
        self,
        num_classes: int | None,
        in_channels: int,
        dropout: float = 0.5,
        init_std: float = 0.01,
        test_window: Sequence[int] | None = None,
        loss: Loss | None = None,
    ) -> None:
        super().__init__(num_classes, in_channels, dropout, loss)
        if test_window is not None and (len(test_window) != 2 or min(test_window) < 1):
            raise ValueError(f'test_window={test_window!r} must be (height, width) >= 1, or None')
        if test_window is not None and self.activation != 'softmax':
            raise ValueError(f'test_window requires a softmax loss, but the loss is {type(self.criterion).__name__}')
        self.test_window = test_window
        self.fc_cls = nn.Linear(in_channels, self.num_classes)
        init_linear(self.fc_cls, init_std)

    def forward(self, features: Tensor, num_snippets: int) -> Tensor:
        """Map features (N*V*U, C, T, H, W) to float32 scores (N*V, K)."""
        if self.test_window is not None and not self.training:
            return self._score_windows(features, num_snippets)
        pooled = features.mean(dim=(2, 3, 4))  # (N*V*U, C)
        scores = self.fc_cls(self.dropout(pooled)).float()  # (N*V*U, K)
        return scores.unflatten(0, (-1, num_snippets)).mean(dim=1)  # (N*V, K)

    def _score_windows(self, features: Tensor, num_snippets: int) -> Tensor:
        height, width = self.test_window or ()
        rows, columns = features.shape[3:]
        if rows < height or columns < width:
            raise ValueError(
                f'test_window={self.test_window} is larger than the features, {rows} x {columns}; use larger frames or '
                'test_window=None'
            )
        maps = features.mean(dim=2)  # (N*V*U, C, H, W)
        windows = nn.functional.avg_pool2d(maps, (height, width), stride=1)  # (N*V*U, C, H', W')
        scores = self.fc_cls(windows.movedim(1, -1)).float()  # (N*V*U, H', W', K)
        scores = scores.unflatten(0, (-1, num_snippets)).mean(dim=1)  # (N*V, H', W', K)
        log_probs = scores.log_softmax(dim=-1).flatten(1, 2)  # (N*V, H'*W', K)
        # logsumexp, because exp of a very small log probability would underflow to 0.
        return log_probs.logsumexp(dim=1) - math.log(log_probs.shape[1])  # (N*V, K)
