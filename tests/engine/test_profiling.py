import json
from pathlib import Path

import torch

from codes.engine.profiling import profile_iterations


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
