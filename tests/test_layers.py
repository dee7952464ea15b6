"""The rooms of the package and the order in which they may use each other; CONTRIBUTING.md shows it as a picture."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / 'codes'

# From the ground up. A file imports from its own room and from rooms of lower layers.
LAYERS = (
    ('utils',),
    ('config',),
    ('models', 'datasets', 'evaluation'),
    ('data_checks', 'data_tools'),
    ('engine', 'inference'),
    ('explain', 'reports'),
    ('apis', 'commands'),
)
HEIGHT = {room: height for height, rooms in enumerate(LAYERS) for room in rooms}


def imports_of(file: Path) -> list[tuple[int, str]]:
    """Return line and dotted name of all that a file imports from the package, inside functions too."""
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{file}:{node.lineno}: a relative import'
            module = node.module or ''
            names = [f'{module}.{alias.name}' for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found += [(node.lineno, name) for name in names if name.split('.')[0] == 'dsanet' and name != 'dsanet']
    return found


def module_of(name: str) -> str | None:
    """Return the module of a dotted name whose last part may be something inside of it."""
    for dotted in (name, name.rpartition('.')[0]):
        path = PACKAGE.joinpath(*dotted.split('.')[1:])
        if path.with_suffix('.py').is_file() or (path / '__init__.py').is_file():
            return dotted
    return None


def name_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE).with_suffix('').parts
    return '.'.join(('dsanet', *parts)).removesuffix('.__init__')


def test_no_import_runs_upward() -> None:
    upward = []
    for file in PACKAGE.rglob('*.py'):
        room = name_of(file).split('.')[1] if name_of(file) != 'dsanet' else 'apis'
        for line, name in imports_of(file):
            other = name.split('.')[1]
            if other != room and other in HEIGHT and HEIGHT[other] >= HEIGHT.get(room, len(LAYERS)):
                upward.append(f'{file.relative_to(PACKAGE)}:{line} imports {name}')
    assert not upward, '\n'.join(upward)


def test_every_room_has_its_layer() -> None:
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == '.py' or (path / '__init__.py').is_file()}
    assert rooms - {'__init__', '__main__'} <= HEIGHT.keys()


def test_no_modules_import_each_other_in_a_circle() -> None:
    uses: dict[str, set[str]] = {}
    for file in PACKAGE.rglob('*.py'):
        uses[name_of(file)] = {module for _, name in imports_of(file) if (module := module_of(name)) is not None}
    done: set[str] = set()

    def walk(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, ' -> '.join((*trail[trail.index(module) :], module))
        if module not in done:
            for other in sorted(uses.get(module, ())):
                walk(other, (*trail, module))
            done.add(module)

    for module in sorted(uses):
        walk(module, ())


def test_loading_and_models_draw_nothing() -> None:
    for room in ('datasets', 'models'):
        for file in (PACKAGE / room).rglob('*.py'):
            assert 'matplotlib' not in file.read_text(), file


def test_only_commands_parse_arguments_and_print() -> None:
    for file in PACKAGE.rglob('*.py'):
        if file.parent.name == 'commands':
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            where = f'{file.relative_to(PACKAGE)}:{getattr(node, "lineno", 0)}'
            if isinstance(node, ast.Import):
                assert 'argparse' not in [alias.name for alias in node.names], where
            if isinstance(node, ast.ImportFrom):
                assert node.module != 'argparse', where
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id != 'print', where
