"""Whether a config dict fits the arguments of the class or function that it configures."""

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, NamedTuple, TypeGuard, Union, get_args, get_origin, get_type_hints

# Options of earlier versions, by the function or class that took them, and what to write now.
RENAMED = {
    ('build_dataloader', 'sampling'): (
        "It is now 'class_balance': None (was 'uniform'), 'equal' (was 'balanced') or 'square_root'."
    ),
    ('RuntimeCfg', 'on_save_error'): 'It was removed: a run stops if a checkpoint cannot be written.',
}


class UnknownArgument(KeyError):
    """A key of a config dict that is not an argument of what the dict configures.

    Args:
        path: where the dict is in the whole config.
        key: the key.
        name: the class or function.
        allowed: the keys that it takes.
    """

    def __init__(self, path: str, key: str, name: str, allowed: Sequence[str]) -> None:
        renamed = RENAMED.get((name, key))
        hint = f' {renamed}' if renamed else nearest(key, allowed)
        super().__init__(f'{path}.{key} is not an argument of {name}.{hint} Allowed: {", ".join(allowed)}')
        self.path = path
        self.key = key


def nearest(name: Any, allowed: Iterable[Any]) -> str:
    """Return ``' Did you mean 'x'?'`` for the closest allowed name, or an empty string if none is close."""
    match = difflib.get_close_matches(str(name), [str(a) for a in allowed], n=1)
    return f' Did you mean {match[0]!r}?' if match else ''


def check_arguments(
    function: Callable[..., Any],
    cfg: Mapping[str, Any],
    path: str,
    given: Iterable[str] = (),
    extra: Iterable[str] = (),
) -> None:
    """Compare a config dict with the arguments of what it configures: names, and types where they are plain ones.

    Args:
        function: the class or function.
        cfg: the dict; ``type`` does not count.
        path: where the dict is in the whole config.
        given: arguments that the caller hands over; not allowed in the config.
        extra: keys that are allowed although ``function`` does not take them.

    Raises:
        KeyError: an unknown (:class:`UnknownArgument`) or a missing key, by its full path, with the allowed names.
        ValueError: a value of another type than the argument has.
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
        raise KeyError(f'{path}.{missing[0]} is missing; {name} needs it. Allowed: {", ".join(allowed)}')
    hints = type_hints(function)
    for key in keys:
        if key in hints and not slot_of(hints[key]).bases and not _fits(cfg[key], hints[key]):
            wanted = hints[key].__name__ if _is_class(hints[key]) else str(hints[key])
            raise ValueError(f'{path}.{key}={cfg[key]!r} does not fit {name}, which takes {wanted}')


class Slot(NamedTuple):
    """What an argument takes of objects that are built from dicts.

    Attributes:
        bases: base classes of the objects; empty if the annotation asks for something else, or is missing.
        is_list: whether it takes a list.
        is_optional: whether it takes None.
    """

    bases: tuple[Any, ...]
    is_list: bool
    is_optional: bool


def slot_of(hint: Any) -> Slot:
    """Return what an argument with this annotation takes of objects that are built from dicts."""
    parts = _parts(hint)
    wanted = [part for part in parts if part is not NoneType]
    is_list = len(wanted) == 1 and get_origin(wanted[0]) in (Sequence, list, tuple)
    if is_list:
        wanted = _parts(get_args(wanted[0])[0])
    return Slot(tuple(wanted) if all(map(_is_object, wanted)) else (), is_list, NoneType in parts)


def type_hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the types of a function's or constructor's arguments; of foreign code, as far as they can be found."""
    try:
        return get_type_hints(function.__init__ if isinstance(function, type) else function)  # type: ignore[misc]
    except (NameError, TypeError):
        return {}


def is_described(value: Any) -> bool:
    """Say whether a value of a config describes an object: a dict with a ``type``."""
    return isinstance(value, Mapping) and 'type' in value


def _parts(hint: Any) -> list[Any]:
    return list(get_args(hint)) if get_origin(hint) in (Union, UnionType) else [hint]


def _is_class(hint: Any) -> TypeGuard[type]:
    """Say whether a type is a plain class; Python 3.10 takes ``dict[str, int]`` for one, and 3.11 ``Any``."""
    return isinstance(hint, type) and get_origin(hint) is None and hint is not Any


def _is_object(hint: Any) -> bool:
    """Say whether a type is a class whose objects cannot be written in a config, only built from a dict."""
    return _is_class(hint) and hint.__module__ not in ('builtins', 'collections.abc')


def _fits(value: Any, hint: Any) -> bool:
    """Say whether a config's value can be an argument of a type. Composed types of other kinds are not judged."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if origin in (Sequence, list, tuple):
        return isinstance(value, list | tuple) and all(_fits(item, parts[0]) for item in value)
    if _is_object(hint):
        return is_described(value)
    return isinstance(value, hint) if _is_class(hint) else True
