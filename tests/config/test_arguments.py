from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from dsanet.config.arguments import UnknownArgument, check_arguments, get_slot, nearest
from dsanet.config.registry import check_function_section


def function(
    number: float,
    count: int = 1,
    name: str | None = None,
    sizes: Sequence[int | Sequence[int]] = (),
    table: Mapping[str, float] | None = None,
    anything: Any = None,
) -> None:
    del number, count, name, sizes, table, anything


@pytest.mark.parametrize(
    'cfg',
    [
        {'number': 1},
        {'number': 0.5, 'count': 3, 'name': None},
        {'type': 'x', 'number': 1, 'name': 'a', 'sizes': (1, [2, 3]), 'table': {'a': 1}, 'anything': object()},
    ],
)
def test_valid_arguments_pass(cfg: dict) -> None:
    check_arguments(function, cfg, 'here')


@pytest.mark.parametrize(
    ('cfg', 'error', 'text'),
    [
        ({}, KeyError, 'here.number'),
        ({'number': 1, 'cout': 2}, UnknownArgument, r'here\.cout .*count.* number, count, name'),
        ({'number': '1'}, ValueError, "here.number='1' .*float"),
        ({'number': True}, ValueError, 'here.number=True'),
        ({'number': 1, 'count': 2.0}, ValueError, 'here.count=2.0'),
        ({'number': 1, 'count': None}, ValueError, 'here.count=None'),
        ({'number': 1, 'name': 3}, ValueError, 'here.name=3'),
        ({'number': 1, 'sizes': 3}, ValueError, 'here.sizes=3'),
        ({'number': 1, 'sizes': [1, ['a']]}, ValueError, 'here.sizes='),
    ],
)
def test_invalid_arguments_are_named_by_full_path(cfg: dict, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        check_arguments(function, cfg, 'here')


def test_arguments_of_the_caller_are_not_config_keys() -> None:
    check_arguments(function, {}, 'here', given=['number'])
    with pytest.raises(UnknownArgument) as error:
        check_arguments(function, {'number': 1}, 'here', given=['number'])
    assert (error.value.path, error.value.key) == ('here', 'number')
    check_arguments(function, {'number': 1, 'place': 3}, 'here', extra=['place'])


def test_suggestion_only_for_a_close_name() -> None:
    assert nearest('zzz', ['depth', 'inflate']) == ''
    assert 'depth' in nearest('dept', ['depth', 'inflate'])


class Part:
    pass


@pytest.mark.parametrize(
    ('hint', 'slot'),
    [
        (Part, ((Part,), False, False)),
        (Part | None, ((Part,), False, True)),
        (Part | Path, ((Part, Path), False, False)),
        (Sequence[Part], ((Part,), True, False)),
        (list[Part] | None, ((Part,), True, True)),
        (tuple[Part, ...], ((Part,), True, False)),
        (Part | float, ((), False, False)),
        (int, ((), False, False)),
        (Any, ((), False, False)),
        (None, ((), False, False)),
        (Mapping[str, Part], ((), False, False)),
        (Sequence[int], ((), True, False)),
    ],
)
def test_slot_follows_the_annotation(hint: Any, slot: tuple) -> None:
    assert get_slot(hint) == slot


def test_renamed_option_names_the_new_one() -> None:
    with pytest.raises(UnknownArgument, match='class_balance'):
        check_function_section({'batch_size': 2, 'dataset': {}, 'sampling': 'balanced'}, 'train_dataloader')


@pytest.mark.parametrize(
    'value', [float('inf'), float('-inf'), float('nan'), 1e300, 10**23, -(2**64), pytest.param(10**5000, id='10**5000')]
)
@pytest.mark.parametrize('wrap', [lambda value: value, lambda value: [1, value], lambda value: {'a': {'b': value}}])
def test_numbers_must_be_finite_and_in_range(value: float, wrap: Callable[[float], object]) -> None:
    def function(option: object) -> None:
        pass

    check_arguments(function, {'option': wrap(2**63 - 1)}, 'section')
    with pytest.raises(ValueError, match=r'^section\.option\S* must be'):
        check_arguments(function, {'option': wrap(value)}, 'section')
