"""Shared by the fault tests: a tiny dataset and run, and started jobs."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.commands.conftest import config, data, run, straight  # noqa: F401
from tests.faults.jobs import Job

ROOT = Path(__file__).parents[2]
Start = Callable[..., Job]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start commands, which are ended after the test."""
    jobs: list[Job] = []
    numbers = count()

    def start(*command: object, **environment: object) -> Job:
        jobs.append(Job(command, tmp_path / f'console{next(numbers)}.log', **environment))
        return jobs[-1]

    yield start
    for job in jobs:
        job.stop()
