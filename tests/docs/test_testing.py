"""docs/testing.md names options that there are, and all of them."""

import re
from pathlib import Path

import pytest

from dsanet import commands

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / 'docs' / 'testing.md').read_text()


def options_of(command: str, capsys: pytest.CaptureFixture[str]) -> set[str]:
    with pytest.raises(SystemExit):
        commands.main([command, '--help'])
    return set(re.findall(r'(?<![\w-])--[a-z][\w-]*', capsys.readouterr().out)) - {'--help'}


def test_tables_have_the_options_of_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    tables = re.findall(r'^\| option \| meaning \|\n(?:\|.*\n)+', PAGE, re.M)
    assert len(tables) == 2
    for command, table in zip(('test', 'score'), tables, strict=True):
        cells = [row.split(' | ')[0] for row in table.splitlines()[2:]]
        named = {option for cell in cells for option in re.findall(r'--[a-z][\w-]*', cell)}
        assert named == options_of(command, capsys)
    known = set(re.findall(r'--[a-z][\w-]*', ''.join(tables))) | options_of('train', capsys)
    assert set(re.findall(r'(?<![\w-])--[a-z][\w-]*', PAGE)) <= known


def test_links_lead_somewhere() -> None:
    for file, page in ((ROOT / 'README.md', 'docs/testing.md'), (ROOT / 'docs' / 'own_data.md', 'testing.md')):
        assert f']({page}' in file.read_text()
