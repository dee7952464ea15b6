"""The style sheet is tested on pages: all classes that a page uses have rules."""

import re

from dsanet.reports.page_style import STYLE


def test_brackets_match() -> None:
    assert STYLE.count('{') == STYLE.count('}') > 10


def test_both_color_schemes_define_all_colors() -> None:
    light, dark = (set(re.findall(r'(--[a-z0-9]+):', part)) for part in STYLE.split('prefers-color-scheme: dark', 1))
    assert dark <= light
    used = set(re.findall(r'var\((--[a-z0-9]+)\)', STYLE))
    assert used <= light | {'--c'}  # of the class of a line
