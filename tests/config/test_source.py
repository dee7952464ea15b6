import sys
from pathlib import Path

import pytest

from dsanet.config.source import merge, read_source


def write(folder: Path, **files: str) -> Path:
    """Write files by name; returns the path of ``page.py``."""
    for name, text in files.items():
        (folder / f'{name}.py').write_text(text)
    return folder / 'page.py'


def test_bases_merge_in_order_before_the_file(tmp_path: Path) -> None:
    page = write(
        tmp_path,
        page="_base_ = ['one.py', 'two.py']\nmodel = dict(width=3)\n_half = 0.5\nrate = _half / 2",
        one="_base_ = 'three.py'\nmodel = dict(width=1, depth=2)",
        two='y = 2',
        three='z = [3]\nmodel = dict(width=0, name="net")',
    )
    source = read_source(page)
    assert source.own == {'model': {'width': 3}, 'rate': 0.25}
    assert source.content == {'z': [3], 'model': {'width': 3, 'name': 'net', 'depth': 2}, 'y': 2, 'rate': 0.25}
    assert [file.stem for file in source.files] == ['page', 'one', 'three', 'two']


def test_shared_helpers_become_separate_values(tmp_path: Path) -> None:
    content = read_source(write(tmp_path, page='_x = dict(a=[1])\none = _x\ntwo = _x')).content
    content['one']['a'].append(2)
    assert content['two'] == {'a': [1]}


@pytest.mark.parametrize('name', ['_base_/runtime.py', 'demo/i3d_ordered_actions'])
def test_bases_may_be_configs_of_the_package(tmp_path: Path, name: str) -> None:
    content = read_source(write(tmp_path, page=f"_base_ = ['{name}']")).content
    assert content['runtime']['log_interval'] == 20


@pytest.mark.parametrize(
    ('base', 'new', 'merged'),
    [
        ({'type': 'A', 'x': 1}, {'x': 2, 'y': 3}, {'type': 'A', 'x': 2, 'y': 3}),
        ({'type': 'A', 'x': 1}, {'type': 'A', 'y': 3}, {'type': 'A', 'x': 1, 'y': 3}),
        ({'type': 'A', 'x': 1}, {'type': 'B', 'y': 3}, {'type': 'B', 'y': 3}),
        ({'x': 1}, {'type': 'B', 'y': 3}, {'x': 1, 'type': 'B', 'y': 3}),
        ({'a': {'type': 'A', 'x': 1}}, {'a': {'type': 'B'}, 'b': 1}, {'a': {'type': 'B'}, 'b': 1}),
        ({'x': 1}, {'_delete_': True, 'y': 2}, {'y': 2}),
        (None, {'_delete_': True, 'a': {'_delete_': True, 'y': 2}}, {'a': {'y': 2}}),
        ({'x': 1}, None, None),
        (None, {'x': 1}, {'x': 1}),
        ([1, 2], [3], [3]),
        ([1], {'x': 1}, {'x': 1}),
    ],
)
def test_dicts_merge_unless_the_type_is_another(base: object, new: object, merged: object) -> None:
    assert merge(base, new) == merged


def test_bases_that_disagree_are_both_named(tmp_path: Path) -> None:
    page = write(tmp_path, page="_base_ = ['one.py', 'two.py']", one='x = 1\ny = 1', two='x = 1\ny = 2')
    with pytest.raises(ValueError, match=r'page\.py: the bases .*one\.py and .*two\.py set y '):
        read_source(page)
    write(tmp_path, page="_base_ = ['one.py', 'two.py']\ny = 3")
    assert read_source(page).content == {'x': 1, 'y': 3}


def test_bases_that_disagree_about_a_dict_need_a_decision(tmp_path: Path) -> None:
    bases = {'one': 'm = dict(a=1)', 'two': 'm = dict(a=2)'}
    page = write(tmp_path, page="_base_ = ['one.py', 'two.py']\nm = dict(b=1)", **bases)
    with pytest.raises(ValueError, match='set m '):
        read_source(page)


def test_imports_of_bases_and_file_add_up(tmp_path: Path) -> None:
    page = write(
        tmp_path,
        page="_base_ = ['one.py', 'two.py']\nimports = ('c', 'a')",
        one="imports = ['a']",
        two="imports = ['b']",
    )
    assert read_source(page).content == {'imports': ['a', 'b', 'c']}


@pytest.mark.parametrize(
    ('files', 'error', 'text'),
    [
        ({'page': "_base_ = ['oen.py']", 'one': ''}, FileNotFoundError, r"page\.py: its _base_ 'oen\.py'"),
        ({'page': "x = 1\n_base_ = ['one.py'\n"}, ValueError, r"page\.py:2: '\[' was never closed$"),
        ({'page': "_base_ = 'one.py'", 'one': 'x = 1\n y = 2'}, ValueError, r'one\.py:2: unexpected indent$'),
        ({'page': 'x = 1\nreturn'}, ValueError, r'page\.py:2: '),
        ({'page': 'x = 1\0'}, ValueError, r'page\.py:'),
        ({'page': 'x = 1\nimport os'}, ValueError, r"page\.py:2: .*imports = \['my_lab\.blocks'\]"),
        ({'page': "_base_ = 'one.py'", 'one': 'from os import path'}, ValueError, r'one\.py:1: '),
        ({'page': "_x = 'one.py'\n_base_ = [_x]"}, ValueError, r'page\.py:2: _base_ '),
        ({'page': '_base_ = 3'}, ValueError, r'page\.py:1: _base_ '),
        ({'page': "if True:\n    _base_ = ['one.py']", 'one': ''}, ValueError, r'page\.py:2: _base_ '),
        ({'page': "_base_: list = ['one.py']", 'one': ''}, ValueError, r'page\.py:1: _base_ '),
        ({'page': "_base_ = 'one.py'", 'one': "_base_ = 'page.py'"}, ValueError, r' -> .*one\.py -> '),
        ({'page': "_base_ = 'one.yaml'"}, FileNotFoundError, r'one\.yaml'),
        ({'page': '\nx = nowhere'}, ValueError, r"page\.py:2: NameError: name 'nowhere'"),
        ({'page': "_base_ = 'one.py'", 'one': '\n\nx = 1 / 0'}, ValueError, r'one\.py:3: ZeroDivisionError'),
        ({'page': 'x = 1\ndef _f():\n    return 1 / 0\ny = _f()'}, ValueError, r'page\.py:3: ZeroDivisionError'),
        ({'page': 'x = 1\nexit()'}, ValueError, r'page\.py:2: SystemExit'),
        ({'page': 'x = 1\nraise SystemExit(3)'}, ValueError, r'page\.py:2: SystemExit: 3'),
        ({'page': 'm = dict(a=[1, {2}])'}, ValueError, r'page\.py: m\.a\.1 is a set'),
        ({'page': 'def make():\n    return 1'}, ValueError, r'page\.py: make is a function'),
        ({'page': 'm = dict(type=dict)'}, ValueError, r'page\.py: m\.type is a type'),
    ],
)
def test_mistakes_are_reported_by_file_and_line(
    tmp_path: Path, files: dict[str, str], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text) as raised:
        read_source(write(tmp_path, **files))
    assert '\n' not in str(raised.value)


@pytest.mark.parametrize(
    ('text', 'line', 'remedy'),
    [
        ("root = 'x'\ntrain = f'{root}/train.txt'", 2, r"Write '\$\{root\}/train\.txt'"),
        ("root = 'x'\ntrain = f'{root}/{root[0]}'", 2, r"Write '\$\{root\}'"),
        ("root = 'x'\ntrain = root + '/train.txt'", 2, r"Write '\$\{root\}'.* _root"),
        ('u = 4\n\ninterval = dict(a=[u * 2])', 3, r"Write '\$\{u\}'"),
        ('rate = 0.1\nlr = rate', 2, r"Write '\$\{rate\}'"),
        ('u = 4\nx = [u + _i for _i in range(3)]', 2, r"Write '\$\{u\}'"),
        ('u = 4\ndef _f():\n    return u\nx = _f()', 3, r"Write '\$\{u\}'"),
        ('u = 4\nif u > 3:\n    x = 1', 2, ' _u'),
        ('val_dataloader = dict(a=1)\ntest_dataloader = val_dataloader', 2, 'Write it again, .* _val_dataloader'),
        ("_base_ = 'one.py'\nx = base_lr / 2", 2, r"Write '\$\{base_lr\}'"),
    ],
)
def test_settings_used_as_python_values_are_refused(tmp_path: Path, text: str, line: int, remedy: str) -> None:
    with pytest.raises(ValueError, match=rf'page\.py:{line}: .*{remedy}'):
        read_source(write(tmp_path, page=text, one='base_lr = 1'))


@pytest.mark.parametrize(
    'text',
    [
        'x = [y for y in range(3)]\ny = 3',
        "_root = 'x'\nx = f'{_root}/a'\ny = [_root for _ in range(2)]",
        'x = (lambda x: x)(3)',
        "x = '{{ $HOME }} {{_base_.y}}'",
        'x = 3\nx += 1',
    ],
)
def test_helpers_and_plain_texts_are_allowed(tmp_path: Path, text: str) -> None:
    assert 'x' in read_source(write(tmp_path, page=text)).own


def test_braces_are_plain_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('X', '1 + 1')
    page = write(tmp_path, page="a = '{{ $X:0 }}'\nb = '{{ fileDirname }}'")
    assert read_source(page).content == {'a': '{{ $X:0 }}', 'b': '{{ fileDirname }}'}


def test_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    page = tmp_path / 'page.py'
    page.write_bytes('\ufeffx = "ä"'.encode())
    assert read_source(page).content == {'x': 'ä'}
    assert 'page' not in sys.modules
