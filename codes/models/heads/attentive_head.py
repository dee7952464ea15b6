"""Attentive head: a learned query attends to the snippets of a view, then a linear layer classifies.

The attentive probe of V-JEPA (arXiv 2404.08471, appendix on frozen evaluation), which is similar to the attentional
pooler of CoCa (arXiv 2205.01917, section 3.2). With x[u] the pooled features of snippet u and a learned query q::

    y      = q + attention(q, LayerNorm(x))
    scores = Linear(LayerNorm(y + MLP(LayerNorm(y))))

The attention does not see the order of the snippets, unless the features contain it, as those of DSA do.

Letters (see ``dsanet``): N videos, V views, U snippets, T frames, C channels, H x W pixels, K classes.
"""

import torch
from torch import Tensor, nn

from dsanet.config.registry import MODELS
from dsanet.models.heads.base import ClsHead, init_linear
from dsanet.models.losses import Loss


@MODELS.register_module()
class AttentiveHead(ClsHead):
    """Pool the snippets of a view by attention with a learned query, and classify the result.

    Args:
        num_classes: K.
        in_channels: C, channels of the backbone's output.
        num_heads: heads of the attention, a divisor of C.
        dropout: dropout probability of a pooled feature, before the classifier.
        init_std: standard deviation of the initial query and of the initial weights of the classifier.
        loss: the training loss; None for cross entropy.
    """

    def __init__(
        self,
        num_classes: int | None,
        in_channels: int,
        num_heads: int = 8,
        dropout: float = 0.0,
        init_std: float = 0.02,
        loss: Loss | None = None,
    ) -> None:
        super().__init__(num_classes, in_channels, dropout, loss)
        if num_heads < 1 or in_channels % num_heads:
            raise ValueError(f'num_heads={num_heads!r} must be a divisor of in_channels={in_channels}')
        self.query = nn.Parameter(torch.randn(1, 1, in_channels) * init_std)
        self.norm = nn.LayerNorm(in_channels)
        self.attention = nn.MultiheadAttention(in_channels, num_heads, batch_first=True)
        self.mlp = nn.Sequential(
            nn.LayerNorm(in_channels),
            nn.Linear(in_channels, 4 * in_channels),
            nn.GELU(),
            nn.Linear(4 * in_channels, in_channels),
        )
        self.last_norm = nn.LayerNorm(in_channels)
        self.fc_cls = nn.Linear(in_channels, self.num_classes)
        init_linear(self.fc_cls, init_std)

    def forward(self, features: Tensor, num_snippets: int) -> Tensor:
        """Map features (N*V*U, C, T, H, W) to float32 scores (N*V, K)."""
        pooled = features.mean(dim=(2, 3, 4)).unflatten(0, (-1, num_snippets))  # (N*V, U, C)
        snippets = self.norm(pooled)
        query = self.query.expand(pooled.shape[0], -1, -1)  # (N*V, 1, C); len() would make N*V constant in an export
        found = query + self.attention(query, snippets, snippets, need_weights=False)[0]  # (N*V, 1, C)
        view = self.last_norm(found + self.mlp(found)).squeeze(1)  # (N*V, C)
        return self.fc_cls(self.dropout(view)).float()  # (N*V, K)
