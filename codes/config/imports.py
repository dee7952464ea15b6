"""Import the user's modules that register classes, as named in a config or on the command line."""

import importlib
import sys
import traceback
from collections.abc import Iterable
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any


def import_modules(names: Any, folders: Iterable[Path] = ()) -> None:
    """Import modules, so that the classes they register can be used as a ``type``.

    Modules that are not installed are searched in the working directory and in ``folders``.

    Args:
        names: a list such as ``['my_lab.blocks']``.
        folders: folders to search besides the working directory.
    """
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"imports={names!r} must be a list of module names, such as ['my_lab.blocks']")
    for name in names:
        if not _is_module_name(name):
            hint = name.removesuffix('.py').strip('./').replace('/', '.')
            use = f'use {hint!r}' if _is_module_name(hint) else "expected a name such as 'my_lab.blocks'"
            raise ValueError(f'imports: {name!r} is not a module name; {use}')
    finder = _Finder(list(dict.fromkeys(str(folder.absolute()) for folder in (Path(), *folders))))
    importlib.invalidate_caches()
    sys.meta_path.append(finder)
    try:
        for name in names:
            _import(name, finder.folders)
    finally:
        sys.meta_path.remove(finder)


class _Finder(MetaPathFinder):
    """Finds top-level modules in additional folders, after all other finders."""

    def __init__(self, folders: list[str]) -> None:
        self.folders = folders

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        return PathFinder.find_spec(fullname, self.folders, target) if path is None else None


def _import(name: str, folders: list[str]) -> None:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f'{name}.'.startswith(f'{error.name}.'):
            raise ValueError(f'imports: {name} failed{_place(error)}: {error}') from error
        raise ValueError(f'imports: module {name} is not installed and not in {" or ".join(folders)}') from error
    except (Exception, SystemExit) as error:
        raise ValueError(f'imports: {name} failed{_place(error)}: {type(error).__name__}: {error}') from error


def _place(error: BaseException) -> str:
    """Return ' at file:line' of the last executed line in the module's own folder."""
    if isinstance(error, SyntaxError):
        return f' at {error.filename}:{error.lineno}'
    frames = [frame for frame in traceback.extract_tb(error.__traceback__)[1:] if not frame.filename.startswith('<')]
    # Frames of the import system: frozen, or files of importlib.
    frames = [frame for frame in frames if Path(frame.filename).parent.name != 'importlib']
    own = [frame for frame in frames if Path(frame.filename).parent == Path(frames[0].filename).parent]
    return f' at {own[-1].filename}:{own[-1].lineno}' if own else ''


def _is_module_name(name: str) -> bool:
    return all(part.isidentifier() for part in name.split('.'))
