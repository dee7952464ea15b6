"""The registries, and how a config dict becomes an object.

A dict with a ``type`` names a registered class; its other keys are that class's constructor arguments, one to one.
Nested dicts with a ``type`` are built first and handed over as objects. Everything is checked by signature before
anything is built, and the config itself is never changed.
"""

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, TypeGuard, TypeVar, Union, get_args, get_origin, get_type_hints

from mmengine.registry import Registry

MODELS = Registry('model')
DATASETS = Registry('dataset')
TRANSFORMS = Registry('transform')
METRICS = Registry('metric')
OPTIMIZERS = Registry('optimizer')
SCHEDULES = Registry('schedule')
TRACKERS = Registry('tracker')

# Importing these packages fills the registries.
_HOMES = ('dsanet.models', 'dsanet.datasets', 'dsanet.evaluation', 'dsanet.engine.optim', 'dsanet.engine.trackers')


# Functions that sections of a config describe the arguments of, by section, with what the framework hands over.
_FUNCTIONS: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {}

F = TypeVar('F', bound=Callable[..., Any])


def configured_by(*sections: str, given: Sequence[str] = ()) -> Callable[[F], F]:
    """Let sections of a config have the arguments of the decorated function as their keys.

    Args:
        sections: names of sections, such as 'train_dataloader'.
        given: arguments that the framework hands over; not allowed in the config.
    """

    def register(function: F) -> F:
        _FUNCTIONS.update((section, (function, tuple(given))) for section in sections)
        return function

    return register


class UnknownArgument(KeyError):
    """A key of a config dict that is no argument of what the dict configures.

    Args:
        path: where the dict stands in the whole config.
        key: the key.
        name: the class or function.
        allowed: the keys that it takes.
    """

    def __init__(self, path: str, key: str, name: str, allowed: Sequence[str]) -> None:
        super().__init__(
            f'{path}.{key} is not an argument of {name}.{nearest(key, allowed)} Allowed: {", ".join(allowed)}'
        )
        self.path = path
        self.key = key
        self.name = name
        self.allowed = allowed


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Return ``' Did you mean 'x'?'`` for the closest allowed name, or an empty string if none is close."""
    match = difflib.get_close_matches(str(name), [str(a) for a in allowed], n=1)
    return f' Did you mean {match[0]!r}?' if match else ''


def _fill() -> None:
    for home in _HOMES:
        importlib.import_module(home)


def check_function_section(cfg: Any, section: str) -> None:
    """Compare a section with the arguments of the function that it configures (:func:`configured_by`).

    Raises:
        TypeError: it is no dict.
        KeyError, ValueError: as :func:`check_arguments`.
    """
    if not isinstance(cfg, Mapping):
        raise TypeError(f'{section} must be a dict, got {cfg!r}')
    _fill()
    function, given = _FUNCTIONS[section]
    check_arguments(function, cfg, section, given)


def find_class(cfg: Mapping[str, Any], registry: Registry, path: str) -> Callable[..., Any]:
    """Return the class that ``cfg['type']`` names in ``registry``.

    Args:
        cfg: a config dict.
        registry: where to look.
        path: where ``cfg`` stands in the whole config, for the message.

    Raises:
        TypeError: ``cfg`` is no dict.
        KeyError: no ``type``, or a name that is not registered; lists the names and the nearest one.
    """
    if not isinstance(cfg, Mapping):
        raise TypeError(f'{path} must be a dict with a type, got {cfg!r}')
    _fill()
    names = sorted(registry.module_dict)
    if 'type' not in cfg:
        raise KeyError(f"{path} has no 'type'; it names one of the registered {registry.name}s: {', '.join(names)}")
    name = cfg['type']
    if name not in registry.module_dict:
        raise KeyError(
            f'{path}.type={name!r} is not a registered {registry.name}.{nearest(name, names)} '
            f'Registered: {", ".join(names)}'
        )
    return registry.module_dict[name]


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
        path: where the dict stands in the whole config.
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
    hints = _type_hints(function)
    for key in keys:
        if key in hints and not _fits(cfg[key], hints[key]):
            wanted = hints[key].__name__ if _is_class(hints[key]) else str(hints[key])
            raise ValueError(f'{path}.{key}={cfg[key]!r} does not fit {name}, which takes {wanted}')


def _type_hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the types of a function's or constructor's arguments; of foreign code, as far as they can be told."""
    try:
        hints = get_type_hints(function.__init__ if isinstance(function, type) else function)  # type: ignore[misc]
    except (NameError, TypeError):
        return {}
    return {name: hint for name, hint in hints.items() if name != 'return'}


def _is_class(hint: Any) -> TypeGuard[type]:
    """Say whether a type is a plain class; Python 3.10 takes ``dict[str, int]`` for one."""
    return isinstance(hint, type) and get_origin(hint) is None


def _classes(hint: Any) -> tuple[type, ...]:
    """Return the classes that a type admits, None aside; none if it admits others than plain classes."""
    parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    parts = tuple(part for part in parts if part is not NoneType)
    return parts if all(_is_class(part) for part in parts) else ()


def _fits(value: Any, hint: Any) -> bool:
    """Say whether a config's value can be an argument of a type. Composed types of other kinds are not judged."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if hint is NoneType:
        return value is None
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (bool, str):
        return isinstance(value, hint)
    if origin in (Sequence, list, tuple):
        return isinstance(value, list | tuple) and all(_fits(item, parts[0]) for item in value if parts)
    if not _is_class(hint):
        return True
    if hint.__module__.startswith(('dsanet.', 'torch.nn')):
        # Stands for an object that is built from a dict: which class that is, check tells.
        return _is_described(value)
    return isinstance(value, hint)


def _children(cfg: Mapping[str, Any], registry: Registry) -> Iterable[tuple[str, Any, Registry]]:
    """Yield (key, value, registry of what the value describes) for the arguments in ``cfg``."""
    for key, value in cfg.items():
        if key != 'type':
            yield key, value, TRANSFORMS if key == 'pipeline' else registry


def raw_arguments(cls: Callable[..., Any]) -> Mapping[str, Callable[[Any, str], None]]:
    """Return the arguments that a class takes as the config has them, unbuilt, each with what checks it.

    A class lists them as ``raw_arguments``: by name, a function that gets the value and its path in the config.
    """
    return getattr(cls, 'raw_arguments', {})


def _is_described(value: Any) -> bool:
    return isinstance(value, Mapping) and 'type' in value


def check(cfg: Mapping[str, Any], registry: Registry, path: str, given: Iterable[str] = ()) -> None:
    """Check a config dict and everything inside it against the constructors, without building.

    Args:
        cfg: a dict with a ``type``.
        registry: what ``type`` names.
        path: where ``cfg`` stands in the whole config.
        given: constructor arguments that the caller of :func:`build` hands over.

    Raises:
        KeyError: as :func:`find_class` and :func:`check_arguments`.
    """
    cls = find_class(cfg, registry, path)
    check_arguments(cls, cfg, path, given)
    hints = _type_hints(cls)
    raw = raw_arguments(cls)
    for key, value, child_registry in _children(cfg, registry):
        if key in raw:
            raw[key](value, f'{path}.{key}')
        elif _is_described(value):
            child, wanted = find_class(value, child_registry, f'{path}.{key}'), _classes(hints.get(key))
            if wanted and _is_class(child) and not issubclass(child, wanted):
                names = ' or '.join(hint.__name__ for hint in wanted)
                raise ValueError(f'{path}.{key}.type={value["type"]!r} is no {names}')
            check(value, child_registry, f'{path}.{key}')
        elif isinstance(value, (list, tuple)):
            for i, item in enumerate(value):
                if _is_described(item) or key == 'pipeline':
                    check(item, child_registry, f'{path}.{key}.{i}')


def build(cfg: Mapping[str, Any], registry: Registry, path: str | None = None, **given: Any) -> Any:
    """Build the object that a config dict describes, children first. The dict is not changed.

    Args:
        cfg: a dict with a ``type``.
        registry: what ``type`` names.
        path: where ``cfg`` stands in the whole config; the registry's name by default.
        given: further constructor arguments that do not stand in the config.

    Returns:
        The object.

    Raises:
        KeyError, ValueError: a key or a value that the constructor does not take, by its full path.
        FileNotFoundError: a file or folder that it wants is not there, by the same path.
    """
    path = path or registry.name
    check(cfg, registry, path, given)
    arguments = {}
    cls = find_class(cfg, registry, path)
    raw = raw_arguments(cls)
    for key, value, child_registry in _children(cfg, registry):
        if key in raw:
            pass  # the class builds it itself, from the dict
        elif _is_described(value):
            value = build(value, child_registry, f'{path}.{key}')
        elif isinstance(value, (list, tuple)):
            value = type(value)(
                build(item, child_registry, f'{path}.{key}.{i}') if _is_described(item) else item
                for i, item in enumerate(value)
            )
        arguments[key] = value
    try:
        return cls(**arguments, **given)
    except FileNotFoundError as error:
        raise FileNotFoundError(f'{path} ({cls.__name__}): {error}') from error
    except (TypeError, ValueError) as error:
        raise ValueError(f'{path} ({cls.__name__}): {error}') from error
