import numpy as np
import pytest

from dsanet.datasets.video import remembered
from dsanet.datasets.video.remembered import add, remember, take_new


@pytest.fixture(autouse=True)
def _empty(monkeypatch):
    monkeypatch.setattr(remembered, '_RESULTS', {})
    monkeypatch.setattr(remembered, '_NEW', {})


def test_results_are_computed_once_per_version(tmp_path):
    file = tmp_path / 'a'
    file.write_text('1')
    calls = []

    def length():
        calls.append(1)
        return len(file.read_text())

    assert [remember('length', str(file), length) for _ in range(3)] == [1, 1, 1]
    file.write_text('12')
    assert remember('length', str(file), length) == 2
    assert len(calls) == 2


def test_new_results_are_taken_once_and_added(tmp_path):
    file = tmp_path / 'a'
    file.write_text('1')
    assert remember('x', str(file), lambda: 5) == 5
    results = take_new()
    assert list(results.values()) == [5]
    assert take_new() == {}
    remembered._RESULTS.clear()
    add({key: 7 for key in results})
    assert remember('x', str(file), lambda: 5) == 7
    assert take_new() == {}


def test_number_of_results_is_limited(monkeypatch):
    monkeypatch.setattr(remembered, '_MAX_RESULTS', 3)
    for number in range(10):
        add({('f', (str(number), 0, 0)): number})
        assert len(remembered._RESULTS) <= 3
    assert ('f', ('9', 0, 0)) in remembered._RESULTS


def test_bytes_of_results_are_limited(monkeypatch):
    monkeypatch.setattr(remembered, '_MAX_BYTES', 1000)
    add({('f', ('number', 0, 0)): 5})
    for number in range(10):
        add({('index', (str(number), 0, 0)): np.zeros(300, np.uint8)})
    kept = [path for _, (path, _, _) in remembered._RESULTS]
    assert kept == ['number', '7', '8', '9']
    add({('index', ('large', 0, 0)): np.zeros(2000, np.uint8)})
    assert [path for _, (path, _, _) in remembered._RESULTS] == ['number', 'large']
