from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dsanet.models.backbones.r2plus1d import R2Plus1D
from dsanet.models.backbones.residual import (
    ResidualBackbone,
    ResidualBlock,
    conv3d,
    frozen_statistics,
    stochastic_depth_rates,
)
from dsanet.models.backbones.resnet import ResNet
from dsanet.models.backbones.resnet_i3d import BasicBlock3d, Bottleneck3d, ResNet_I3D
from dsanet.models.backbones.resnet_tsm import ResNetTSM
from dsanet.models.modules_maker.block_maker import insert_modules


@pytest.mark.parametrize('kernel', [(1, 1, 1), (3, 1, 1), (1, 3, 3), (5, 7, 7)])
def test_convolution_changes_size_by_stride_only(kernel: tuple[int, int, int]) -> None:
    x = torch.empty(1, 2, 8, 16, 12, device='meta')
    with torch.device('meta'):
        assert conv3d(2, 3, kernel)(x).shape == (1, 3, 8, 16, 12)
        assert conv3d(2, 3, kernel, (2, 2, 4))(x).shape == (1, 3, 4, 8, 3)
        assert conv3d(2, 3, kernel).bias is None


def test_shortcut_has_weights_only_if_shapes_differ() -> None:
    assert BasicBlock3d(4, 4).downsample is None
    assert BasicBlock3d(4, 8).downsample is not None
    assert BasicBlock3d(4, 4, stride=(2, 1, 1)).downsample is not None
    assert Bottleneck3d(4, 4).downsample is not None
    assert Bottleneck3d(16, 4).downsample is None


def test_stochastic_depth_rises_in_equal_steps() -> None:
    assert stochastic_depth_rates(0.4, 4) == pytest.approx([0.1, 0.2, 0.3, 0.4])
    backbone = ResNet_I3D(18, base_channels=4, stochastic_depth=0.8)
    rates = [block.stochastic_depth.p for stage in backbone.stages for block in stage]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
    plain = ResNet_I3D(18, base_channels=4)
    assert all(block.stochastic_depth is None for stage in plain.stages for block in stage)
    assert set(plain.state_dict()) == set(backbone.state_dict())


@pytest.mark.parametrize('last', [-0.1, 1.0])
def test_stochastic_depth_out_of_range_raises(last: float) -> None:
    with pytest.raises(ValueError, match=rf'stochastic_depth={last}.*\[0, 1\)'):
        ResNet_I3D(10, base_channels=4, stochastic_depth=last)


@torch.no_grad()
def test_stochastic_depth_is_off_in_eval_mode() -> None:
    plain = ResNet_I3D(10, base_channels=4).eval()
    backbone = ResNet_I3D(10, base_channels=4, stochastic_depth=0.9).eval()
    backbone.load_state_dict(plain.state_dict())
    x = torch.randn(3, 3, 2, 32, 32)
    assert torch.equal(backbone(x), plain(x))


@pytest.mark.parametrize(('kind', 'channels'), [(BasicBlock3d, 16), (Bottleneck3d, 4)])
@torch.no_grad()
def test_stochastic_depth_drops_branches_and_scales_others(kind: type[ResidualBlock], channels: int) -> None:
    block = kind(16, channels, stochastic_depth=0.25)
    for module in block.modules():
        if isinstance(module, _BatchNorm):
            module.eval()  # so that the branch of a snippet is the same each time
            nn.init.ones_(module.bias)  # so that no ReLU makes a branch zero, as if it were dropped
    x = torch.randn(400, 16, 1, 3, 3)
    branch = block.branch(x)
    y = block(x)
    dropped = ((y - x.relu()).abs() < 1e-5).flatten(1).all(1)
    kept = ((y - (x + branch / 0.75).relu()).abs() < 1e-5).flatten(1).all(1)
    assert (dropped ^ kept).all()
    assert 60 < dropped.sum() < 140


def one_step(model: nn.Module, x: Tensor) -> list[Tensor]:
    """Train one step; return the loss, the gradients and the state dict."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    torch.manual_seed(1)
    loss = model(x).square().mean()
    loss.backward()
    optimizer.step()
    return [loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None), *model.state_dict().values()]


def assert_same_with_checkpointing(make: Callable[[bool], nn.Module], x: Tensor) -> None:
    """Check that a step with and without activation checkpointing is bit-identical, and that it was in use."""
    results = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = make(checkpointing)
        calls: list[int] = []
        block = next(module for module in model.modules() if isinstance(module, ResidualBlock) and module.training)
        block.branch = lambda x, branch=block.branch, calls=calls: (calls.append(1), branch(x))[1]
        results.append((one_step(model, x), len(calls)))
    (plain, plain_calls), (checkpointed, calls) = results
    assert (plain_calls, calls) == (1, 2)
    assert len(plain) == len(checkpointed)
    for one, other in zip(plain, checkpointed, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


# Modules to insert: at every place, and after submodules of blocks, a norm among them.
DSA = {'type': 'DSA', 'num_snippets': 2, 'channel_ratio': 1.0}
PLACES = ('before_block', 'before_conv1', 'before_conv2', 'before_conv3', 'before_add', 'after_block')
INSERTED: dict[str, list[dict]] = {
    'nothing': [],
    'places': [{**DSA, 'place': place, 'blocks': (0, 1, 0, 0)} for place in PLACES],
    'after': [{**DSA, 'after': ('layer2.0.conv1', 'layer2.0.bn2', 'layer3.0')}],
    'others': [
        {'type': 'TAM', 'frames_per_snippet': 4, 'blocks': (1, 0, 0, 0)},
        {'type': 'MVF', 'channel_ratio': 1.0, 'blocks': (0, 1, 0, 0)},
        {'type': 'V4D', 'num_snippets': 2, 'blocks': (0, 0, 1, 0)},
        {'type': 'NonLocal3d', 'place': 'after_block', 'blocks': (0, 0, 1, 0)},
        {'type': 'TemporalShift', 'shift_div': 4, 'blocks': (1, 0, 0, 0)},
    ],
}
BACKBONES: dict[str, Callable[..., ResidualBackbone]] = {
    'ResNet_I3D': lambda **options: ResNet_I3D(50, base_channels=4, **options),
    'ResNet': lambda **options: ResNet(18, base_channels=4, **options),
    'ResNetTSM': lambda **options: ResNetTSM(10, base_channels=8, **options),
    'R2Plus1D': lambda **options: R2Plus1D(10, base_channels=8, **options),
}


@pytest.mark.parametrize(
    ('name', 'inserted'),
    [
        ('ResNet_I3D', 'places'),
        ('ResNet_I3D', 'others'),
        ('ResNet', 'after'),
        ('ResNetTSM', 'places'),
        ('R2Plus1D', 'nothing'),
        ('R2Plus1D', 'after'),
    ],
)
def test_activation_checkpointing_is_bit_identical(name: str, inserted: str) -> None:
    def make(checkpointing: bool) -> nn.Module:
        backbone = BACKBONES[name](activation_checkpointing=checkpointing)
        places = backbone.layer1[0].place_channels
        insert_modules(backbone, [cfg for cfg in INSERTED[inserted] if cfg.get('place', 'before_conv2') in places])
        return backbone.train()

    assert_same_with_checkpointing(make, torch.randn(2, 3, 4, 32, 32))


@pytest.mark.parametrize(
    'options', [{'stochastic_depth': 0.5}, {'norm_eval': True}, {'partial_bn': True}, {'frozen_stages': 1}]
)
def test_activation_checkpointing_works_with_other_options(options: dict) -> None:
    def make(checkpointing: bool) -> nn.Module:
        return with_dsa(activation_checkpointing=checkpointing, **options)

    assert_same_with_checkpointing(make, torch.randn(4, 3, 2, 32, 32))


class Dropped(nn.Dropout):
    """Dropout that can be inserted."""


def test_activation_checkpointing_repeats_dropout() -> None:
    def make(checkpointing: bool) -> nn.Module:
        backbone = ResNet_I3D(10, base_channels=4, activation_checkpointing=checkpointing)
        backbone.layer2[0].insert('before_conv2', Dropped())
        return backbone

    assert_same_with_checkpointing(make, torch.randn(4, 3, 2, 32, 32))


def test_activation_checkpointing_works_with_ddp(tmp_path: Path) -> None:
    dist.init_process_group('gloo', f'file://{tmp_path}/group', rank=0, world_size=1)

    def make(checkpointing: bool) -> nn.Module:
        return nn.parallel.DistributedDataParallel(with_dsa(activation_checkpointing=checkpointing))

    assert_same_with_checkpointing(make, torch.randn(4, 3, 2, 32, 32))
    dist.destroy_process_group()


@pytest.mark.sweep
def test_compiled_activation_checkpointing_counts_batches_once() -> None:
    buffers = []
    for is_compiled in (False, True):
        torch.manual_seed(0)
        backbone = ResNet_I3D(10, base_channels=4, stochastic_depth=0.1, activation_checkpointing=True)
        insert_modules(backbone, [{**DSA, 'blocks': (0, 1, 0, 0)}, {**DSA, 'after': 'layer3.0.conv1'}])
        if is_compiled:
            backbone.compile(backend='aot_eager')
        torch.manual_seed(1)
        one_step(backbone, torch.randn(2, 3, 2, 32, 32))
        buffers.append(dict(backbone.named_buffers()))
    for name, buffer in buffers[0].items():
        torch.testing.assert_close(buffers[1][name], buffer)
    torch.compiler.reset()


def test_activation_checkpointing_keeps_state_dict_keys() -> None:
    for make in BACKBONES.values():
        plain, checkpointed = make().state_dict(), make(activation_checkpointing=True).state_dict()
        assert list(plain) == list(checkpointed)


def with_dsa(**options: object) -> ResNet_I3D:
    """A network with one DSA inside a block and one after a stage."""
    backbone = ResNet_I3D(10, base_channels=4, **options)
    dsa = {'type': 'DSA', 'num_snippets': 2, 'channel_ratio': 1.0}
    insert_modules(backbone, [{**dsa, 'blocks': (0, 1, 0, 0)}, {**dsa, 'after': 'layer3'}])
    return backbone.train()


NORMS_OF_BLOCKS = {
    f'layer{i}.0.{norm}' for i in range(1, 5) for norm in ('bn1', 'bn2', 'downsample.1') if (i, norm[0]) != (1, 'd')
}


def test_partial_bn_freezes_norms_of_blocks_only() -> None:
    backbone = with_dsa(partial_bn=True)
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in backbone.parameters() if p.requires_grad], lr=0.1)
    backbone(torch.randn(4, 3, 2, 32, 32)).square().sum().backward()
    optimizer.step()
    norms = {name for name, module in backbone.named_modules() if isinstance(module, _BatchNorm)}
    unchanged = {name for name in norms if torch.equal(backbone.get_submodule(name).weight, before[f'{name}.weight'])}
    still = {
        name for name in norms if torch.equal(backbone.get_submodule(name).running_mean, before[f'{name}.running_mean'])
    }
    assert unchanged == still == NORMS_OF_BLOCKS
    assert norms - still == {'bn1', 'layer2.0.dsa.generate.1', 'dsa_after_layer3.generate.1'}
    without_gradient = {name for name, p in backbone.named_parameters() if p.grad is None}
    assert without_gradient == {f'{name}.{kind}' for name in NORMS_OF_BLOCKS for kind in ('weight', 'bias')}


def test_partial_bn_survives_train_and_eval() -> None:
    backbone = with_dsa(partial_bn=True)
    backbone.eval()
    assert not any(module.training for module in backbone.modules())
    backbone.train()
    training = {n for n, m in backbone.named_modules() if isinstance(m, _BatchNorm) and m.training}
    assert training == {'bn1', 'layer2.0.dsa.generate.1', 'dsa_after_layer3.generate.1'}


def test_norm_eval_applies_to_all_norms() -> None:
    backbone = with_dsa(norm_eval=True)
    assert not any(m.training for m in backbone.modules() if isinstance(m, _BatchNorm))
    assert all(p.requires_grad for p in backbone.parameters())


def test_frozen_statistics_restores_the_buffers() -> None:
    module = nn.Sequential(nn.BatchNorm3d(2), nn.BatchNorm3d(2, momentum=None), nn.BatchNorm3d(2).eval())
    module.append(nn.BatchNorm3d(2, track_running_stats=False))
    buffers = dict(module.named_buffers())
    before = {k: v.clone() for k, v in buffers.items()}
    x = torch.randn(4, 2, 1, 3, 3) + 5
    with frozen_statistics(module):
        frozen = module(x)
    assert all(value is buffers[name] for name, value in module.named_buffers())
    assert all(torch.equal(v, before[k]) for k, v in buffers.items())
    with frozen_statistics(module):
        module(x / 0)
    assert all(torch.equal(v, before[k]) for k, v in buffers.items())
    assert torch.equal(module(x), frozen)  # of the batch in both cases
    assert (module[0].running_mean != 0).all()
    assert module[1].num_batches_tracked == 1


def test_frozen_statistics_restores_buffers_after_error() -> None:
    module = nn.BatchNorm3d(2)
    before = module.running_mean
    with pytest.raises(RuntimeError, match='broken'), frozen_statistics(module):
        raise RuntimeError('broken')
    assert module.running_mean is before
