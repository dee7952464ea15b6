"""How good the scores are."""

from codes.evaluation.metrics import Accuracy, MeanClassAccuracy

__all__ = ['Accuracy', 'MeanClassAccuracy']
