"""The package from outside: public names, side effects of importing it, and its pyproject.toml."""

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import dsanet
from dsanet import apis

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]


def run_python(*arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=120)
    assert not done.returncode, done.stderr
    return done.stdout


def test_public_names_come_from_apis() -> None:
    names = [name for name in dsanet.__all__ if name != '__version__']
    assert all(getattr(dsanet, name) is getattr(apis, name) for name in names)
    assert dir(dsanet) == sorted(dsanet.__all__)
    with pytest.raises(AttributeError, match='no_such_name'):
        _ = dsanet.no_such_name


def test_type_checkers_see_all_public_names() -> None:
    tree = ast.parse((ROOT / 'codes/__init__.py').read_text())
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == 'dsanet.apis']
    names = [alias.name for node in imported for alias in node.names]
    assert sorted([*names, '__version__']) == dsanet.__all__
    assert (ROOT / 'codes/py.typed').is_file()


def test_importing_dsanet_loads_only_standard_library_modules() -> None:
    code = "import sys; before = set(sys.modules); import dsanet; print(*{*sys.modules} - before, sep='\\n')"
    packages = {name.partition('.')[0] for name in run_python('-c', code).split()}
    assert packages - sys.stdlib_module_names == {'dsanet'}


SLOW = {
    'matplotlib',
    'mmcv',
    'mmengine',
    'sympy',
    'timm',
    'torch._dynamo',
    'torch.distributed.fsdp',
    'torchvision',
    'triton',
}


def modules_after_importing(*names: str) -> set[str]:
    return set(run_python('-c', f"import sys, {', '.join(names)}; print(*sys.modules, sep='\\n')").split())


def test_training_imports_no_slow_unused_modules() -> None:
    ours = modules_after_importing('dsanet.engine.trainer', 'dsanet.inference.recognizer', 'dsanet.engine.evaluator')
    assert not SLOW & ours - modules_after_importing('torch.utils.checkpoint')  # of torch 2.7, which imports sympy


def third_party_imports() -> set[str]:
    """Return all modules outside the package that it imports at module level."""
    found = set()
    for file in (ROOT / 'codes').rglob('*.py'):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(node.module or '')
    return {name for name in found if name.partition('.')[0] != 'dsanet'}


@pytest.mark.sweep
def test_importing_modules_changes_no_global_state() -> None:
    assert run_python(str(ROOT / 'tests/import_all.py'), *sorted(third_party_imports())) == ''


def read_pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / 'pyproject.toml').read_text())


def test_package_list_contains_every_folder() -> None:
    folders = sorted({file.parent for file in (ROOT / 'codes').rglob('*.py')})
    assert all((folder / '__init__.py').is_file() for folder in folders)
    names = ['.'.join(('dsanet', *folder.relative_to(ROOT / 'codes').parts)) for folder in folders]
    assert sorted(read_pyproject()['tool']['setuptools']['packages']) == sorted([*names, 'dsanet.configs'])


def test_dependencies_are_only_in_pyproject() -> None:
    assert [file.name for file in ROOT.glob('*requirements*')] == ['requirements.txt']
    assert (ROOT / 'requirements.txt').read_text() == '-e .\n'
    assert not [name for name in ('setup.py', 'setup.cfg', 'Pipfile', 'environment.yml') if (ROOT / name).exists()]
    extras = set(read_pyproject()['project']['optional-dependencies'])
    optional = {'torchcodec', 'wandb', 'mlflow', 'export', 'openvino', 'hub', 'web', 'webdataset', 'timm'}
    assert extras == optional | {'docs', 'dev'}


def test_version_is_only_in_the_package() -> None:
    assert 'version' not in read_pyproject()['project']
    assert re.fullmatch(r'\d+\.\d+\.\d+', dsanet.__version__)
    others = [file for pattern in ('*.py', '*.md', '*.sh') for file in ROOT.glob(f'[!.]*/**/{pattern}')]
    others += [ROOT / name for name in ('README.md', 'CONTRIBUTING.md', 'Makefile', 'pyproject.toml')]
    with_version = [file for file in others if f"'{dsanet.__version__}'" in file.read_text()]
    assert with_version == [ROOT / 'codes/__init__.py']
