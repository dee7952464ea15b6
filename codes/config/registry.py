"""The registries, and how a config dict becomes an object.

A dict with a ``type`` names a class that registered itself with ``@MODELS.register_module()``; its other keys are that
class's constructor arguments, one to one. Nested dicts with a ``type`` are built first and handed over as objects.
Everything is checked against signatures and annotations before anything is built, and the config is never changed.

A class may say two things: ``registry``, where objects of this base class are looked up, if not in the registry of the
class that takes them; and ``raw_arguments``, which it takes as the config has them, unbuilt: by name, a function that
checks value and path.
"""

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from dsanet.config.arguments import Slot, check_arguments, is_described, nearest, slot_of, type_hints
from dsanet.config.mmaction2 import OURS

T = TypeVar('T', bound=Callable[..., Any])


class Registry:
    """Classes by name, of one kind of part.

    Args:
        kind: what the classes are, for messages, such as 'model'.
        homes: modules whose import registers the classes of this package.
    """

    def __init__(self, kind: str, *homes: str) -> None:
        self.kind = kind
        self._homes = homes
        self._classes: dict[str, Any] = {}

    def register_module(self, module: Any = None) -> Any:
        """Register a class under its own name: ``@MODELS.register_module()``, or ``register_module(module=cls)``.

        Raises:
            KeyError: another class has the name. The same class of a module that is imported again replaces itself.
        """
        if module is None:
            return self.register_module
        name = module.__name__
        # Ours come first, so that it is the other class that is refused.
        classes = self._classes if module.__module__.startswith('dsanet.') else self.module_dict
        other = classes.get(name, module)
        if _origin(other) != _origin(module):
            raise KeyError(f'{name} is already registered as a {self.kind}, by {other.__module__}: choose another name')
        classes[name] = module
        return module

    @property
    def module_dict(self) -> dict[str, Any]:
        """All classes by name."""
        for home in self._homes:
            importlib.import_module(home)
        return self._classes


def _origin(cls: Any) -> tuple[str, str]:
    """Return where a class is defined; the file, as a module may be imported under two names."""
    return getattr(sys.modules.get(cls.__module__), '__file__', None) or cls.__module__, cls.__qualname__


MODELS = Registry('model', 'dsanet.models')
DATASETS = Registry('dataset', 'dsanet.datasets')
TRANSFORMS = Registry('transform', 'dsanet.datasets.transforms')
METRICS = Registry('metric', 'dsanet.evaluation')
OPTIMIZERS = Registry('optimizer', 'dsanet.engine.optim')
SCHEDULES = Registry('schedule', 'dsanet.engine.optim')
TRACKERS = Registry('tracker', 'dsanet.engine.trackers')
REGISTRIES = (MODELS, DATASETS, TRANSFORMS, METRICS, OPTIMIZERS, SCHEDULES, TRACKERS)

# Functions whose arguments are the keys of sections, by section, with what the framework hands over.
_FUNCTIONS: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {}
_HOME_OF_FUNCTIONS = 'dsanet.datasets.loader'


def configured_by(*sections: str, given: Sequence[str] = ()) -> Callable[[T], T]:
    """Let sections of a config have the arguments of the decorated function as their keys.

    Args:
        sections: names of sections, such as 'train_dataloader'.
        given: arguments that the framework hands over; not allowed in the config.
    """

    def register(function: T) -> T:
        _FUNCTIONS.update((section, (function, tuple(given))) for section in sections)
        return function

    return register


def find_class(
    cfg: Any,
    registry: Registry,
    path: str,
    kind: str | None = None,
    fits: Callable[[Any], bool] = lambda cls: True,
) -> Callable[..., Any]:
    """Return the class that ``cfg['type']`` names.

    Args:
        cfg: a config dict.
        registry: where to look.
        path: where ``cfg`` is in the whole config, for the message.
        kind: what is wanted, for the message; None for the registry's kind.
        fits: whether a registered class can be used there.

    Raises:
        TypeError: ``cfg`` is not a dict.
        KeyError: no ``type``, or a name that is not registered; with the names that fit and the nearest one.
        ValueError: a class that does not fit.
    """
    kind = kind or registry.kind
    classes = registry.module_dict
    fitting = sorted(name for name, cls in classes.items() if fits(cls))
    allowed = f'Allowed: {", ".join(fitting)}'
    if not isinstance(cfg, Mapping):
        raise TypeError(f'{path} must be a dict with a type, got {cfg!r}')
    if 'type' not in cfg:
        raise KeyError(f"{path} has no 'type', the name of a registered {kind}. {allowed}")
    name = cfg['type'] if isinstance(cfg['type'], str) else repr(cfg['type'])
    if name in classes:
        if name not in fitting:
            raise ValueError(f'{path}.type={name!r} is not a {kind}. {allowed}')
        return classes[name]
    hint = nearest(name, fitting)
    if name in OURS:
        hint = f' What mmaction2 calls {name} is here {OURS[name]}.'
    elif others := [other.kind for other in REGISTRIES if name in other.module_dict]:
        hint = f' It is a {others[0]}; annotate an argument that takes such objects with their base class.'
    elif not hint:
        hint = ' A part of your own needs its module in imports.'
    raise KeyError(f'{path}.type={name!r} is not a registered {kind}.{hint} {allowed}')


def check_function_section(cfg: Any, section: str) -> None:
    """Compare a section with the arguments of the function that it configures (:func:`configured_by`).

    Raises:
        TypeError: it is not a dict.
        KeyError, ValueError: as :func:`check_arguments`.
    """
    if not isinstance(cfg, Mapping):
        raise TypeError(f'{section} must be a dict, got {cfg!r}')
    importlib.import_module(_HOME_OF_FUNCTIONS)
    function, given = _FUNCTIONS[section]
    check_arguments(function, cfg, section, given)


def check(cfg: Any, registry: Registry, path: str, given: Iterable[str] = (), bases: tuple[Any, ...] = ()) -> None:
    """Check a config dict and everything inside it against the constructors, without building.

    Args:
        cfg: a dict with a ``type``.
        registry: what ``type`` names.
        path: where ``cfg`` is in the whole config.
        given: constructor arguments that the caller of :func:`build` hands over.
        bases: the classes one of which it must be; empty for any.

    Raises:
        KeyError, TypeError, ValueError: as :func:`find_class` and :func:`check_arguments`.
    """
    cls = _find(cfg, registry, path, bases)
    check_arguments(cls, cfg, path, given)
    raw, hints = getattr(cls, 'raw_arguments', {}), type_hints(cls)
    for key, value in cfg.items():
        if key in raw:
            raw[key](value, f'{path}.{key}')
        elif key != 'type':
            _map_objects(value, slot_of(hints.get(key)), registry, f'{path}.{key}', _check_object)


def _check_object(cfg: Any, registry: Registry, path: str, bases: tuple[Any, ...]) -> None:
    check(cfg, registry, path, bases=bases)


def build(cfg: Mapping[str, Any], registry: Registry, path: str | None = None, **given: Any) -> Any:
    """Build the object that a config dict describes, children first. The dict is not changed.

    Args:
        cfg: a dict with a ``type``.
        registry: what ``type`` names.
        path: where ``cfg`` is in the whole config; the registry's kind by default.
        given: further constructor arguments that are not in the config.

    Returns:
        The object.

    Raises:
        KeyError, TypeError, ValueError: a key or a value that the constructor does not take, by its full path.
        FileNotFoundError: a file or folder that it wants is missing, by the same path.
    """
    path = path or registry.kind
    check(cfg, registry, path, given)
    return _build(cfg, registry, path, (), **given)


def _build(cfg: Any, registry: Registry, path: str, bases: tuple[Any, ...], **given: Any) -> Any:
    cls = _find(cfg, registry, path, bases)
    raw, hints = getattr(cls, 'raw_arguments', {}), type_hints(cls)
    arguments = {
        key: value if key in raw else _map_objects(value, slot_of(hints.get(key)), registry, f'{path}.{key}', _build)
        for key, value in cfg.items()
        if key != 'type'
    }
    try:
        return cls(**arguments, **given)
    except FileNotFoundError as error:
        raise FileNotFoundError(f'{path} ({cls.__name__}): {error}') from error
    except (TypeError, ValueError) as error:
        raise ValueError(f'{path} ({cls.__name__}): {error}') from error


def _find(cfg: Any, registry: Registry, path: str, bases: tuple[Any, ...]) -> Callable[..., Any]:
    # A protocol has no subclasses to look for: whether an object follows it, its class cannot tell.
    bases = tuple(base for base in bases if not getattr(base, '_is_protocol', False))
    if not bases:
        return find_class(cfg, registry, path)
    kind = ' or '.join(base.__name__ for base in bases)
    return find_class(cfg, registry, path, kind, lambda cls: isinstance(cls, type) and issubclass(cls, bases))


def _map_objects(
    value: Any,
    slot: Slot,
    registry: Registry,
    path: str,
    function: Callable[[Any, Registry, str, tuple[Any, ...]], Any],
) -> Any:
    """Return an argument's value with ``function(cfg, registry, path, bases)`` instead of each dict for an object."""
    registry = next((base.registry for base in slot.bases if hasattr(base, 'registry')), registry)
    if isinstance(value, list | tuple) and (slot.is_list or not slot.bases):
        return type(value)(
            function(item, registry, f'{path}.{i}', slot.bases) if slot.bases or is_described(item) else item
            for i, item in enumerate(value)
        )
    if slot.bases and slot.is_list and not (value is None and slot.is_optional):
        raise TypeError(f'{path} must be a list of dicts with a type, got {value!r}')
    if is_described(value) or slot.bases and not (value is None and slot.is_optional):
        return function(value, registry, path, slot.bases)
    return value
