"""Weights of SlowFast, X3D and TRN with the names and shapes of other projects fill our models of full size."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dsanet.models.weights.convolutional import find_pyslowfast_strides
from dsanet.models.weights.layouts import find_layout
from tests.models.weights.test_layouts import assert_all_fits, empty, linear, mmaction2_names, norm, our_model, resnet

State = dict[str, Tensor]
Names = Callable[..., tuple[str, str]]  # path, stage, block, letter of a convolution to its name and that of its norm
BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
X3D_BLOCKS = {2.2: (3, 5, 11, 7), 5.0: (5, 10, 25, 15)}
SQUEEZED = {54: 8, 108: 8, 216: 16, 432: 32}


def conv(key: str, outputs: int, inputs: int, *kernel: int) -> State:
    return {f'{key}.weight': empty(outputs, inputs, *kernel)}


def slowfast(depth: int, stem: Names, lateral: Names, block: Names, kernel_t: int, lateral_norm: bool = True) -> State:
    """Build the weights of SlowFast; path 0 is the slow one."""
    state: State = {}
    for path, width in ((0, 64), (1, 8)):
        name, its_norm = stem(path)
        state |= conv(name, width, 3, 5 if path else 1, 7, 7) | norm(its_norm, width)
        inputs = width
        for i, size in enumerate(BLOCKS[depth]):
            inner = width * 2**i
            inputs += 0 if path else inputs // 4  # the lateral connection: twice an eighth
            length = 3 if path or i >= 2 else 1
            for j in range(size):
                shapes = {'a': (inner, inputs, length, 1, 1), 'b': (inner, inner, 1, 3, 3)}
                shapes['c'] = (4 * inner, inner, 1, 1, 1)
                if j == 0:
                    shapes['shortcut'] = (4 * inner, inputs, 1, 1, 1)
                for letter, shape in shapes.items():
                    name, its_norm = block(path, i, j, letter)
                    state |= conv(name, *shape) | norm(its_norm, shape[0])
                inputs = 4 * inner
    for i, channels in enumerate((8, 32, 64, 128)):
        name, its_norm = lateral(i)
        state |= conv(name, 2 * channels, channels, kernel_t, 1, 1)
        if lateral_norm:
            state |= norm(its_norm, 2 * channels)
    return state


def x3d(factor: float, block: Names, gates: tuple[str, str], first_shortcut_norm: bool) -> State:
    """Build the weights of the blocks of X3D; ``gates`` are the names of the layers of squeeze and excitation."""
    state: State = {}
    inputs = 24
    for i, size in enumerate(X3D_BLOCKS[factor]):
        width = 24 * 2**i
        inner = width * 9 // 4
        for j in range(size):
            shapes = {'a': (inner, inputs, 1, 1, 1), 'b': (inner, 1, 3, 3, 3), 'c': (width, inner, 1, 1, 1)}
            if j == 0:
                shapes['shortcut'] = (width, inputs, 1, 1, 1)
            for letter, shape in shapes.items():
                name, its_norm = block(0, i, j, letter)
                state |= conv(name, *shape)
                if letter != 'shortcut' or i > 0 or first_shortcut_norm:
                    state |= norm(its_norm, shape[0])
            if j % 2 == 0:
                start = block(0, i, j, '')[0]
                for key, shape in zip(gates, ((SQUEEZED[inner], inner), (inner, SQUEEZED[inner])), strict=True):
                    state |= conv(f'{start}.{key}', *shape, 1, 1, 1) | {f'{start}.{key}.bias': empty(shape[0])}
            inputs = width
    return state


def pytorchvideo_block(path: int, stage: int, block: int, letter: str, pathways: str = '') -> tuple[str, str]:
    start = f'blocks.{stage + 1}{pathways.format(path)}.res_blocks.{block}'
    if letter == 'shortcut':
        return f'{start}.branch1_conv', f'{start}.branch1_norm'
    # X3D has its gate after the second norm, which is then the first of two.
    suffix = '.0' if letter == 'b' and not pathways else ''
    return (f'{start}.branch2.conv_{letter}', f'{start}.branch2.norm_{letter}{suffix}') if letter else (start, '')


def pytorchvideo_slowfast(depth: int, kernel_t: int) -> State:
    pathways = '.multipathway_blocks.{}'
    return slowfast(
        depth,
        lambda path: (f'blocks.0{pathways.format(path)}.conv', f'blocks.0{pathways.format(path)}.norm'),
        lambda i: (f'blocks.{i}.multipathway_fusion.conv_fast_to_slow', f'blocks.{i}.multipathway_fusion.norm'),
        lambda *place: pytorchvideo_block(*place, pathways=pathways),
        kernel_t,
    ) | linear('blocks.6.proj', 2304)


def pytorchvideo_x3d(factor: float) -> State:
    gates = ('branch2.norm_b.1.block.0', 'branch2.norm_b.1.block.2')
    state = x3d(factor, pytorchvideo_block, gates, first_shortcut_norm=False)
    state |= conv('blocks.0.conv.conv_t', 24, 3, 1, 3, 3) | conv('blocks.0.conv.conv_xy', 24, 1, 5, 1, 1)
    state |= norm('blocks.0.norm', 24) | conv('blocks.5.pool.pre_conv', 432, 192, 1, 1, 1)
    state |= norm('blocks.5.pool.pre_norm', 432) | conv('blocks.5.pool.post_conv', 2048, 432, 1, 1, 1)
    return state | linear('blocks.5.proj', 2048)


def pyslowfast_block(path: int, stage: int, block: int, letter: str) -> tuple[str, str]:
    start = f's{stage + 2}.pathway{path}_res{block}'
    if letter == 'shortcut':
        return f'{start}.branch1', f'{start}.branch1_bn'
    return (f'{start}.branch2.{letter}', f'{start}.branch2.{letter}_bn') if letter else (f'{start}.branch2', '')


def pyslowfast_slowfast(depth: int, kernel_t: int) -> State:
    return slowfast(
        depth,
        lambda path: (f's1.pathway{path}_stem.conv', f's1.pathway{path}_stem.bn'),
        lambda i: (f's{i + 1}_fuse.conv_f2s', f's{i + 1}_fuse.bn'),
        pyslowfast_block,
        kernel_t,
    ) | linear('head.projection', 2304)


def pyslowfast_x3d(factor: float) -> State:
    state = x3d(factor, pyslowfast_block, ('se.fc1', 'se.fc2'), first_shortcut_norm=True)
    state |= conv('s1.pathway0_stem.conv_xy', 24, 3, 1, 3, 3) | conv('s1.pathway0_stem.conv', 24, 1, 5, 1, 1)
    state |= norm('s1.pathway0_stem.bn', 24) | conv('head.conv_5', 432, 192, 1, 1, 1)
    state |= norm('head.conv_5_bn', 432) | conv('head.lin_5', 2048, 432, 1, 1, 1)
    return state | linear('head.projection', 2048)


def pyslowfast_resnet(stem: int = 1, late: int = 3) -> State:
    """Build Slow-R50, or with longer filters the start of I3D."""

    def names(key: str) -> tuple[str, str]:
        if key == 'conv1':
            return 's1.pathway0_stem.conv', 's1.pathway0_stem.bn'
        stage, block, part = key.removeprefix('layer').split('.', 2)
        letter = 'shortcut' if part.startswith('downsample') else 'abc'[int(part[-1]) - 1]
        return pyslowfast_block(0, int(stage) - 1, int(block), letter)

    def length(key: str) -> int:
        return stem if key == 'conv1' else late if key.endswith('.conv1') and key[5] in '34' else 1

    return resnet(50, names, length) | linear('head.projection', 2048)


def mmaction2_block(path: int, stage: int, block: int, letter: str, start: str = '') -> tuple[str, str]:
    start = f'backbone.{start}layer{stage + 1}.{block}'
    name = 'downsample' if letter == 'shortcut' else f'conv{"abc".find(letter) + 1}'
    return (f'{start}.{name}.conv', f'{start}.{name}.bn') if letter else (start, '')


def mmaction2_slowfast(depth: int, kernel_t: int) -> State:
    paths = ('slow_path.', 'fast_path.')
    return slowfast(
        depth,
        lambda path: (f'backbone.{paths[path]}conv1.conv', f'backbone.{paths[path]}conv1.bn'),
        lambda i: (f'backbone.slow_path.{f"layer{i}" if i else "conv1"}_lateral.conv', ''),
        lambda path, *place: mmaction2_block(path, *place, start=paths[path]),
        kernel_t,
        lateral_norm=False,
    )


def mmaction2_x3d(factor: float) -> State:
    state = x3d(factor, mmaction2_block, ('se_module.fc1', 'se_module.fc2'), first_shortcut_norm=True)
    state |= conv('backbone.conv1_s.conv', 24, 3, 1, 3, 3) | conv('backbone.conv1_t.conv', 24, 1, 5, 1, 1)
    state |= norm('backbone.conv1_t.bn', 24) | conv('backbone.conv5.conv', 432, 192, 1, 1, 1)
    state |= norm('backbone.conv5.bn', 432) | {'cls_head.fc1.weight': empty(2048, 432)}
    return state | linear('cls_head.fc2', 2048)


def mmaction2_csn(mode: str) -> State:
    """Build CSN-50, whose second convolutions are channelwise; 'ip' has another one before."""

    def names(key: str) -> tuple[str, str]:
        name, its_norm = mmaction2_names(key)
        if key.endswith('.conv2'):
            start = name.removesuffix('.conv') + ('.1' if mode == 'ip' else '.0')
            return f'{start}.conv', f'{start}.bn'
        return name, its_norm

    state = resnet(50, names, lambda key: 3 if key == 'conv1' or key.endswith('.conv2') else 1)
    for key, value in list(state.items()):
        if '.conv2.' in key and key.endswith('conv.weight'):
            channels = len(value)
            state[key] = empty(channels, 1, 3, 3, 3)
            if mode == 'ip':
                start = key.removesuffix('.1.conv.weight')
                state |= conv(f'{start}.0.conv', channels, channels, 1, 1, 1) | norm(f'{start}.0.bn', channels)
    return state | linear('cls_head.fc_cls', 2048)


R50 = {'type': 'SlowFast', 'depth': 50, 'lateral_kernel_t': 7}
R101 = {'type': 'SlowFast', 'depth': 101}
SMALL, LARGE = {'type': 'X3D', 'depth_factor': 2.2}, {'type': 'X3D', 'depth_factor': 5.0}
CASES: dict[str, tuple[str, Callable[[], State], dict[str, Any], int, tuple[str, str]]] = {
    # name of the layout, weights, our backbone, channels, (one of their keys, our key for it)
    'slowfast_r50': (
        "PyTorchVideo's SlowFast",
        lambda: pytorchvideo_slowfast(50, 7),
        R50,
        2304,
        (
            'blocks.2.multipathway_blocks.1.res_blocks.0.branch1_norm.bias',
            'backbone.fast_path.layer2.0.downsample.1.bias',
        ),
    ),
    'slowfast_r101': (
        "PyTorchVideo's SlowFast",
        lambda: pytorchvideo_slowfast(101, 5),
        R101,
        2304,
        ('blocks.3.multipathway_fusion.norm.bias', 'backbone.laterals.3.1.bias'),
    ),
    'x3d_s': (
        "PyTorchVideo's X3D",
        lambda: pytorchvideo_x3d(2.2),
        SMALL,
        2048,
        ('blocks.1.res_blocks.2.branch2.norm_b.1.block.2.bias', 'backbone.layer1.2.se.fc2.bias'),
    ),
    'x3d_l': (
        "PyTorchVideo's X3D",
        lambda: pytorchvideo_x3d(5.0),
        LARGE,
        2048,
        ('blocks.4.res_blocks.14.branch2.norm_b.0.bias', 'backbone.layer4.14.bn2.bias'),
    ),
    'pyslowfast r50': (
        "PySlowFast's SlowFast",
        lambda: pyslowfast_slowfast(50, 7),
        R50,
        2304,
        ('s4.pathway1_res5.branch2.c_bn.bias', 'backbone.fast_path.layer3.5.bn3.bias'),
    ),
    'pyslowfast x3d': (
        "PySlowFast's X3D",
        lambda: pyslowfast_x3d(2.2),
        SMALL,
        2048,
        ('s2.pathway0_res0.branch1_bn.running_var', 'backbone.layer1.0.downsample.1.running_var'),
    ),
    'pyslowfast slow': (
        "PySlowFast's ResNet",
        pyslowfast_resnet,
        {'type': 'ResNet_I3D', 'depth': 50},
        2048,
        ('s5.pathway0_res2.branch2.a.weight', 'backbone.layer4.2.conv1.weight'),
    ),
    'mmaction2 r50': (
        "mmaction2's SlowFast",
        lambda: mmaction2_slowfast(50, 7) | linear('cls_head.fc_cls', 2304),
        {**R50, 'lateral_norm': False},
        2304,
        ('backbone.slow_path.conv1_lateral.conv.weight', 'backbone.laterals.0.0.weight'),
    ),
    'mmaction2 ir-csn': (
        "mmaction2's CSN",
        lambda: mmaction2_csn('ir'),
        {'type': 'CSN', 'depth': 50},
        2048,
        ('backbone.layer2.0.conv2.0.bn.bias', 'backbone.layer2.0.bn2.bias'),
    ),
    'mmaction2 ip-csn': (
        "mmaction2's CSN",
        lambda: mmaction2_csn('ip'),
        {'type': 'CSN', 'depth': 50, 'mode': 'ip'},
        2048,
        ('backbone.layer2.0.conv2.0.bn.bias', 'backbone.layer2.0.conv2.1.bias'),
    ),
    'mmaction2 x3d': (
        "mmaction2's X3D",
        lambda: mmaction2_x3d(2.2),
        SMALL,
        2048,
        ('backbone.layer2.4.se_module.fc1.bias', 'backbone.layer2.4.se.fc1.bias'),
    ),
}


@cache
def build_once(options: tuple[tuple[str, Any], ...], channels: int) -> State:
    return our_model(dict(options), channels=channels)


LARGE_CASES = ('slowfast_r101', 'x3d_l')


@pytest.mark.parametrize('case', [pytest.param(c, marks=pytest.mark.sweep if c in LARGE_CASES else ()) for c in CASES])
def test_weights_of_other_projects_fill_our_networks(case: str) -> None:
    name, weights, backbone, channels, (theirs, ours) = CASES[case]
    state = weights()
    model = build_once(tuple(backbone.items()), channels)
    assert assert_all_fits(state, model, name)[ours] is state[theirs]


@pytest.mark.parametrize(('backbone', 'channels'), [(R50, 2304), (SMALL, 2048)], ids=['SlowFast', 'X3D'])
def test_our_weights_keep_their_keys(backbone: dict[str, Any], channels: int) -> None:
    model = build_once(tuple(backbone.items()), channels)
    assert_all_fits(model, model, 'DSANet')
    alone = {key.removeprefix('backbone.'): value for key, value in model.items() if key.startswith('backbone.')}
    assert find_layout(alone).translate(alone, set()).keys() == {key for key in model if key.startswith('backbone.')}


def test_layouts_have_normalization_and_options() -> None:
    for state in (pytorchvideo_slowfast(50, 7), pyslowfast_slowfast(50, 7)):
        layout = find_layout(state)
        assert layout.expects.mean == (114.75, 114.75, 114.75)
        assert layout.options == {'slow_sampling': 'linspace', 'lateral_norm': True}
    layout = find_layout(mmaction2_slowfast(50, 5))
    assert layout.expects is None  # that of ImageNet, our default
    assert layout.options == {'slow_sampling': 'stride', 'lateral_norm': False}
    for state in (pytorchvideo_x3d(2.2), pyslowfast_x3d(2.2), mmaction2_x3d(2.2), pyslowfast_resnet()):
        assert find_layout(state).expects.std == (57.375, 57.375, 57.375)


@pytest.mark.parametrize(
    ('stem', 'late', 'pool2'), [(1, 3, 1), (5, 3, 2), (1, 1, None)], ids=['slow', 'i3d', 'c2d is unknown']
)
def test_pyslowfast_strides(stem: int, late: int, pool2: int | None) -> None:
    strides = {'conv1_stride_t': 1, 'pool1_stride_t': 1, 'pool2_stride_t': pool2} if pool2 else {}
    assert find_pyslowfast_strides(pyslowfast_resnet(stem, late)) == strides


def test_added_norm_of_first_shortcut_changes_nothing() -> None:
    state = {f'blocks.0.conv.conv_{name}.weight': torch.zeros(1) for name in ('t', 'xy')}
    state['blocks.1.res_blocks.0.branch1_conv.weight'] = torch.randn(24, 24, 1, 1, 1)
    translated = find_layout(state).translate(state, set())
    start = 'backbone.layer1.0.downsample.1.'
    own_norm = nn.BatchNorm3d(24).eval()
    own_norm.load_state_dict({k.removeprefix(start): v for k, v in translated.items() if k.startswith(start)}, False)
    x = torch.randn(2, 24, 2, 3, 3)
    torch.testing.assert_close(own_norm(x), x, rtol=3e-7, atol=0)


def test_mmaction2_classifier_has_fast_features_first() -> None:
    weight = torch.arange(18.0).expand(4, 18)
    state = {'backbone.slow_path.conv1_lateral.conv.weight': empty(1), 'cls_head.fc_cls.weight': weight}
    translated = find_layout(state).translate(state, set())['cls_head.fc_cls.weight']
    assert translated[0].tolist() == [*range(2, 18), 0, 1]


def trn_head(num_snippets: int, multi_scale: bool) -> State:
    state = linear('cls_head.fc_cls', 2048, 256)
    if not multi_scale:
        start, width = 'cls_head.consensus.classifier', 512
        return state | linear(f'{start}.1', num_snippets * 256, width) | linear(f'{start}.3', width, 174)
    for i, length in enumerate(range(num_snippets, 1, -1)):
        start = f'cls_head.consensus.fc_fusion_scales.{i}'
        state |= linear(f'{start}.1', length * 256, 256) | linear(f'{start}.3', 256, 174)
    return state


@pytest.mark.parametrize('multi_scale', [False, True])
def test_mmaction2_trn_heads_fill_ours(multi_scale: bool) -> None:
    state = resnet(50, mmaction2_names) | trn_head(8, multi_scale)
    head = {'type': 'TRNHead', 'num_classes': 174, 'num_snippets': 8, 'multi_scale': multi_scale}
    translated = assert_all_fits(state, our_model({'type': 'ResNet', 'depth': 50}, head=head), "mmaction2's TRN")
    assert translated['cls_head.reduce.bias'] is state['cls_head.fc_cls.bias']
    theirs = 'fc_fusion_scales.6' if multi_scale else 'classifier'
    assert translated['cls_head.relations.0.1.bias'] is state[f'cls_head.consensus.{theirs}.1.bias']


def test_last_layers_of_trn_are_scaled_to_sums() -> None:
    """mmaction2 adds up to three random tuples of each scale; the mean over all tuples times their number is equal."""
    state = {key: torch.ones(value.shape) for key, value in trn_head(4, True).items()}
    translated = find_layout(state).translate(state, set())
    for length in (2, 3, 4):
        start = f'cls_head.relations.{length - 2}'
        assert translated[f'{start}.1.weight'].shape == (256, length * 256)
        assert translated[f'{start}.1.weight'].max() == 1
        for name in ('weight', 'bias'):
            assert translated[f'{start}.3.{name}'].unique().tolist() == [min(3, math.comb(4, length))]
