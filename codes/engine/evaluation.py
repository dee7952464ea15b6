"""Scoring whole data sets, on one process or many, and what the metrics say of the scores."""

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from codes.engine import distributed

AMP_TYPES = {'bf16': torch.bfloat16, 'fp16': torch.float16}


def autocast(device: torch.device, amp: str | None) -> AbstractContextManager[Any]:
    """Return the context for mixed precision, which does nothing for None."""
    return torch.autocast(device.type, AMP_TYPES.get(amp or '', torch.bfloat16), enabled=amp is not None)


def progress_bar(loader: DataLoader[Any], text: str, done: int = 0) -> Any:
    """Return the loader with a progress bar on the terminal of rank 0, and without one anywhere else.

    Args:
        loader: what is gone through.
        text: label of the bar.
        done: batches that the bar begins with.
    """
    hidden = distributed.rank() > 0 or not sys.stderr.isatty()
    return tqdm(loader, desc=text, initial=done, leave=False, disable=hidden, dynamic_ncols=True)


@dataclass(frozen=True)
class Predictions:
    """The scores of a whole data set, in its order: scores (n, K) float32 and labels (n,) int64.

    Where a video has several labels, labels are (n, K) float32 with 1 for each class that it has.
    """

    scores: NDArray[np.float32]
    labels: NDArray[np.int64] | NDArray[np.float32]


@torch.no_grad()
def predict(
    model: nn.Module, loader: DataLoader[Any], device: torch.device, amp: str | None = None, text: str = 'test'
) -> Predictions:
    """Score every video of a data set exactly once, on however many processes.

    Args:
        model: a recogniser, not wrapped: the processes may have different numbers of batches.
        loader: an evaluation loader; each process has its share.
        device: where the model is.
        amp: None, 'bf16' or 'fp16'.
        text: label of the progress bar.

    Returns:
        The predictions of all processes together, in each of them.
    """
    was_training = model.training
    model.eval()
    parts = []
    for batch in progress_bar(loader, text):
        with autocast(device, amp):
            scores = model(batch['inputs'])
        if not scores.isfinite().all():
            bad = [path for path, row in zip(batch['path'], scores, strict=True) if not row.isfinite().all()]
            raise RuntimeError(f'the scores of {bad[0]} and {len(bad) - 1} more videos are not finite')
        parts.append((batch['index'].numpy(), scores.float().cpu().numpy(), batch['label'].numpy()))
    model.train(was_training)
    every = [part for share in distributed.gather(parts) for part in share]
    index, all_scores, labels = (np.concatenate(column) for column in zip(*every, strict=True))
    order = np.argsort(index)
    assert (index[order] == np.arange(len(loader.dataset))).all(), 'evaluation missed or repeated a sample'  # type: ignore[arg-type]
    return Predictions(all_scores[order], labels[order])


def check_metrics(metrics: Sequence[Any], dataset: Any) -> None:
    """Check before anything is scored that the metrics can use a data set's labels.

    Raises:
        ValueError: videos may have several labels, and a metric counts one.
    """
    for i, metric in enumerate(metrics):
        if dataset.multi_hot is not None and not metric.takes_multi_hot:
            raise ValueError(
                f'metrics.{i} ({type(metric).__name__}) needs one label a video, but the data have multi_hot='
                f"{dataset.multi_hot}: use metrics=[dict(type='MeanAveragePrecision')] and runtime.save_best='mAP'"
            )


def compute_metrics(metrics: Sequence[Callable[..., dict[str, float]]], predictions: Predictions) -> dict[str, float]:
    """Return the numbers of all metrics together."""
    return {k: v for metric in metrics for k, v in metric(predictions.scores, predictions.labels).items()}
