"""Base class of heads."""

from torch import Tensor, nn

from dsanet.models.losses import CrossEntropyLoss, Loss


class ClsHead(nn.Module):
    """A network that maps features of snippets to scores of views, with a loss.

    Args:
        num_classes: K. None in a config is replaced by the number of classes in the data before building.
        in_channels: C, channels of the backbone's output.
        dropout: dropout probability of a feature.
        loss: the training loss; None for cross entropy.
    """

    def __init__(self, num_classes: int | None, in_channels: int, dropout: float, loss: Loss | None) -> None:
        super().__init__()
        if num_classes is None:
            raise ValueError('num_classes=None: the classes were not counted in the data; set it, as in num_classes=12')
        if not isinstance(num_classes, int) or num_classes < 1:
            raise ValueError(f'num_classes={num_classes!r} must be an integer >= 1')
        if not 0 <= dropout < 1:
            raise ValueError(f'dropout={dropout!r} must be in [0, 1)')
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.dropout = nn.Dropout(dropout)
        self.criterion = loss or CrossEntropyLoss()
        self.criterion.check_num_classes(num_classes)

    @property
    def activation(self) -> str:
        """Function from scores to probabilities, 'softmax' or 'sigmoid', as given by the loss."""
        return self.criterion.activation

    def forward(self, features: Tensor, num_snippets: int) -> Tensor:
        """Return the scores of each view.

        Args:
            features: (N*V*U, C, T, H, W).
            num_snippets: U.

        Returns:
            Logits (N*V, K), float32.
        """
        raise NotImplementedError(f'{type(self).__name__} does not implement forward')

    def loss(self, scores: Tensor, label: Tensor) -> Tensor:
        """Return the loss of scores (N, K) with classes (N,) or soft labels (N, K)."""
        return self.criterion(scores, label)

    def probabilities(self, scores: Tensor) -> Tensor:
        """Return the probabilities of scores (..., K), by ``activation``."""
        return self.criterion.probabilities(scores)


def init_linear(layer: nn.Linear, std: float) -> None:
    """Initialize weights from a normal distribution and the bias to zero."""
    nn.init.normal_(layer.weight, std=std)
    nn.init.zeros_(layer.bias)
