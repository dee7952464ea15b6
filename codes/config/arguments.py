"""Check config dicts against the arguments of the class or function that they configure."""

import ast
import difflib
import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from types import NoneType, UnionType
from typing import Any, NamedTuple, TypeGuard, Union, get_args, get_origin, get_type_hints

_MAX_FLOAT = 3.4e38  # of float32

# Options of earlier versions by (function or class, key), with the hint for the error.
RENAMED = {
    ('build_dataloader', 'sampling'): (
        "It is now 'class_balance': None (was 'uniform'), 'equal' (was 'balanced') or 'square_root'."
    ),
    ('RuntimeCfg', 'on_save_error'): 'It was removed: a run stops if a checkpoint cannot be written.',
}


class UnknownArgument(KeyError):
    """An unknown key in a config dict.

    Args:
        path: full path of the dict in the config.
        key: the unknown key.
        name: the class or function that the dict configures.
        allowed: the keys that it accepts.
    """

    def __init__(self, path: str, key: str, name: str, allowed: Sequence[str]) -> None:
        renamed = RENAMED.get((name, key))
        hint = f' {renamed}' if renamed else nearest(key, allowed)
        super().__init__(f'{path}.{key} is not an argument of {name}.{hint} Allowed: {", ".join(allowed)}')
        self.path = path
        self.key = key


class WrongType(ValueError):
    """A value of the wrong type in a config dict.

    Args:
        path: full path of the value in the config.
        value: the value.
        name: the class or function that the dict configures.
        hint: annotation of the argument.
    """

    def __init__(self, path: str, value: Any, name: str, hint: Any) -> None:
        wanted = hint.__name__ if _is_class(hint) else str(hint)
        super().__init__(f'{path}={value!r} has the wrong type: {name} expects {wanted}{_remedy(value, hint)}')
        self.path = path
        self.accepts_text = _matches('', hint)


def nearest(name: Any, allowed: Iterable[Any]) -> str:
    """Return ``" Did you mean 'x'?"`` for the closest allowed name, or an empty string if none is close."""
    match = difflib.get_close_matches(str(name), [str(a) for a in allowed], n=1)
    return f' Did you mean {match[0]!r}?' if match else ''


def check_arguments(
    function: Callable[..., Any],
    cfg: Mapping[str, Any],
    path: str,
    given: Iterable[str] = (),
    extra: Iterable[str] = (),
) -> None:
    """Check the keys of a config dict, and the types of its plain values, against a signature.

    Numbers must be finite, and fit into float32 or a 64-bit integer.

    Args:
        function: the class or function that the dict configures.
        cfg: the dict; its ``type`` is ignored.
        path: full path of the dict in the config.
        given: arguments that the caller passes; not allowed in the config.
        extra: keys that are allowed although ``function`` does not have them.
    """
    name = function.__name__
    keys = [key for key in cfg if key != 'type']
    given = set(given)
    parameters = {k: p for k, p in inspect.signature(function).parameters.items() if k not in given}
    allowed = [*parameters, *extra]
    for key in keys:
        if key not in allowed:
            raise UnknownArgument(path, key, name, allowed)
    missing = [k for k, p in parameters.items() if p.default is inspect.Parameter.empty and k not in set(keys)]
    if missing:
        raise KeyError(f'{path}.{missing[0]} is required by {name}. Allowed: {", ".join(allowed)}')
    hints = type_hints(function)
    for key in keys:
        _check_numbers(cfg[key], f'{path}.{key}')
        if key in hints and not get_slot(hints[key]).bases and not _matches(cfg[key], hints[key]):
            raise WrongType(f'{path}.{key}', cfg[key], name, hints[key])


def _check_numbers(value: Any, path: str) -> None:
    if isinstance(value, Mapping | list | tuple):
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            _check_numbers(item, f'{path}.{key}')
    elif isinstance(value, float) and not abs(value) <= _MAX_FLOAT:
        raise ValueError(f'{path}={value} must be a finite number of at most {_MAX_FLOAT}')
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        # Python does not print integers of thousands of digits.
        shown = f'={value}' if abs(value) < 10**60 else ''
        raise ValueError(f'{path}{shown} must be an integer between -2**63 and 2**63 - 1')


class Slot(NamedTuple):
    """The objects, built from config dicts, that an argument accepts.

    Attributes:
        bases: allowed base classes; empty if the argument is a plain value or has no annotation.
        is_list: whether the argument is a list.
        is_optional: whether None is allowed.
    """

    bases: tuple[Any, ...]
    is_list: bool
    is_optional: bool


def get_slot(hint: Any) -> Slot:
    """Return the slot of an argument with this annotation."""
    parts = _parts(hint)
    wanted = [part for part in parts if part is not NoneType]
    is_list = len(wanted) == 1 and get_origin(wanted[0]) in (Sequence, list, tuple)
    if is_list:
        wanted = _parts(get_args(wanted[0])[0])
    return Slot(tuple(wanted) if all(map(_is_object, wanted)) else (), is_list, NoneType in parts)


def type_hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations of a function or constructor; empty if they cannot be resolved."""
    try:
        return get_type_hints(function.__init__ if isinstance(function, type) else function)  # type: ignore[misc]
    except (NameError, TypeError):
        return {}


def is_object_config(value: Any) -> bool:
    """Return whether a config value describes an object: a dict with a ``type``."""
    return isinstance(value, Mapping) and 'type' in value


def _parts(hint: Any) -> list[Any]:
    return list(get_args(hint)) if get_origin(hint) in (Union, UnionType) else [hint]


def _is_class(hint: Any) -> TypeGuard[type]:
    # Python 3.10 regards dict[str, int] as a class, and 3.11 Any.
    return isinstance(hint, type) and get_origin(hint) is None and hint is not Any


def _is_object(hint: Any) -> bool:
    """Return whether objects of a type are built from dicts, because a config cannot contain them."""
    return _is_class(hint) and hint.__module__ not in ('builtins', 'collections.abc')


def _remedy(value: Any, hint: Any) -> str:
    """Return how to write a value with the right type, if only its form is wrong, as in '0.1' for 0.1."""
    meant = value
    if isinstance(value, str):
        try:
            meant = ast.literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            with suppress(ValueError):
                meant = float(value)
    elif isinstance(value, float) and value.is_integer() and not _matches('', hint):
        meant = int(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        meant = str(value)
    if isinstance(meant, float) and not math.isfinite(meant):
        return '; a number must be finite'
    return f'; write {meant!r}' if type(meant) is not type(value) and _matches(meant, hint) else ''


def _matches(value: Any, hint: Any) -> bool:
    """Return whether a config value matches an annotation; True for annotations that are not handled here."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_matches(value, part) for part in parts)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if origin in (Sequence, list, tuple):
        return isinstance(value, list | tuple) and all(_matches(item, parts[0]) for item in value)
    if _is_object(hint):
        return is_object_config(value)
    return isinstance(value, hint) if _is_class(hint) else True
