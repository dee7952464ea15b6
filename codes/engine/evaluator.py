"""Scoring whole datasets, on one process or many, and what the metrics say of the scores."""

import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from dsanet.datasets.transforms.base import BadSample
from dsanet.engine.result_parts import ResultParts, ScoredBatch
from dsanet.utils import distributed

LOGGER = logging.getLogger(__name__)

# Batches between two meetings of the processes. The quicker ones wait there, at most for the group's timeout.
SYNC_EVERY = 4
# Seconds between two lines of the log about how far it is.
LOG_EVERY_S = 60

# What may end a test that is not a mistake of the code's.
EXPECTED_ERRORS = (BadSample, FloatingPointError, OSError)

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
    """The scores of a whole dataset, in its order: scores (n, K) float32 and labels (n,) int64.

    Where a video has several labels, labels are (n, K) float32 with 1 for each class that it has.
    """

    scores: NDArray[np.float32]
    labels: NDArray[np.int64] | NDArray[np.float32]


@torch.no_grad()
def predict(
    model: nn.Module,
    loader: DataLoader[Any],
    device: torch.device,
    amp: str | None = None,
    text: str = 'test',
    parts: ResultParts | None = None,
) -> Predictions:
    """Score every video of a dataset exactly once, on however many processes.

    The batches are the same on any number of processes. The processes meet every few of them: so one that hangs is
    noticed as soon as the process group's timeout says, and one that meets a bad video tells the others why all end.

    Args:
        model: a recognizer, not wrapped: the processes may have different numbers of batches.
        loader: an evaluation loader; each process has its share.
        device: where the model is.
        amp: None, 'bf16' or 'fp16'.
        text: label of the progress bar.
        parts: where finished batches are written down as they come, and those of an interrupted test are found, when
            it has been started; None for neither.

    Returns:
        The predictions of all processes together, in each of them.

    Raises:
        FloatingPointError: a score is not finite; names the first video.
        BadSample: a video cannot be read. If raised in a worker, see :func:`strip_worker_traceback`.
        OSError: a finished batch cannot be written down.
            These three are raised in all processes, whichever met them.
    """
    was_training = model.training
    model.eval()
    finished: list[ScoredBatch] = []
    if parts is not None:
        finished.extend(parts.restored)
        loader.sampler.skip_batches(parts.done)  # type: ignore[attr-defined]
    num_rounds = max(distributed.all_gather_object(len(loader)))
    batches = iter(progress_bar(loader, text))
    failure: Exception | None = None
    told = time.monotonic()
    for i in range(num_rounds):
        if i % SYNC_EVERY == 0:
            _sync_errors(failure)
        if time.monotonic() > told + LOG_EVERY_S and not sys.stderr.isatty():  # where there is no progress bar
            LOGGER.info('%s [%d/%d]', text, i, num_rounds)
            told = time.monotonic()
        try:
            batch = None if failure else next(batches, None)
            if batch is not None:
                finished.append(_score(model, batch, device, amp, loader.batch_size or 1))
                if parts is not None:
                    parts.add(finished[-1])
        except EXPECTED_ERRORS as error:
            failure = error
    _sync_errors(failure)
    model.train(was_training)
    every = [part for share in distributed.all_gather_object(finished) for part in share]
    index, scores, labels = (
        np.concatenate([getattr(part, name) for part in every]) for name in ('index', 'scores', 'labels')
    )
    order = np.argsort(index)
    assert np.array_equal(index[order], np.arange(len(loader.dataset))), 'evaluation missed or repeated a sample'  # type: ignore[arg-type]
    return Predictions(scores[order], labels[order])


def _sync_errors(failure: Exception | None) -> None:
    """Wait for all processes, and raise the failure of the first that had one."""
    for every in distributed.all_gather_object(failure):
        if every is not None:
            raise every


def _score(
    model: nn.Module, batch: Mapping[str, Any], device: torch.device, amp: str | None, batch_size: int
) -> ScoredBatch:
    with autocast(device, amp):
        scores = model(batch['inputs'])
    if not scores.isfinite().all():
        bad = [path for path, row in zip(batch['path'], scores, strict=True) if not row.isfinite().all()]
        raise FloatingPointError(f'the scores of {bad[0]} and {len(bad) - 1} more videos are not finite')
    index = batch['index'].numpy()
    number = int(index[0]) // batch_size
    return ScoredBatch(number, index, scores.float().cpu().numpy(), batch['label'].numpy())


def strip_worker_traceback(error: Exception) -> str:
    """Return the text of an error as it was raised, without what torch puts around it in a data worker."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == 'builtins' else f'{kind.__module__}.{kind.__qualname__}'
    # The worker's traceback ends with the error itself, at the beginning of a line.
    return str(error).rpartition(f'\n{name}: ')[2].strip()


def check_metrics(metrics: Sequence[Any], dataset: Any) -> None:
    """Check before anything is scored that the metrics can use a dataset's labels.

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
