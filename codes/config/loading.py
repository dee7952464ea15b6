"""Load configs: Python files with ``_base_`` inheritance, settings, and overrides from the command line.

A config has *sections*, which describe objects (``model``, ``train_dataloader``, ...; see ``schema.SECTIONS``), and
*settings*, plain values such as ``num_snippets = 4``. Sections refer to a setting as ``'${num_snippets}'``, so the
override ``num_snippets=8`` changes it everywhere. A string that consists of one reference becomes the setting's value
with its type; in a longer string, such as ``'${data_root}/train.txt'``, the value is inserted as text. Names with a
leading underscore are helpers of their file. ``imports`` names modules of the user that register classes.

Everything is checked before data are read. The error for an unknown key has its full path, the allowed names and the
closest one. A setting without a reference, in the file itself or in an override, is an error, too.
"""

import ast
import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dsanet.config.arguments import UnknownArgument, WrongType, check_arguments, nearest
from dsanet.config.imports import import_modules
from dsanet.config.registry import (
    DATASETS,
    METRICS,
    MODELS,
    OPTIMIZERS,
    SCHEDULES,
    TRACKERS,
    check,
    check_function_section,
    get_class,
)
from dsanet.config.schema import LOADERS, SECTIONS, ParametersCfg, RuntimeCfg, TrainCfg
from dsanet.config.shipped import find_config
from dsanet.config.source import ConfigSource, join_imports, read_source

REFERENCE = re.compile(r'\$\{(\w+)\}')

# Sections that describe an object by its type, and the constructor arguments that the framework passes.
TYPED = {'model': (MODELS, ()), 'optimizer': (OPTIMIZERS, ('params',)), 'schedule': (SCHEDULES, ())}


def load_config(
    config: str | Path | Mapping[str, Any], options: Iterable[str] = (), imports: Iterable[str] = ()
) -> dict[str, Any]:
    """Read a config, apply overrides, resolve the settings and check everything.

    Args:
        config: a config file, the name of a config of DSANet, such as 'kinetics/r50_e100_s1_8', or a resolved config,
            such as that of a checkpoint.
        options: overrides ``key.path=value``; list entries are addressed by number, as in
            ``train_dataloader.dataset.pipeline.1.num_groups=2``.
        imports: modules to import in addition to the config's ``imports``.

    Returns:
        The resolved config, with sections only.

    Raises:
        FileNotFoundError: the config or a base does not exist.
        KeyError, TypeError, ValueError: an error in the config or in an override.
    """
    if isinstance(options, str | Mapping):
        raise ValueError(f"options={options!r} must be a list, such as ['num_classes=8', 'optimizer.lr=0.01']")
    if isinstance(imports, str):
        raise ValueError(f"imports={imports!r} must be a list of module names, such as ['my_lab.blocks']")
    options = list(options)
    if others := [option for option in options if not isinstance(option, str)]:
        raise TypeError(f"options: {others[0]!r} must be a string, such as 'optimizer.lr=0.01'")
    if isinstance(config, Mapping):
        source = ConfigSource(None, dict(config), dict(config))
    else:
        source = read_source(find_config(config))
    _resolve(source.content)  # report a wrong reference in the file before overrides are applied
    used = _references(source.content)
    _check_settings(source.own, used, f'{source.file}: ' if source.file else '')
    overrides = [parse_option(option) for option in options]
    while True:
        content = copy.deepcopy(source.content)
        for keys, value in overrides:
            _override(content, keys, value)
        _check_settings([keys[0] for keys, _ in overrides], used | _references(content))
        # Within a longer string, a number keeps its spelling: 1e3, not 1000.0.
        texts = {option.partition('=')[0]: option.partition('=')[2] for option in options}
        try:
            return _check_resolved(_resolve(content, texts), source, overrides, imports)
        except WrongType as error:
            keys = _origin(content, error.path)
            number = max((i for i, override in enumerate(overrides) if override[0] == keys), default=None)
            if number is None or isinstance(overrides[number][1], str) or not error.accepts_text:
                raise
            overrides[number] = keys, options[number].partition('=')[2]  # a name that looks like a number


def _check_resolved(
    resolved: dict[str, Any], source: ConfigSource, overrides: Iterable[tuple[list[str], Any]], imports: Iterable[str]
) -> dict[str, Any]:
    """Check a resolved config, and return it with the modules to import."""
    modules = join_imports(resolved.pop('imports', []), list(imports))
    if modules != []:
        resolved = {'imports': modules, **resolved}
    try:
        check_config(resolved, [source.file.parent] if source.file else [])
    except UnknownArgument as error:
        paths = ['.'.join(keys) for keys, _ in overrides]
        if f'{error.path}.type' not in paths or f'{error.path}.{error.key}' in paths:
            raise
        raise KeyError(
            f'{error.args[0]}. {error.key} belongs to the old {error.path}.type; override the whole dict: '
            f'"{error.path}={{\'type\': ...}}"'
        ) from error
    return resolved


def refers_to(config: str | Path, name: str) -> bool:
    """Return whether a config or one of its bases refers to a setting."""
    return name in _references(read_source(find_config(config)).content)


def parse_option(option: str) -> tuple[list[str], Any]:
    """Split ``key.path=value``; the value is a Python literal, which may contain ``dict(a=1)``, otherwise a string."""
    key, equals, text = option.partition('=')
    if not equals or not key:
        raise ValueError(f'override {option!r} must be key=value')
    words = {'true': True, 'false': False, 'none': None}
    if text.lower() in words:
        return key.split('.'), words[text.lower()]
    try:
        tree = _DictCalls().visit(ast.parse(text.strip(), mode='eval'))
        value = ast.literal_eval(tree)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # the last two: thousands of brackets
        return key.split('.'), text
    for node in ast.walk(tree):
        names = [ast.unparse(name) for name in node.keys if name is not None] if isinstance(node, ast.Dict) else []
        if duplicates := [name for name in names if names.count(name) > 1]:
            raise ValueError(f'override {option!r} sets {duplicates[0]} twice in one dict')
    return key.split('.'), value


class _DictCalls(ast.NodeTransformer):
    """Replace ``dict(a=1)``, as in config files, by the literal ``{'a': 1}``."""

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        names = [ast.Constant(keyword.arg) for keyword in node.keywords if keyword.arg is not None]
        is_dict = isinstance(node.func, ast.Name) and node.func.id == 'dict' and not node.args
        if not is_dict or len(names) < len(node.keywords):
            return node
        return ast.Dict([*names], [keyword.value for keyword in node.keywords])


def _origin(content: Mapping[str, Any], path: str) -> list[str]:
    """Return the keys of the value at a path of the resolved config; of the setting if that value refers to one."""
    keys = path.split('.')
    here: Any = content
    for depth, key in enumerate(keys, start=1):
        here = here[int(key)] if isinstance(here, list | tuple) else here[key]
        if isinstance(here, str) and (setting := REFERENCE.fullmatch(here)):
            return _origin(content, '.'.join([setting[1], *keys[depth:]]))
    return keys


def _override(content: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    """Set a value in a nested config. All keys must exist, except the last one below the top level."""
    here: Any = content
    for depth, key in enumerate(keys):
        path = '.'.join(keys[: depth + 1])
        is_last = depth == len(keys) - 1
        if isinstance(here, list | tuple):
            if not re.fullmatch(r'-?\d+', key) or not -len(here) <= int(key) < len(here):
                raise KeyError(f'override {path}: list index must be 0 to {len(here) - 1}')
            index: Any = int(key)
        elif isinstance(here, dict):
            if key not in here and (depth == 0 or not is_last):
                raise KeyError(f'override {path}: no such key.{nearest(key, here)} Existing: {", ".join(here)}')
            index = key
        else:
            setting = REFERENCE.fullmatch(here) if isinstance(here, str) else None
            remedy = f'; override {".".join([setting[1], *keys[depth:]])} instead' if setting else ' and has no keys'
            raise KeyError(f'override {path}: {".".join(keys[:depth])} is {here!r}{remedy}')
        if is_last:
            if isinstance(here, tuple):
                raise KeyError(f'override {path}: entries of a tuple cannot be set; override {".".join(keys[:-1])}')
            here[index] = value
        else:
            here = here[index]


def _references(value: Any) -> set[str]:
    """Return the names of all settings that a value refers to."""
    if isinstance(value, Mapping):
        return set().union(*map(_references, value.values()))
    if isinstance(value, list | tuple):
        return set().union(*map(_references, value))
    return set(REFERENCE.findall(value)) if isinstance(value, str) else set()


def _check_settings(names: Iterable[str], used: set[str], where: str = '') -> None:
    """Raise on a setting without a reference: most likely a misspelled section or setting.

    Args:
        names: names that the file itself or an override sets; settings of bases may be unused.
        used: settings with a reference, before or after the overrides.
        where: prefix of the message, the file.
    """
    for name in names:
        if name not in SECTIONS and name not in used:
            raise KeyError(
                f'{where}{name} is not a section, and no value refers to a setting ${{{name}}}.'
                f'{nearest(name, [*SECTIONS, *used])} Sections: {", ".join(SECTIONS)}'
            )


def _resolve(content: Mapping[str, Any], texts: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Replace all references with the values of the settings; return the sections.

    Args:
        content: the config.
        texts: settings as written in overrides, so that numbers within a longer string keep their spelling.
    """
    texts = texts or {}
    settings = {k: v for k, v in content.items() if k not in SECTIONS}

    def value_of(name: str, path: str, trail: tuple[str, ...]) -> Any:
        if name not in settings:
            raise KeyError(
                f'{path}: ${{{name}}} is not a setting.{nearest(name, settings)} Settings: {", ".join(settings)}'
            )
        if name in trail:
            raise ValueError(f'{path}: circular reference between settings: {" -> ".join([*trail, name])}')
        return substitute(settings[name], name, (*trail, name))

    def as_text(name: str, value: Any) -> str:
        return texts.get(name, str(value)) if isinstance(value, int | float) else str(value)

    def substitute(value: Any, path: str, trail: tuple[str, ...] = ()) -> Any:
        if isinstance(value, Mapping):
            return {k: substitute(v, f'{path}.{k}', trail) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(substitute(v, f'{path}.{i}', trail) for i, v in enumerate(value))
        if not isinstance(value, str):
            return value
        if whole := REFERENCE.fullmatch(value):
            return value_of(whole[1], path, trail)
        text = REFERENCE.sub(lambda match: as_text(match[1], value_of(match[1], path, trail)), value)
        if '${' in text:
            raise ValueError(f'{path}={value!r}: invalid reference, the form is ${{name}}')
        return text

    return {k: substitute(v, k) for k, v in content.items() if k in SECTIONS}


def check_config(config: Mapping[str, Any], folders: Iterable[Path] = ()) -> None:
    """Import the modules of a resolved config and check every key against the class that it configures.

    Args:
        config: the config.
        folders: folders to search for modules that are not installed and not in the working directory.
    """
    import_modules(config.get('imports', []), folders)
    for name in ('model', 'test_dataloader', 'metrics'):
        if name not in config:
            raise KeyError(f'section {name} is missing from the config. Sections: {", ".join(SECTIONS)}')
    get_class(config['model'], MODELS, 'model', 'recognizer', lambda cls: getattr(cls, 'section', None) == 'model')
    for name, (registry, given) in TYPED.items():
        if name in config:
            check(config[name], registry, name, given)
    for name in LOADERS:
        if name in config:
            check_function_section(config[name], name)
            check(config[name]['dataset'], DATASETS, f'{name}.dataset')
    if not isinstance(config['metrics'], list | tuple) or not config['metrics']:
        raise TypeError(f"metrics must be a non-empty list of dicts with a 'type', got {config['metrics']!r}")
    for i, metric in enumerate(config['metrics']):
        check(metric, METRICS, f'metrics.{i}')
    read_section(config, 'parameters', ParametersCfg)
    runtime: RuntimeCfg = read_section(config, 'runtime', RuntimeCfg)
    for i, tracker in enumerate(runtime.trackers):
        check(tracker, TRACKERS, f'runtime.trackers.{i}')
    if 'train_cfg' in config:
        read_section(config, 'train_cfg', TrainCfg)


def read_section(config: Mapping[str, Any], name: str, cls: type) -> Any:
    """Return a section as its dataclass; missing keys have the defaults."""
    section = config.get(name, {})
    check_arguments(cls, section, name)
    try:
        return cls(**section)
    except (TypeError, ValueError) as error:
        raise ValueError(f'{name}: {error}') from error


def find_differences(was: Any, now: Any, path: str = '') -> dict[str, str]:
    """Compare two configs, or their values at one path, at the deepest possible level.

    Lists of different lengths, and a dict with a value of another kind, are compared as a whole. A missing key counts
    as None.

    Args:
        was: the earlier one.
        now: the later one, which gives the order of the result.
        path: path of the values, such as ``model.backbone``.

    Returns:
        Texts such as ``optimizer.lr was 0.1 and is 0.2``, by path.
    """
    if was == now:
        return {}
    pairs: Iterable[tuple[Any, Any, Any]]
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        pairs = ((key, was.get(key), now.get(key)) for key in {**now, **was})
    elif _is_list(was) and _is_list(now) and len(was) == len(now):
        pairs = zip(range(len(now)), was, now, strict=True)
    else:
        return {path: f'{path} was {was} and is {now}'}
    found: dict[str, str] = {}
    for key, before, after in pairs:
        found |= find_differences(before, after, f'{path}.{key}' if path else str(key))
    return found


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)
