"""Configs: Python files with ``_base_`` inheritance, settings, and overrides from the command line.

A config has *sections*, which describe objects (``model``, ``train_dataloader``, ...; see :data:`SECTIONS`), and
*settings*, plain values such as ``num_snippets = 4`` that sections refer to as ``'${num_snippets}'``. So a number
stands in one place, and ``--cfg-options num_snippets=8`` changes it everywhere. A string that is nothing but a
reference takes the setting's value and type; inside a longer string it is put in as text: ``'${data_root}/train.txt'``.
Names with a leading underscore are helpers of the file that they stand in.

Everything is checked before any data are read: an unknown key is an error with its full path, the allowed names and
the nearest one, and so is a setting of the file itself or of the command line that nothing refers to.
"""

import ast
import copy
import importlib
import os
import re
import traceback
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from dsanet.config.registry import (
    DATASETS,
    METRICS,
    MODELS,
    OPTIMIZERS,
    SCHEDULES,
    TRACKERS,
    UnknownArgument,
    check,
    check_arguments,
    check_function_section,
    nearest,
)
from dsanet.config.schema import ParametersCfg, RuntimeCfg, TrainCfg
from dsanet.config.source import ConfigSource, read_source

REFERENCE = re.compile(r'\$\{(\w+)\}')


# Sections that describe an object by its type, and what the framework hands over when it builds it.
TYPED = {'model': (MODELS, ()), 'optimizer': (OPTIMIZERS, ('params',)), 'schedule': (SCHEDULES, ())}
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
SECTIONS = (*TYPED, *LOADERS, 'metrics', 'parameters', 'train_cfg', 'runtime')


def load_config(file: str | Path, options: Iterable[str] = (), imports: Iterable[str] = ()) -> Config:
    """Read a config, apply overrides, put the settings in and check everything.

    Args:
        file: a Python config.
        options: overrides ``key.path=value``; lists are indexed by number, as in
            ``train_dataloader.dataset.pipeline.1.num_groups=2``.
        imports: modules to import before the config is checked, which register parts of the user's own.

    Returns:
        The resolved config, which has sections only.

    Raises:
        FileNotFoundError: no such file, or a base of it is missing.
        KeyError, TypeError, ValueError: an unknown or missing key, an unused or unknown setting, a wrong value, or
            Python that does not run, by file and line.
    """
    if isinstance(options, str | Mapping):
        raise ValueError(f"options={options!r} must be a list of texts, such as ['num_classes=8', 'optimizer.lr=0.01']")
    for name in imports:
        try:
            importlib.import_module(name)
        except Exception as error:
            raise ValueError(f'module {name!r} cannot be imported: {type(error).__name__}: {error}') from error
    options = list(options)
    source = read_source(Path(file))
    written = _run(source)
    _resolve(written)  # so that a wrong reference in the file is named as such
    used = _references(written)
    _check_settings([name for name in written if name in source.names], used)
    content = copy.deepcopy(written)
    for option in options:
        _override(content, option)
    _check_settings([parse_option(option)[0][0] for option in options], used | _references(content))
    config = Config(_resolve(content), filename=str(file))
    try:
        check_config(config)
    except UnknownArgument as error:
        raise _explain_leftover(error, content, written, source) from error
    return config


def _run(source: ConfigSource) -> dict[str, Any]:
    """Run a config and its bases, and return what they set together, without helpers.

    Raises:
        ValueError: the Python does not run, or the bases do not fit together.
    """
    try:
        content = Config.fromfile(str(source.file)).to_dict()
    except Exception as error:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', ResourceWarning)
            traceback.clear_frames(error.__traceback__)  # which hold a temporary file that mmengine left open
        if isinstance(error, KeyError) and (clash := source.find_clash()):
            raise ValueError(clash) from error
        raise ValueError(f'{_locate(error, source)}: {error}') from error
    return {k: v for k, v in content.items() if not k.startswith('_')}


def _locate(error: Exception, source: ConfigSource) -> str:
    """Return ``file:line: type`` of an error in the Python of a config, of any other error the file."""
    files = {os.path.abspath(one.file): one.file for one in source.all_sources()}
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename in files:
            return f'{files[frame.filename]}:{frame.lineno}: {type(error).__name__}'
    return str(source.file)


def _explain_leftover(
    error: UnknownArgument, content: Mapping[str, Any], written: Mapping[str, Any], source: ConfigSource
) -> KeyError:
    """Say whether a wrong key was written for another type and left there when the type was replaced.

    Args:
        error: about the key.
        content: the config.
        written: the config before overrides from the command line.
        source: its file.

    Returns:
        A better error, or the same one if the key stands where it was meant to stand.
    """
    if error.key == '_delete_':
        return KeyError(f'{error.path}._delete_ has nothing to delete: no base says anything there. Leave it out')
    now = _find(content, error.path)
    type_now = now['type'] if isinstance(now, Mapping) and 'type' in now else None
    bases = {k: v for base in source.bases for k, v in _run(base).items()}
    for was_content, whose, remedy in (
        (
            written,
            'the config',
            f'Give the whole dict, --cfg-options "{error.path}={{\'type\': {type_now!r}, ...}}", which keeps nothing '
            'of what the config says there',
        ),
        (
            bases,
            'a base',
            f'A dict that begins dict(_delete_=True, type={type_now!r}, ...) keeps nothing of what the base says there',
        ),
    ):
        was = _find(was_content, error.path)
        if not isinstance(was, Mapping) or was.get('type', type_now) == type_now or error.key not in was:
            continue
        if was[error.key] == now[error.key]:
            return KeyError(
                f'{error.path}.{error.key} is not an argument of {error.name}; {whose} sets it for {was["type"]}. '
                f'{remedy}. Allowed: {", ".join(error.allowed)}'
            )
    return error


def _find(content: Any, path: str) -> Any:
    """Return what stands at a path such as ``metrics.0``, or None."""
    for key in path.split('.'):
        if isinstance(content, list | tuple) and key.isdigit() and int(key) < len(content):
            content = content[int(key)]
        elif isinstance(content, Mapping) and key in content:
            content = content[key]
        else:
            return None
    return content


def parse_option(option: str) -> tuple[list[str], Any]:
    """Split ``key.path=value``; the value is a Python literal, or text if it is none.

    Raises:
        ValueError: no ``=``.
    """
    key, equals, text = option.partition('=')
    if not equals or not key:
        raise ValueError(f'--cfg-options {option!r} must be key=value')
    words = {'true': True, 'false': False, 'none': None}
    if text.lower() in words:
        return key.split('.'), words[text.lower()]
    try:
        return key.split('.'), ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return key.split('.'), text


def _override(content: dict[str, Any], option: str) -> None:
    """Set one value in a nested config; all but the last key must exist, and at the top also the last."""
    keys, value = parse_option(option)
    here: Any = content
    for depth, key in enumerate(keys):
        path = '.'.join(keys[: depth + 1])
        is_last = depth == len(keys) - 1
        if isinstance(here, list | tuple):
            if not re.fullmatch(r'-?\d+', key) or not -len(here) <= int(key) < len(here):
                raise KeyError(f'--cfg-options {path}: the list has entries 0 to {len(here) - 1}')
            index: Any = int(key)
        elif isinstance(here, dict):
            if key not in here and (depth == 0 or not is_last):
                raise KeyError(
                    f'--cfg-options {path} is not in the config.{nearest(key, here)} There: {", ".join(here)}'
                )
            index = key
        else:
            raise KeyError(f'--cfg-options {path}: {".".join(keys[:depth])} is {here!r}, which has no keys')
        if is_last:
            if isinstance(here, tuple):
                raise KeyError(f'--cfg-options {path}: a tuple is replaced as a whole')
            here[index] = value
        else:
            here = here[index]


def _references(value: Any) -> set[str]:
    """Return the names of the settings that a value refers to, however deep inside."""
    if isinstance(value, Mapping):
        return set().union(*map(_references, value.values()))
    if isinstance(value, list | tuple):
        return set().union(*map(_references, value))
    return set(REFERENCE.findall(value)) if isinstance(value, str) else set()


def _check_settings(names: Iterable[str], used: set[str]) -> None:
    """Refuse a setting that nothing refers to: most likely a section or a setting misspelt.

    Args:
        names: what the file itself or the command line sets. Of what bases set for other pages, some may be unused.
        used: the settings that something refers to; before overrides too, which may replace the last reference.
    """
    for name in names:
        if name not in SECTIONS and name not in used:
            raise KeyError(
                f'{name} is neither a section nor a setting that something refers to as ${{{name}}}.'
                f'{nearest(name, [*SECTIONS, *used])} Sections: {", ".join(SECTIONS)}'
            )


def _resolve(content: Mapping[str, Any]) -> dict[str, Any]:
    """Put the settings where they are referred to; returns the sections."""
    settings = {k: v for k, v in content.items() if k not in SECTIONS}

    def value_of(name: str, path: str, trail: tuple[str, ...]) -> Any:
        if name not in settings:
            raise KeyError(
                f'{path} refers to ${{{name}}}, which is no setting.{nearest(name, settings)} '
                f'Settings: {", ".join(settings)}'
            )
        if name in trail:
            raise ValueError(f'{path}: the settings {" -> ".join([*trail, name])} refer to each other')
        return put_in(settings[name], name, (*trail, name))

    def put_in(value: Any, path: str, trail: tuple[str, ...] = ()) -> Any:
        if isinstance(value, Mapping):
            return {k: put_in(v, f'{path}.{k}', trail) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(put_in(v, f'{path}.{i}', trail) for i, v in enumerate(value))
        if not isinstance(value, str):
            return value
        if whole := REFERENCE.fullmatch(value):
            return value_of(whole[1], path, trail)
        text = REFERENCE.sub(lambda match: str(value_of(match[1], path, trail)), value)
        if '${' in text:
            raise ValueError(f'{path}={value!r} has a reference that is none: between the braces stands one name')
        return text

    return {k: put_in(v, k) for k, v in content.items() if k in SECTIONS}


def check_config(config: Mapping[str, Any]) -> None:
    """Check every key of a resolved config against the constructor or function that it configures.

    Raises:
        KeyError, TypeError, ValueError: with the full path of the key.
    """
    for name in ('model', 'test_dataloader', 'metrics'):
        if name not in config:
            raise KeyError(f'the config has no {name}; sections: {", ".join(SECTIONS)}')
    for name, (registry, given) in TYPED.items():
        if name in config:
            check(config[name], registry, name, given)
    for name in LOADERS:
        if name in config:
            check_function_section(config[name], name)
            check(config[name]['dataset'], DATASETS, f'{name}.dataset')
    if not isinstance(config['metrics'], list | tuple) or not config['metrics']:
        raise TypeError(f'metrics must be a list of dicts with a type, got {config["metrics"]!r}')
    for i, metric in enumerate(config['metrics']):
        check(metric, METRICS, f'metrics.{i}')
    read_section(config, 'parameters', ParametersCfg)
    runtime: RuntimeCfg = read_section(config, 'runtime', RuntimeCfg)
    for i, tracker in enumerate(runtime.trackers):
        check(tracker, TRACKERS, f'runtime.trackers.{i}')
    if 'train_cfg' in config:
        read_section(config, 'train_cfg', TrainCfg)


def read_section(config: Mapping[str, Any], name: str, cls: type) -> Any:
    """Return a section as its dataclass; missing keys take the defaults.

    Raises:
        KeyError, ValueError: an unknown key or a wrong value, with the section's name.
    """
    section = config.get(name, {})
    check_arguments(cls, section, name)
    try:
        return cls(**section)
    except (TypeError, ValueError) as error:
        raise ValueError(f'{name}: {error}') from error


def find_differences(was: Any, now: Any, path: str = '') -> dict[str, str]:
    """Compare two configs, or what stands at one place in them, as deep inside as it can be told.

    Lists of different lengths, and dicts in the place of something else, are told as a whole. A key that is missing
    counts as None.

    Args:
        was: the earlier one.
        now: the later one, whose order the result has.
        path: of the place, such as ``model.backbone``.

    Returns:
        By path, texts such as ``optimizer.lr was 0.1 and is 0.2``.
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
