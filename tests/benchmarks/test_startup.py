import sys

import pytest

from dsanet.benchmarks import startup
from dsanet.benchmarks.startup import benchmark_startup


def test_fresh_processes_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    programs = {'nothing': 'pass', 'json': 'import json; sum(range(10**6))', 'help': startup.PROGRAMS['dsanet --help']}
    monkeypatch.setattr(startup, 'PROGRAMS', programs)
    nothing, imported, helped = benchmark_startup(2, 0)
    assert [len(result.cpu_s) for result in (nothing, imported, helped)] == [2, 2, 2]
    assert nothing.facts['modules'] < imported.facts['modules'] < helped.facts['modules'] < 400
    assert 0 < min(nothing.cpu_s) < min(imported.cpu_s)
    if sys.platform == 'linux':
        assert nothing.peak_mb is not None
        assert 1 < nothing.peak_mb < 100, 'of the program, not of this process'


def test_programs_with_imports_exist() -> None:
    for code in startup.PROGRAMS.values():
        compile(code, 'program', 'exec')


def test_failing_program_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, 'PROGRAMS', {'bad': 'import no_such_module'})
    with pytest.raises(RuntimeError, match='no_such_module'):
        benchmark_startup(1, 0)
