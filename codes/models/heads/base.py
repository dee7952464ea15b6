"""What the rest of the framework expects of a head."""

from torch import Tensor, nn

from dsanet.models.losses import CrossEntropyLoss, Loss


class ClsHead(nn.Module):
    """A network from features of snippets to scores of views, with a loss.

    Args:
        num_classes: K. Configs may leave it None, to be counted in the data before the model is built.
        in_channels: C, channels of the backbone's output.
        dropout: probability that a feature is dropped in training.
        loss: the training loss; None for plain cross entropy.

    Raises:
        ValueError: an argument outside of its range.
    """

    def __init__(self, num_classes: int | None, in_channels: int, dropout: float, loss: Loss | None) -> None:
        super().__init__()
        if num_classes is None:
            raise ValueError('num_classes=None: it was neither set, as in num_classes=12, nor counted in the data')
        if not isinstance(num_classes, int) or num_classes < 1:
            raise ValueError(f'num_classes={num_classes!r} must be a whole number of at least 1')
        if not 0 <= dropout < 1:
            raise ValueError(f'dropout={dropout!r} must lie in [0, 1)')
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.dropout = nn.Dropout(dropout)
        self.criterion = loss or CrossEntropyLoss()
        self.criterion.check_num_classes(num_classes)

    @property
    def activation(self) -> str:
        """What makes probabilities of the scores, 'softmax' or 'sigmoid', as the loss understands them."""
        return self.criterion.activation

    def forward(self, features: Tensor, num_snippets: int) -> Tensor:
        """Score each view.

        Args:
            features: (N*V*U, C, T, H, W).
            num_snippets: U.

        Returns:
            Scores before softmax, float32, (N*V, K).
        """
        raise NotImplementedError(f'{type(self).__name__} has no forward')

    def loss(self, scores: Tensor, label: Tensor) -> Tensor:
        """Return the loss of scores (N, K) and labels: classes (N,), or a weight for each class (N, K)."""
        return self.criterion(scores, label)

    def probabilities(self, scores: Tensor) -> Tensor:
        """Turn scores (..., K) into probabilities, as the loss understands them."""
        return self.criterion.probabilities(scores)


def init_linear(layer: nn.Linear, std: float) -> None:
    """Draw the weights from a normal distribution and set the bias to zero."""
    nn.init.normal_(layer.weight, std=std)
    nn.init.zeros_(layer.bias)
