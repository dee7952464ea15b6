"""The record of iterations with a non-finite loss or gradient, in ``nonfinite.jsonl``."""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dsanet.engine.stopping import RunError
from dsanet.utils import distributed
from dsanet.utils.json_lines import RecordFile

LOGGER = logging.getLogger(__name__)


class NonFiniteLog:
    """Records skipped iterations and ends the run if there are too many.

    Args:
        work_dir: an existing folder.
        iteration: completed iterations; lines of later ones, which a resumed run repeats, are removed.
        max_count: largest allowed number of skipped iterations.
    """

    def __init__(self, work_dir: Path, iteration: int, max_count: int) -> None:
        self.file = work_dir / 'nonfinite.jsonl'
        self.max_count = max_count
        is_main = distributed.rank() == 0
        self._record: RecordFile | None = None
        if is_main:
            self._record = RecordFile(self.file, lambda line: line['iteration'] <= iteration, {'iteration': int})

    def add(
        self, count: int, epoch: int, iteration: int, scalars: Mapping[str, float], paths: Sequence[str], lr: float
    ) -> None:
        """Record a skipped iteration; all processes call it together.

        Args:
            count: skipped iterations so far, with this one.
            epoch, iteration: current ones, 1-based; iterations count from the start of training.
            scalars: loss and gradient norm of this process.
            paths: videos of this process.
            lr: the learning rate.

        Raises:
            RunError: ``count`` is larger than ``max_count``.
        """
        every = distributed.all_gather_object({'scalars': {k: str(v) for k, v in scalars.items()}, 'paths': [*paths]})
        record: dict[str, Any] = {'epoch': epoch, 'iteration': iteration, 'lr': lr, 'processes': every}
        if self._record is not None:
            self._record.append(record)
        process, values, names = _find_cause(every)
        videos = ', '.join(names[:4]) + (f' and {len(names) - 4} more' if len(names) > 4 else '')
        text = f'Non-finite {values}{process} at iteration {iteration} (epoch {epoch}, lr {lr:.4g})'
        if count > self.max_count:
            raise RunError(
                f'{text}, videos: {videos}. Skipped {count} iterations, more than '
                f'train_cfg.max_nonfinite={self.max_count} allows; see {self.file}. '
                'Try a lower learning rate or train_cfg.clip_grad_norm'
            )
        LOGGER.warning('%s, videos: %s. Skipped this iteration (%d of at most %d)', text, videos, count, self.max_count)


def _find_cause(every: Sequence[Mapping[str, Any]]) -> tuple[str, str, list[str]]:
    """Return the processes at fault, their non-finite values, and their videos.

    The gradient is the mean over all processes, so a process is at fault if its loss is not finite; all are if only
    the gradient is not.
    """
    ranks = [rank for rank, process in enumerate(every) if not math.isfinite(float(process['scalars']['loss']))]
    where = f' in process {", ".join(map(str, ranks))}' if 0 < len(ranks) < len(every) else ''
    chosen = [every[rank] for rank in ranks or range(len(every))]
    values = [
        f'{name} {value}'
        for process in chosen
        for name, value in process['scalars'].items()
        if not math.isfinite(float(value))
    ]
    return where, ', '.join(dict.fromkeys(values)), [path for process in chosen for path in process['paths']]
