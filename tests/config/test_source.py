from pathlib import Path

import pytest

from dsanet.config.source import read_source


def write(folder: Path, **files: str) -> Path:
    """Write files by name; returns the path of ``page.py``."""
    for name, text in files.items():
        (folder / f'{name}.py').write_text(text)
    return folder / 'page.py'


def test_names_are_those_of_the_file_and_bases_stand_in_order(tmp_path: Path) -> None:
    page = write(
        tmp_path,
        page="_base_ = ['one.py', 'two.py']\nmodel = dict(width=3)\na, (b, c) = 1, (2, 3)\nif a:\n    d = 4",
        one="_base_ = 'three.py'\nx = 1",
        two='y = 2',
        three='z = 3',
    )
    source = read_source(page)
    assert source.names == {'model', 'a', 'b', 'c', 'd'}
    assert [base.names for base in source.bases] == [{'x'}, {'y'}]
    assert [one.file.stem for one in source.all_sources()] == ['three', 'one', 'two', 'page']
    assert source.all_names() == {'model', 'a', 'b', 'c', 'd', 'x', 'y', 'z'}


def test_clash_of_two_bases_is_told_also_where_it_is_in_a_base(tmp_path: Path) -> None:
    page = write(
        tmp_path,
        page="_base_ = ['middle.py']\nx = 1",
        middle="_base_ = ['one.py', 'two.py', 'three.py']",
        one='x = 1',
        two='y = 1',
        three='x = 2',
    )
    assert (
        read_source(page)
        .find_clash()
        .startswith(f'{tmp_path}/middle.py: the bases {tmp_path}/one.py and {tmp_path}/three.py both set x. ')
    )
    write(tmp_path, three='z = 2')
    assert read_source(page).find_clash() == ''


@pytest.mark.parametrize(
    ('files', 'error', 'text'),
    [
        ({}, FileNotFoundError, r'^there is no config .*page.py$'),
        ({'page': "_base_ = ['oen.py']", 'one': ''}, FileNotFoundError, r'page.py: its _base_ .*oen.py is not there'),
        ({'page': "x = 1\n_base_ = ['one.py'\n"}, ValueError, r"page.py:2: '\[' was never closed$"),
        ({'page': "_base_ = 'one.py'", 'one': 'x = 1\n y = 2'}, ValueError, r'one.py:2: unexpected indent$'),
        ({'page': 'x = 1\nimport os'}, ValueError, r'page.py:2: configs take no import statements'),
        ({'page': "_base_ = 'one.py'", 'one': 'from os import path'}, ValueError, r'one.py:1: configs take no import'),
        (
            {'page': "x = 'one.py'\n_base_ = [x]"},
            ValueError,
            r'page.py:2: _base_ = \[x\] must be a file name in quotes',
        ),
        ({'page': '_base_ = 3'}, ValueError, r'page.py:1: _base_ = 3 must be a file name in quotes, or a list'),
        (
            {'page': "_base_ = 'one.py'", 'one': "_base_ = 'page.py'"},
            ValueError,
            r'is its own base: .* -> .*one.py -> ',
        ),
        ({'page': "_base_ = 'one.yaml'"}, FileNotFoundError, r'one.yaml is not there'),
    ],
)
def test_mistakes_are_told_by_file_and_line(
    tmp_path: Path, files: dict[str, str], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text) as raised:
        read_source(write(tmp_path, **files))
    assert '\n' not in str(raised.value)


def test_file_that_is_no_python_is_refused(tmp_path: Path) -> None:
    (tmp_path / 'page.yaml').write_text('x: 1')
    with pytest.raises(ValueError, match=r'page.yaml is no config: these are Python files'):
        read_source(tmp_path / 'page.yaml')
