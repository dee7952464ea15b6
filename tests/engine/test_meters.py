import json
from datetime import timedelta

import pytest
import torch

from dsanet.engine import meters
from dsanet.engine.meters import Clock, Meter


def test_meter_gives_means_and_starts_anew() -> None:
    meter = Meter()
    meter.add({'loss': torch.tensor(1.0), 'time': 2.0})
    meter.add({'loss': torch.tensor(3.0), 'time': 4.0})
    assert meter.flush() == {'loss': 2.0, 'time': 3.0}
    meter.add({'loss': torch.tensor(5.0)})
    assert meter.flush() == {'loss': 5.0}


def test_scalar_that_is_not_always_there_has_its_own_mean() -> None:
    meter = Meter()
    meter.add({'time': 1.0})
    meter.add({'time': 2.0, 'loss': torch.tensor(3.0)})
    assert meter.flush() == {'time': 1.5, 'loss': 3.0}


def test_meter_goes_on_from_its_state_in_the_same_bits() -> None:
    values = torch.rand(7)
    straight, first = Meter(), Meter()
    for value in values:
        straight.add({'loss': value})
    for value in values[:3]:
        first.add({'loss': value})
    second = Meter()
    second.load(json.loads(json.dumps(first.state())))
    for value in values[3:]:
        second.add({'loss': value})
    assert second.flush() == straight.flush()


def test_clock_goes_by_the_speed_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([100.0, 110.0])
    monkeypatch.setattr(meters.time, 'monotonic', lambda: next(times))
    clock = Clock(20, 100)
    assert clock.eta(25) == timedelta(seconds=150)  # 2 s each, 75 to go
