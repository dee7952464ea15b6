"""Head of Temporal Segment Networks: average all features, then classify.

Temporal Segment Networks, Wang et al., ECCV 2016, arXiv 1608.00859, section 3.1, with the average as consensus.

Letters (see ``dsanet``): N videos, V views, U snippets, T frames, C channels, H x W pixels, K classes.
"""

from torch import Tensor, nn

from dsanet.config.registry import MODELS
from dsanet.models.heads.base import ClsHead, init_linear
from dsanet.models.losses import Loss


@MODELS.register_module()
class TSNHead(ClsHead):
    """Average the features over the frames of all snippets, apply dropout, classify once.

    In eval mode the scores are equal to those of ``I3DClsHead``. In training, dropout has one mask per view here, and
    one per snippet there.

    Args:
        num_classes: K.
        in_channels: C, channels of the backbone's output.
        dropout: dropout probability of a feature of a view.
        init_std: standard deviation of the initial weights.
        loss: the training loss; None for cross entropy.
    """

    def __init__(
        self,
        num_classes: int | None,
        in_channels: int,
        dropout: float = 0.5,
        init_std: float = 0.01,
        loss: Loss | None = None,
    ) -> None:
        super().__init__(num_classes, in_channels, dropout, loss)
        self.fc_cls = nn.Linear(in_channels, self.num_classes)
        init_linear(self.fc_cls, init_std)

    def forward(self, features: Tensor, num_snippets: int) -> Tensor:
        """Map features (N*V*U, C, T, H, W) to float32 scores (N*V, K)."""
        pooled = features.mean(dim=(2, 3, 4))  # (N*V*U, C)
        consensus = pooled.unflatten(0, (-1, num_snippets)).mean(dim=1)  # (N*V, C)
        return self.fc_cls(self.dropout(consensus)).float()  # (N*V, K)
