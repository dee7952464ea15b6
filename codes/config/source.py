"""Config files: read, checked, run and merged with their bases. Mistakes are reported by file and line."""

import ast
import os
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsanet.config.schema import SECTIONS
from dsanet.config.shipped import find_config

# What has names of its own inside of a file.
SCOPES = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


@dataclass(frozen=True)
class ConfigSource:
    """What a config file says.

    Args:
        files: the file, and then all those that it is based on.
        own: what the file itself sets, without helpers.
        content: the same merged with what its bases set.
    """

    files: tuple[Path, ...]
    own: dict[str, Any]
    content: dict[str, Any]


def read_source(file: Path, derived: tuple[Path, ...] = ()) -> ConfigSource:
    """Read a config file and its bases.

    Args:
        file: a Python config.
        derived: the files that lead here by their ``_base_``, the first one first.

    Raises:
        FileNotFoundError: a base is missing.
        ValueError: Python that does not run, an import, a setting used as a Python value, or bases that do not fit
            together; with file and line.
    """
    if file in derived:
        raise ValueError(f'{file} is its own base: {" -> ".join(map(str, (*derived, file)))}')
    try:
        tree = ast.parse(file.read_bytes(), str(file))
        code = compile(tree, str(file), 'exec')
    except (SyntaxError, ValueError) as error:  # the latter of null bytes
        raise ValueError(f'{file}:{getattr(error, "lineno", None) or 1}: {getattr(error, "msg", error)}') from error
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            raise ValueError(
                f'{file}:{node.lineno}: configs have no import statements. Modules that register parts are named in '
                "imports = ['my_lab.blocks'], other configs in _base_"
            )
    bases = [read_source(_find_base(name, file), (*derived, file)) for name in _read_bases(tree, file)]
    _check_reads(tree, {name for base in bases for name in base.content}, file)
    own = _run(code, file)
    content = _merge_bases(bases, own, file)
    for name, value in own.items():
        if name == 'imports':
            content[name] = join_imports(content.get(name, []), value)
        else:
            content[name] = merge(content.get(name), value)
    return ConfigSource((file, *(one for base in bases for one in base.files)), own, content)


def _read_bases(tree: ast.Module, file: Path) -> list[str]:
    bases: list[str] = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Name) or node.id != '_base_' or not isinstance(node.ctx, ast.Store):
            continue
        statement = next((one for one in tree.body if isinstance(one, ast.Assign) and node in one.targets), None)
        try:
            value = ast.literal_eval(statement.value) if statement else None
        except ValueError:
            value = None
        bases = [value] if isinstance(value, str) else value  # type: ignore[assignment]
        if not isinstance(bases, list | tuple) or not all(isinstance(base, str) for base in bases):
            raise ValueError(
                f'{file}:{node.lineno}: _base_ must be a file name in quotes, or a list of them, such as '
                "_base_ = ['../_base_/runtime.py']"
            )
    return list(bases)


def _find_base(name: str, file: Path) -> Path:
    try:
        return find_config(os.path.normpath(file.parent / name), name)
    except FileNotFoundError as error:
        raise FileNotFoundError(f'{file}: its _base_ {name!r}, relative to the file: {error}') from error


def _globals_of(node: ast.AST, local: frozenset[str] = frozenset()) -> Iterator[ast.Name]:
    """Yield the names of the file that are set or read, without those that belong to a comprehension or function."""
    if isinstance(node, ast.Name) and node.id not in local:
        yield node
    if isinstance(node, SCOPES):
        inside = list(ast.walk(node))
        local |= {one.id for one in inside if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}
        local |= {one.arg for one in inside if isinstance(one, ast.arg)}
    for child in ast.iter_child_nodes(node):
        yield from _globals_of(child, local)


def _check_reads(tree: ast.Module, inherited: set[str], file: Path) -> None:
    """Refuse settings that are used as Python values: an override would silently miss what is made of them."""
    names = list(_globals_of(tree))
    set_here = {name.id for name in names if isinstance(name.ctx, ast.Store)}
    settings = {name for name in set_here | inherited if not name.startswith('_')}
    found = [name for name in names if isinstance(name.ctx, ast.Load) and name.id in settings]
    if not found:
        return
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    node = min(found, key=lambda node: (node.lineno, node.col_offset))
    written = (
        f'Write {_as_reference(node, parents, settings)!r} instead' if node.id not in SECTIONS else 'Write it again'
    )
    raise ValueError(
        f'{file}:{node.lineno}: {node.id} is used as a Python value, which an override of {node.id} would not change. '
        f'{written}, or call what only this file uses _{node.id}'
    )


def _as_reference(node: ast.Name, parents: Mapping[ast.AST, ast.AST], settings: set[str]) -> str:
    """Return what to write for a setting: an f-string of settings with ``${name}``, or the reference alone."""
    text = parents.get(parents[node])
    if not isinstance(text, ast.JoinedStr):
        return f'${{{node.id}}}'
    written = ''
    for part in text.values:
        if isinstance(part, ast.Constant):
            written += str(part.value)
        elif ast.unparse(part.value).strip() not in settings:  # type: ignore[attr-defined]
            return f'${{{node.id}}}'
        else:
            written += f'${{{ast.unparse(part.value)}}}'  # type: ignore[attr-defined]
    return written


def _run(code: Any, file: Path) -> dict[str, Any]:
    """Run the code of a config and return what it sets, without helpers."""
    scope: dict[str, Any] = {'__file__': str(file), '__name__': file.stem}
    try:
        exec(code, scope)
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        raise ValueError(f'{file}:{lines[-1]}: {type(error).__name__}: {error}') from error
    return {name: _plain(value, name, file) for name, value in scope.items() if not name.startswith('_')}


def _plain(value: Any, path: str, file: Path) -> Any:
    """Return a copy of a value, which must consist of what a config may hold.

    The copy has no part twice, so that an override changes one place only.
    """
    if isinstance(value, dict):
        return {key: _plain(item, f'{path}.{key}', file) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(item, f'{path}.{i}', file) for i, item in enumerate(value))
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(
        f'{file}: {path} is a {type(value).__name__}. A config holds None, numbers, texts, lists, tuples and dicts; '
        'the names of other things, such as functions, begin with an underscore'
    )


def _merge_bases(bases: list[ConfigSource], own: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """Join what the bases of one file set; where they differ, the file itself must set the name."""
    content: dict[str, Any] = {}
    for i, base in enumerate(bases):
        for name, value in base.content.items():
            is_decided = name in own and not isinstance(own[name], dict)
            if name == 'imports':
                value = join_imports(content.get(name, []), value)
            elif name in content and content[name] != value and not is_decided:
                other = next(one for one in bases[:i] if name in one.content)
                raise ValueError(
                    f'{file}: the bases {other.files[0]} and {base.files[0]} set {name} differently. Leave one of them '
                    'out, or set it here as well'
                )
            content[name] = value
    return content


def join_imports(first: Any, then: Any) -> Any:
    """Return two lists of modules as one, each module once; what is not a list stays, to be refused by the check."""
    for names in (first, then):
        if not isinstance(names, list | tuple):
            return names
    return list(dict.fromkeys([*first, *then]))


def merge(base: Any, new: Any) -> Any:
    """Return what a derived config's value makes of its base's: dicts of the same ``type`` are merged key by key.

    A dict of another ``type``, or with ``_delete_=True``, and everything that is not a dict replaces what the base has.
    """
    if not isinstance(new, dict):
        return new
    is_other = isinstance(base, dict) and 'type' in base and new.get('type', base['type']) != base['type']
    if new.get('_delete_') or is_other or not isinstance(base, dict):
        base = {}
    return {**base, **{key: merge(base.get(key), value) for key, value in new.items() if key != '_delete_'}}
