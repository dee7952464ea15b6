"""Rules for the whole project: every module imports, every config builds, every source file has a test."""

import ast
import importlib
import re
import runpy
import shutil
import subprocess
import sys
from functools import cache
from itertools import chain
from pathlib import Path

import pytest
import torch

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from dsanet.config.loading import load_config
from dsanet.config.registry import MODELS, build
from dsanet.datasets.classes import load_config_with_classes
from dsanet.models.summary import find_input_shape

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    '.'.join(('dsanet', *file.relative_to(ROOT / 'codes').with_suffix('').parts))
    for file in (ROOT / 'codes').rglob('*.py')
    if file.name != '__init__.py'
)
TOOLS = sorted(str(f.relative_to(ROOT)) for f in (ROOT / 'tools').rglob('*.py'))
CONFIGS = sorted(
    str(f.relative_to(ROOT))
    for f in (ROOT / 'configs').rglob('*.py')
    if '_base_' not in f.relative_to(ROOT).parts and f.name != '__init__.py'
)


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob('*.py'))


@cache
def parse(file: Path) -> ast.Module:
    """Parse a file once for all tests."""
    return ast.parse(file.read_text())


@pytest.mark.parametrize('name', MODULES)
def test_every_module_has_a_docstring(name: str) -> None:
    assert importlib.import_module(name).__doc__, f'{name} has no docstring'


@pytest.mark.parametrize('tool', TOOLS)
def test_every_tool_shows_its_help(
    tool: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, 'argv', [tool, '--help'])
    with pytest.raises(SystemExit, match='^0$'):
        runpy.run_path(str(ROOT / tool), run_name='__main__')
    assert 'usage: ' in capsys.readouterr().out


@pytest.mark.sweep
def test_library_imports_without_warnings() -> None:
    code = 'import dsanet.models, dsanet.engine.trainer'
    subprocess.run([sys.executable, '-W', 'error', '-c', code], cwd=ROOT, check=True)


@pytest.mark.parametrize('config', CONFIGS)
def test_every_config_has_a_header_and_builds(config: str) -> None:
    text = (ROOT / config).read_text()
    for word in ('What ', 'Train ', 'Test ', 'Batch ', 'Expected '):
        assert f'\n{word}' in text, f'the header of {config} has no line {word!r}'
    assert f'bash dist_train_recognizer.sh {config}' in text
    assert not re.search(r'@[A-Z]+@', text), f'{config} has a placeholder that was not filled in'
    assert len(re.findall(r"'\.\./_base_/", text)) <= 4
    loaded = load_config_with_classes(ROOT / config, num_classes=2)
    before = repr(loaded)
    with torch.device('meta'):
        build(loaded['model'], MODELS)
    assert repr(loaded) == before
    assert len(find_input_shape(loaded)) == 4


def test_no_file_changes_the_import_path() -> None:
    forbidden = ('sys.' + 'path.', 'PYTHON' + 'PATH', 'noqa: ' + 'E402')
    folders = ('codes', 'tools', 'tests', 'docs', 'configs', 'pretrained', '.ci')
    files = [*ROOT.glob('*'), *(file for folder in folders for file in (ROOT / folder).rglob('*'))]
    for file in files:
        if file.is_file() and file.suffix in ('.py', '.sh', '.md', '.toml', ''):
            content = file.read_text()
            assert not [text for text in forbidden if text in content], file.relative_to(ROOT)


def test_base_configs_have_no_base() -> None:
    for file in (ROOT / 'configs' / '_base_').rglob('*.py'):
        assert '_base_ =' not in file.read_text(), f'{file} has a _base_; only one level of inheritance is allowed'


@pytest.mark.parametrize(
    ('one', 'other'),
    [
        ('configs/demo/dsanet_ordered_actions.py', 'configs/demo/i3d_ordered_actions.py'),
        ('configs/kinetics/r50_e100_s1_8.py', 'configs/kinetics/i3d_r50_e100_s1_8.py'),
    ],
)
def test_baseline_configs_differ_only_in_the_module(one: str, other: str) -> None:
    dsanet, baseline = load_config(ROOT / one), load_config(ROOT / other)
    assert dsanet['model'].pop('module_cfg')['type'] == 'DSA'
    assert baseline['model'].pop('module_cfg') is None
    assert dsanet == baseline


def test_every_source_file_has_a_test_file() -> None:
    for file in sources('codes'):
        if file.name in ('__init__.py', '__main__.py', 'base.py'):
            continue
        path = file.relative_to(ROOT / 'codes')
        test = ROOT / 'tests' / path.with_name(f'test_{path.name}')
        assert test.is_file(), f'{file.relative_to(ROOT)} has no {test.relative_to(ROOT)}'


@pytest.mark.parametrize('folder', ['codes/models', 'codes/datasets', 'codes/engine'])
def test_every_reshape_has_a_shape_comment(folder: str) -> None:
    for file in sources(folder):
        for number, line in enumerate(file.read_text().splitlines(), 1):
            if re.search(r'\.(view|reshape|permute|flatten|unflatten)\(', line):
                assert '# (' in line, f'{file.relative_to(ROOT)}:{number} has no shape comment: {line.strip()}'


def test_constructors_asserts_and_raises_are_explicit() -> None:
    """No ``**kwargs`` in constructors, and no assert or raise without a message."""
    for file in sources('codes'):
        name = file.relative_to(ROOT)
        for node in ast.walk(parse(file)):
            if isinstance(node, ast.Assert):
                assert node.msg is not None, f'{name}:{node.lineno}: assert without a message'
            if isinstance(node, ast.FunctionDef) and node.name == '__init__':
                assert node.args.kwarg is None, f'{name}:{node.lineno}: constructor with **kwargs'
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Name):
                assert node.exc.id[0].islower(), f'{name}:{node.lineno}: raise without a message'


def test_files_and_classes_are_short() -> None:
    for file in sources('codes'):
        text = file.read_text()
        assert text.count('\n') <= 400, f'{file.relative_to(ROOT)} has more than 400 lines'
        for node in ast.walk(parse(file)):
            if isinstance(node, ast.ClassDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                assert length <= 250, f'{file.relative_to(ROOT)}: {node.name} has {length} lines'


def test_every_import_is_a_declared_dependency() -> None:
    names = {'cv2': 'opencv-python', 'mmcv': 'mmcv-lite'}
    project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
    extras = chain.from_iterable(project['optional-dependencies'].values())
    listed = {re.match(r'[\w-]+', requirement)[0] for requirement in (*project['dependencies'], *extras)}
    for folder in ('codes', 'tools'):
        for file in sources(folder):
            for node in ast.walk(parse(file)):
                modules = []
                if isinstance(node, ast.Import):
                    modules = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and node.level == 0:
                    modules = [node.module or '']
                for module in modules:
                    top = module.split('.')[0]
                    if top in sys.stdlib_module_names or top in ('dsanet', 'tools'):
                        continue
                    assert names.get(top, top) in listed, (
                        f'{file.relative_to(ROOT)} imports {top}, which pyproject.toml does not list'
                    )


def test_test_names_have_at_most_eight_words() -> None:
    long = []
    for file in sources('tests'):
        for node in ast.walk(parse(file)):
            if isinstance(node, ast.FunctionDef) and re.fullmatch(r'test(_[^_]+){9,}', node.name):
                long.append(f'{file.relative_to(ROOT)}:{node.lineno} {node.name}')
    assert not long, '\n'.join(long)


@pytest.mark.parametrize('name', ['.venv', 'data', 'work_dirs'])
def test_linked_folders_are_ignored_by_git(name: str, tmp_path: Path) -> None:
    shutil.copy(ROOT / '.gitignore', tmp_path)
    (tmp_path / name).symlink_to('/large_disk')
    subprocess.run(['git', 'init', '--quiet', tmp_path], check=True)
    shown = subprocess.run(['git', '-C', tmp_path, 'status', '--short'], check=True, capture_output=True, text=True)
    assert shown.stdout == '?? .gitignore\n'
