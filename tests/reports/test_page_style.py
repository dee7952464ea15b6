import re

from dsanet.reports.page_style import STYLE


def test_brackets_match() -> None:
    assert STYLE.count('{') == STYLE.count('}') > 10


def test_all_colors_are_defined() -> None:
    defined = set(re.findall(r'(--[a-z0-9]+):', STYLE))
    assert set(re.findall(r'var\((--[a-z0-9]+)\)', STYLE)) <= defined


def test_dark_colors_replace_light_ones() -> None:
    light, dark = (set(re.findall(r'(--[a-z0-9]+):', block)) for block in re.findall(r':root {([^}]*)}', STYLE))
    assert dark <= light
    assert {'--back', '--text', '--panel'} <= dark
