"""The configs that are installed with the package, by name, such as ``kinetics/r50_e100_s1_8``."""

import difflib
import fnmatch
import importlib.resources
from pathlib import Path

from dsanet.utils.files import check_path


def list_configs(pattern: str = '*') -> list[str]:
    """Return the sorted names of the configs of DSANet.

    Args:
        pattern: shell pattern of the names, such as ``'*tsm*'`` or ``'demo/*'``.
    """
    folder = _folder()
    paths = [file.relative_to(folder) for file in folder.rglob('*.py')]
    names = [path.with_suffix('').as_posix() for path in paths if path.parts[0] not in ('_base_', '__init__.py')]
    return sorted(fnmatch.filter(names, pattern))


def find_config(path: str | Path, name: str | Path | None = None) -> Path:
    """Return the file of a config: ``path`` if it exists, otherwise the config of DSANet with that name.

    Args:
        path: a file.
        name: name of a config of DSANet, with or without ``.py``; None for ``path``.
    """
    name = check_path(path if name is None else name, 'config', ', the name of a config, or a loaded config (dict)')
    file = Path(path)
    if file.is_dir() and file.suffix == '.py':
        raise ValueError(f'config {file} is a folder')
    if not file.is_file():
        file = _folder() / (name if name.endswith('.py') else f'{name}.py')
    if not file.is_file():
        raise FileNotFoundError(
            f'config {name} not found: no file {Path(path).absolute()}, '
            f'and DSANet has none of this name{_similar(name)}'
        )
    if file.suffix != '.py':
        raise ValueError(f'{file} is not a config: a config is a Python file (.py)')
    return file


def find_plan(path: str | Path) -> Path:
    """Return the file of an experiment plan: ``path`` if it exists, otherwise the plan of DSANet with that name.

    Args:
        path: a file, or the name of a plan of DSANet, such as ``experiments/kinetics``, with or without ``.toml``.
    """
    file = Path(path)
    own = _folder() / (file if file.suffix == '.toml' else f'{file}.toml')
    found = next((one for one in (file, own) if one.is_file()), None)
    if found is None:
        names = ', '.join(sorted(f'experiments/{one.stem}' for one in _folder().glob('experiments/*.toml')))
        raise FileNotFoundError(f'experiment {path} not found: no file {file.absolute()}; included: {names}')
    return found


def _folder() -> Path:
    return Path(str(importlib.resources.files('dsanet.configs')))


def _similar(name: str) -> str:
    """Return the end of the error with similar names, compared with and without their folder."""
    by_stem = {Path(one).name: one for one in list_configs()}
    names = difflib.get_close_matches(name, by_stem.values(), n=3)
    names += [by_stem[stem] for stem in difflib.get_close_matches(Path(name).stem, by_stem, n=3)]
    return f'. Similar: {", ".join(list(dict.fromkeys(names))[:3])}' if names else ''
