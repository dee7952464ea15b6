"""The classification head: pool, classify each snippet, average over snippets.

Letters (see ``codes``): N videos, V views, U snippets, T frames, C channels, H x W pixels, K classes.
"""

from torch import Tensor, nn

from codes.registry import MODELS


@MODELS.register_module()
class I3DClsHead(nn.Module):
    """Average pooling, dropout, one linear layer for each snippet, and the mean of the scores over the snippets.

    Args:
        num_classes: K.
        in_channels: C, channels of the backbone's output.
        dropout: probability that a pooled feature is dropped in training.
        init_std: standard deviation of the normal distribution that the weights start from.

    Raises:
        ValueError: an argument outside of its range.
    """

    def __init__(self, num_classes: int, in_channels: int, dropout: float = 0.5, init_std: float = 0.01) -> None:
        super().__init__()
        if not isinstance(num_classes, int) or num_classes < 1:
            raise ValueError(f'num_classes={num_classes!r} must be a whole number of at least 1')
        if not 0 <= dropout < 1:
            raise ValueError(f'dropout={dropout!r} must lie in [0, 1)')
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.dropout = nn.Dropout(dropout)
        self.fc_cls = nn.Linear(in_channels, num_classes)
        nn.init.normal_(self.fc_cls.weight, std=init_std)
        nn.init.zeros_(self.fc_cls.bias)

    def forward(self, features: Tensor, num_snippets: int) -> Tensor:
        """Score each view.

        Args:
            features: (N*V*U, C, T, H, W).
            num_snippets: U.

        Returns:
            Scores before softmax, float32, (N*V, K).
        """
        pooled = features.mean(dim=(2, 3, 4))  # (N*V*U, C)
        scores = self.fc_cls(self.dropout(pooled)).float()  # (N*V*U, K)
        return scores.unflatten(0, (-1, num_snippets)).mean(dim=1)  # (N*V, K)

    def loss(self, scores: Tensor, label: Tensor) -> Tensor:
        """Return the cross entropy of scores (N, K) with labels (N,), averaged over the batch."""
        return nn.functional.cross_entropy(scores, label)
