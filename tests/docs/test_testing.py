"""docs/testing.md has all options of its commands, and no others."""

import re

import pytest

from tests.docs.pages import PAGES
from tests.docs.test_commands import options_of

PAGE = PAGES['docs/testing.md']


def test_tables_have_all_options(capsys: pytest.CaptureFixture[str]) -> None:
    tables = re.findall(r'^\| option \| meaning \|\n(?:\|.*\n)+', PAGE, re.M)
    assert len(tables) == 2
    for command, table in zip(('test', 'score'), tables, strict=True):
        cells = [row.split(' | ')[0] for row in table.splitlines()[2:]]
        named = {option for cell in cells for option in re.findall(r'--[a-z][\w-]*', cell)}
        assert named == options_of(command, capsys) - {'--help'}
    known = set(re.findall(r'--[a-z][\w-]*', ''.join(tables))) | options_of('train', capsys)
    assert set(re.findall(r'(?<![\w-])--[a-z][\w-]*', PAGE)) <= known
