"""The text of config files, read before Python runs it: what it sets, its bases, and mistakes told by file and line."""

import ast
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ConfigSource:
    """What a config file says about itself.

    Args:
        file: the file.
        bases: the files that its ``_base_`` names, in that order.
        names: what the file itself sets, without what its bases do.
    """

    file: Path
    bases: tuple['ConfigSource', ...]
    names: frozenset[str]

    def all_sources(self) -> Iterator['ConfigSource']:
        """Yield the bases, however deep, and the file itself."""
        for base in self.bases:
            yield from base.all_sources()
        yield self

    def all_names(self) -> set[str]:
        """Return what the file and its bases set."""
        return {name for source in self.all_sources() for name in source.names}

    def find_clash(self) -> str:
        """Say which names two bases of one file set, or return an empty string if there are none."""
        for source in self.all_sources():
            for i, one in enumerate(source.bases):
                for other in source.bases[i + 1 :]:
                    if both := sorted(one.all_names() & other.all_names()):
                        return (
                            f'{source.file}: the bases {one.file} and {other.file} both set {", ".join(both)}. A name '
                            'may come from one base only: leave out one of the two, or set the name in your file alone'
                        )
        return ''


def read_source(file: Path, derived: tuple[Path, ...] = ()) -> ConfigSource:
    """Read a config file and its bases without running them.

    Args:
        file: a Python config.
        derived: the files that lead here by their ``_base_``, the first one first.

    Raises:
        FileNotFoundError: the file, or a base of it, is not there.
        ValueError: it is no Python file, has a syntax error, an import, or a ``_base_`` that is no list of file names,
            or is its own base; with file and line.
    """
    if not file.is_file():
        if derived:
            raise FileNotFoundError(f'{derived[-1]}: its _base_ {file} is not there; bases are relative to the file')
        raise FileNotFoundError(f'there is no config {file.absolute()}')
    if file in derived:
        raise ValueError(f'{file} is its own base: {" -> ".join(map(str, (*derived, file)))}')
    if file.suffix != '.py':
        raise ValueError(f'{file} is no config: these are Python files, which end in .py')
    try:
        tree = ast.parse(file.read_text(encoding='utf-8'))
    except SyntaxError as error:
        raise ValueError(f'{file}:{error.lineno}: {error.msg}') from error
    names = set()
    bases: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            raise ValueError(
                f'{file}:{node.lineno}: configs take no import statements. Parts are named by their registered type, '
                'other configs by _base_'
            )
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == '_base_':
            bases = _read_bases(statement, file)
    paths = [Path(os.path.normpath(file.parent / base)) for base in bases]
    return ConfigSource(
        file, tuple(read_source(path, (*derived, file)) for path in paths), frozenset(names - {'_base_'})
    )


def _read_bases(statement: ast.Assign, file: Path) -> list[str]:
    try:
        value = ast.literal_eval(statement.value)
    except ValueError:
        value = None
    bases = [value] if isinstance(value, str) else value
    if not isinstance(bases, list | tuple) or not all(isinstance(base, str) for base in bases):
        raise ValueError(
            f'{file}:{statement.lineno}: _base_ = {ast.unparse(statement.value)} must be a file name in quotes, or a '
            "list of them, such as ['../_base_/runtime.py']"
        )
    return list(bases)
