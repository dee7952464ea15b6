"""The layers of the package: who may import whom. CONTRIBUTING.md has the same table."""

import ast
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / 'codes'

# From bottom to top. A file imports from its own folder and from lower layers.
LAYERS = (
    ('utils',),
    ('config',),
    ('models', 'datasets', 'evaluation'),
    ('data_checks', 'data_tools'),
    ('engine',),
    ('inference',),
    ('explain',),
    ('reports', 'benchmarks'),
    ('web', 'experiments'),
    ('apis', 'commands'),
)
LEVELS = {folder: level for level, folders in enumerate(LAYERS) for folder in folders}


@cache
def find_imports(file: Path) -> list[tuple[int, str]]:
    """Return line and dotted name of each import from the package, including imports in functions."""
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{file}:{node.lineno}: relative import'
            module = node.module or ''
            names = [f'{module}.{alias.name}' for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found += [(node.lineno, name) for name in names if name.split('.')[0] == 'dsanet' and name != 'dsanet']
    return found


def find_module(name: str) -> str | None:
    """Return the module of a dotted name, which may end with a name defined in the module."""
    for dotted in (name, name.rpartition('.')[0]):
        path = PACKAGE.joinpath(*dotted.split('.')[1:])
        if path.with_suffix('.py').is_file() or (path / '__init__.py').is_file():
            return dotted
    return None


def module_name(file: Path) -> str:
    parts = file.relative_to(PACKAGE).with_suffix('').parts
    return '.'.join(('dsanet', *parts)).removesuffix('.__init__')


def test_files_import_only_from_lower_layers() -> None:
    wrong = []
    for file in PACKAGE.rglob('*.py'):
        folder = module_name(file).split('.')[1] if module_name(file) != 'dsanet' else 'apis'
        for line, name in find_imports(file):
            other = name.split('.')[1]
            if other != folder and other in LEVELS and LEVELS[other] >= LEVELS.get(folder, len(LAYERS)):
                wrong.append(f'{file.relative_to(PACKAGE)}:{line} imports {name}')
    assert not wrong, '\n'.join(wrong)


def test_every_folder_has_a_layer() -> None:
    folders = {path.stem for path in PACKAGE.iterdir() if path.suffix == '.py' or (path / '__init__.py').is_file()}
    assert folders - {'__init__', '__main__'} <= LEVELS.keys()


def test_there_are_no_circular_imports() -> None:
    imports: dict[str, set[str]] = {}
    for file in PACKAGE.rglob('*.py'):
        modules = {module for _, name in find_imports(file) if (module := find_module(name)) is not None}
        imports[module_name(file)] = modules
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, ' -> '.join((*path[path.index(module) :], module))
        if module not in done:
            for other in sorted(imports.get(module, ())):
                visit(other, (*path, module))
            done.add(module)

    for module in sorted(imports):
        visit(module, ())


def test_datasets_and_models_do_not_use_matplotlib() -> None:
    for folder in ('datasets', 'models'):
        for file in (PACKAGE / folder).rglob('*.py'):
            assert 'matplotlib' not in file.read_text(), file


def test_only_commands_parse_arguments_and_print() -> None:
    for file in PACKAGE.rglob('*.py'):
        if file.parent.name == 'commands':
            continue
        name = file.relative_to(PACKAGE)
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                assert 'argparse' not in [alias.name for alias in node.names], f'{name}:{node.lineno}'
            if isinstance(node, ast.ImportFrom):
                assert node.module != 'argparse', f'{name}:{node.lineno}'
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id != 'print', f'{name}:{node.lineno}'
