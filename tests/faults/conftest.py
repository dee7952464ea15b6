"""What the tests of faults share: a tiny data set, a config, an undisturbed run."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.faults.jobs import Job
from tests.tools.conftest import config, data, run, straight  # noqa: F401

Start = Callable[..., Job]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start commands, which are ended with the test."""
    jobs: list[Job] = []
    numbers = count()

    def start(*command: object, **environment: object) -> Job:
        jobs.append(Job(command, tmp_path / f'console{next(numbers)}.log', **environment))
        return jobs[-1]

    yield start
    for job in jobs:
        job.stop()
