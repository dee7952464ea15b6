"""Losses for the scores of a batch of videos.

Letters (see ``dsanet``): N videos, K classes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dsanet.config.registry import MODELS

BALANCED = 'balanced'  # class weights that are computed from the training data


def check_targets(scores: Tensor, label: Tensor) -> None:
    """Raise ValueError unless labels are classes (N,) int64 or float soft labels (N, K) for scores (N, K)."""
    is_class = label.dim() == 1 and not label.is_floating_point() and len(label) == len(scores)
    is_soft = label.shape == scores.shape and label.is_floating_point()
    if not (is_class or is_soft):
        raise ValueError(
            f'labels must be int64 (N,) or float (N, K), got {tuple(label.shape)} {label.dtype} for scores '
            f'{tuple(scores.shape)}'
        )


def one_hot(label: Tensor, num_classes: int) -> Tensor:
    """Return classes (N,) as float32 soft labels (N, K); return soft labels unchanged."""
    return label if label.dim() == 2 else nn.functional.one_hot(label, num_classes).float()


class Loss(nn.Module):
    """Base class of losses of scores (N, K), with the activation that turns scores into probabilities.

    Attributes:
        activation: 'softmax' for one class per video, 'sigmoid' for independent classes.
        supports_multi_label: whether the loss accepts multi-hot labels, not only shares that sum to 1.
    """

    activation = 'softmax'
    supports_multi_label = False

    def check_num_classes(self, num_classes: int) -> None:
        """Raise ValueError if the options do not fit K classes."""

    def probabilities(self, scores: Tensor) -> Tensor:
        """Return the probabilities of scores (..., K)."""
        return scores.sigmoid() if self.activation == 'sigmoid' else scores.softmax(dim=-1)


class _WeightedLoss(Loss):
    """A loss with class weights, averaged over the videos."""

    class_weights: Tensor | None

    def __init__(self, class_weights: Sequence[float] | str | None) -> None:
        super().__init__()
        self.is_balanced = class_weights == BALANCED
        given = None if self.is_balanced else class_weights
        if isinstance(given, str) or (given is not None and (not given or min(given) < 0 or max(given) == 0)):
            raise ValueError(
                f'class_weights={class_weights!r} must be {BALANCED!r} or one number >= 0 per class, not all 0'
            )
        weights = None if given is None else torch.tensor(given, dtype=torch.float32)
        # Not in the state dict: they belong to the config, and weights of other projects do not have them.
        self.register_buffer('class_weights', weights, persistent=False)

    def check_num_classes(self, num_classes: int) -> None:
        """Raise ValueError unless there is a weight for each of K classes."""
        if self.class_weights is not None and len(self.class_weights) != num_classes:
            raise ValueError(f'class_weights has {len(self.class_weights)} values for num_classes={num_classes}')

    def known_weights(self) -> Tensor | None:
        """Return the weights (K,), None for 1; raise ValueError if they have not been computed."""
        if self.is_balanced:
            raise ValueError(
                f'class_weights={BALANCED!r} must be replaced by numbers before the model is built, as '
                'dsanet.engine.class_weights.resolve_class_weights does'
            )
        return self.class_weights


@MODELS.register_module()
class CrossEntropyLoss(_WeightedLoss):
    """Cross entropy, averaged over the videos::

        loss = -mean over videos of (sum over classes k of weight_k * share of k in the label * log p_k)

    Args:
        label_smoothing: share of a label that is distributed evenly over all classes (arXiv 1512.00567, section 7).
        class_weights: K factors, for datasets with rare classes; None for 1. The sum is divided by the number of
            videos, not by the sum of their weights as with torch's ``weight``, so losses of batch parts add up.
            'balanced' for weights that training computes from its data, see ``engine.class_weights``; their mean
            over the training samples is 1, which keeps the scale of the loss.
    """

    def __init__(self, label_smoothing: float = 0.0, class_weights: Sequence[float] | str | None = None) -> None:
        super().__init__(class_weights)
        if not 0 <= label_smoothing < 1:
            raise ValueError(f'label_smoothing={label_smoothing!r} must be in [0, 1)')
        self.label_smoothing = label_smoothing

    def forward(self, scores: Tensor, label: Tensor) -> Tensor:
        """Return the loss of scores (N, K) with classes (N,) or soft labels (N, K)."""
        check_targets(scores, label)
        weights = self.known_weights()
        if weights is not None:
            label = one_hot(label, scores.shape[1])  # (N, K); makes torch divide by N, not by the sum of weights
        return nn.functional.cross_entropy(scores, label, weights, label_smoothing=self.label_smoothing)


@MODELS.register_module()
class FocalLoss(_WeightedLoss):
    """Cross entropy with a low weight for well-classified videos (arXiv 1708.02002, section 3, with softmax)::

        loss = -(1 - p)^gamma log p        with p the probability of the label

    Args:
        gamma: focusing parameter; 0 is cross entropy, the paper uses 2.
        class_weights: K factors (alpha in the paper) or 'balanced', as in :class:`CrossEntropyLoss`.
    """

    def __init__(self, gamma: float = 2.0, class_weights: Sequence[float] | str | None = None) -> None:
        super().__init__(class_weights)
        if gamma < 0:
            raise ValueError(f'gamma={gamma!r} must be at least 0')
        self.gamma = gamma

    def forward(self, scores: Tensor, label: Tensor) -> Tensor:
        """Return the loss of scores (N, K) with classes (N,) or soft labels (N, K)."""
        check_targets(scores, label)
        target = one_hot(label, scores.shape[1])  # (N, K)
        weights = self.known_weights()
        if weights is not None:
            target = target * weights
        log_prob = scores.log_softmax(dim=1)
        # Clamped, because the gradient of rest**gamma at 0 is infinite for gamma < 1.
        rest = (1 - log_prob.exp()).clamp(min=1e-8)
        return -(target * rest**self.gamma * log_prob).sum() / len(scores)


@MODELS.register_module()
class BinaryCrossEntropyLoss(Loss):
    """Binary cross entropy averaged over videos and classes, for videos with any number of labels.

    Args:
        positive_weight: factor of the loss of positive labels, which are usually rare.
    """

    activation = 'sigmoid'
    supports_multi_label = True
    positive: Tensor

    def __init__(self, positive_weight: float = 1.0) -> None:
        super().__init__()
        if positive_weight <= 0:
            raise ValueError(f'positive_weight={positive_weight!r} must be > 0')
        self.register_buffer('positive', torch.tensor(positive_weight), persistent=False)

    def forward(self, scores: Tensor, label: Tensor) -> Tensor:
        """Return the loss of scores (N, K) with multi-hot labels (N, K) or classes (N,)."""
        check_targets(scores, label)
        target = one_hot(label, scores.shape[1])  # (N, K)
        return nn.functional.binary_cross_entropy_with_logits(scores, target, pos_weight=self.positive)
