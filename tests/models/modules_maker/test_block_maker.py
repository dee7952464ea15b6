import copy
import itertools
import logging
import re

import pytest
import torch
from torch import Tensor, nn

from dsanet.models.backbones.resnet_i3d import ResNet_I3D
from dsanet.models.backbones.torchvision_video import TorchvisionVideo
from dsanet.models.modules_maker.block_maker import expand_flags, insert_modules, probe_channels, to_meta
from dsanet.models.modules_maker.DSA import DSA
from tests.make_tiny_networks import CLIP as TINY_CLIP
from tests.make_tiny_networks import TinyMViT, TinySwin


def dsa_cfg(**options: object) -> dict:
    return {'type': 'DSA', 'num_snippets': 2, 'channel_ratio': 0.5, 'blocks': (0, 1, 0, 0), **options}


def tiny(depth: int = 10) -> ResNet_I3D:
    return ResNet_I3D(depth, base_channels=4).eval()


CLIP = (4, 3, 2, 32, 32)  # (N*V*U, C, T, H, W)
BOTTLENECK_PLACES = ['before_block', 'before_conv1', 'before_conv2', 'before_conv3', 'before_add', 'after_block']
BASIC_PLACES = ['before_block', 'before_conv1', 'before_conv2', 'before_add', 'after_block']


def slow_block(block: nn.Module, place: str, x: torch.Tensor) -> torch.Tensor:
    """A residual block with DSA at one place, written out."""
    dsa = block.dsa
    x = dsa(x) if place == 'before_block' else x
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
@pytest.mark.parametrize('index', [0, 1])  # with and without weights in the shortcut
@torch.no_grad()
def test_block_with_insertion_equals_slow_block(depth: int, place: str, index: int) -> None:
    backbone = tiny(depth)
    flags = [int(j == index) for j in range(len(backbone.stages[1]))]
    insert_modules(backbone, dsa_cfg(place=place, blocks=(0, flags, 0, 0)))
    backbone.eval()
    block = backbone.layer2[index]
    x = torch.randn(4, block.place_channels['before_conv1'], 2, 8, 8)
    torch.testing.assert_close(block(x), slow_block(block, place, x))


@pytest.mark.parametrize(('place', 'residual'), [('before_conv2', False), ('after_block', True)])
def test_residual_is_set_after_a_block_only(place: str, residual: bool) -> None:
    backbone = tiny()
    insert_modules(backbone, dsa_cfg(place=place))
    assert backbone.layer2[0].dsa.residual is residual


def test_residual_of_the_config_has_priority() -> None:
    backbone = tiny()
    insert_modules(backbone, dsa_cfg(place='after_block', residual=False))
    assert backbone.layer2[0].dsa.residual is False


def test_insertion_keeps_existing_keys() -> None:
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


def test_paper_pattern_selects_five_blocks_of_resnet50() -> None:
    with torch.device('meta'):
        backbone = ResNet_I3D(50)
        insert_modules(backbone, dsa_cfg(num_snippets=4, blocks=(0, (0, 1, 0, 1), [0, 1, 0, 1, 0, 1], 0)))
    found = [name for name, module in backbone.named_modules() if isinstance(module, DSA)]
    assert found == ['layer2.1.dsa', 'layer2.3.dsa', 'layer3.1.dsa', 'layer3.3.dsa', 'layer3.5.dsa']


def test_several_modules_in_one_block() -> None:
    backbone = tiny()
    insert_modules(backbone, [dsa_cfg(place='before_conv1'), dsa_cfg(place='before_add', channel_ratio=1.0)])
    block = backbone.layer2[0]
    assert (block.dsa.channels, block.dsa_2.channels) == (2, 8)
    assert block.inserted == {'before_conv1': ['dsa'], 'before_add': ['dsa_2']}


def test_insertion_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, 'dsanet'):
        insert_modules(tiny(18), dsa_cfg(blocks=(0, (0, 1), 1, 0)))
    assert re.search(r'DSA .*before_conv2 .*3 .*layer2\.1, layer3\.0, layer3\.1$', caplog.messages[0])


@pytest.mark.parametrize(
    ('options', 'error', 'text'),
    [
        (
            {'place': 'before_conv3'},
            ValueError,
            "place='before_conv3' .*BasicBlock3d.* before_conv1, before_conv2, before_add, after_block",
        ),
        ({'place': 'before_con2'}, ValueError, "place='before_con2' .*before_conv2"),
        ({'after': 'layer2'}, ValueError, 'module_cfg.blocks .*module_cfg.after'),
        ({'blocks': (0, 0, 0, 0)}, ValueError, r'blocks=\(0, 0, 0, 0\)'),
        ({'blocks': (0, 1, 0)}, ValueError, r'blocks=\(0, 1, 0\) .*4'),
        ({'blocks': (0, (1, 0), 0, 0)}, ValueError, r'blocks\[1\]=\(1, 0\)'),
        ({'blocks': (0, 2, 0, 0)}, ValueError, r'blocks\[1\]=2'),
        ({'kernel': 3}, KeyError, 'module_cfg.kernel .*DSA.*kernel_size'),
        ({'in_channels': 3}, KeyError, 'module_cfg.in_channels .*DSA'),
        ({'type': 'DAS'}, KeyError, "module_cfg.type='DAS' .*DSA"),
        ({'kernel_size': 2}, ValueError, r'module_cfg \(DSA\): kernel_size=2 '),
    ],
)
def test_invalid_module_cfg_raises(options: dict, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        insert_modules(tiny(), dsa_cfg(**options))


def test_missing_blocks_raise() -> None:
    with pytest.raises(KeyError, match='module_cfg.blocks'):
        insert_modules(tiny(), {'type': 'DSA'})


def test_expand_flags_repeats_a_number() -> None:
    assert expand_flags((0, 1, [1, 0, 1]), (1, 2, 3), 'x') == [[False], [True, True], [True, False, True]]


class Scale(nn.Module):
    """A module whose order among others matters."""

    def __init__(self, factor: float, offset: float) -> None:
        super().__init__()
        self.factor, self.offset = factor, offset

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x + self.offset


def test_modules_at_one_place_run_in_order() -> None:
    block = tiny().layer2[0]
    assert block.insert('before_conv2', Scale(2, 0)) == 'scale'
    assert block.insert('before_conv2', Scale(1, 5)) == 'scale_2'
    assert block.insert('before_add', Scale(3, 0)) == 'scale_3'
    x = torch.randn(2, 8, 1, 2, 2)
    torch.testing.assert_close(block.apply_inserted('before_conv2', x), 2 * x + 5)
    torch.testing.assert_close(block.apply_inserted('before_add', x), 3 * x)
    assert block.apply_inserted('after_block', x) is x


@torch.no_grad()
def test_different_modules_work_in_one_network() -> None:
    """TSM's shift, MVF, TAM, a non-local block, DSA and V4D, each at the place of its paper."""
    backbone = ResNet_I3D(10, base_channels=8)
    everywhere = (1, 1, 1, 1)
    insert_modules(
        backbone,
        [
            {'type': 'TemporalShift', 'place': 'before_conv1', 'blocks': everywhere},
            {'type': 'MVF', 'channel_ratio': 0.5, 'place': 'before_conv1', 'blocks': (0, 0, 1, 1)},
            {'type': 'TAM', 'frames_per_snippet': 2, 'blocks': everywhere},
            dsa_cfg(),
            {'type': 'NonLocal3d', 'sub_sample': False, 'place': 'after_block', 'blocks': (0, 1, 0, 0)},
            {'type': 'V4D', 'num_snippets': 2, 'after': ('layer2', 'layer3')},
        ],
    )
    backbone.eval()
    assert backbone.layer2[0].inserted == {
        'before_conv1': ['temporalshift'],
        'before_conv2': ['tam', 'dsa'],
        'after_block': ['nonlocal3d'],
    }
    assert backbone.layer3[0].inserted == {'before_conv1': ['temporalshift', 'mvf'], 'before_conv2': ['tam']}
    assert backbone(torch.randn(4, 3, 2, 32, 32)).shape == (4, 64, 2, 1, 1)
    added = {'.'.join(key.split('.')[:3]) for key in set(backbone.state_dict()) - set(tiny().state_dict())}
    assert {'layer1.0.tam', 'layer3.0.mvf', 'layer2.0.dsa', 'layer2.0.nonlocal3d'} <= added
    assert {'v4d_after_layer2.conv.weight', 'v4d_after_layer3.conv.weight'} <= added


def randomize(backbone: nn.Module) -> nn.Module:
    """Switch to eval mode with random statistics, so that every module has an effect."""
    for module in backbone.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    return backbone.eval()


def slow_forward(backbone: ResNet_I3D, after: dict[str, list[nn.Module]], x: Tensor) -> Tensor:
    """The network written out, with modules after its parts."""

    def then(name: str, y: Tensor) -> Tensor:
        for module in after.get(name, []):
            y = module(y)
        return y

    # A hook is called by the submodule itself, so the parts are computed without it here.
    x = then('conv1', nn.functional.conv3d(x, backbone.conv1.weight, stride=(1, 2, 2), padding=(0, 3, 3)))
    x = then('maxpool', nn.functional.max_pool3d(backbone.bn1(x).relu(), (1, 3, 3), (1, 2, 2), (0, 1, 1)))
    for i, stage in enumerate(backbone.stages):
        for j, block in enumerate(stage):
            x = then(f'layer{i + 1}.{j}', block.forward(x))
        x = then(f'layer{i + 1}', x)
    return x


@pytest.mark.parametrize('names', ['layer2', 'layer2.0', 'conv1', 'maxpool', ['layer1', 'layer3.1']])
@torch.no_grad()
def test_after_runs_module_on_submodule_output(names: str | list[str]) -> None:
    backbone = ResNet_I3D(18, base_channels=4)
    insert_modules(backbone, {'type': 'DSA', 'num_snippets': 2, 'channel_ratio': 1.0, 'after': names})
    randomize(backbone)
    listed = [names] if isinstance(names, str) else names
    after = {name: [getattr(backbone, f'dsa_after_{name.replace(".", "_")}')] for name in listed}
    x = torch.randn(CLIP)
    assert all(module.residual for modules in after.values() for module in modules)
    torch.testing.assert_close(backbone(x), slow_forward(backbone, after, x))
    assert not torch.allclose(backbone(x), slow_forward(backbone, {}, x), rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_modules_after_one_submodule_run_in_order() -> None:
    backbone = tiny()
    insert_modules(
        backbone,
        [
            {'type': 'DSA', 'num_snippets': 2, 'channel_ratio': 1.0, 'residual': False, 'after': 'layer2'},
            {'type': 'TAM', 'frames_per_snippet': 2, 'after': 'layer2'},
        ],
    )
    randomize(backbone)
    dsa, tam = backbone.dsa_after_layer2, backbone.tam_after_layer2
    assert dsa.residual is False
    x = torch.randn(CLIP)
    torch.testing.assert_close(backbone(x), slow_forward(backbone, {'layer2': [dsa, tam]}, x))
    assert not torch.allclose(backbone(x), slow_forward(backbone, {'layer2': [tam, dsa]}, x), rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_after_works_in_torchvision_networks() -> None:
    backbone = TorchvisionVideo('r3d_18')
    insert_modules(backbone, {'type': 'DSA', 'num_snippets': 2, 'after': ('net.layer2', 'net.layer3.0')})
    randomize(backbone)
    assert backbone.dsa_after_net_layer2.channels == 128 // 8
    assert backbone.dsa_after_net_layer3_0.channels == 256 // 8
    net, x = backbone.net, torch.randn(CLIP)
    y = net.layer1(net.stem(x))
    for block in net.layer2:
        y = block(y)
    y = backbone.dsa_after_net_layer2(y)
    y = net.layer3[1](backbone.dsa_after_net_layer3_0(net.layer3[0].forward(y)))
    torch.testing.assert_close(backbone(x).flatten(1), net.layer4(y).mean(dim=(2, 3, 4)), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_after_handles_channels_last_features() -> None:
    backbone = TorchvisionVideo('swin3d_t')
    insert_modules(
        backbone, {'type': 'DSA', 'num_snippets': 2, 'channel_ratio': 1.0, 'after': ('net.features.2', 'net.avgpool')}
    )
    randomize(backbone)
    net, x = backbone.net, torch.randn(2, 3, 2, 32, 32)
    first, last = backbone.dsa_after_net_features_2, backbone.dsa_after_net_avgpool
    assert (first.channels, last.channels) == (192, 768)
    y = net.pos_drop(net.patch_embed(x))  # (B, T, H, W, C)
    for i, stage in enumerate(net.features):
        y = stage.forward(y)
        if i == 2:
            y = first(y.permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1)
    y = last(net.norm(y).mean(dim=(1, 2, 3))[..., None, None, None])
    torch.testing.assert_close(backbone(x), y, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_deepcopy_uses_its_own_inserted_modules() -> None:
    """Averaged weights (EMA) are such a copy."""
    backbone = tiny()
    insert_modules(backbone, {'type': 'V4D', 'num_snippets': 2, 'after': 'layer2'})
    x = torch.randn(CLIP)
    before = backbone(x)
    copied = copy.deepcopy(backbone)
    nn.init.normal_(copied.v4d_after_layer2.conv.weight)
    assert torch.equal(backbone(x), before)
    assert not torch.allclose(copied(x), before, rtol=1e-3, atol=1e-3)
    nn.init.normal_(backbone.v4d_after_layer2.conv.weight)
    copied.load_state_dict(backbone.state_dict())
    assert torch.equal(copied(x), backbone(x))


def test_after_keeps_existing_keys() -> None:
    plain, backbone = set(tiny().state_dict()), tiny()
    insert_modules(backbone, {'type': 'DSA', 'num_snippets': 2, 'channel_ratio': 0.5, 'after': 'layer2.0'})
    added = set(backbone.state_dict()) - plain
    assert plain <= set(backbone.state_dict())
    assert {key.split('.')[0] for key in added} == {'dsa_after_layer2_0'}
    assert 'dsa_after_layer2_0.generate.0.weight' in added


def test_insertion_after_submodules_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, 'dsanet'):
        insert_modules(tiny(), {'type': 'DSA', 'num_snippets': 2, 'channel_ratio': 0.5, 'after': ['layer1', 'layer2']})
    assert re.search('DSA .*layer1, layer2$', caplog.messages[0])


def test_to_meta_does_not_change_the_backbone() -> None:
    """The copy includes modules inserted after submodules."""
    backbone = tiny().train()
    insert_modules(backbone, {'type': 'DSA', 'num_snippets': 2, 'channel_ratio': 0.5, 'after': 'layer2'})
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    copied = to_meta(backbone)
    assert {tensor.device.type for tensor in copied.state_dict().values()} == {'meta'}
    assert copied(torch.zeros(CLIP, device='meta')).shape == backbone.eval()(torch.zeros(CLIP)).shape
    backbone.train()
    assert not any(module.training for module in copied.modules())
    assert all(parameter.requires_grad for parameter in backbone.parameters())
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


def test_probe_channels_does_not_change_the_backbone() -> None:
    backbone = tiny(50).train()
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    assert probe_channels(backbone, ['conv1', 'layer1', 'layer2.0.conv1', 'layer4']) == {
        'conv1': 4,
        'layer1': 16,
        'layer2.0.conv1': 8,
        'layer4': 128,
    }
    assert all(torch.equal(v, before[k]) for k, v in backbone.state_dict().items())
    assert not any(module._forward_hooks for module in backbone.modules())
    assert all(module.training for module in backbone.modules())


@pytest.mark.parametrize('module_cfg', [None, []])
def test_empty_module_cfg_changes_nothing(module_cfg: list | None) -> None:
    backbone = tiny()
    before = set(dict(backbone.named_modules()))
    insert_modules(backbone, module_cfg)
    assert set(dict(backbone.named_modules())) == before


AFTER = {'type': 'DSA', 'num_snippets': 2, 'channel_ratio': 1.0}


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        ({'after': 'layer22'}, "module_cfg.after='layer22' .*'layer2'"),
        ({'after': ['layer1', 'layr2']}, "module_cfg.after='layr2' .*'layer2'"),
        ({'after': ''}, "module_cfg.after=''"),
        ({'after': []}, 'module_cfg.after'),
        ({'after': ['layer2', 'layer2']}, "module_cfg.after.*DSA.*'layer2'"),
        ({'after': 'layer2', 'place': 'before_conv2'}, 'module_cfg.place .*module_cfg.after'),
        ({'after': 'layer2', 'blocks': (0, 1, 0, 0)}, '_delete_=True'),
        ({'after': 'layer2', 'kernel_size': 2}, r'module_cfg \(DSA\): kernel_size=2 '),
    ],
)
def test_invalid_after_raises(options: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        insert_modules(tiny(), {**AFTER, **options})


def test_same_module_twice_after_a_submodule_raises() -> None:
    with pytest.raises(ValueError, match="DSA.*'layer2'"):
        insert_modules(tiny(), [{**AFTER, 'after': 'layer2'}, {**AFTER, 'after': 'layer2'}])


MODULES = {
    'DSA': {'type': 'DSA', 'num_snippets': 2, 'channel_ratio': 0.5},
    'TAM': {'type': 'TAM', 'frames_per_snippet': 2},
    'MVF': {'type': 'MVF', 'channel_ratio': 0.5},
    'V4D': {'type': 'V4D', 'num_snippets': 2},
}
TOKENS = [('DSA', 'net.blocks.0', TinyMViT), *((kind, 'net.blocks.1', TinyMViT) for kind in MODULES)]
STAGES = [('DSA', f'net.features.{i}', TinySwin) for i in (0, 2)]
STAGES += [(kind, 'net.features.1', TinySwin) for kind in MODULES]


def token_grid(name: str) -> tuple[int, int, int]:
    return (2, 4, 8) if name == 'net.blocks.0' else (2, 2, 4)


def record_inputs(backbone: nn.Module, name: str) -> list[Tensor]:
    """Return the list that gets the input of a block in a forward pass."""
    found: list[Tensor] = []
    backbone.get_submodule(name).register_forward_pre_hook(lambda _module, args: found.append(args[0]))
    return found


@pytest.mark.parametrize(('kind', 'name', 'network'), TOKENS + STAGES)
@torch.no_grad()
def test_module_gets_features_of_token_networks(kind: str, name: str, network: type[TorchvisionVideo]) -> None:
    """The input of the next block is the output of the block, changed by the module at its positions."""
    torch.manual_seed(0)
    backbone = network()
    plain = copy.deepcopy(backbone).eval()
    insert_modules(backbone, {**MODULES[kind], 'after': name})
    module = backbone.get_submodule(f'{kind.lower()}_after_{name.replace(".", "_")}')
    if kind == 'V4D':
        nn.init.normal_(module.conv.weight, std=0.1)
    randomize(backbone)
    following = f'{name[:-1]}{int(name[-1]) + 1}' if name != 'net.features.2' else 'net.norm'
    x = torch.randn(TINY_CLIP)
    before, after = record_inputs(plain, following), record_inputs(backbone, following)
    scores, changed = plain(x), backbone(x)
    expected = before[0].clone()
    if network is TinyMViT:
        frames, height, width = token_grid(name)
        features = torch.zeros(2, expected.shape[2], frames, height, width)
        for t, h, w in itertools.product(range(frames), range(height), range(width)):
            features[:, :, t, h, w] = expected[:, 1 + (t * height + h) * width + w]
        features = module(features)
        for t, h, w in itertools.product(range(frames), range(height), range(width)):
            expected[:, 1 + (t * height + h) * width + w] = features[:, :, t, h, w]
        assert torch.equal(after[0][:, 0], before[0][:, 0]), 'the class token is not changed'
    else:
        expected = module(expected.permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1)
    torch.testing.assert_close(after[0], expected)
    assert not torch.allclose(after[0], before[0], rtol=1e-3, atol=1e-4)
    assert not torch.equal(scores, changed)


@pytest.mark.parametrize(('network', 'name'), [(TinyMViT, 'net.blocks.1'), (TinySwin, 'net.features.1')])
@torch.no_grad()
def test_v4d_starts_as_identity_in_token_networks(network: type[TorchvisionVideo], name: str) -> None:
    backbone = network().eval()
    x = torch.randn(TINY_CLIP)
    before = backbone(x)
    insert_modules(backbone, {**MODULES['V4D'], 'after': name})
    assert torch.equal(backbone(x), before)


@pytest.mark.parametrize(('network', 'name'), [(TinyMViT, 'net.blocks.0'), (TinySwin, 'net.features.0')])
def test_token_networks_train_and_reload(network: type[TorchvisionVideo], name: str) -> None:
    cfg = [{**module, 'after': name} for module in MODULES.values()]
    backbone, other = network(), network()
    insert_modules(backbone, cfg)
    insert_modules(other, cfg)
    backbone(torch.randn(TINY_CLIP)).square().sum().backward()
    for key, parameter in backbone.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
    inserted = [key for key, parameter in backbone.named_parameters() if '_after_' in key and parameter.grad.any()]
    assert {key.split('_')[0] for key in inserted} == {'dsa', 'tam', 'mvf', 'v4d'}
    other.load_state_dict(backbone.state_dict())
    x = torch.randn(TINY_CLIP)
    assert torch.equal(other.eval()(x), backbone.eval()(x))


@pytest.mark.sweep
@pytest.mark.parametrize(('network', 'name'), [(TinyMViT, 'net.blocks.0'), (TinySwin, 'net.features.0')])
@torch.no_grad()
def test_token_networks_export_with_any_batch_size(network: type[TorchvisionVideo], name: str) -> None:
    backbone = network()
    insert_modules(backbone, [{**MODULES['DSA'], 'after': name}, {**MODULES['TAM'], 'after': name}])
    randomize(backbone)
    x = torch.randn(4, *TINY_CLIP[1:])
    exported = torch.export.export(backbone, (x,), dynamic_shapes=({0: torch.export.Dim('batch') * 2},))
    larger = torch.randn(6, *TINY_CLIP[1:])
    torch.testing.assert_close(exported.module()(larger), backbone(larger), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ('after', 'found'),
    [
        ('net', r'\(1, 16\)'),
        ('net.blocks', 'not called'),
        ('net.blocks.0.attn.pool_k', r'\(1, 1, 17, 8\)'),
        ('net.blocks.1.attn.pool_k.pool', r'\(2, 8, 2, 2, 4\)'),  # a head in the place of a snippet
    ],
)
def test_after_outputs_without_positions_raises(after: str, found: str) -> None:
    with pytest.raises(ValueError, match=rf"module_cfg.after='{after}' .*{found}"):
        insert_modules(TinyMViT(), {**AFTER, 'after': after})


def test_features_that_do_not_fit_the_grid_raise() -> None:
    backbone = TinyMViT()
    insert_modules(backbone, {**AFTER, 'after': 'net.blocks.0'})
    hook = next(iter(backbone.net.blocks[0]._forward_hooks.values()))
    with pytest.raises(ValueError, match=r"'net.blocks.0' .*\(2, 64, 8\)"):
        hook(backbone.net.blocks[0], (), (torch.zeros(2, 64, 8), (2, 4, 8)))


def test_blocks_of_torchvision_network_raise() -> None:
    with torch.device('meta'):
        backbone = TorchvisionVideo('r3d_18')
    with pytest.raises(ValueError, match='TorchvisionVideo.*module_cfg.after'):
        insert_modules(backbone, dsa_cfg())


@pytest.mark.parametrize(
    ('cfg', 'text'),
    [
        ({'blocks': 1}, 'module_cfg.blocks=1'),
        ({'blocks': (0, 1.5, 1, 0)}, r'module_cfg.blocks\[1\]=1.5'),
        ({'after': 3}, 'module_cfg.after=3'),
        ({'after': None}, 'module_cfg.after=None'),
        ({'type': 'FocalLoss'}, "module_cfg.type='FocalLoss' .*DSA"),
        ({'type': 'I3DClsHead', 'num_classes': 2}, "module_cfg.type='I3DClsHead' .*DSA"),
    ],
)
def test_wrong_types_in_module_cfg_raise(cfg: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        insert_modules(tiny(), {'type': 'DSA', 'num_snippets': 2, **cfg})


def test_after_a_submodule_that_runs_twice_raises() -> None:
    with pytest.raises(ValueError, match="module_cfg.after='layer2.0.relu' .*2 "):
        insert_modules(tiny(), {'type': 'DSA', 'num_snippets': 2, 'after': 'layer2.0.relu'})
