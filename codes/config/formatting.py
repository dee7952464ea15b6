"""Format a resolved config as a Python config file."""

import keyword
from collections.abc import Iterator, Mapping
from typing import Any

WIDTH = 120
INDENT = 4


def format_config(config: Mapping[str, Any]) -> str:
    """Return the Python text of a config; ``load_config`` reads the same config from it.

    Sections keep their order, ``type`` is the first key of its dict, and values that fit are on one line.
    """
    return ''.join(f'{name} = {_format(value, 0, len(name) + 3, 0)}\n' for name, value in config.items())


def _format(value: Any, indent: int, before: int, after: int) -> str:
    """Return a value as code.

    Args:
        value: a config value.
        indent: indentation of its first line.
        before, after: number of characters before and after it in its line.
    """
    line = _inline(value)
    if before + len(line) + after <= WIDTH or not value or not isinstance(value, dict | list | tuple):
        return line
    pad = ' ' * (indent + INDENT)
    opening, closing = _brackets(value)
    items = (
        f'{pad}{prefix}{_format(item, indent + INDENT, len(pad) + len(prefix), 1)},\n' for prefix, item in _items(value)
    )
    return f'{opening}\n{"".join(items)}{" " * indent}{closing}'


def _inline(value: Any) -> str:
    if not isinstance(value, dict | list | tuple):
        return repr(value)
    opening, closing = _brackets(value)
    comma = ',' if isinstance(value, tuple) and len(value) == 1 else ''
    return opening + ', '.join(prefix + _inline(item) for prefix, item in _items(value)) + comma + closing


def _brackets(value: Any) -> tuple[str, str]:
    if isinstance(value, dict):
        return ('dict(', ')') if _has_names(value) else ('{', '}')
    return ('[', ']') if isinstance(value, list) else ('(', ')')


def _has_names(value: Mapping[Any, Any]) -> bool:
    return all(isinstance(key, str) and key.isidentifier() and not keyword.iskeyword(key) for key in value)


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield (prefix, item) pairs of a dict, list or tuple; the prefix of a dict item is such as ``'lr='``."""
    if not isinstance(value, dict):
        yield from (('', item) for item in value)
        return
    for key in sorted(value, key=lambda key: key != 'type'):
        yield f'{key}=' if _has_names(value) else f'{key!r}: ', value[key]
