import json
import logging
import re
from pathlib import Path

import pytest
import torch

from dsanet.engine.profiling import profile_iterations


def test_no_profile_costs_nothing(tmp_path: Path) -> None:
    with profile_iterations(tmp_path, 0) as profiler:
        profiler.step()
    assert list(tmp_path.iterdir()) == []


def test_wanted_number_of_iterations_is_recorded_behind_the_first_ones(tmp_path: Path) -> None:
    with profile_iterations(tmp_path, 2) as profiler:
        for i in range(8):
            torch.ones(i + 1) + 1
            profiler.step()
    events = json.loads((tmp_path / 'profile' / 'rank_0.json').read_text())['traceEvents']
    assert sum(event['name'] == 'aten::add' for event in events) == 2
    assert 'aten::add' in (tmp_path / 'profile' / 'rank_0.txt').read_text()


@pytest.mark.parametrize(
    ('iterations', 'text'),
    [(8, 'profile of 5 iterations written to .*rank_0.json'), (2, 'no profile: the run ended before the first 4')],
)
def test_short_run_says_how_much_of_it_was_recorded(
    tmp_path: Path, iterations: int, text: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger('dsanet'), 'propagate', True)
    with caplog.at_level(logging.INFO, 'dsanet'), profile_iterations(tmp_path, 20) as profiler:
        for _ in range(iterations):
            torch.ones(1) + 1
            profiler.step()
    assert re.search(text, caplog.text)
