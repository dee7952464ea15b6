"""The commands of docs/reports.md run, on runs that were never trained."""

import shlex
from pathlib import Path

import pytest

from dsanet import commands
from tests.docs.pages import PAGES
from tests.reports.run_dirs import write_run

PAGE = PAGES['docs/reports.md']


def test_report_command_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (line,) = [line for line in PAGE.splitlines() if line.startswith('dsanet report')]
    argv = shlex.split(line)[1:]
    for k, folder in enumerate(argv[1 : argv.index('--out')]):
        write_run(tmp_path / folder, k)
    commands.main(argv)
    assert (tmp_path / argv[-1]).stat().st_size > 10_000
