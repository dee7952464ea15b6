"""Metrics and result files."""

from dsanet.evaluation.metrics import Accuracy, MeanAveragePrecision, MeanClassAccuracy

__all__ = ['Accuracy', 'MeanAveragePrecision', 'MeanClassAccuracy']
