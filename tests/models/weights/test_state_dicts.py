import logging
from pathlib import Path

import pytest
import torch

from dsanet.models.weights.layouts import UNKNOWN
from dsanet.models.weights.loading import load_weights, read_weights
from dsanet.models.weights.state_dicts import find_state_dict, strip_prefix, strip_wrappers
from tests.models.weights.test_loading import make_model

X, Y = torch.zeros(1), torch.ones(1)
NAMES = ['state_dict', 'model', 'model_state', 'model_state_dict', 'net', 'module', 'network', 'my_weights', 'encoder']


@pytest.mark.parametrize('name', NAMES)
def test_weights_are_found_under_common_keys(name: str) -> None:
    rest = {'optimizer': {'state': {0: {'exp_avg': Y}}}, 'epoch': torch.tensor(3), 'loss_state': {'b': Y}}
    assert find_state_dict({name: {'a': X, 'epoch': 3}, **rest}) == ({'a': X}, name, False)
    assert find_state_dict({'a': X, 'b': X, 'epoch': 3, 'optimizer': {'b': Y}}) == ({'a': X, 'b': X}, '', False)
    nested = {'checkpoint': {name: {'a': X}, 'epoch': 3}}
    assert find_state_dict(nested) == ({'a': X}, f'checkpoint.{name}', False)


@pytest.mark.parametrize('name', ['state_dict_ema', 'model_ema', 'ema', 'ema_model', 'swa_state_dict', 'avg_model'])
def test_averaged_weights_under_any_name_are_preferred(name: str) -> None:
    average = {'module.a': Y, 'n_averaged': torch.tensor(3)}  # of AveragedModel
    assert find_state_dict({'model': {'a': X}, name: average}) == ({'a': Y}, name, True)
    assert find_state_dict({name: average}) == ({'a': Y}, name, True)
    nested = {name: {'decay': 0.9, 'shadow': average}}
    assert find_state_dict({'model': {'a': X}, **nested}) == ({'a': Y}, f'{name}.shadow', True)
    assert find_state_dict(nested) == ({'a': Y}, f'{name}.shadow', True)


def test_averaged_weights_that_do_not_fit_are_named(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, 'dsanet'):
        assert find_state_dict({'model': {'a': X}, 'model_ema': {'b': Y}}) == ({'a': X}, 'model', False)
    (message,) = caplog.messages
    assert "'model_ema'" in message


@pytest.mark.parametrize(
    ('content', 'name'),
    [
        ({'ema': {'state_dict': {'a': Y}, 'decay': 0.9}}, 'ema.state_dict'),
        ({'ema': {'shadow': {'a': Y}}}, 'ema.shadow'),
        ({'ema_state_dict': {'module.a': Y, 'n_averaged': torch.tensor(3)}}, 'ema_state_dict'),
        ({'state': {'model': {'weights': {'a': X}}, 'averaged': {'a': Y}}}, 'state.averaged'),
    ],
)
def test_nested_averaged_weights_are_preferred(content: dict, name: str) -> None:
    assert find_state_dict({'model': {'a': X}, **content}) == ({'a': Y}, name, True)


@pytest.mark.parametrize('name', ['teacher', 'shadow_params', 'ema'])
def test_unused_weights_of_the_network_are_named(name: str, caplog: pytest.LogCaptureFixture) -> None:
    others = {'a': Y} if name == 'teacher' else [Y]
    with caplog.at_level(logging.WARNING, 'dsanet'):
        assert find_state_dict({'model': {'a': X}, name: others, 'loss_ema': {'b': Y}}) == ({'a': X}, 'model', False)
    (message,) = caplog.messages
    assert repr(name) in message


def test_weights_of_a_loss_are_removed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source, model = make_model(), make_model()
    state = source.state_dict()
    average = {f'ema_model.{key}': value for key, value in state.items()}
    for others in ({'criterion.weight': X}, {f'model.{key}': torch.zeros_like(v) for key, v in state.items()}):
        torch.save({'state_dict': {**average, **others}}, tmp_path / 'x.pth')
        report = load_weights(model, tmp_path / 'x.pth', strict=True)
        assert len(report.matched) == len(state)
        assert torch.equal(model.backbone.conv1.weight, source.backbone.conv1.weight)
    assert "'ema_model.*'" in caplog.text
    two = {f'{prefix}.{key}': value for prefix in ('student', 'teacher') for key, value in state.items()}
    torch.save(two, tmp_path / 'x.pth')
    with pytest.raises(ValueError, match='student, teacher'):
        load_weights(model, tmp_path / 'x.pth')


@pytest.mark.parametrize(
    ('content', 'names'),
    [
        ({'teacher': {'a': X}, 'student': {'a': Y}}, "'teacher', 'student'"),
        ({'optimizer': {'a': X}, 'epoch': 3}, "'optimizer', 'epoch'"),
        ({}, 'no weights'),
    ],
)
def test_missing_or_ambiguous_weights_raise(content: dict, names: str) -> None:
    with pytest.raises(ValueError, match=names):
        find_state_dict(content)


def test_prefixes_of_wrappers_are_stripped() -> None:
    state = {'module._orig_mod.backbone.conv1.weight': X, 'backbone._orig_mod.bn1.weight': X, 'n_averaged': X}
    assert list(strip_wrappers(state)) == ['backbone.conv1.weight', 'backbone.bn1.weight']


@pytest.mark.parametrize(
    'prefix', ['model.', 'module.', 'backbone.', 'net.', '_orig_mod.', 'module.model.', 'model._orig_mod.', 'a.b.c.']
)
@pytest.mark.parametrize('whole', [True, False])
def test_shared_prefix_is_stripped(tmp_path: Path, prefix: str, whole: bool) -> None:
    source, model = make_model(), make_model()
    part = source if whole else source.backbone
    torch.save(
        {'state_dict': {f'{prefix}{key}': value for key, value in part.state_dict().items()}}, tmp_path / 'x.pth'
    )
    report = load_weights(model, tmp_path / 'x.pth', strict=whole)
    assert len(report.matched) == len(part.state_dict())
    assert torch.equal(model.backbone.conv1.weight, source.backbone.conv1.weight)
    if prefix != 'net.':  # without a model, these may be the weights of a network of torchvision
        assert read_weights(tmp_path / 'x.pth').state.keys() <= model.state_dict().keys()


def test_prefix_of_unknown_network_is_kept_or_fits() -> None:
    state = {'model.stem.weight': X, 'model.head.weight': X}
    assert strip_prefix(state, set()) == (state, UNKNOWN)
    bare = {'stem.weight': X, 'head.weight': X}
    assert strip_prefix(state, {'backbone.stem.weight'}) == (bare, UNKNOWN)
    assert strip_prefix(state, {'backbone.model.stem.weight'}) == (state, UNKNOWN)
