"""Distribute samples over sheets; tests/commands/test_browse.py covers the rest."""

import pytest

from dsanet.data_tools import browsing
from dsanet.data_tools.browsing import sheets


def test_sheets_are_limited_in_height(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browsing, 'height_of', lambda sample, cell: sample * cell)
    monkeypatch.setattr(browsing, 'SHEET_HEIGHT', 100)
    assert list(sheets([4, 3, 3, 9, 20, 1], 10)) == [[4, 3, 3], [9], [20], [1]]
