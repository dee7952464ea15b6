"""Shared by the fault tests: a tiny dataset and run, started jobs, and a table of survived faults."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.commands.conftest import config, data, run, straight  # noqa: F401
from tests.faults.jobs import Job

ROOT = Path(__file__).parents[2]
Start = Callable[..., Job]
Record = Callable[[str, int, str], None]

_RECORDS: list[tuple[str, int, str]] = []


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


@pytest.fixture
def record_fault() -> Record:
    """Record a survived fault: name, number of times, details. Call it after all assertions."""
    return lambda what, times, details: _RECORDS.append((what, times, details))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _RECORDS:
        terminalreporter.section('faults survived')
        for what, times, details in _RECORDS:
            terminalreporter.write_line(f'{times:3d} x {what}: {details}')
