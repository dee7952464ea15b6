"""docs/testing.md names options that there are, and all of them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tools import test_recognizer
from tools.analysis import score_results

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / 'docs' / 'testing.md').read_text()


def options_of(tool: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> set[str]:
    monkeypatch.setattr(sys, 'argv', ['tool', '--help'])
    with pytest.raises(SystemExit):
        tool.parse_args()
    return set(re.findall(r'(?<![\w-])--[a-z][\w-]*', capsys.readouterr().out)) - {'--help'}


def test_tables_have_the_options_that_the_tools_have(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = re.findall(r'^\| option \| meaning \|\n(?:\|.*\n)+', PAGE, re.M)
    assert len(tables) == 2
    for tool, table in zip((test_recognizer, score_results), tables, strict=True):
        cells = [row.split(' | ')[0] for row in table.splitlines()[2:]]
        named = {option for cell in cells for option in re.findall(r'--[a-z][\w-]*', cell)}
        assert named == options_of(tool, monkeypatch, capsys)
    train = subprocess.run(
        [sys.executable, 'tools/train_recognizer.py', '--help'], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    known = set(re.findall(r'--[a-z][\w-]*', ''.join(tables) + train))
    assert set(re.findall(r'(?<![\w-])--[a-z][\w-]*', PAGE)) <= known


def test_links_lead_somewhere() -> None:
    for file, page in ((ROOT / 'README.md', 'docs/testing.md'), (ROOT / 'docs' / 'own_data.md', 'testing.md')):
        assert f']({page}' in file.read_text()
