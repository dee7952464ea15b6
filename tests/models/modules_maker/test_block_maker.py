import logging

import pytest
import torch
from torch import nn

from codes.models.backbones.resnet_i3d import ResNet_I3D
from codes.models.modules_maker.block_maker import expand_flags, insert_modules
from codes.models.modules_maker.DSA import DSA
from codes.registry import MODELS, build


def dsa_cfg(**options: object) -> dict:
    return {'type': 'DSA', 'num_snippets': 2, 'channel_ratio': 0.5, 'blocks': (0, 1, 0, 0), **options}


def tiny(depth: int = 10) -> ResNet_I3D:
    return ResNet_I3D(depth, base_channels=4).eval()


CLIP = (4, 3, 2, 32, 32)  # (N*V*U, C, T, H, W)
BOTTLENECK_PLACES = ['before_conv1', 'before_conv2', 'before_conv3', 'before_add', 'after_block']
BASIC_PLACES = ['before_conv1', 'before_conv2', 'before_add', 'after_block']


def slow_block(block: nn.Module, place: str, x: torch.Tensor) -> torch.Tensor:
    """A residual block with DSA at one place, written out: an independent statement of where the places are."""
    dsa = block.dsa
    branch = dsa(x) if place == 'before_conv1' else x
    branch = block.bn1(block.conv1(branch)).relu()
    branch = dsa(branch) if place == 'before_conv2' else branch
    branch = block.bn2(block.conv2(branch))
    if hasattr(block, 'conv3'):
        branch = branch.relu()
        branch = dsa(branch) if place == 'before_conv3' else branch
        branch = block.bn3(block.conv3(branch))
    branch = dsa(branch) if place == 'before_add' else branch
    out = (branch + (block.downsample(x) if block.downsample is not None else x)).relu()
    return dsa(out) if place == 'after_block' else out


@pytest.mark.parametrize(('depth', 'place'), [(50, p) for p in BOTTLENECK_PLACES] + [(18, p) for p in BASIC_PLACES])
@torch.no_grad()
def test_each_place_is_where_the_paper_puts_it(depth: int, place: str) -> None:
    backbone = tiny(depth)
    blocks = (0, [0, 1, *[0] * (len(backbone.stages[1]) - 2)], 0, 0)
    insert_modules(backbone, dsa_cfg(place=place, blocks=blocks))
    backbone.eval()
    block = backbone.layer2[1]
    x = torch.randn(4, block.place_channels['before_conv1'], 2, 8, 8)
    torch.testing.assert_close(block(x), slow_block(block, place, x))


@pytest.mark.parametrize(('place', 'residual'), [('before_conv2', False), ('after_block', True)])
def test_the_input_is_added_behind_a_whole_block_only(place: str, residual: bool) -> None:
    backbone = tiny()
    insert_modules(backbone, dsa_cfg(place=place))
    assert backbone.layer2[0].dsa.residual is residual


def test_residual_of_the_config_wins_over_the_place() -> None:
    backbone = tiny()
    insert_modules(backbone, dsa_cfg(place='after_block', residual=False))
    assert backbone.layer2[0].dsa.residual is False


def test_insertion_adds_keys_and_changes_none() -> None:
    plain = set(tiny().state_dict())
    backbone = tiny()
    insert_modules(backbone, dsa_cfg())
    added = set(backbone.state_dict()) - plain
    assert plain <= set(backbone.state_dict())
    assert added == {
        f'layer2.0.dsa.generate.{key}'
        for key in (
            '0.weight',
            '1.weight',
            '1.bias',
            '1.running_mean',
            '1.running_var',
            '1.num_batches_tracked',
            '3.weight',
        )
    }


def test_paper_pattern_reaches_five_blocks_of_resnet50() -> None:
    with torch.device('meta'):
        backbone = ResNet_I3D(50)
        insert_modules(backbone, dsa_cfg(num_snippets=4, blocks=(0, (0, 1, 0, 1), [0, 1, 0, 1, 0, 1], 0)))
    found = [name for name, module in backbone.named_modules() if isinstance(module, DSA)]
    assert found == ['layer2.1.dsa', 'layer2.3.dsa', 'layer3.1.dsa', 'layer3.3.dsa', 'layer3.5.dsa']


def test_several_modules_go_in_together() -> None:
    backbone = tiny()
    insert_modules(backbone, [dsa_cfg(place='before_conv1'), dsa_cfg(place='before_add', channel_ratio=1.0)])
    block = backbone.layer2[0]
    assert (block.dsa.channels, block.dsa_2.channels) == (2, 8)
    assert block.inserted == {'before_conv1': ['dsa'], 'before_add': ['dsa_2']}


def test_insertion_is_logged_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, 'codes'):
        insert_modules(tiny(18), dsa_cfg(blocks=(0, (0, 1), 1, 0)))
    assert caplog.messages == ['DSA inserted before_conv2 of 3 blocks: layer2.1, layer3.0, layer3.1']


def test_inserted_modules_take_part_in_activation_checkpointing() -> None:
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        backbone = ResNet_I3D(10, base_channels=4, activation_checkpointing=checkpointing)
        insert_modules(backbone, dsa_cfg())
        backbone(torch.randn(CLIP)).sum().backward()
        gradients.append(backbone.layer2[0].dsa.generate[0].weight.grad)
        statistics = backbone.layer2[0].dsa.generate[1].num_batches_tracked
        assert statistics == 1
    assert torch.equal(*gradients)


def test_building_does_not_change_the_config() -> None:
    cfg = {
        'type': 'Recognizer3D',
        'backbone': {'type': 'ResNet_I3D', 'depth': 10, 'base_channels': 4},
        'cls_head': {'type': 'I3DClsHead', 'num_classes': 3, 'in_channels': 32},
        'module_cfg': dsa_cfg(),
    }
    before = repr(cfg)
    build(cfg, MODELS)
    build(cfg, MODELS)
    assert repr(cfg) == before


@pytest.mark.parametrize(
    ('options', 'error', 'text'),
    [
        (
            {'place': 'before_conv3'},
            ValueError,
            "place='before_conv3' is no place of BasicBlock3d.* before_conv1, before_conv2, before_add, after_block",
        ),
        ({'place': 'before_con2'}, ValueError, "Did you mean 'before_conv2'"),
        ({'blocks': (0, 0, 0, 0)}, ValueError, 'selects no block'),
        ({'blocks': (0, 1, 0)}, ValueError, 'must have 4 entries'),
        ({'blocks': (0, (1, 0), 0, 0)}, ValueError, r'blocks\[1\]=\(1, 0\) must be 0, 1 or 1 of them'),
        ({'blocks': (0, 2, 0, 0)}, ValueError, r'blocks\[1\]=2 must be 0, 1'),
        ({'kernel': 3}, KeyError, "module_cfg.kernel is not an argument of DSA. Did you mean 'kernel_size'"),
        ({'in_channels': 3}, KeyError, 'module_cfg.in_channels is not an argument of DSA'),
        ({'type': 'DAS'}, KeyError, "module_cfg.type='DAS' is not a registered model. Did you mean 'DSA'"),
        ({'kernel_size': 2}, ValueError, r'module_cfg \(DSA\): kernel_size=2 must be an odd'),
    ],
)
def test_wrong_insertions_are_refused_with_text(options: dict, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        insert_modules(tiny(), dsa_cfg(**options))


def test_blocks_must_be_given() -> None:
    with pytest.raises(KeyError, match='module_cfg.blocks is missing'):
        insert_modules(tiny(), {'type': 'DSA'})


def test_expand_flags_spreads_a_number_over_its_stage() -> None:
    assert expand_flags((0, 1, [1, 0, 1]), (1, 2, 3), 'x') == [[False], [True, True], [True, False, True]]
