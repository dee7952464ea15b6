"""What the fault tests share: data, and a table at the end of how often each fault was tried."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tools.data.make_ordered_actions import make_dataset

ROOT = Path(__file__).parents[2]
Record = Callable[[str, int, str], None]

_RECORDS: list[tuple[str, int, str]] = []


@pytest.fixture
def record_fault() -> Record:
    """Note what was survived: what, how often, details. Called when all assertions have held."""
    return lambda what, times, details: _RECORDS.append((what, times, details))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _RECORDS:
        terminalreporter.section('faults survived')
        for what, times, details in _RECORDS:
            terminalreporter.write_line(f'{times:3d} x {what}: {details}')


@pytest.fixture(scope='session')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen training and seven validation videos."""
    root = tmp_path_factory.mktemp('data') / 'ordered'
    make_dataset(root, num_videos=32, seed=0, val_fraction=0.5, size=32)
    lines = (root / 'val.txt').read_text().splitlines()
    (root / 'val.txt').write_text('\n'.join(lines[:7]) + '\n')
    return root
