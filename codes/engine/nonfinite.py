"""The record of iterations whose loss or gradient was not finite, in ``nonfinite.jsonl``."""

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
    """Counts the iterations that were left out, and ends the run when they are too many.

    Args:
        work_dir: an existing folder.
        iteration: iterations done. What an interrupted run wrote beyond them is met again, and goes.
        max_count: how many may be left out.
        count: how many have been.
    """

    def __init__(self, work_dir: Path, iteration: int, max_count: int, count: int = 0) -> None:
        self.file = work_dir / 'nonfinite.jsonl'
        self.max_count = max_count
        self.count = count
        is_main = distributed.rank() == 0
        self._record = RecordFile(self.file, lambda line: line['iteration'] <= iteration) if is_main else None

    def add(self, epoch: int, iteration: int, scalars: Mapping[str, float], paths: Sequence[str], rate: float) -> None:
        """Record an iteration; all processes together.

        Args:
            epoch, iteration: the running ones, 1-based; iterations count from the start of the training.
            scalars: loss and norm of the gradient of this process.
            paths: the videos of this process.
            rate: the learning rate.

        Raises:
            RunError: they are more than ``max_count``.
        """
        every = distributed.all_gather_object(
            {'scalars': {k: str(v) for k, v in scalars.items()}, 'paths': list(paths)}
        )
        self.count += 1
        record: dict[str, Any] = {'epoch': epoch, 'iteration': iteration, 'lr': rate, 'processes': every}
        if self._record is not None:
            self._record.append(record)
        where, numbers, names = _find_cause(every)
        text = f'iteration {iteration} (epoch {epoch}, lr {rate:.4g}) is not finite{where}: {numbers}; its videos: '
        shown = ', '.join(names[:4]) + (f' and {len(names) - 4} more' if len(names) > 4 else '')
        if self.count > self.max_count:
            raise RunError(
                f'{text}{shown}; see {self.file}. {self.count} iterations were not finite, more than '
                f'train_cfg.max_nonfinite={self.max_count} allows; a lower learning rate or clip_grad_norm may help'
            )
        LOGGER.warning('%s%s; left out, %d of at most %d', text, shown, self.count, self.max_count)


def _find_cause(every: Sequence[Mapping[str, Any]]) -> tuple[str, str, list[str]]:
    """Return which processes it lies with, what is not finite there, and their videos.

    A gradient is the mean over all processes, and tells of none. So those count whose loss is not finite; all of them
    if the gradient alone is not.
    """
    ranks = [rank for rank, process in enumerate(every) if not math.isfinite(float(process['scalars']['loss']))]
    where = f' in process {", ".join(map(str, ranks))}' if 0 < len(ranks) < len(every) else ''
    chosen = [every[rank] for rank in ranks or range(len(every))]
    numbers = [
        f'{name} {value}'
        for process in chosen
        for name, value in process['scalars'].items()
        if not math.isfinite(float(value))
    ]
    return where, ', '.join(dict.fromkeys(numbers)), [path for process in chosen for path in process['paths']]
