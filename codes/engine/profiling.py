"""Profiles of training iterations."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from dsanet.utils import distributed

LOGGER = logging.getLogger(__name__)

_WAIT, _WARMUP = 2, 1  # iterations before the recording, because the first ones select kernels and fill queues


@contextlib.contextmanager
def profile_iterations(work_dir: Path, count: int) -> Iterator[profile | None]:
    """Profile iterations: a trace for ``chrome://tracing`` or Perfetto and a table of the most expensive operators.

    The files are ``work_dir/profile/rank_*.json`` and ``rank_*.txt``.

    Args:
        work_dir: an existing folder.
        count: number of iterations to record; 0 for none.

    Yields:
        An object whose ``step`` must be called after each iteration; None if ``count`` is 0.
    """
    if not count:
        yield None
        return
    folder = work_dir / 'profile'
    folder.mkdir(exist_ok=True)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    key = 'self_cuda_time_total' if torch.cuda.is_available() else 'self_cpu_time_total'
    written: list[Path] = []

    def write(recorded: Any) -> None:
        trace = folder / f'rank_{distributed.rank()}.json'
        recorded.export_chrome_trace(str(trace))
        trace.with_suffix('.txt').write_text(recorded.key_averages().table(sort_by=key, row_limit=30) + '\n')
        written.append(trace)
        num_recorded = min(count, recorded.step_num - _WAIT - _WARMUP)  # fewer in a short run
        LOGGER.info('Wrote profile of %d iterations to %s', num_recorded, trace)

    plan = schedule(wait=_WAIT, warmup=_WARMUP, active=count, repeat=1)
    with profile(activities=activities, schedule=plan, on_trace_ready=write) as profiler:
        yield profiler
    if not written:
        LOGGER.warning('No profile written: the run had fewer than %d iterations', _WAIT + _WARMUP + 1)
