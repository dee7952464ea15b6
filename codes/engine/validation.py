"""Validation during training: metrics and loss on the validation data."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader

from dsanet.engine.evaluator import EXPECTED_ERRORS, Predictions, predict
from dsanet.engine.stopping import RunError
from dsanet.evaluation.metrics import Metric, build_metrics, check_metrics, compute_metrics, describe_baseline
from dsanet.utils import distributed
from dsanet.utils.text import strip_worker_traceback

LOGGER = logging.getLogger(__name__)


def build_val_metrics(config: Mapping[str, Any], save_best: str, loader: DataLoader[Any] | None) -> list[Metric]:
    """Build the metrics of a config, and check them against the validation data.

    Args:
        config: a checked config.
        save_best: name of the metric by which the best epoch is chosen.
        loader: of the validation data, None without validation.

    Raises:
        ValueError: no metric has the name ``save_best``, or one does not fit the labels.
    """
    metrics = build_metrics(config['metrics'])
    if loader is not None:
        check_metrics(metrics, loader.dataset)
    names = [name for metric in metrics for name in metric.names]
    if save_best not in names:
        raise ValueError(f'runtime.save_best={save_best!r} must be one of {", ".join(names)}')
    return metrics


def log_baseline(loader: DataLoader[Any], metrics: Sequence[Metric]) -> None:
    """Log the metrics of always predicting the most frequent class of the validation videos."""
    dataset: Any = loader.dataset
    if dataset.multi_hot is None:  # multi-hot labels have no baseline, and would be large
        text = describe_baseline(dataset.labels, [name for metric in metrics for name in metric.names])
        if text is not None:
            LOGGER.info('Validation of %d videos. %s', len(dataset), text)


def validate(
    model: Any,
    loader: DataLoader[Any],
    metrics: Sequence[Metric],
    device: torch.device,
    amp: str | None,
    epoch: int,
) -> dict[str, float]:
    """Return the metrics of a model on the validation data, with ``loss`` if it can be computed from the scores.

    Args:
        model: a recognizer, not wrapped.
        loader: of the validation data; each process has its share.
        metrics: from :func:`build_val_metrics`.
        device: where the model is.
        amp: None, 'bf16' or 'fp16'.
        epoch: for error messages.

    Raises:
        RunError: a video cannot be read, or a score is not finite.
    """
    try:
        predictions = predict(model, loader, device, amp, 'validation')
    except FloatingPointError as error:
        raise RunError(f'validation of epoch {epoch}: {error}; training has diverged') from error
    except EXPECTED_ERRORS as error:
        raise RunError(f'validation of epoch {epoch}: {strip_worker_traceback(error)}') from error
    numbers: dict[str, float] = distributed.compute_on_main(lambda: _compute(model, metrics, predictions, device))
    return numbers


def _compute(
    model: Any, metrics: Sequence[Metric], predictions: Predictions | None, device: torch.device
) -> dict[str, float]:
    assert predictions is not None, 'called on rank 0'
    numbers = compute_metrics(metrics, predictions.scores, predictions.labels)
    # With several labels per video, the sum of single-label losses is not the loss that is trained.
    has_loss = predictions.labels.ndim == 1 or model.cls_head.criterion.supports_multi_label
    if model.average_views == 'score' and has_loss:
        scores, labels = (torch.from_numpy(a).to(device) for a in (predictions.scores, predictions.labels))
        numbers['loss'] = model.cls_head.loss(scores, labels).item()
    return numbers
