"""The configs that come with the package, by name, such as ``kinetics/r50_e100_s1_8``."""

import difflib
import fnmatch
import importlib.resources
import os
from pathlib import Path


def list_configs(pattern: str = '*') -> list[str]:
    """Return the names of the configs that come with DSANet, sorted.

    Args:
        pattern: which ones, with the wildcards of a shell, such as ``'*tsm*'`` or ``'demo/*'``.
    """
    folder = _folder()
    paths = [file.relative_to(folder) for file in folder.rglob('*.py')]
    names = [path.with_suffix('').as_posix() for path in paths if path.parts[0] not in ('_base_', '__init__.py')]
    return sorted(fnmatch.filter(names, pattern))


def find_config(path: str | Path, name: str | Path | None = None) -> Path:
    """Return the file of a config: the path if it exists, or else the config of that name that comes with DSANet.

    Args:
        path: a file.
        name: what to look for in DSANet, with or without ``.py``; None for the path itself.

    Raises:
        FileNotFoundError: there is neither; with the nearest names.
        ValueError: a file that is not a Python file.
    """
    name = os.fspath(path if name is None else name)
    file = Path(path)
    if not file.is_file():
        file = _folder() / (name if name.endswith('.py') else f'{name}.py')
    if not file.is_file():
        raise FileNotFoundError(f'there is no config {Path(path).absolute()}, nor one of DSANet{_near(name)}')
    if file.suffix != '.py':
        raise ValueError(f'{file} is not a config: these are Python files, which end in .py')
    return file


def _folder() -> Path:
    return Path(str(importlib.resources.files('dsanet.configs')))


def _near(name: str) -> str:
    """Return the names of configs that are like this one, with or without their folder, as the end of a sentence."""
    by_stem = {Path(one).name: one for one in list_configs()}
    names = difflib.get_close_matches(name, by_stem.values(), n=3)
    names += [by_stem[stem] for stem in difflib.get_close_matches(Path(name).stem, by_stem, n=3)]
    return f'. Near: {", ".join(list(dict.fromkeys(names))[:3])}' if names else ''
