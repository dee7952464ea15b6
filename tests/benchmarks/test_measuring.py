"""Repeats, times, memory and rates, with functions whose cost is known."""

import itertools
import subprocess
import sys
import time

import pytest
import torch

from dsanet.benchmarks import measuring
from dsanet.benchmarks.measuring import (
    MemoryMeter,
    Result,
    add_rates,
    descendants,
    describe_machine,
    measure,
    process_cpu_s,
    reference_functions,
    rollup_mb,
    seconds,
    spread,
    status_mb,
)

CPU = torch.device('cpu')
ON_LINUX = pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')


@pytest.mark.usefixtures('short')
def test_functions_are_called_in_turn() -> None:
    calls: list[str] = []
    results = measure({'a': lambda: calls.append('a'), 'b': lambda: calls.append('b')}, repeats=3, warmup=2)
    assert calls == ['a', 'b'] * 5
    assert [result.name for result in results] == ['a', 'b']
    assert [(len(result.wall_s), len(result.cpu_s)) for result in results] == [(3, 3)] * 2


def test_short_functions_are_called_several_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, 'MIN_REPEAT_S', 1.0)
    calls: list[None] = []  # each takes 0.25 s of wall time and half of it of CPU time
    monkeypatch.setattr(measuring.time, 'perf_counter', lambda: len(calls) / 4)
    [result] = measure({'a': lambda: calls.append(None)}, repeats=2, cpu_clock=lambda: len(calls) / 8)
    assert len(calls) == 1 + 1 + 2 * 4, 'for memory, for the number of calls, and repeats of 4 calls'
    assert (result.wall_s, result.cpu_s) == ([0.25] * 2, [0.125] * 2)


@pytest.mark.usefixtures('short')
def test_clock_of_other_processes_is_used() -> None:
    ticks = itertools.count(0, 7)
    [result] = measure({'a': lambda: None}, repeats=2, cpu_clock=lambda: float(next(ticks)))
    assert result.cpu_s == [7, 7]
    assert seconds(result) == 7


def test_result_has_median_minimum_and_spread() -> None:
    result = Result('a', wall_s=[3.0, 1.0, 2.0], cpu_s=[0.5, 0.5, 0.25], facts={'lines': 5})
    content = result.as_dict()
    assert (content['wall_median_s'], content['wall_min_s'], content['wall_spread']) == (2, 1, 1)
    assert (content['cpu_median_s'], content['cpu_min_s'], content['cpu_spread']) == (0.5, 0.25, 0.5)
    assert content['lines'] == 5
    assert spread([0.0, 0.0]) == 0


@ON_LINUX
def test_peak_memory_covers_freed_memory() -> None:
    meter = MemoryMeter()
    del (block := bytearray(64_000_000))[:]
    peak, added = meter.stop()
    assert peak is not None
    assert added is not None
    assert 60 < added < 100
    assert peak > added
    assert block == b''
    _, after = MemoryMeter().stop()
    assert after is not None
    assert after < 20, 'the peak was reset'


@ON_LINUX
def test_memory_of_a_process_is_read() -> None:
    assert 1 < (status_mb('VmRSS') or 0) < 1e5
    assert 0 < (rollup_mb('Pss') or 0) <= (rollup_mb('Rss') or 0)
    assert status_mb('VmNothing') is None
    assert rollup_mb('Pss', 2**22 + 1) is None, 'no such process'


@ON_LINUX
def test_processes_and_their_children_are_found() -> None:
    code = 'import subprocess, sys; subprocess.run([sys.executable, "-c", "input()"])'
    with subprocess.Popen([sys.executable, '-c', code], stdin=subprocess.PIPE) as process:
        while len(found := descendants([process.pid])) < 2:
            time.sleep(0.01)
        assert found[0] == process.pid
        assert sum(map(process_cpu_s, found)) < 60
        process.communicate(b'\n')
    assert process_cpu_s(process.pid) == 0


def test_rates_are_relative_to_the_matrix_product() -> None:
    matmul = Result('matmul fp32', cpu_s=[0.002], wall_s=[1.0])
    half = Result('matmul bf16', cpu_s=[0.001], wall_s=[1.0])
    copied = Result('copy', cpu_s=[0.5], wall_s=[1.0])
    model = Result('model', cpu_s=[4e-6, 2e-6], wall_s=[1.0, 1.0], facts={'gmacs': 1e-6, 'precision': 'fp32'})
    add_rates([matmul, half, copied, model], CPU, size=100)
    assert matmul.facts['gflops'] == pytest.approx(1)  # 2 * 100^3 in 2 ms
    assert half.facts['gflops'] == pytest.approx(2)
    assert copied.facts['gb_per_s'] == pytest.approx(2**28 * 100 / 2048 / 0.5e9)
    assert model.facts['gflops'] == pytest.approx(1)  # 2 * 10^3 in 2 us
    assert model.facts['share_of_matmul'] == pytest.approx(1)


def test_references_have_the_declared_size() -> None:
    functions = reference_functions(CPU, size=32)
    assert functions['matmul fp32']().shape == (32, 32)
    assert functions['matmul bf16']().dtype == torch.bfloat16
    assert functions['copy']().nbytes == 2**28 // 64


def test_machine_is_described() -> None:
    machine = describe_machine(CPU)
    assert machine['threads'] == torch.get_num_threads()
    assert machine['torch'] == torch.__version__
    assert machine['cores'] >= 1
    assert len(machine['load_average']) == 3
    assert machine['gpu'] is None
