import json
import logging
import re
from pathlib import Path

import pytest
import torch

from dsanet.engine.profiling import profile_iterations


def test_no_profile_writes_nothing(tmp_path: Path) -> None:
    with profile_iterations(tmp_path, 0) as profiler:
        assert profiler is None
    assert list(tmp_path.iterdir()) == []


def test_requested_iterations_are_recorded(tmp_path: Path) -> None:
    with profile_iterations(tmp_path, 2) as profiler:
        for i in range(8):
            torch.ones(i + 1) + 1
            profiler.step()
    events = json.loads((tmp_path / 'profile' / 'rank_0.json').read_text())['traceEvents']
    assert sum(event['name'] == 'aten::add' for event in events) == 2
    assert 'aten::add' in (tmp_path / 'profile' / 'rank_0.txt').read_text()


@pytest.mark.parametrize(
    ('iterations', 'text'),
    [(8, r'\b5\b.*rank_0.json'), (2, r'\b4\b')],
)
def test_short_run_logs_recorded_iterations(
    tmp_path: Path, iterations: int, text: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger('dsanet'), 'propagate', True)
    with caplog.at_level(logging.INFO, 'dsanet'), profile_iterations(tmp_path, 20) as profiler:
        for _ in range(iterations):
            torch.ones(1) + 1
            profiler.step()
    assert re.search(text, caplog.messages[-1])
