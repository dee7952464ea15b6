"""Weights with the names and shapes of other projects fill our models of full size; no values are computed."""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor

from dsanet.config.registry import MODELS, build
from dsanet.models.weights.layouts import LAYOUTS, UNKNOWN, find_layout
from dsanet.models.weights.loading import match_state_dict

State = dict[str, Tensor]
Names = Callable[[str], tuple[str, str]]  # torchvision's name of a convolution to that of the convolution and its norm
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}


def empty(*shape: int) -> Tensor:
    return torch.empty(shape, device='meta')


def norm(key: str, channels: int) -> State:
    state = {f'{key}.{name}': empty(channels) for name in ('weight', 'bias', 'running_mean', 'running_var')}
    return {**state, f'{key}.num_batches_tracked': empty()}


def linear(key: str, in_channels: int, num_classes: int = 400) -> State:
    return {f'{key}.weight': empty(num_classes, in_channels), f'{key}.bias': empty(num_classes)}


def convolutions(depth: int) -> Iterator[tuple[str, tuple[int, int, int]]]:
    """Yield torchvision's name of each convolution of a ResNet, with its outputs, inputs and kernel size."""
    yield 'conv1', (64, 3, 7)
    expansion = 4 if depth == 50 else 1
    inputs = 64
    for i, size in enumerate(BLOCKS[depth]):
        width = 64 * 2**i
        for j in range(size):
            block = f'layer{i + 1}.{j}'
            if depth == 50:
                yield f'{block}.conv1', (width, inputs, 1)
                yield f'{block}.conv2', (width, width, 3)
                yield f'{block}.conv3', (width * 4, width, 1)
            else:
                yield f'{block}.conv1', (width, inputs, 3)
                yield f'{block}.conv2', (width, width, 3)
            if j == 0 and (i > 0 or depth == 50):
                yield f'{block}.downsample.0', (width * expansion, inputs, 1)
            inputs = width * expansion


def resnet(depth: int, names: Names, lengths: Callable[[str], int] | None = None) -> State:
    """Build a ResNet's weights; with ``lengths`` in time of the convolutions they are 3D."""
    state: State = {}
    for key, (outputs, inputs, size) in convolutions(depth):
        conv, its_norm = names(key)
        kernel = (size, size) if lengths is None else (lengths(key), size, size)
        state[f'{conv}.weight'] = empty(outputs, inputs, *kernel)
        state |= norm(its_norm, outputs)
    return state


def plain_names(key: str) -> tuple[str, str]:
    if key.endswith('downsample.0'):
        return key, key.removesuffix('0') + '1'
    return key, re.sub(r'conv(\d)$', r'bn\1', key)


def mmaction2_names(key: str) -> tuple[str, str]:
    key = 'backbone.' + key.removesuffix('.0') if 'downsample' in key else 'backbone.' + key
    return f'{key}.conv', f'{key}.bn'


def tsm_names(key: str) -> tuple[str, str]:
    conv, its_norm = mmaction2_names(key)
    return (f'{conv}.net' if re.search(r'layer.*conv1$', key) else conv), its_norm


def tanet_names(key: str) -> tuple[str, str]:
    conv, its_norm = (re.sub(r'(layer\d\.\d+)', r'\1.block', name) for name in mmaction2_names(key))
    return conv, its_norm


def mvf_names(key: str) -> tuple[str, str]:
    conv, its_norm = plain_names('backbone.' + key)
    return (f'{conv}.net' if re.search(r'layer[34]\.\d+\.conv1$', key) else conv), its_norm


def release_tsm_names(key: str) -> tuple[str, str]:
    conv, its_norm = plain_names('backbone.' + key)
    return (f'{conv}.net' if re.search(r'layer.*conv1$', key) else conv), its_norm


def pytorchvideo_names(stages: tuple[int, ...]) -> Names:
    """Give the names of ``create_resnet``; ``stages`` are the numbers of the four stages among its blocks."""

    def names(key: str) -> tuple[str, str]:
        if key == 'conv1':
            return 'blocks.0.conv', 'blocks.0.norm'
        _, stage, block, part = re.split(r'layer|\.', key, maxsplit=3)
        start = f'blocks.{stages[int(stage) - 1]}.res_blocks.{block}'
        if part == 'downsample.0':
            return f'{start}.branch1_conv', f'{start}.branch1_norm'
        letter = 'abc'[int(part[-1]) - 1]
        return f'{start}.branch2.conv_{letter}', f'{start}.branch2.norm_{letter}'

    return names


def slow_length(key: str) -> int:
    """Length in time of SlowOnly's filters: three frames in the first convolution of late blocks."""
    return 3 if re.search(r'layer[34]\.\d+\.conv1$', key) else 1


INFLATE = ((1, 1, 1), (1, 0, 1, 0), (1, 0, 1, 0, 1, 0), (0, 1, 0))


def i3d_length(key: str) -> int:
    """Length in time of the filters of mmaction2's I3D."""
    if key == 'conv1':
        return 5
    match = re.fullmatch(r'layer(\d)\.(\d+)\.conv1', key)
    return 3 if match and INFLATE[int(match[1]) - 1][int(match[2])] else 1


def blocks_of(depth: int, stages: Iterable[int]) -> list[tuple[str, int]]:
    """Return the names of blocks and the channels of their inputs."""
    shapes = dict(convolutions(depth))
    return [(f'layer{i}.{j}', shapes[f'layer{i}.{j}.conv1'][1]) for i in stages for j in range(BLOCKS[depth][i - 1])]


def mvf_weights() -> State:
    state: State = {}
    for block, inputs in blocks_of(50, (3, 4)):
        key, k = f'backbone.{block}.conv1', inputs // 8
        state[f'{key}.shift_conv.weight'] = empty(k, 1, 3, 1, 1)
        state[f'{key}.h_conv.weight'] = empty(k, 1, 1, 3, 1)
        state[f'{key}.w_conv.weight'] = empty(k, 1, 1, 1, 3)
        state |= norm(f'{key}.bn', k)
    return state


def tam_weights(frames: int = 8) -> State:
    state: State = {}
    for i, size in enumerate(BLOCKS[50]):
        for j in range(size):
            key, width = f'backbone.layer{i + 1}.{j}.tam', 64 * 2**i
            state[f'{key}.G.0.weight'] = empty(2 * frames, frames)
            state |= norm(f'{key}.G.1', 2 * frames)
            state[f'{key}.G.3.weight'] = empty(3, 2 * frames)
            state[f'{key}.L.0.weight'] = empty(width // 4, width, 3)
            state |= norm(f'{key}.L.1', width // 4)
            state[f'{key}.L.3.weight'] = empty(width, width // 4, 1)
    return state


def non_local_weights() -> State:
    state: State = {}
    for block, width in (('2.1', 512), ('2.3', 512), ('3.1', 1024), ('3.3', 1024), ('3.5', 1024)):
        key, inner = f'backbone.layer{block}.non_local_block', width // 2
        for name in ('g.0', 'theta', 'phi.0'):
            state[f'{key}.{name}.conv.weight'] = empty(inner, width, 1, 1, 1)
            state[f'{key}.{name}.conv.bias'] = empty(inner)
        state[f'{key}.conv_out.conv.weight'] = empty(width, inner, 1, 1, 1)
        state |= norm(f'{key}.conv_out.bn', width)
    return state


def mmaction2_r2plus1d() -> State:
    """R(2+1)D-34: each convolution is split, with the mid channels of the paper's formula."""
    state: State = {}
    for key, (outputs, inputs, size) in convolutions(34):
        conv, its_norm = mmaction2_names(key)
        middle = 3 * inputs * outputs * size**2 // (inputs * size**2 + 3 * outputs)
        state[f'{conv}.conv_s.weight'] = empty(middle, inputs, 1, size, size)
        state |= norm(f'{conv}.bn_s', middle)
        state[f'{conv}.conv_t.weight'] = empty(outputs, middle, 1 if size == 1 else 3, 1, 1)
        state |= norm(its_norm, outputs)
    return state


def torchvision_video(name: str) -> State:
    with torch.device('meta'):
        return torchvision.models.get_model(name, weights=None).state_dict()


def our_model(
    backbone: dict[str, Any],
    module_cfg: dict[str, Any] | None = None,
    channels: int = 2048,
    head: dict[str, Any] | None = None,
) -> State:
    head = {'type': 'I3DClsHead', 'num_classes': 400, **(head or {}), 'in_channels': channels}
    cfg = {'type': 'Recognizer3D', 'backbone': backbone, 'cls_head': head, 'module_cfg': module_cfg}
    with torch.device('meta'):
        return build(cfg, MODELS).state_dict()


def assert_all_fits(state: State, model: State, name: str) -> State:
    """Translate weights and check that they fill the model completely and that none remains."""
    layout = find_layout(state)
    assert layout.name == name
    translated = layout.translate(state, model.keys())
    loaded, report = match_state_dict(translated, model)
    assert loaded.keys() == model.keys()
    assert (report.missing, report.unexpected, report.reinitialized) == ([], [], [])
    return translated


RESNET = {'type': 'ResNet', 'depth': 50}
EVERY_BLOCK = (1, 1, 1, 1)
FC_CLS = linear('cls_head.fc_cls', 2048)
NL_BLOCKS = (0, (0, 1, 0, 1), (0, 1, 0, 1, 0, 1), 0)
I3D = {'type': 'ResNet_I3D', 'depth': 50, 'inflate': INFLATE, 'conv1_kernel_t': 5}
SLOW = {'type': 'ResNet_I3D', 'depth': 50}
CASES: dict[str, tuple[str, Callable[[], State], dict[str, Any], dict[str, Any] | None, tuple[str, str]]] = {
    # name of the layout, weights, our backbone, our module, (one of their keys, our key for it)
    'tsn': (
        "mmaction2's TSN",
        lambda: resnet(50, mmaction2_names) | FC_CLS,
        RESNET,
        None,
        ('backbone.layer2.0.downsample.conv.weight', 'backbone.layer2.0.downsample.0.weight'),
    ),
    'tsm': (
        "mmaction2's TSM",
        lambda: resnet(50, tsm_names) | FC_CLS,
        {'type': 'ResNetTSM', 'depth': 50},
        None,
        ('backbone.layer3.5.conv1.conv.net.weight', 'backbone.layer3.5.conv1.weight'),
    ),
    'tanet': (
        "mmaction2's TANet",
        lambda: resnet(50, tanet_names) | tam_weights() | FC_CLS,
        RESNET,
        {'type': 'TAM', 'frames_per_snippet': 8, 'place': 'before_conv2', 'blocks': EVERY_BLOCK},
        ('backbone.layer1.2.tam.L.3.weight', 'backbone.layer1.2.tam.gate.3.weight'),
    ),
    'i3d': (
        "mmaction2's I3D or SlowOnly",
        lambda: resnet(50, mmaction2_names, i3d_length) | FC_CLS,
        I3D,
        None,
        ('backbone.layer1.0.conv1.bn.running_var', 'backbone.layer1.0.bn1.running_var'),
    ),
    'non-local i3d': (
        "mmaction2's I3D or SlowOnly",
        lambda: resnet(50, mmaction2_names, i3d_length) | non_local_weights() | FC_CLS,
        I3D,
        {'type': 'NonLocal3d', 'place': 'after_block', 'blocks': NL_BLOCKS},
        ('backbone.layer2.1.non_local_block.g.0.conv.weight', 'backbone.layer2.1.nonlocal3d.g.0.conv.weight'),
    ),
    'slowonly': (
        "mmaction2's I3D or SlowOnly",
        lambda: resnet(50, mmaction2_names, slow_length) | FC_CLS,
        SLOW,
        None,
        ('backbone.conv1.conv.weight', 'backbone.conv1.weight'),
    ),
    'mvfnet': (
        "MVFNet's release",
        lambda: resnet(50, mvf_names) | mvf_weights() | linear('cls_head.new_fc', 2048),
        RESNET,
        {'type': 'MVF', 'place': 'before_conv1', 'blocks': (0, 0, 1, 1)},
        ('backbone.layer3.0.conv1.h_conv.weight', 'backbone.layer3.0.mvf.conv_h.weight'),
    ),
    'mvfnet after a test of whole images': (
        "MVFNet's release",
        lambda: (
            resnet(50, mvf_names)
            | mvf_weights()
            | linear('cls_head.new_fc', 2048)
            | {'cls_head.new_cls.weight': empty(400, 2048, 1, 1, 1), 'cls_head.new_cls.bias': empty(400)}
        ),
        RESNET,
        {'type': 'MVF', 'place': 'before_conv1', 'blocks': (0, 0, 1, 1)},
        ('backbone.layer4.2.conv1.bn.bias', 'backbone.layer4.2.mvf.bn.bias'),
    ),
    'tsm of the 2021 release': (
        'the 2021 release',
        lambda: resnet(50, release_tsm_names) | linear('cls_head.new_fc', 2048),
        {'type': 'ResNetTSM', 'depth': 50},
        None,
        ('cls_head.new_fc.bias', 'cls_head.fc_cls.bias'),
    ),
    'slow_r50': (
        "PyTorchVideo's ResNet",
        lambda: resnet(50, pytorchvideo_names((1, 2, 3, 4)), slow_length) | linear('blocks.5.proj', 2048),
        SLOW,
        None,
        ('blocks.3.res_blocks.1.branch2.norm_b.weight', 'backbone.layer3.1.bn2.weight'),
    ),
    'i3d_r50': (  # its second block is a pooling, which has no weights
        "PyTorchVideo's ResNet",
        lambda: resnet(50, pytorchvideo_names((1, 3, 4, 5)), i3d_length) | linear('blocks.6.proj', 2048),
        I3D,
        None,
        ('blocks.3.res_blocks.0.branch1_norm.bias', 'backbone.layer2.0.downsample.1.bias'),
    ),
}


@pytest.mark.parametrize('case', CASES)
def test_weights_of_other_projects_fill_our_networks(case: str) -> None:
    name, weights, backbone, module_cfg, (theirs, ours) = CASES[case]
    state = weights()
    assert assert_all_fits(state, our_model(backbone, module_cfg), name)[ours] is state[theirs]


def test_mmaction2_r2plus1d_fills_ours() -> None:
    state = mmaction2_r2plus1d() | linear('cls_head.fc_cls', 512)
    assert state['backbone.conv1.conv.conv_s.weight'].shape == (83, 3, 1, 7, 7)
    model = our_model({'type': 'R2Plus1D', 'depth': 34, 'style': 'mmaction2'}, channels=512)
    translated = assert_all_fits(state, model, "mmaction2's R(2+1)D")
    shortcut = 'backbone.layer2.0.downsample'
    assert translated[f'{shortcut}.0.temporal.weight'] is state[f'{shortcut}.conv.conv_t.weight']
    assert translated[f'{shortcut}.1.weight'] is state[f'{shortcut}.bn.weight']
    assert translated['backbone.layer1.0.bn2.weight'] is state['backbone.layer1.0.conv2.bn.weight']
    assert translated['backbone.layer1.0.conv2.norm.weight'] is state['backbone.layer1.0.conv2.conv.bn_s.weight']


VIDEO_NETWORKS = {
    'r3d_18': ("torchvision's R3D or MC3", 'fc', 512),
    'mc3_18': ("torchvision's R3D or MC3", 'fc', 512),
    'r2plus1d_18': ("torchvision's R(2+1)D", 'fc', 512),
    's3d': ("torchvision's S3D", 'classifier.1', 1024),
    'mvit_v2_s': ("torchvision's MViT", 'head.1', 768),
    'swin3d_t': ("torchvision's Video Swin", 'head', 768),
}


@pytest.mark.parametrize('name', VIDEO_NETWORKS)
def test_torchvision_video_weights_fill_the_wrapper(name: str) -> None:
    layout, classifier, channels = VIDEO_NETWORKS[name]
    state = torchvision_video(name)
    model = our_model({'type': 'TorchvisionVideo', 'name': name}, channels=channels)
    translated = assert_all_fits(state, model, layout)
    assert translated['cls_head.fc_cls.bias'] is state[f'{classifier}.bias']


def test_torchvision_r2plus1d_fills_ours() -> None:
    state = torchvision_video('r2plus1d_18')
    model = our_model({'type': 'R2Plus1D', 'depth': 18}, channels=512)
    translated = assert_all_fits(state, model, "torchvision's R(2+1)D")
    assert translated['backbone.bn1.bias'] is state['stem.4.bias']
    assert translated['backbone.layer4.1.conv2.norm.weight'] is state['layer4.1.conv2.0.1.weight']
    assert translated['backbone.layer4.1.bn2.weight'] is state['layer4.1.conv2.1.weight']


def test_convolutional_classifier_becomes_linear() -> None:
    state = {'features.0.1.0.weight': torch.ones(64, 64, 7, 1, 1), 'classifier.1.weight': torch.rand(4, 6, 1, 1, 1)}
    weight = find_layout(state).translate(state, set())['cls_head.fc_cls.weight']
    assert torch.equal(weight, state['classifier.1.weight'][:, :, 0, 0, 0])


@pytest.mark.parametrize('depth', [18, 50])
def test_image_resnets_fill_the_backbone_only(depth: int) -> None:
    state = resnet(depth, plain_names) | linear('fc', 2048 if depth == 50 else 512, 1000)
    with torch.device('meta'):
        assert {k: v.shape for k, v in state.items()} == {
            k: v.shape for k, v in torchvision.models.get_model(f'resnet{depth}').state_dict().items()
        }
    layout = find_layout(state)
    assert layout.name == "torchvision's or timm's image ResNet"
    model = our_model({**RESNET, 'depth': depth}, channels=2048 if depth == 50 else 512)
    _, report = match_state_dict(layout.translate(state, model.keys()), model)
    assert report.missing == ['cls_head.fc_cls.weight', 'cls_head.fc_cls.bias']
    assert report.unexpected == ['fc.weight', 'fc.bias']


@pytest.mark.parametrize(
    ('backbone', 'channels'),
    [
        (RESNET, 2048),
        (SLOW, 2048),
        ({'type': 'R2Plus1D', 'depth': 18}, 512),
        ({'type': 'TorchvisionVideo', 'name': 's3d'}, 1024),
    ],
    ids=['ResNet', 'ResNet_I3D', 'R2Plus1D', 'TorchvisionVideo'],
)
def test_our_weights_keep_their_keys(backbone: dict[str, Any], channels: int) -> None:
    model = our_model(backbone, channels=channels)
    assert_all_fits(model, model, 'DSANet')
    alone = {key.removeprefix('backbone.'): value for key, value in model.items() if key.startswith('backbone.')}
    layout = find_layout(alone)
    assert layout.name == 'DSANet'
    assert layout.translate(alone, set()).keys() == {key for key in model if key.startswith('backbone.')}


def test_converted_2d_network_is_ours() -> None:
    state = resnet(50, tsm_names) | FC_CLS
    converted = find_layout(state).translate(state, set())
    assert_all_fits(converted, our_model(RESNET), 'DSANet')


def test_release_blocks_are_unwrapped() -> None:
    keys = ['conv1.weight', 'layer2.1.block.conv1.weight', 'layer2.1.dsa.generate.0.weight', 'layer1.0.bn1.bias']
    state = {f'backbone.{key}': torch.zeros(1) for key in keys}
    layout = find_layout(state)
    assert layout.name == 'the 2021 release'
    assert list(layout.translate(state, set())) == [f'backbone.{key.replace(".block", "")}' for key in keys]


def test_shift_around_a_block_is_unwrapped() -> None:
    state = {
        'backbone.conv1.conv.weight': empty(64, 3, 7, 7),
        'backbone.layer1.0.net.conv1.conv.weight': empty(64, 64, 1, 1),
        'backbone.layer1.0.net.conv1.bn.weight': empty(64),
    }
    layout = find_layout(state)
    assert layout.name == "mmaction2's TSM"
    assert list(layout.translate(state, set())) == [
        'backbone.conv1.weight',
        'backbone.layer1.0.conv1.weight',
        'backbone.layer1.0.bn1.weight',
    ]


def test_resnet_variants_of_timm_raise() -> None:
    state = resnet(50, plain_names)
    deep = {**state, 'conv1.0.weight': empty(32, 3, 3, 3)}
    del deep['conv1.weight']
    pooled = {**state, 'layer2.0.downsample.1.weight': empty(512, 256, 1, 1)}
    attention = {**state, 'layer1.0.se.fc1.weight': empty(4, 64, 1, 1)}
    for variant in (deep, pooled, attention):
        with pytest.raises(ValueError, match='resnet18'):
            find_layout(variant).translate(variant, set())


def test_unknown_layout_keeps_the_keys() -> None:
    state = {'backbone.patches.weight': empty(3), 'loss.scale': empty()}
    assert find_layout(state) is UNKNOWN
    assert UNKNOWN.translate(state, set()) == state
    assert list(UNKNOWN.translate({'patches.weight': empty(3)}, set())) == ['backbone.patches.weight']


def test_layout_names_are_unique() -> None:
    names = [layout.name for layout in (*LAYOUTS, UNKNOWN)]
    assert len(set(names)) == len(names)


def test_layouts_have_the_expected_normalization() -> None:
    expected = {layout.name: layout.expects for layout in LAYOUTS}
    gray = expected["PyTorchVideo's ResNet"]
    assert str(gray) == 'mean=(114.75, 114.75, 114.75), std=(57.375, 57.375, 57.375)'  # 0.45, 0.225
    assert expected["torchvision's R3D or MC3"].mean == (110.2008, 100.63983, 95.99475)  # 0.43216, ...
    assert expected["mmaction2's TSN"] is None
