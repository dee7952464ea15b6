"""The plan of an experiment: a TOML file with variants of a config, and seeds."""

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_MAX_SLUG = 200  # bytes; file systems allow 255 for a name, and the seed is added
_TYPES: dict[type, str] = {str: 'string', list: 'list', dict: 'table'}  # as TOML calls them
_KEYS = {'config': str, 'seeds': list, 'cfg_options': list, 'variants': dict}
_VARIANT_KEYS = {'config': str, 'cfg_options': list}


@dataclass(frozen=True)
class Variant:
    """One of the configs that are compared.

    Args:
        name: as in the tables.
        config: file or name of an included config.
        cfg_options: overrides ``KEY=VALUE``, as for ``--cfg-options``; of two for one key, the last one counts.
    """

    name: str
    config: str
    cfg_options: tuple[str, ...]

    @property
    def slug(self) -> str:
        """The name as the start of a folder name."""
        return re.sub(r'[\W_]+', '_', self.name.lower()).strip('_')


@dataclass(frozen=True)
class Trial:
    """A variant with a seed: one run of training and test."""

    variant: Variant
    seed: int

    @property
    def folder(self) -> str:
        """Name of the work dir; ``dsanet report`` groups folders that differ only in the seed."""
        return f'{self.variant.slug}_seed{self.seed}'


@dataclass(frozen=True)
class Plan:
    """Variants and seeds. The first variant is the one that the others are compared with."""

    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]

    @property
    def trials(self) -> list[Trial]:
        """All runs, seed by seed, so that an unfinished experiment has as many complete seeds as possible."""
        return [Trial(variant, seed) for seed in self.seeds for variant in self.variants]


def read_plan(file: Path, cfg_options: Sequence[str] = ()) -> Plan:
    """Read a plan.

    Args:
        file: the TOML file.
        cfg_options: further overrides for all variants, after those of the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not TOML, or a key or value is wrong; the message names it.
    """
    try:
        content = tomllib.loads(file.read_text(encoding='utf-8-sig'))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f'{file} is not a TOML file: {error}') from error
    _check(content, _KEYS, str(file))
    for option in cfg_options:
        _check_no_seed(option, '--cfg-options')
    seeds = content.get('seeds', [0])
    if not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds) or len(set(seeds)) < len(seeds):
        raise ValueError(f'{file}: seeds={seeds} must be one or more integers >= 0, each different')
    if not content.get('variants'):
        raise ValueError(f'{file} has no variants; add a section such as [variants.I3D]')
    variants = tuple(
        _read_variant(name, entry, content, file, cfg_options) for name, entry in content['variants'].items()
    )
    slugs: dict[str, str] = {}
    for variant in variants:
        if not variant.slug or not variant.name.isprintable() or len(variant.slug.encode()) > _MAX_SLUG:
            raise ValueError(
                f'{file}: the name of the variant {variant.name!r} must have a letter or digit, no line breaks or '
                f'other control characters, and at most {_MAX_SLUG} bytes'
            )
        if (other := slugs.setdefault(variant.slug, variant.name)) != variant.name:
            raise ValueError(
                f'{file}: the variants {other!r} and {variant.name!r} would share the folder {variant.slug}'
            )
    return Plan(variants, tuple(seeds))


def _read_variant(name: str, entry: Any, content: Mapping[str, Any], file: Path, cfg_options: Sequence[str]) -> Variant:
    path = f'{file}: variants.{name}'
    if not isinstance(entry, dict):
        raise ValueError(f'{path} must be a table, not {entry!r}')
    _check(entry, _VARIANT_KEYS, path)
    config = entry.get('config', content.get('config'))
    if config is None:
        raise ValueError(f'{path} has no config, neither of its own nor one for all variants')
    return Variant(name, config, (*content.get('cfg_options', ()), *entry.get('cfg_options', ()), *cfg_options))


def _check(content: Mapping[str, Any], types: Mapping[str, type], path: str) -> None:
    for key, value in content.items():
        if key not in types:
            raise ValueError(f'{path}: unknown key {key!r}; allowed: {", ".join(types)}')
        if not isinstance(value, types[key]):
            raise ValueError(f'{path}: {key}={value!r} must be a {_TYPES[types[key]]}')
    for option in content.get('cfg_options', ()):
        if not isinstance(option, str) or '=' not in option:
            raise ValueError(f"{path}: cfg_options has {option!r}, which must be text such as 'optimizer.lr=0.01'")
        _check_no_seed(option, path)


def _check_no_seed(option: str, path: str) -> None:
    if option.partition('=')[0] == 'runtime.seed':
        raise ValueError(f'{path}: {option!r} would be replaced by the seeds of the experiment; list them in seeds')
