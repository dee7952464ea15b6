import subprocess
import sys
from pathlib import Path

import pytest

from dsanet.config.formatting import format_config
from dsanet.config.loading import load_config
from dsanet.config.shipped import list_configs
from dsanet.config.source import read_source


def sort(value: object) -> object:
    """Return the same value with sorted keys, so that its text shows values and types, but no order."""
    if isinstance(value, dict):
        return {key: sort(value[key]) for key in sorted(value)}
    return type(value)(map(sort, value)) if isinstance(value, list | tuple) else value


def test_shipped_configs_survive_formatting(tmp_path: Path) -> None:
    for name in list_configs():
        config = load_config(name)
        file = tmp_path / 'config.py'
        file.write_text(format_config(config))
        again = load_config(file)
        assert list(again) == list(config)
        assert repr(sort(again)) == repr(sort(config)), name


def test_format_is_that_of_ruff(tmp_path: Path) -> None:
    names = list_configs('demo/*') + list_configs('kinetics/dsanet*') + list_configs('something/*')
    for i, name in enumerate(names):
        (tmp_path / f'config_{i}.py').write_text(format_config(load_config(name)))
    options = ['--isolated', '--line-length=120', '--config=format.quote-style="single"', '--check', str(tmp_path)]
    subprocess.run([sys.executable, '-m', 'ruff', 'format', *options], check=True)


def test_type_is_first_and_short_values_inline() -> None:
    loss = {'class_weights': (1.0, 2.0), 'type': 'FocalLoss'}
    assert format_config({'metrics': [], 'loss': loss, 'parameters': {'lr_multipliers': {'.dsa.': 2}}}) == (
        'metrics = []\n'
        "loss = dict(type='FocalLoss', class_weights=(1.0, 2.0))\n"
        "parameters = dict(lr_multipliers={'.dsa.': 2})\n"
    )


def test_long_values_have_one_item_per_line() -> None:
    steps = [{'type': 'OpenVideo', 'decoder': 'x' * 60}, {'size': (112,), 'type': 'CenterCrop'}]
    assert format_config({'data': {'pipeline': steps, 'a' * 40: ('b' * 50, 'c' * 50)}}) == (
        'data = dict(\n'
        '    pipeline=[\n'
        f"        dict(type='OpenVideo', decoder='{'x' * 60}'),\n"
        "        dict(type='CenterCrop', size=(112,)),\n"
        '    ],\n'
        f'    {"a" * 40}=(\n'
        f"        '{'b' * 50}',\n"
        f"        '{'c' * 50}',\n"
        '    ),\n'
        ')\n'
    )


@pytest.mark.parametrize('width', [119, 120, 121])
def test_lines_have_at_most_120_characters(width: int) -> None:
    text = format_config({'x': [0, 'y' * (width - len("x = [0, '']"))]})
    assert (text.count('\n') == 1) == (width <= 120)


@pytest.mark.parametrize(
    'value',
    [
        (1,),
        (),
        {},
        {'class': 1, 'a b': 2},
        {'type': 'A', 1: 2},
        -0.5,
        1e-05,
        'it\'s "x"\n\\',
        [None, True, ((0, (1,)), [])],
        ['z' * 70, {'q' * 30: ('w' * 70,), 'not': 1}],
    ],
)
def test_values_survive_formatting_and_reading(value: object, tmp_path: Path) -> None:
    file = tmp_path / 'config.py'
    file.write_text(format_config({'x': value, 'y': {'z': value}}))
    assert repr(read_source(file).content) == repr({'x': value, 'y': {'z': value}})
