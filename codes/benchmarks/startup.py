"""Starts of the program: CPU seconds, memory and number of modules of fresh processes."""

import os
import subprocess
import sys
import time

from dsanet.benchmarks.measuring import Result

PROGRAMS = {
    'Python alone': 'pass',
    'import torch': 'import torch',
    'dsanet --help': 'from dsanet.__main__ import main; main(["--help"])',
    'dsanet train --help': 'from dsanet.__main__ import main; main(["train", "--help"])',
    'imports of train': 'import dsanet.engine.trainer',
    'imports of predict': 'import dsanet.inference.recognizer',
}
# Printed at the end of each program: the number of modules, and the peak memory in kB, which wait4() would return as
# that of this process if it is larger.
_AT_EXIT = """
import atexit, sys
def report():
    try:
        peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1]
    except OSError:
        peak = 0
    sys.stderr.write(f'\\n{len(sys.modules)} {peak}')
atexit.register(report)
"""


def benchmark_startup(repeats: int, warmup: int) -> list[Result]:
    """Measure fresh processes that start commands or import what they need.

    Args:
        repeats: measured starts of each program.
        warmup: starts before these, so that the files are in the cache of the system.

    Returns:
        Results with ``modules``, the number of imported modules.

    Raises:
        RuntimeError: a program fails.
    """
    results = {name: Result(name) for name in PROGRAMS}
    for turn in range(warmup + repeats):
        for name, code in PROGRAMS.items():
            wall, cpu, peak_mb, modules = _run(name, code)
            if turn >= warmup:
                result = results[name]
                result.wall_s.append(wall)
                result.cpu_s.append(cpu)
                result.peak_mb, result.facts['modules'] = peak_mb, modules
    return list(results.values())


def _run(name: str, code: str) -> tuple[float, float, float | None, int]:
    """Run a program; return wall seconds, CPU seconds, peak memory in MB and the number of modules."""
    started = time.perf_counter()
    command = [sys.executable, '-c', f'{_AT_EXIT}{code}']
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None, 'it is a pipe'
        text = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)  # unlike wait(), returns the time of this process alone
        process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - started
    if process.returncode != 0:
        raise RuntimeError(f'{name}: exit status {process.returncode}: {text.strip()[-500:]}')
    modules, peak = map(int, text.splitlines()[-1].split())
    return wall, usage.ru_utime + usage.ru_stime, peak * 1024 / 1e6 or None, modules
