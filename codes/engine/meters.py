"""Means of what a run reports, and how much time it needs."""

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor

from dsanet.utils import distributed


class Meter:
    """Means of scalars since the last log line, added up on the device so that the GPU is not waited for."""

    def __init__(self) -> None:
        self._sums: dict[str, Any] = {}
        self._counts: dict[str, int] = {}

    def add(self, scalars: Mapping[str, Tensor | float]) -> None:
        """Count in scalars; every process gives the same names in the same order."""
        for name, value in scalars.items():
            value = value.detach() if isinstance(value, Tensor) else value
            self._sums[name] = self._sums.get(name, 0) + value
            self._counts[name] = self._counts.get(name, 0) + 1

    def flush(self) -> dict[str, float]:
        """Return the means over iterations and processes, and start anew."""
        names = list(self._sums)
        device = next((v.device for v in self._sums.values() if isinstance(v, Tensor)), None)
        values = [torch.as_tensor(self._sums[name], dtype=torch.float64, device=device) for name in names]
        counts = torch.tensor([self._counts[name] for name in names], device=device)
        means = distributed.all_reduce_mean(torch.stack(values) / counts).tolist()  # (number of names,)
        self._sums, self._counts = {}, {}
        return dict(zip(names, means, strict=True))

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs to go on between two log lines."""
        return {'sums': {name: float(value) for name, value in self._sums.items()}, 'counts': dict(self._counts)}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take up what :meth:`state` gave."""
        self._sums, self._counts = dict(state['sums']), dict(state['counts'])


class Clock:
    """Tells how much time is left, from the speed since the run started, validation and checkpoints included."""

    def __init__(self, first_iteration: int, last_iteration: int) -> None:
        self._started = time.monotonic()
        self._first = first_iteration
        self._last = last_iteration

    def eta(self, iteration: int) -> timedelta:
        """Return the time left behind so many finished iterations."""
        per_iteration = (time.monotonic() - self._started) / (iteration - self._first)
        return timedelta(seconds=round(per_iteration * (self._last - iteration)))
