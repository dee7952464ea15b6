"""How good the scores are."""

from codes.evaluation.metrics import Accuracy, MeanAveragePrecision, MeanClassAccuracy

__all__ = ['Accuracy', 'MeanAveragePrecision', 'MeanClassAccuracy']
