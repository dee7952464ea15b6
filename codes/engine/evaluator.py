"""Scoring a dataset on one or several processes, and computing the metrics."""

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

from dsanet.datasets.transforms.base import SampleError
from dsanet.engine.result_parts import ResultParts, ScoredBatch
from dsanet.utils import distributed

LOGGER = logging.getLogger(__name__)

SYNC_EVERY = 4  # batches between two synchronizations of the processes
LOG_EVERY_S = 60  # seconds between two log lines about the progress

# Errors of data, pipelines, numbers and disks, which are raised on all ranks.
EXPECTED_ERRORS = (SampleError, FloatingPointError, OSError)

AMP_DTYPES = {'bf16': torch.bfloat16, 'fp16': torch.float16}


def autocast(device: torch.device, amp: str | None) -> AbstractContextManager[Any]:
    """Return the context for automatic mixed precision; None disables it."""
    return torch.autocast(device.type, AMP_DTYPES.get(amp or '', torch.bfloat16), enabled=amp is not None)


def progress_bar(loader: DataLoader[Any], text: str, done: int = 0) -> Any:
    """Wrap a loader in a progress bar, which is shown on the terminal of rank 0."""
    hidden = distributed.rank() > 0 or not sys.stderr.isatty()
    return tqdm(loader, desc=text, initial=done, leave=False, disable=hidden, dynamic_ncols=True)


@dataclass(frozen=True)
class Predictions:
    """The scores of a dataset, in its order: scores (n, K) float32 and labels (n,) int64.

    If a video may have several labels, labels are (n, K) float32 with 1 for each of its classes.
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
) -> Predictions | None:
    """Score every video of a dataset exactly once, on any number of processes.

    The batches do not depend on the number of processes. The processes synchronize every few batches, so that a hanging
    process is noticed after the timeout of the process group, and an error on one rank is raised on all ranks.

    Args:
        model: a recognizer without DDP, because ranks may have different numbers of batches.
        loader: an evaluation loader, with the share of this rank.
        device: device of the model.
        amp: None, 'bf16' or 'fp16'.
        text: label of the progress bar.
        parts: stores finished batches and restores those of an interrupted test; its ``start`` must have been called.
            None stores nothing.

    Returns:
        The predictions of all ranks, on rank 0; None on other ranks.

    Raises:
        FloatingPointError: a score is not finite.
        SampleError: a video cannot be read, or the pipeline fails. If raised in a worker, see
            :func:`~dsanet.utils.text.strip_worker_traceback`.
        OSError: a finished batch cannot be written.
    """
    was_training = model.training
    model.eval()
    finished: list[ScoredBatch] = []
    if parts is not None:
        finished.extend(parts.restored)
        loader.sampler.skip_batches(parts.done)  # type: ignore[attr-defined]

    def score(batch: Mapping[str, Any]) -> None:
        finished.append(_score(model, batch, device, amp, loader.batch_size or 1))
        if parts is not None:
            parts.add(finished[-1])

    process_batches(loader, score, text, EXPECTED_ERRORS)
    model.train(was_training)
    gathered = distributed.gather_object(list(finished))
    finished.clear()  # with several processes, gathered has copies
    return None if gathered is None else _combine(gathered, len(loader.dataset))  # type: ignore[arg-type]


def _combine(gathered: Sequence[Sequence[ScoredBatch]], num_videos: int) -> Predictions:
    """Return the predictions of the batches of each rank, in the order of the dataset."""
    batches = [batch for of_rank in gathered for batch in of_rank]
    index = np.concatenate([batch.index for batch in batches])
    assert np.array_equal(np.sort(index), np.arange(num_videos)), 'evaluation missed or repeated a sample'
    scores, labels = (
        np.empty((num_videos, *values.shape[1:]), values.dtype) for values in (batches[0].scores, batches[0].labels)
    )
    for batch in batches:  # a concatenation would be a second copy
        scores[batch.index] = batch.scores
        labels[batch.index] = batch.labels
    return Predictions(scores, labels)


def process_batches(
    loader: DataLoader[Any], process: Callable[[Any], None], text: str, expected: tuple[type[Exception], ...]
) -> None:
    """Process the batches of a loader, on any number of processes, which synchronize every few batches.

    Args:
        loader: an evaluation loader, with the share of this rank; ranks may have different numbers of batches.
        process: called with each batch.
        text: label of the progress bar.
        expected: errors of the loader and of ``process`` that are raised on all ranks; others end this rank only.
    """
    num_rounds = max(distributed.all_gather_object(len(loader)))
    batches = iter(progress_bar(loader, text))
    failure: Exception | None = None
    logged_at = time.monotonic()
    for i in range(num_rounds):
        if i % SYNC_EVERY == 0:
            _sync_errors(failure)
        if time.monotonic() > logged_at + LOG_EVERY_S and not sys.stderr.isatty():  # instead of a progress bar
            LOGGER.info('%s [%d/%d]', text, i, num_rounds)
            logged_at = time.monotonic()
        try:
            batch = None if failure else next(batches, None)
            if batch is not None:
                process(batch)
        except expected as error:
            failure = error
    _sync_errors(failure)


def _sync_errors(failure: Exception | None) -> None:
    """Raise the error of the lowest rank that has one, on all ranks."""
    for error in distributed.all_gather_object(failure):
        if error is not None:
            raise error


def _score(
    model: nn.Module, batch: Mapping[str, Any], device: torch.device, amp: str | None, batch_size: int
) -> ScoredBatch:
    with autocast(device, amp):
        scores = model(batch['inputs'])
    if not scores.isfinite().all():
        bad = [path for path, row in zip(batch['path'], scores, strict=True) if not row.isfinite().all()]
        raise FloatingPointError(
            f'non-finite scores for {len(bad)} of {len(scores)} videos in a batch, such as {bad[0]}'
        )
    index = batch['index'].numpy()
    number = int(index[0]) // batch_size
    return ScoredBatch(number, index, scores.float().cpu().numpy(), batch['label'].numpy())
