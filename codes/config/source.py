"""Read config files: check, run and merge them with their bases. Errors name file and line."""

import ast
import os
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsanet.config.schema import SECTIONS
from dsanet.config.shipped import find_config

MAX_BYTES = 10_000_000  # of a config file
MAX_DEPTH = 50  # of nested dicts and lists

# Nodes with their own scope of names.
SCOPES = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


@dataclass(frozen=True)
class ConfigSource:
    """The content of a config file.

    Args:
        file: the file; None for a config that was not read from a file.
        own: the names that the file itself sets, without helpers.
        content: the names of the file and its bases, merged.
    """

    file: Path | None
    own: dict[str, Any]
    content: dict[str, Any]


def read_source(file: Path, derived: tuple[Path, ...] = ()) -> ConfigSource:
    """Read a config file and its bases.

    Args:
        file: a Python config.
        derived: the chain of configs that have this file as a base.
    """
    if file in derived:
        raise ValueError(f'{file} is its own base: {" -> ".join(map(str, (*derived, file)))}')
    if file.stat().st_size > MAX_BYTES:
        raise ValueError(f'{file} is not a config: it has {file.stat().st_size:,} bytes, more than {MAX_BYTES:,}')
    text = file.read_bytes()
    if b'\0' in text:
        line = 1 + text[: text.index(b'\0')].count(b'\n')
        raise ValueError(f'{file}:{line}: null bytes; a config is Python code in UTF-8 (is it UTF-16 or binary?)')
    try:
        tree = ast.parse(text, str(file))
        code = compile(tree, str(file), 'exec')
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # the last two: too deeply nested
        problem = getattr(error, 'msg', None) or str(error) or 'too deeply nested'
        raise ValueError(f'{file}:{getattr(error, "lineno", None) or 1}: {problem}') from error
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            raise ValueError(
                f'{file}:{node.lineno}: import statements are not allowed in configs. Use '
                "imports = ['my_lab.blocks'] for modules that register classes, and _base_ for other configs"
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
    return ConfigSource(file, own, content)


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
                f'{file}:{node.lineno}: _base_ must be a file name or a list of file names, such as '
                "_base_ = ['../_base_/runtime.py']"
            )
    return list(bases)


def _find_base(name: str, file: Path) -> Path:
    try:
        return find_config(os.path.normpath(file.parent / name), name)
    except FileNotFoundError as error:
        raise FileNotFoundError(f'{file}: _base_ {name!r} (relative to this file): {error}') from error


def _globals_of(node: ast.AST, local: frozenset[str] = frozenset()) -> Iterator[ast.Name]:
    """Yield the global names that are set or read, without those of comprehensions and functions."""
    if isinstance(node, ast.Name) and node.id not in local:
        yield node
    if isinstance(node, SCOPES):
        inside = list(ast.walk(node))
        local |= {one.id for one in inside if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}
        local |= {one.arg for one in inside if isinstance(one, ast.arg)}
    for child in ast.iter_child_nodes(node):
        yield from _globals_of(child, local)


def _check_reads(tree: ast.Module, inherited: set[str], file: Path) -> None:
    """Raise if a setting is used as a Python value, which an override of the setting would not change."""
    names = list(_globals_of(tree))
    set_here = {name.id for name in names if isinstance(name.ctx, ast.Store)}
    settings = {name for name in set_here | inherited if not name.startswith('_')}
    found = [name for name in names if isinstance(name.ctx, ast.Load) and name.id in settings]
    if not found:
        return
    node = min(found, key=lambda node: (node.lineno, node.col_offset))
    reference = 'repeat the value' if node.id in SECTIONS else f"write '${{{node.id}}}' instead"
    raise ValueError(
        f'{file}:{node.lineno}: {node.id} is used as a Python value, which an override of {node.id} would not change; '
        f'{reference}, or rename it to _{node.id} if only this file uses it'
    )


def _run(code: Any, file: Path) -> dict[str, Any]:
    """Run the code of a config and return the names that it sets, without helpers."""
    scope: dict[str, Any] = {'__file__': str(file), '__name__': file.stem}
    try:
        exec(code, scope)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # also exit() and others that are not an Exception
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        problem = traceback.format_exception_only(error)[-1].strip()
        if isinstance(error, SystemExit):
            problem += '; a config must not exit'
        raise ValueError(f'{file}:{lines[-1]}: {problem}') from error
    return {name: _plain(value, name, file) for name, value in scope.items() if not name.startswith('_')}


def _plain(value: Any, path: str, file: Path) -> Any:
    """Check the types in a config value and return a copy without shared parts, so that an override changes one place.

    The copy contains only plain types, not subclasses such as NumPy numbers, which a checkpoint cannot store.
    """
    if path.count('.') > MAX_DEPTH:
        raise ValueError(f'{file}: {path.split(".")[0]} has more than {MAX_DEPTH} levels; does it contain itself?')
    if isinstance(value, dict):
        return {key: _plain(item, f'{path}.{key}', file) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [_plain(item, f'{path}.{i}', file) for i, item in enumerate(value)]
        return items if isinstance(value, list) else tuple(items)
    if value is None or isinstance(value, bool):
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    raise ValueError(
        f'{file}: {path} is a {type(value).__name__}; config values are None, numbers, strings, lists, tuples and '
        'dicts. Names of other objects, such as functions, must start with an underscore'
    )


def _merge_bases(bases: list[ConfigSource], own: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """Join the names of several bases; if they differ in a value, the file itself must set it."""
    content: dict[str, Any] = {}
    for i, base in enumerate(bases):
        for name, value in base.content.items():
            is_decided = name in own and not isinstance(own[name], dict)
            if name == 'imports':
                value = join_imports(content.get(name, []), value)
            elif name in content and content[name] != value and not is_decided:
                other = next(one for one in bases[:i] if name in one.content)
                raise ValueError(
                    f'{file}: the bases {other.file} and {base.file} have different values of {name}. Remove '
                    f'one of them or set {name} here'
                )
            content[name] = value
    return content


def join_imports(first: Any, then: Any) -> Any:
    """Join two lists of modules without duplicates; return a value that is not a list, to be rejected later."""
    for names in (first, then):
        if not isinstance(names, list | tuple):
            return names
    return list(dict.fromkeys([*first, *then]))


def merge(base: Any, new: Any) -> Any:
    """Merge the value of a derived config into that of its base: dicts of the same ``type`` are merged key by key.

    A dict of another ``type`` or with ``_delete_=True``, and any value that is not a dict, replaces that of the base.
    """
    if not isinstance(new, dict):
        return new
    is_other = isinstance(base, dict) and 'type' in base and new.get('type', base['type']) != base['type']
    if new.get('_delete_') or is_other or not isinstance(base, dict):
        base = {}
    return {**base, **{key: merge(base.get(key), value) for key, value in new.items() if key != '_delete_'}}
