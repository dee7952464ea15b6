import logging
import math
import re
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models.video.swin_transformer import ShiftedWindowAttention3d

from dsanet.config.registry import MODELS, build
from dsanet.config.schema import ParametersCfg
from dsanet.engine.optim import (
    NORMS,
    CosineSchedule,
    OptimizerState,
    StepSchedule,
    build_optimizer,
    group_parameters,
    layer_multipliers,
    match_layouts,
    set_learning_rate,
)
from dsanet.models.modules_maker.block_maker import insert_modules

SGD = {'type': 'SGD', 'lr': 0.01, 'momentum': 0.9, 'weight_decay': 5e-4}
TSM = ParametersCfg({'cls_head': 5}, bias_lr_multiplier=2, decay_norms=False, decay_biases=False)


def test_step_schedule_of_the_paper() -> None:
    schedule = StepSchedule(milestones=(50, 75, 90), warmup_epochs=10, warmup_start_factor=0.01)
    epochs = [0, 5, 9.999, 10, 49.99, 50, 74.99, 75, 90, 99.99]
    expected = [0.01, 0.505, 0.9999, 1, 1, 0.1, 0.1, 0.01, 0.001, 0.001]
    assert [schedule.factor(e, 100) for e in epochs] == pytest.approx(expected, rel=1e-3)


def test_warmup_is_linear_across_a_step() -> None:
    schedule = StepSchedule(milestones=(1,), gamma=0.5, warmup_epochs=2, warmup_start_factor=0)
    assert [schedule.factor(i / 4, 4) for i in range(9)] == pytest.approx(
        [0, 0.125, 0.25, 0.375, 0.25, 0.3125, 0.375, 0.4375, 0.5]
    )


def test_cosine_schedule_decays_to_final_factor() -> None:
    schedule = CosineSchedule(final_factor=0.2, warmup_epochs=2, warmup_start_factor=0.5)
    assert [schedule.factor(e, 10) for e in (0, 1, 2, 6, 10)] == pytest.approx([0.5, 0.75, 1, 0.6, 0.2])
    assert CosineSchedule().factor(0, 5) == 1


def test_learning_rate_scales_each_groups_base() -> None:
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.SGD([{'params': weights[:1]}, {'params': weights[1:], 'lr': 2.0}], lr=1.0)
    set_learning_rate(optimizer, 0.5)
    assert set_learning_rate(optimizer, 0.1) == pytest.approx(0.1)
    assert [group['lr'] for group in optimizer.param_groups] == pytest.approx([0.1, 0.2])


@pytest.mark.parametrize(
    ('make', 'text'),
    [
        (lambda: StepSchedule(milestones=(5, 3)), r'milestones=\(5, 3\)'),
        (lambda: StepSchedule(milestones=(), warmup_epochs=-1), 'warmup_epochs=-1 .*0'),
        (lambda: CosineSchedule(warmup_start_factor=2), r'warmup_start_factor=2 .*\[0, 1\]'),
        (lambda: CosineSchedule(final_factor=-1), r'final_factor=-1 .*\[0, 1\]'),
    ],
)
def test_invalid_schedule_arguments_are_rejected(make: object, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()


def make_model() -> nn.Module:
    """Ten parameters: convolution with bias, norms, a module in a block, and a classifier."""
    block = nn.Module()
    block.conv = nn.Conv3d(2, 2, 1)
    block.dsa = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    model = nn.Module()
    model.layer1 = nn.ModuleList([nn.BatchNorm3d(2), block])
    model.cls_head = nn.Module()
    model.cls_head.fc_cls = nn.Linear(2, 3)
    return model


def test_default_is_one_group_in_model_order() -> None:
    model = make_model()
    assert group_parameters(model, ParametersCfg()) == {(1, True): [name for name, _ in model.named_parameters()]}


def test_groups_of_the_tsm_recipe() -> None:
    assert group_parameters(make_model(), TSM) == {
        (1, False): ['layer1.0.weight', 'layer1.0.bias', 'layer1.1.dsa.1.weight', 'layer1.1.dsa.1.bias'],
        (1, True): ['layer1.1.conv.weight', 'layer1.1.dsa.0.weight'],
        (2, False): ['layer1.1.conv.bias', 'layer1.1.dsa.0.bias'],
        (5, True): ['cls_head.fc_cls.weight'],
        (10, False): ['cls_head.fc_cls.bias'],
    }


def test_norms_and_biases_are_distinguished() -> None:
    no_norms = group_parameters(make_model(), ParametersCfg(decay_norms=False))[1, False]
    assert no_norms == ['layer1.0.weight', 'layer1.0.bias', 'layer1.1.dsa.1.weight', 'layer1.1.dsa.1.bias']
    no_biases = group_parameters(make_model(), ParametersCfg(decay_biases=False))[1, False]
    assert no_biases == ['layer1.1.conv.bias', 'layer1.1.dsa.0.bias', 'cls_head.fc_cls.bias']
    attention = group_parameters(nn.MultiheadAttention(2, 1), ParametersCfg(bias_lr_multiplier=3))
    assert attention[3, True] == ['in_proj_bias', 'out_proj.bias']
    shifted = ShiftedWindowAttention3d(4, [1, 2, 2], [0, 0, 0], 2)
    without_decay = group_parameters(shifted, ParametersCfg(decay_biases=False))[1, False]
    assert without_decay == ['relative_position_bias_table', 'qkv.bias', 'proj.bias']


@pytest.mark.parametrize('norm', NORMS)
def test_every_norm_layer_is_recognized(norm: type[nn.Module]) -> None:
    layer = norm(1, 2) if norm is nn.GroupNorm else norm(2)
    groups = group_parameters(layer, ParametersCfg(decay_norms=False, bias_lr_multiplier=2))
    assert set(groups) <= {(1, False)}


def test_rightmost_then_longest_key_wins() -> None:
    keys = {'layer1': 2, 'layer1.1': 3, '.dsa.': 5, '1.dsa': 7, 'dsa.1': 11}
    names = {name: m for (m, _), group in group_parameters(make_model(), ParametersCfg(keys)).items() for name in group}
    assert names == {
        'layer1.0.weight': 2,
        'layer1.0.bias': 2,
        'layer1.1.conv.weight': 3,
        'layer1.1.conv.bias': 3,
        'layer1.1.dsa.0.weight': 7,
        'layer1.1.dsa.0.bias': 7,
        'layer1.1.dsa.1.weight': 11,
        'layer1.1.dsa.1.bias': 11,
        'cls_head.fc_cls.weight': 1,
        'cls_head.fc_cls.bias': 1,
    }


def test_key_matches_whole_name_parts() -> None:
    model = nn.ModuleDict({'layer3': nn.Sequential(*(nn.Linear(1, 1, bias=False) for _ in range(11)))})
    groups = group_parameters(model, ParametersCfg({'layer3.1': 4}))
    assert groups[4, True] == ['layer3.1.weight']
    assert 'layer3.10.weight' in groups[1, True]


def test_module_name_matches_all_its_copies() -> None:
    names = ('dsa', 'dsa_2', 'dsa_after_layer2', 'dsa_more')
    model = nn.ModuleDict({name: nn.Linear(1, 1, bias=False) for name in names})
    groups = group_parameters(model, ParametersCfg(lr_multipliers={'dsa': 2}))
    assert groups == {
        (2, True): ['dsa.weight', 'dsa_2.weight', 'dsa_after_layer2.weight'],
        (1, True): ['dsa_more.weight'],
    }


def test_multiplier_of_a_module_that_is_off(caplog: pytest.LogCaptureFixture) -> None:
    """It has no effect if no module is inserted; beside another module it is an error."""
    plain = nn.ModuleDict({'conv': nn.Linear(1, 1, bias=False)})
    with caplog.at_level(logging.INFO, 'dsanet'):
        assert group_parameters(plain, ParametersCfg({'.dsa.': 2})) == {(1, True): ['conv.weight']}
    assert "'.dsa.'" in caplog.text
    with pytest.raises(KeyError, match='resnet'):  # registered, but no module for insertion
        group_parameters(plain, ParametersCfg({'resnet': 2}))
    other = nn.ModuleDict({'mvf': nn.Linear(1, 1, bias=False)})
    with pytest.raises(KeyError, match="'dsa'"):
        group_parameters(other, ParametersCfg({'dsa': 2}))


def test_frozen_parameters_are_excluded() -> None:
    model = make_model()
    model.layer1.requires_grad_(False)
    groups = group_parameters(model, TSM)
    assert groups == {(5, True): ['cls_head.fc_cls.weight'], (10, False): ['cls_head.fc_cls.bias']}


@pytest.mark.parametrize(
    ('key', 'text'),
    [
        ('cls_hed', "'cls_hed'.*'cls_head'"),
        ('layer1.1.das', "'layer1.1.dsa'"),
        ('layer', "'layer'.*'layer1'"),
        ('zzz', r'layer1.0.weight, layer1.0.bias, layer1.1.conv.weight, \.\.\.'),
    ],
)
def test_unmatched_key_suggests_the_nearest_name(key: str, text: str) -> None:
    with pytest.raises(KeyError, match=rf'parameters.lr_multipliers.*{text}'):
        group_parameters(make_model(), ParametersCfg({key: 2}))


def test_rates_and_decay_of_the_tsm_recipe(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, 'dsanet'):
        optimizer = build_optimizer(SGD, make_model(), TSM)
    rates = [0.01, 0.01, 0.02, 0.05, 0.1]
    assert [group['lr'] for group in optimizer.param_groups] == pytest.approx(rates)
    assert [group['weight_decay'] for group in optimizer.param_groups] == [0, 5e-4, 0, 5e-4, 0]
    for factor in (0.5, 0.1):
        assert set_learning_rate(optimizer, factor) == pytest.approx(0.01 * factor)
        assert [group['lr'] for group in optimizer.param_groups] == pytest.approx([r * factor for r in rates])
    lines = caplog.messages[0].split('; ')
    assert [re.search(r'(\d+) \D*lr (\S+) .*weight_decay (\S+) .*\(([\w.]+)', line).groups() for line in lines] == [
        ('4', '0.01', '0', 'layer1.0.weight'),
        ('2', '0.01', '0.0005', 'layer1.1.conv.weight'),
        ('2', '0.02', '0', 'layer1.1.conv.bias'),
        ('1', '0.05', '0.0005', 'cls_head.fc_cls.weight'),
        ('1', '0.1', '0', 'cls_head.fc_cls.bias'),
    ]


@pytest.mark.parametrize('cfg', [SGD, {'type': 'AdamW', 'lr': 0.01, 'weight_decay': 0.05}])
def test_state_loads_under_other_groups(cfg: dict) -> None:
    model = make_model()
    one = build_optimizer(cfg, model, ParametersCfg())
    for i, p in enumerate(model.parameters()):
        p.grad = torch.full_like(p, i + 1)
    one.step()
    # One group has the indices of the model, so a plain state_dict of torch can be loaded.
    state = OptimizerState(one, model).state_dict()
    assert state == {'type': cfg['type'], **one.state_dict()}
    other = build_optimizer(cfg, model, TSM)
    OptimizerState(other, model).load_state_dict(state)
    for p in model.parameters():
        assert one.state[p].keys() == other.state[p].keys()
        assert all(torch.equal(one.state[p][key], other.state[p][key]) for key in one.state[p])
    again = OptimizerState(other, model).state_dict()
    assert again['state'].keys() == state['state'].keys()
    assert all(
        torch.equal(again['state'][i][key], value)
        for i, entry in state['state'].items()
        for key, value in entry.items()
    )
    assert sorted(i for group in again['param_groups'] for i in group['params']) == list(range(10))


FUSED = [SGD, {'type': 'AdamW', 'lr': 0.01, 'weight_decay': 0.05}]


@pytest.mark.parametrize('cfg', FUSED)
def test_fused_steps_ignore_no_memory_format(cfg: dict) -> None:
    """Gradients and a loaded state that are not channels-last, as the weights are, give the steps of torch's loop."""
    weight = torch.randn(4, 3, 2, 5, 5)
    results = []
    for options in ({}, {'foreach': False}):
        model = nn.Conv3d(3, 4, (2, 5, 5), bias=False)
        model.weight.data = weight.clone().contiguous(memory_format=torch.channels_last_3d)
        optimizer = build_optimizer({**cfg, **options}, model, ParametersCfg())
        assert optimizer.param_groups[0].get('fused') is (None if options else True)
        for _ in range(3):
            state = OptimizerState(optimizer, model).state_dict()
            for values in state['state'].values():
                values.update((k, v.contiguous()) for k, v in values.items() if isinstance(v, torch.Tensor))
            OptimizerState(optimizer, model).load_state_dict(state)
            model.weight.grad = torch.arange(weight.numel()).view_as(weight) / weight.numel()
            match_layouts(optimizer)
            optimizer.step()
        results.append(model.weight)
    torch.testing.assert_close(*results, rtol=1e-6, atol=1e-6)


def test_loading_keeps_current_rates_and_decay() -> None:
    model = make_model()
    one, other = (build_optimizer({**SGD, 'lr': rate}, model, TSM) for rate in (0.01, 0.03))
    set_learning_rate(one, 0.5)
    OptimizerState(other, model).load_state_dict(OptimizerState(one, model).state_dict())
    assert set_learning_rate(other, 0.1) == pytest.approx(0.003)
    assert [group['lr'] for group in other.param_groups] == pytest.approx([0.003, 0.003, 0.006, 0.015, 0.03])
    assert [group['weight_decay'] for group in other.param_groups] == [0, 5e-4, 0, 5e-4, 0]


@pytest.mark.parametrize(
    ('was', 'now', 'token'),
    [
        (SGD, {'type': 'AdamW', 'lr': 0.01}, 'SGD.*AdamW'),
        ({'type': 'AdamW', 'lr': 0.01}, {'type': 'AdamW', 'lr': 0.01, 'amsgrad': True}, 'amsgrad.*False.*True'),
        ({'type': 'AdamW', 'lr': 0.01}, SGD, 'AdamW.*SGD'),
        ({**SGD, 'momentum': 0.0}, SGD, None),
        ({**SGD, 'foreach': True}, {**SGD, 'foreach': False}, None),
    ],
)
def test_state_of_other_optimizer_is_dropped(
    was: dict, now: dict, token: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    model = make_model()
    one, other = (build_optimizer(cfg, model, ParametersCfg()) for cfg in (was, now))
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    one.step()
    with caplog.at_level('WARNING', 'dsanet'):
        OptimizerState(other, model).load_state_dict(OptimizerState(one, model).state_dict())
    other.step()  # a KeyError with the state of the other one
    assert len(caplog.messages) == (token is not None)
    assert token is None or re.search(token, caplog.text)


def test_state_with_other_parameter_count_is_rejected() -> None:
    model = make_model()
    state = OptimizerState(build_optimizer(SGD, model, ParametersCfg()), model).state_dict()
    model.layer1.requires_grad_(False)
    with pytest.raises(ValueError, match=r'\b10\b.*\b2\b'):
        OptimizerState(build_optimizer(SGD, model, ParametersCfg()), model).load_state_dict(state)


@pytest.mark.parametrize('cfg', [SGD, {'type': 'AdamW', 'lr': 0.01}])
@pytest.mark.parametrize('wrong', [[], 'x', math.nan, True, {}, torch.zeros(7), torch.zeros(1, 1, 1)])
def test_impossible_optimizer_state_is_rejected(cfg: dict, wrong: Any) -> None:
    model = make_model()
    one = build_optimizer(cfg, model, ParametersCfg())
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    one.step()
    state = OptimizerState(one, model).state_dict()
    entries = [wrong] if not isinstance(wrong, dict) else []  # an empty entry is that of a new parameter
    for entry in [*entries, *({**state['state'][3], name: wrong} for name in state['state'][3])]:
        with pytest.raises(ValueError, match=r'parameter 3\b'):
            OptimizerState(one, model).load_state_dict({**state, 'state': {**state['state'], 3: entry}})
    with pytest.raises(ValueError, match=r'parameter 10\b'):
        OptimizerState(one, model).load_state_dict({**state, 'state': {10: state['state'][3]}})


TRANSFORMER = {'type': 'VisionTransformer', 'embed_dim': 12, 'depth': 2, 'num_heads': 2, 'input_size': (2, 16, 16)}
RESNET = {'conv1.weight': 0, 'layer1.0.conv1.weight': 1, 'layer4.1.bn2.bias': 8}
SWIN = {
    'net.patch_embed.proj.weight': 0,
    'net.features.0.1.attn.qkv.bias': 2,
    'net.features.1.norm.weight': 2,
    'net.features.6.1.norm2.bias': 12,
    'net.norm.bias': 13,
}
MVIT = {'net.pos_encoding.class_token': 0, 'net.norm.bias': 17}
R3D = {'net.stem.0.weight': 0, 'net.layer4.1.conv2.0.weight': 8}


@pytest.mark.parametrize('pooling', ['mean', 'class_token', 'attentive'])
def test_layer_decay_of_a_transformer_by_hand(pooling: str) -> None:
    positions = 'learned' if pooling == 'class_token' else 'sine'
    model = nn.Module()
    model.backbone = build({**TRANSFORMER, 'pooling': pooling, 'positions': positions}, MODELS)
    model.cls_head = nn.Linear(12, 3)
    parameters = ParametersCfg({'fc1': 10}, layer_decay=0.5, decay_norms=False, decay_biases=False)
    optimizer = build_optimizer({'type': 'AdamW', 'lr': 0.8, 'weight_decay': 0.05}, model, parameters)
    names = {id(p): name for name, p in model.named_parameters()}
    found = {names[id(p)]: (g['lr'], g['weight_decay']) for g in optimizer.param_groups for p in g['params']}
    assert found.keys() == dict(model.named_parameters()).keys()
    for name, (rate, decay) in found.items():
        layer = next((n for n, key in enumerate(('backbone.blocks.0.', 'backbone.blocks.1.')) if key in name), None)
        stem = any(name.startswith(f'backbone.{key}') for key in ('patch_embed', 'pos_embed', 'cls_token'))
        expected = 0.1 if stem else 0.8 if layer is None else (0.2, 0.4)[layer]
        assert rate == pytest.approx(expected * (10 if '.fc1.' in name else 1)), name
        assert decay == (0 if 'norm' in name or name.endswith('bias') else 0.05), name


@pytest.mark.parametrize(
    ('backbone', 'num_layers', 'examples'),
    [
        ({'type': 'ResNet_I3D', 'depth': 18}, 8, RESNET),
        ({'type': 'TorchvisionVideo', 'name': 'swin3d_t'}, 12, SWIN),
        ({'type': 'TorchvisionVideo', 'name': 'mvit_v2_s'}, 16, MVIT),
        ({'type': 'TorchvisionVideo', 'name': 's3d'}, 12, {'net.features.0.0.0.weight': 1}),
        ({'type': 'TorchvisionVideo', 'name': 'r3d_18'}, 8, R3D),
    ],
)
def test_depth_of_parameters(backbone: dict, num_layers: int, examples: dict[str, int]) -> None:
    with torch.device('meta'):
        network = build(backbone, MODELS)
    depths = network.layer_depths()
    assert len(network.layers_in_order) == num_layers
    assert depths.keys() == dict(network.named_parameters()).keys()
    assert {name: depths[name] for name in examples} == examples
    with pytest.raises(ValueError, match='layers_in_order'):
        layer_multipliers(make_model(), 0.5)


INSERTED = [
    ({**TRANSFORMER, 'positions': 'learned'}, 'blocks.0', 'blocks.1', (0.25, 0.5)),
    ({'type': 'ResNet_I3D', 'depth': 18}, 'maxpool', 'layer4.1.conv1', (0.5**9, 0.5)),
    ({'type': 'SlowFast', 'depth': 18}, 'slow_path.layer1', 'fast_path.layer4.0', (0.5**7, 0.25)),
    ({'type': 'X3D'}, 'bn1', 'conv5', (0.5**27, 1)),
    ({'type': 'TorchvisionVideo', 'name': 'swin3d_t'}, 'net.features.0.1', 'net.norm', (0.5**11, 1)),
]


@pytest.mark.parametrize(('backbone', 'early', 'late', 'expected'), INSERTED)
def test_modules_after_submodules_have_their_rate(backbone: dict, early: str, late: str, expected: tuple) -> None:
    model = nn.Module()
    with torch.device('meta'):
        model.backbone = build(backbone, MODELS)
        insert_modules(model.backbone, {'type': 'DSA', 'num_snippets': 2, 'after': (early, late)})
    found = layer_multipliers(model, 0.5)
    keys = [f'backbone.dsa_after_{name.replace(".", "_")}.generate.0.weight' for name in (early, late)]
    assert tuple(found[key] for key in keys) == expected
    assert found.keys() == {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize('value', [0, 1.1, -1, True, None])
def test_wrong_layer_decay_is_an_error(value: Any) -> None:
    with pytest.raises(ValueError, match='layer_decay'):
        ParametersCfg(layer_decay=value)
