"""Repeated, alternating measurements of functions, and the facts about the machine that they depend on.

On a machine with other load, wall times say little. CPU seconds of the process and ratios within one run are more
stable, so all functions of a run are called in turn, and every result has both times.
"""

import ctypes
import gc
import math
import os
import platform
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch

from dsanet import __version__

MIN_REPEAT_S = 0.05


@dataclass
class Result:
    """Times of one function.

    Args:
        name: what was measured.
        wall_s: wall seconds of each repeat.
        cpu_s: CPU seconds of each repeat, user and system, of all threads.
        peak_mb: largest resident memory of the process during a call, in 10^6 bytes; None if unknown.
        added_mb: ``peak_mb`` without the memory that the process had before the call. On a GPU, both are torch's
            allocations on it.
        facts: other numbers by name, such as counts and rates.
    """

    name: str
    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    peak_mb: float | None = None
    added_mb: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return all values, and median, minimum and spread of the times, for JSON."""
        times: dict[str, Any] = {}
        for kind, values in (('wall', self.wall_s), ('cpu', self.cpu_s)):
            times |= {
                f'{kind}_s': values,
                f'{kind}_median_s': median(values),
                f'{kind}_min_s': min(values),
                f'{kind}_spread': spread(values),
            }
        return {'name': self.name, **times, 'peak_mb': self.peak_mb, 'added_mb': self.added_mb, **self.facts}


def spread(values: list[float]) -> float:
    """Return the difference between the largest and the smallest value, relative to the median."""
    middle = median(values)
    return (max(values) - min(values)) / middle if middle else 0.0


def measure(
    functions: Mapping[str, Callable[[], Any]],
    repeats: int,
    warmup: int = 1,
    device: torch.device | None = None,
    cpu_clock: Callable[[], float] = time.process_time,
) -> list[Result]:
    """Call functions in turn, and measure time and memory of a call.

    Args:
        functions: functions by name.
        repeats: measurements of each function. Each is one call, or as many as take ``MIN_REPEAT_S``.
        warmup: calls before these, at least 1; peak memory is that of the last one, which is not timed.
        device: its queued work is part of a call; None for the CPU.
        cpu_clock: returns the CPU seconds used until now.
    """
    results = {name: Result(name) for name in functions}
    short: dict[str, bool] = {}
    for turn in range(warmup):
        for name, function in functions.items():
            if turn < warmup - 1:
                function()
                continue
            memory = MemoryMeter(device)
            started = time.perf_counter()
            function()
            synchronize(device)
            short[name] = time.perf_counter() - started < MIN_REPEAT_S
            results[name].peak_mb, results[name].added_mb = memory.stop()

    def run(function: Callable[[], Any], calls: int) -> tuple[float, float]:
        synchronize(device)
        started, cpu_started = time.perf_counter(), cpu_clock()
        for _ in range(calls):
            function()
        synchronize(device)
        return (time.perf_counter() - started) / calls, (cpu_clock() - cpu_started) / calls

    calls = dict.fromkeys(functions, 1)
    for name, is_short in short.items():
        if is_short:
            calls[name] = math.ceil(MIN_REPEAT_S / max(run(functions[name], 1)[0], MIN_REPEAT_S / 1000))
    for _ in range(repeats):
        for name, function in functions.items():
            wall, cpu = run(function, calls[name])
            results[name].wall_s.append(wall)
            results[name].cpu_s.append(cpu)
    return list(results.values())


def synchronize(device: torch.device | None) -> None:
    """Wait for the queued work of a GPU."""
    if device is not None and device.type == 'cuda':
        torch.cuda.synchronize(device)


def seconds(result: Result, device: torch.device | None = None) -> float:
    """Return the smallest time of a result, which ratios use: CPU seconds, or wall seconds on a GPU."""
    return max(min(result.wall_s if device is not None and device.type == 'cuda' else result.cpu_s), 1e-9)


# -- memory ------------------------------------------------------------------------------------------------------------


class MemoryMeter:
    """Measures the peak memory from its creation to :meth:`stop`; on the CPU, only on Linux.

    Args:
        device: a GPU, or None or a CPU for this process.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        self._gpu = device if device is not None and device.type == 'cuda' else None
        free_memory()
        if self._gpu is not None:
            torch.cuda.reset_peak_memory_stats(self._gpu)
            self._before: float | None = torch.cuda.memory_allocated(self._gpu) / 1e6
            return
        with suppress(OSError):
            Path('/proc/self/clear_refs').write_text('5')  # resets VmHWM, see proc(5)
        self._before = status_mb('VmRSS')

    def stop(self) -> tuple[float | None, float | None]:
        """Return the peak and the peak above the memory at the start, in 10^6 bytes; None if unknown."""
        peak = status_mb('VmHWM') if self._gpu is None else torch.cuda.max_memory_allocated(self._gpu) / 1e6
        if peak is None or self._before is None:
            return None, None
        return peak, max(peak - self._before, 0.0)


def free_memory() -> None:
    """Collect garbage, and return free memory to the system, where the C library can do so."""
    gc.collect()
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def status_mb(key: str, process: int | str = 'self') -> float | None:
    """Return a value of ``/proc/PID/status``, such as VmRSS or VmHWM, in 10^6 bytes; None if there is none."""
    return _read_kb(Path(f'/proc/{process}/status'), key)


def rollup_mb(key: str, process: int | str = 'self') -> float | None:
    """Return a value of ``/proc/PID/smaps_rollup``, such as Pss or Private_Dirty, in 10^6 bytes; None if none."""
    return _read_kb(Path(f'/proc/{process}/smaps_rollup'), key)


def _read_kb(file: Path, key: str) -> float | None:
    with suppress(OSError):  # not Linux, or the process has ended
        for line in file.read_text().splitlines():
            if line.startswith(f'{key}:'):
                return int(line.split()[1]) * 1024 / 1e6
    return None


# -- processes ---------------------------------------------------------------------------------------------------------


def descendants(processes: list[int]) -> list[int]:
    """Return processes and all their children that are alive, on Linux; elsewhere the processes themselves."""
    found, todo = [], list(processes)
    while todo:
        process = todo.pop()
        found.append(process)
        for task in Path(f'/proc/{process}/task').glob('*/children'):
            with suppress(OSError):
                todo += map(int, task.read_text().split())
    return found


def process_cpu_s(process: int) -> float:
    """Return CPU seconds of a process and of its ended children, in steps of a clock tick; 0 if it is not running."""
    with suppress(OSError):
        fields = Path(f'/proc/{process}/stat').read_text().rpartition(')')[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf('SC_CLK_TCK')  # utime, stime, cutime, cstime
    return 0.0


# -- the machine -------------------------------------------------------------------------------------------------------


def describe_machine(device: torch.device | None = None) -> dict[str, Any]:
    """Return what the numbers depend on: processor, cores, threads, load average, versions."""
    load = os.getloadavg() if hasattr(os, 'getloadavg') else (0.0,) * 3
    gpu = torch.cuda.get_device_name(device) if device is not None and device.type == 'cuda' else None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    return {
        'dsanet': __version__,
        'torch': torch.__version__,
        'python': platform.python_version(),
        'processor': _processor(),
        'gpu': gpu,
        'cores': cores,
        'threads': torch.get_num_threads(),
        'load_average': [round(value, 2) for value in load],
    }


def _processor() -> str:
    with suppress(OSError):
        for line in Path('/proc/cpuinfo').read_text().splitlines():
            if line.startswith('model name'):
                return line.partition(':')[2].strip()
    return platform.processor() or platform.machine()


# -- references --------------------------------------------------------------------------------------------------------

MATMUL_SIZE = 2048
COPY_BYTES = 2**28


def reference_functions(device: torch.device, size: int = MATMUL_SIZE) -> dict[str, Callable[[], Any]]:
    """Return matrix products in fp32 and bf16 and a plain copy, the peaks that other functions are compared with."""
    one, other = (torch.randn(size, size, device=device) for _ in range(2))
    half, other_half = one.bfloat16(), other.bfloat16()
    source = torch.ones(COPY_BYTES // 4 * size // MATMUL_SIZE, device=device)
    target = torch.empty_like(source)
    return {
        MATMULS['fp32']: lambda: one @ other,
        MATMULS['bf16']: lambda: half @ other_half,
        COPY: lambda: target.copy_(source),
    }


MATMULS = {'fp32': 'matmul fp32', 'bf16': 'matmul bf16'}
COPY = 'copy'


def add_rates(results: list[Result], device: torch.device, size: int = MATMUL_SIZE) -> None:
    """Add the rates of the references, and of results with ``gmacs`` and ``precision`` the rate and the share of the
    reference: ``gflops`` per second, ``share_of_matmul``; of the copy ``gb_per_s``.
    """
    by_name = {result.name: result for result in results}
    for result in results:
        if result.name in MATMULS.values():
            result.facts['gflops'] = 2 * size**3 / 1e9 / seconds(result, device)
        if result.name == COPY:
            result.facts['gb_per_s'] = COPY_BYTES * size / MATMUL_SIZE / 1e9 / seconds(result, device)
    for result in results:
        if 'gmacs' in result.facts:
            result.facts['gflops'] = 2 * result.facts['gmacs'] / seconds(result, device)
            peak = by_name[MATMULS[result.facts['precision']]]
            result.facts['share_of_matmul'] = result.facts['gflops'] / peak.facts['gflops']
