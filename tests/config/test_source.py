import sys
from pathlib import Path

import pytest

from dsanet.config.shipped import find_config
from dsanet.config.source import merge, read_source


def write(folder: Path, **files: str) -> Path:
    """Write files by name; returns the path of ``config.py``."""
    for name, text in files.items():
        (folder / f'{name}.py').write_text(text)
    return folder / 'config.py'


def test_bases_merge_in_order_before_the_file(tmp_path: Path) -> None:
    config = write(
        tmp_path,
        config="_base_ = ['one.py', 'two.py']\nmodel = dict(width=3)\n_half = 0.5\nrate = _half / 2",
        one="_base_ = 'three.py'\nmodel = dict(width=1, depth=2)",
        two='y = 2',
        three='z = [3]\nmodel = dict(width=0, name="net")',
    )
    source = read_source(config)
    assert source.own == {'model': {'width': 3}, 'rate': 0.25}
    assert source.content == {'z': [3], 'model': {'width': 3, 'name': 'net', 'depth': 2}, 'y': 2, 'rate': 0.25}
    assert source.file == config


def test_shared_helpers_become_separate_values(tmp_path: Path) -> None:
    content = read_source(write(tmp_path, config='_x = dict(a=[1])\none = _x\ntwo = _x')).content
    content['one']['a'].append(2)
    assert content['two'] == {'a': [1]}


@pytest.mark.parametrize('name', ['_base_/runtime.py', 'demo/i3d_ordered_actions'])
def test_bases_can_be_shipped_configs(tmp_path: Path, name: str) -> None:
    content = read_source(write(tmp_path, config=f"_base_ = ['{name}']")).content
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
def test_dicts_merge_unless_type_differs(base: object, new: object, merged: object) -> None:
    assert merge(base, new) == merged


def test_conflicting_bases_are_both_named(tmp_path: Path) -> None:
    config = write(tmp_path, config="_base_ = ['one.py', 'two.py']", one='x = 1\ny = 1', two='x = 1\ny = 2')
    with pytest.raises(ValueError, match=r'config\.py.*one\.py.*two\.py.* y\b'):
        read_source(config)
    write(tmp_path, config="_base_ = ['one.py', 'two.py']\ny = 3")
    assert read_source(config).content == {'x': 1, 'y': 3}


def test_bases_with_conflicting_dicts_raise(tmp_path: Path) -> None:
    bases = {'one': 'm = dict(a=1)', 'two': 'm = dict(a=2)'}
    config = write(tmp_path, config="_base_ = ['one.py', 'two.py']\nm = dict(b=1)", **bases)
    with pytest.raises(ValueError, match=r'one\.py.*two\.py.* m\b'):
        read_source(config)


def test_imports_of_bases_and_file_are_joined(tmp_path: Path) -> None:
    config = write(
        tmp_path,
        config="_base_ = ['one.py', 'two.py']\nimports = ('c', 'a')",
        one="imports = ['a']",
        two="imports = ['b']",
    )
    assert read_source(config).content == {'imports': ['a', 'b', 'c']}


@pytest.mark.parametrize(
    ('files', 'error', 'text'),
    [
        ({'config': "_base_ = ['oen.py']", 'one': ''}, FileNotFoundError, r'config\.py.*_base_.*oen\.py'),
        ({'config': "x = 1\n_base_ = ['one.py'\n"}, ValueError, r'config\.py:2: '),
        ({'config': "_base_ = 'one.py'", 'one': 'x = 1\n y = 2'}, ValueError, r'one\.py:2: '),
        ({'config': 'x = 1\nreturn'}, ValueError, r'config\.py:2: '),
        ({'config': 'x = 1\0'}, ValueError, r'config\.py:'),
        ({'config': 'x = 1\nimport os'}, ValueError, r'config\.py:2: .*imports'),
        ({'config': "_base_ = 'one.py'", 'one': 'from os import path'}, ValueError, r'one\.py:1: '),
        ({'config': "_x = 'one.py'\n_base_ = [_x]"}, ValueError, r'config\.py:2: _base_ '),
        ({'config': '_base_ = 3'}, ValueError, r'config\.py:1: _base_ '),
        ({'config': "if True:\n    _base_ = ['one.py']", 'one': ''}, ValueError, r'config\.py:2: _base_ '),
        ({'config': "_base_: list = ['one.py']", 'one': ''}, ValueError, r'config\.py:1: _base_ '),
        ({'config': "_base_ = 'one.py'", 'one': "_base_ = 'config.py'"}, ValueError, r' -> .*one\.py -> '),
        ({'config': "_base_ = 'one.yaml'"}, FileNotFoundError, r'one\.yaml'),
        ({'config': '\nx = nowhere'}, ValueError, r'config\.py:2: NameError.*nowhere'),
        ({'config': "_base_ = 'one.py'", 'one': '\n\nx = 1 / 0'}, ValueError, r'one\.py:3: ZeroDivisionError'),
        ({'config': 'x = 1\ndef _f():\n    return 1 / 0\ny = _f()'}, ValueError, r'config\.py:3: ZeroDivisionError'),
        ({'config': 'x = 1\nexit()'}, ValueError, r'config\.py:2: SystemExit'),
        ({'config': 'x = 1\nraise SystemExit(3)'}, ValueError, r'config\.py:2: SystemExit: 3'),
        ({'config': 'm = dict(a=[1, {2}])'}, ValueError, r'config\.py: m\.a\.1 .*set'),
        ({'config': 'def make():\n    return 1'}, ValueError, r'config\.py: make .*function'),
        ({'config': 'm = dict(type=dict)'}, ValueError, r'config\.py: m\.type '),
    ],
)
def test_errors_name_file_and_line(tmp_path: Path, files: dict[str, str], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text) as raised:
        read_source(write(tmp_path, **files))
    assert '\n' not in str(raised.value)


@pytest.mark.parametrize(
    ('text', 'line', 'remedy'),
    [
        ("root = 'x'\ntrain = f'{root}/train.txt'", 2, r"'\$\{root\}'"),
        ("root = 'x'\ntrain = root + '/train.txt'", 2, r'\$\{root\}.* _root'),
        ('u = 4\n\ninterval = dict(a=[u * 2])', 3, r'\$\{u\}'),
        ('rate = 0.1\nlr = rate', 2, r'\$\{rate\}'),
        ('u = 4\nx = [u + _i for _i in range(3)]', 2, r'\$\{u\}'),
        ('u = 4\ndef _f():\n    return u\nx = _f()', 3, r'\$\{u\}'),
        ('u = 4\nif u > 3:\n    x = 1', 2, ' _u'),
        ('val_dataloader = dict(a=1)\ntest_dataloader = val_dataloader', 2, '_val_dataloader'),
        ("_base_ = 'one.py'\nx = base_lr / 2", 2, r'\$\{base_lr\}'),
    ],
)
def test_settings_used_as_python_values_raise(tmp_path: Path, text: str, line: int, remedy: str) -> None:
    with pytest.raises(ValueError, match=rf'config\.py:{line}: .*{remedy}'):
        read_source(write(tmp_path, config=text, one='base_lr = 1'))


@pytest.mark.parametrize(
    'text',
    [
        'x = [y for y in range(3)]\ny = 3',
        "_root = 'x'\nx = f'{_root}/a'\ny = [_root for _ in range(2)]",
        'x = (lambda x: x)(3)',
        'x = 3\nx += 1',
    ],
)
def test_helpers_are_allowed(tmp_path: Path, text: str) -> None:
    assert 'x' in read_source(write(tmp_path, config=text)).own


@pytest.mark.parametrize(
    ('text', 'line', 'problem'),
    [
        ('x = 1\nexit()', 2, 'SystemExit.*must not exit'),
        ('quit(3)', 1, 'SystemExit.*must not exit'),
        ('\n\nraise SystemExit', 3, 'SystemExit.*must not exit'),
        ('raise GeneratorExit', 1, 'GeneratorExit'),
        ('class _E(BaseException): pass\nraise _E("x")', 2, '_E: x'),
        ('def _f(): return _f()\n_f()', 1, 'RecursionError'),
        ('x = (', 1, 'never closed'),
        (f'x = {"(" * 5000}{")" * 5000}', 1, 'nested'),
        (f'x = {"-" * 100_000}1', 1, 'nested|recursion|memory'),
        ('x = 1\ny = "\0"', 2, 'null bytes'),
        ('# coding: nonsense', 1, 'nonsense'),
        ('x = {{ fileDirname }}', 1, 'fileDirname'),
    ],
)
def test_bad_code_is_one_error_with_line(tmp_path: Path, text: str, line: int, problem: str) -> None:
    with pytest.raises(ValueError, match=rf'config\.py:{line}: .*({problem})'):
        read_source(write(tmp_path, config=text))


@pytest.mark.parametrize('data', ["x = '\u00e9'".encode('latin-1'), 'x = 1'.encode('utf-16'), bytes(range(256))])
def test_files_that_are_not_utf8_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / 'config.py').write_bytes(data)
    with pytest.raises(ValueError, match=r'config\.py:1: .*(utf-8|UTF-8)'):
        read_source(tmp_path / 'config.py')


def test_huge_files_and_folders_are_refused(tmp_path: Path) -> None:
    with (tmp_path / 'config.py').open('wb') as stream:
        stream.truncate(1 << 34)
    with pytest.raises(ValueError, match=r'config\.py is not a config: .*17,179,869,184'):
        read_source(tmp_path / 'config.py')
    (tmp_path / 'folder.py').mkdir()
    with pytest.raises(ValueError, match=r'folder\.py is a folder'):
        find_config(tmp_path / 'folder.py')


@pytest.mark.parametrize(
    'text', ['_x = []\n_x.append(_x)\nx = _x', '_x = {}\nfor _ in range(99): _x = {"a": _x}\nx = _x']
)
def test_too_deep_values_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r'config\.py: x has more than 50 levels'):
        read_source(write(tmp_path, config=f'{text}\nx = _x'))


def test_interrupt_passes_through_a_config(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        read_source(write(tmp_path, config='raise KeyboardInterrupt'))


def test_templates_and_environment_stay_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('NAME', "'+str(1/0)+'")
    values = ['a{{$NAME:}}', '{{ fileBasename }}', '{{_base_.x}}', '{{ $NAME }}', '$NAME', '%NAME%', '~']
    assert read_source(write(tmp_path, config=f'x = {values!r}')).content == {'x': values}


def test_subclasses_become_plain_types(tmp_path: Path) -> None:
    text = """
_np = __import__('numpy')
_enum = __import__('enum').IntEnum('E', 'A')
_pair = __import__('collections').namedtuple('P', 'a b')
class _S(str): pass
class _L(list): pass
x = [_np.float64(0.5), _np.str_('a'), _enum.A, _S('b'), _L([1]), _pair(1, 2), True]
"""
    x = read_source(write(tmp_path, config=text)).content['x']
    assert x == [0.5, 'a', 1, 'b', [1], (1, 2), True]
    assert [type(value) for value in x] == [float, str, int, str, list, tuple, bool]


def test_file_can_start_with_byte_order_mark(tmp_path: Path) -> None:
    config = tmp_path / 'config.py'
    config.write_bytes('\ufeffx = "ä"'.encode())
    assert read_source(config).content == {'x': 'ä'}
    assert 'config' not in sys.modules
