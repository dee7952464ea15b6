"""Temporal relation networks: scores from ordered tuples of snippets.

Temporal Relational Reasoning in Videos, Zhou et al., ECCV 2018, arXiv 1711.08496, section 3. With f[u] the features
of snippet u, a relation of d snippets is a small network over them in time order, and the scores are::

    R[d]   = mean over u1 < u2 < ... < ud of g_d(f[u1], f[u2], ..., f[ud])
    single scale: R[U]          multi-scale: R[2] + R[3] + ... + R[U]

The paper sums over the tuples of a scale; its code sums over a few random ones, even in tests. The mean over all tuples
gives each scale the same weight and makes tests deterministic.

Letters (see ``dsanet``): N videos, V views, U snippets, T frames, C channels, H x W pixels, K classes.
"""

from itertools import combinations

import torch
from torch import Tensor, nn

from dsanet.config.registry import MODELS
from dsanet.models.heads.base import ClsHead, init_linear
from dsanet.models.losses import Loss


@MODELS.register_module()
class TRNHead(ClsHead):
    """Reduce each snippet to a few features and classify ordered tuples of snippets.

    Args:
        num_classes: K.
        in_channels: C, channels of the backbone's output.
        num_snippets: U, at least 2.
        multi_scale: use relations of 2 to U snippets, instead of one relation of all U.
        num_relations: number of tuples per scale that are drawn in training; eval mode uses all.
        hidden_channels: features of a snippet, and width of the relation networks; with multi_scale=False the network
            is twice as wide, as in the authors' code.
        dropout: dropout probability of a backbone feature.
        init_std: standard deviation of the initial weights of the reduction.
        loss: the training loss; None for cross entropy.
    """

    def __init__(
        self,
        num_classes: int | None,
        in_channels: int,
        num_snippets: int,
        multi_scale: bool = True,
        num_relations: int = 3,
        hidden_channels: int = 256,
        dropout: float = 0.8,
        init_std: float = 0.001,
        loss: Loss | None = None,
    ) -> None:
        super().__init__(num_classes, in_channels, dropout, loss)
        if num_snippets < 2:
            raise ValueError(f'num_snippets={num_snippets!r} must be at least 2')
        if num_relations < 1 or hidden_channels < 1:
            raise ValueError(
                f'num_relations={num_relations}, hidden_channels={hidden_channels}: both must be at least 1'
            )
        self.num_snippets = num_snippets
        self.num_relations = num_relations
        self.reduce = nn.Linear(in_channels, hidden_channels)
        init_linear(self.reduce, init_std)
        self.scales = list(range(2, num_snippets + 1)) if multi_scale else [num_snippets]
        self.tuples = [torch.tensor(list(combinations(range(num_snippets), d))) for d in self.scales]
        width = hidden_channels if multi_scale else 2 * hidden_channels
        self.relations = nn.ModuleList(
            nn.Sequential(
                nn.ReLU(),
                nn.Linear(d * hidden_channels, width),
                nn.ReLU(inplace=True),
                nn.Linear(width, self.num_classes),
            )
            for d in self.scales
        )

    def forward(self, features: Tensor, num_snippets: int) -> Tensor:
        """Map features (N*V*U, C, T, H, W) to float32 scores (N*V, K)."""
        pooled = features.mean(dim=(2, 3, 4))  # (N*V*U, C)
        reduced = self.reduce(self.dropout(pooled)).unflatten(0, (-1, num_snippets))  # (N*V, U, hidden)
        scores = []
        for tuples, relation in zip(self.tuples, self.relations, strict=True):
            if self.training and len(tuples) > self.num_relations:
                tuples = tuples[torch.randperm(len(tuples))[: self.num_relations]]
            chosen = reduced[:, tuples.to(reduced.device)]  # (N*V, tuples, d, hidden)
            scores.append(relation(chosen.flatten(2)).float().mean(dim=1))  # (N*V, K)
        return torch.stack(scores).sum(dim=0)  # (N*V, K)
