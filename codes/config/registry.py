"""Registries, and functions that build objects from config dicts.

The ``type`` of a dict is the name of a class that is registered with ``@MODELS.register_module()``; the other keys are
its constructor arguments. Nested dicts with a ``type`` are built first and passed as objects. Everything is checked
against signatures and annotations before anything is built. The config is never changed.

A class can have two attributes: ``registry``, the registry of its subclasses, if classes of another registry take them
as arguments; and ``raw_arguments``, arguments that are passed without building, a dict of name to function(value, path)
that checks the value.
"""

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from dsanet.config.arguments import Slot, check_arguments, get_slot, is_object_config, nearest, type_hints
from dsanet.config.mmaction2 import EQUIVALENTS

T = TypeVar('T', bound=Callable[..., Any])


class Registry:
    """Classes of one kind by name.

    Args:
        kind: for messages, such as 'model'.
        locations: modules of this package that register the classes when imported.
    """

    def __init__(self, kind: str, *locations: str) -> None:
        self.kind = kind
        self._locations = locations
        self._classes: dict[str, Any] = {}

    def register_module(self, module: Any = None) -> Any:
        """Register a class under its name: ``@MODELS.register_module()``, or ``register_module(module=cls)``.

        A class of a module that is imported again replaces itself.
        """
        if module is None:
            return self.register_module
        name = module.__name__
        # Our classes are registered first, so that the error is raised for the other class.
        classes = self._classes if module.__module__.startswith('dsanet.') else self.module_dict
        other = classes.get(name, module)
        if _origin(other) != _origin(module):
            raise KeyError(f'{name} is already registered as a {self.kind} by {other.__module__}; use another name')
        classes[name] = module
        return module

    @property
    def module_dict(self) -> dict[str, Any]:
        """All classes by name."""
        for location in self._locations:
            importlib.import_module(location)
        return self._classes


def _origin(cls: Any) -> tuple[str, str]:
    """Return the file and the name of a class; the file, because a module can be imported under two names."""
    return getattr(sys.modules.get(cls.__module__), '__file__', None) or cls.__module__, cls.__qualname__


MODELS = Registry('model', 'dsanet.models')
DATASETS = Registry('dataset', 'dsanet.datasets')
TRANSFORMS = Registry('transform', 'dsanet.datasets.transforms')
METRICS = Registry('metric', 'dsanet.evaluation')
OPTIMIZERS = Registry('optimizer', 'dsanet.engine.optim')
SCHEDULES = Registry('schedule', 'dsanet.engine.optim')
TRACKERS = Registry('tracker', 'dsanet.engine.trackers')
REGISTRIES = (MODELS, DATASETS, TRANSFORMS, METRICS, OPTIMIZERS, SCHEDULES, TRACKERS)

# Functions that sections configure, by section, with the arguments that the framework passes.
_FUNCTIONS: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {}
_FUNCTIONS_MODULE = 'dsanet.datasets.loader'


def configured_by(*sections: str, given: Sequence[str] = ()) -> Callable[[T], T]:
    """Decorate a function whose arguments are the keys of config sections.

    Args:
        sections: names of sections, such as 'train_dataloader'.
        given: arguments that the framework passes; not allowed in the config.
    """

    def register(function: T) -> T:
        _FUNCTIONS.update((section, (function, tuple(given))) for section in sections)
        return function

    return register


def get_class(
    cfg: Any,
    registry: Registry,
    path: str,
    kind: str | None = None,
    is_allowed: Callable[[Any], bool] = lambda cls: True,
) -> Callable[..., Any]:
    """Return the class of ``cfg['type']``.

    Args:
        cfg: a config dict.
        registry: the registry of the class.
        path: full path of ``cfg`` in the config.
        kind: the expected kind, for messages; None for the registry's kind.
        is_allowed: returns whether a registered class is allowed.
    """
    kind = kind or registry.kind
    classes = registry.module_dict
    allowed_names = sorted(name for name, cls in classes.items() if is_allowed(cls))
    allowed = f'Allowed: {", ".join(allowed_names)}'
    if not isinstance(cfg, Mapping):
        raise TypeError(f"{path} must be a dict with a 'type', got {cfg!r}")
    if 'type' not in cfg:
        raise KeyError(f"{path} must have a 'type', the name of a registered {kind}. {allowed}")
    name = cfg['type'] if isinstance(cfg['type'], str) else repr(cfg['type'])
    if name in classes:
        if name not in allowed_names:
            raise ValueError(f'{path}.type={name!r} is not a registered {kind}. {allowed}')
        return classes[name]
    hint = nearest(name, allowed_names)
    if name in EQUIVALENTS:
        hint = f' For {name} of mmaction2 use {EQUIVALENTS[name]}.'
    elif others := [other.kind for other in REGISTRIES if name in other.module_dict]:
        hint = f' It is a {others[0]}; to accept it here, annotate the argument with its base class.'
    elif not hint:
        hint = ' For your own class, add its module to imports.'
    raise KeyError(f'{path}.type={name!r} is not a registered {kind}.{hint} {allowed}')


def check_function_section(cfg: Any, section: str) -> None:
    """Check a section against the arguments of the function that it configures (:func:`configured_by`)."""
    if not isinstance(cfg, Mapping):
        raise TypeError(f'{section} must be a dict, got {cfg!r}')
    importlib.import_module(_FUNCTIONS_MODULE)
    function, given = _FUNCTIONS[section]
    check_arguments(function, cfg, section, given)


def check(cfg: Any, registry: Registry, path: str, given: Iterable[str] = (), bases: tuple[Any, ...] = ()) -> None:
    """Check a config dict and all nested ones against the constructors, without building.

    Args:
        cfg: a dict with a ``type``.
        registry: the registry of the type.
        path: full path of ``cfg`` in the config.
        given: constructor arguments that the caller of :func:`build` passes.
        bases: allowed base classes; empty for any.
    """
    cls = _find(cfg, registry, path, bases)
    check_arguments(cls, cfg, path, given)
    raw, hints = getattr(cls, 'raw_arguments', {}), type_hints(cls)
    for key, value in cfg.items():
        if key in raw:
            raw[key](value, f'{path}.{key}')
        elif key != 'type':
            _map_objects(value, get_slot(hints.get(key)), registry, f'{path}.{key}', _check_object)


def _check_object(cfg: Any, registry: Registry, path: str, bases: tuple[Any, ...]) -> None:
    check(cfg, registry, path, bases=bases)


def build(cfg: Mapping[str, Any], registry: Registry, path: str | None = None, **given: Any) -> Any:
    """Build the object that a config dict describes, nested objects first. The dict is not changed.

    Args:
        cfg: a dict with a ``type``.
        registry: the registry of the type.
        path: full path of ``cfg`` in the config, for messages; the registry's kind by default.
        given: further constructor arguments that are not in the config.
    """
    path = path or registry.kind
    check(cfg, registry, path, given)
    return _build(cfg, registry, path, (), **given)


def _build(cfg: Any, registry: Registry, path: str, bases: tuple[Any, ...], **given: Any) -> Any:
    cls = _find(cfg, registry, path, bases)
    raw, hints = getattr(cls, 'raw_arguments', {}), type_hints(cls)
    arguments = {
        key: value if key in raw else _map_objects(value, get_slot(hints.get(key)), registry, f'{path}.{key}', _build)
        for key, value in cfg.items()
        if key != 'type'
    }
    try:
        return cls(**arguments, **given)
    except FileNotFoundError as error:
        raise FileNotFoundError(f'{path} ({cls.__name__}): {error}') from error
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:  # torch: RuntimeError if a size is too large
        raise ValueError(f'{path} ({cls.__name__}): {str(error).strip()}') from error


def _find(cfg: Any, registry: Registry, path: str, bases: tuple[Any, ...]) -> Callable[..., Any]:
    if not bases:
        return get_class(cfg, registry, path)
    kind = ' or '.join(base.__name__ for base in bases)
    return get_class(cfg, registry, path, kind, lambda cls: isinstance(cls, type) and issubclass(cls, bases))


def _map_objects(
    value: Any,
    slot: Slot,
    registry: Registry,
    path: str,
    function: Callable[[Any, Registry, str, tuple[Any, ...]], Any],
) -> Any:
    """Return a value in which each dict of an object is replaced by ``function(dict, registry, path, bases)``."""
    registry = next((base.registry for base in slot.bases if hasattr(base, 'registry')), registry)
    if isinstance(value, list | tuple) and (slot.is_list or not slot.bases):
        return type(value)(
            function(item, registry, f'{path}.{i}', slot.bases) if slot.bases or is_object_config(item) else item
            for i, item in enumerate(value)
        )
    if slot.bases and slot.is_list and not (value is None and slot.is_optional):
        raise TypeError(f"{path} must be a list of dicts with a 'type', got {value!r}")
    if is_object_config(value) or slot.bases and not (value is None and slot.is_optional):
        return function(value, registry, path, slot.bases)
    return value
