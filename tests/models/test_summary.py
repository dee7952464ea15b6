from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

from dsanet.config.loading import load_config
from dsanet.models.summary import count_macs, find_input_shape, summarize_model

ROOT = Path(__file__).parents[2]
DSANET = 'configs/kinetics/r50_e100_s1_8.py'
CONTROL = 'configs/kinetics/i3d_r50_e100_s1_8.py'


@pytest.mark.parametrize(
    ('config', 'params', 'gmacs'), [(CONTROL, 32_454_096, '166.963'), (DSANET, 32_454_456, '166.968')]
)
def test_costs_of_main_experiment_and_control(config: str, params: int, gmacs: str) -> None:
    loaded = load_config(ROOT / config)
    summary = summarize_model(loaded['model'], find_input_shape(loaded))
    assert summary['input_shape'] == [1, 1, 4, 3, 8, 224, 224]
    assert summary['params'] == params
    assert f'{summary["gmacs"]:.3f}' == gmacs


def network(depth: int = 50, num_classes: int = 400, module_cfg: dict | None = None, **backbone: object) -> dict:
    return {
        'type': 'Recognizer3D',
        'backbone': {'type': 'ResNet_I3D', 'depth': depth, **backbone},
        'cls_head': {'type': 'I3DClsHead', 'num_classes': num_classes, 'in_channels': 512 if depth == 18 else 2048},
        'module_cfg': module_cfg,
    }


def dsa(depth: int = 50, **options: object) -> dict:
    blocks = (0, (0, 1), (0, 1), 0) if depth == 18 else (0, (0, 1, 0, 1), (0, 1, 0, 1, 0, 1), 0)
    return {'type': 'DSA', 'num_snippets': 4, 'channel_ratio': 1 / 8, 'blocks': blocks, **options}


@cache
def count_control(depth: int, num_classes: int, shape: tuple[int, ...]) -> dict:
    """Summarize the network without a module once for all tests that compare with it."""
    return summarize_model(network(depth, num_classes), shape)


# Counted from the release's code with another library's counter (fvcore); GMACs of convolutions and linear layers.
@pytest.mark.parametrize(
    ('model', 'shape', 'params', 'gmacs'),
    [
        (network(), (1, 8, 224, 224), '32.454', '41.741'),
        (network(), (4, 8, 256, 256), '32.454', '218.074'),
        pytest.param(network(), (4, 4, 224, 224), '32.454', '83.483', marks=pytest.mark.sweep),
        pytest.param(network(), (1, 8, 256, 256), '32.454', '54.518', marks=pytest.mark.sweep),
        pytest.param(network(module_cfg=dsa()), (4, 4, 224, 224), '32.454', '83.485', marks=pytest.mark.sweep),
        pytest.param(network(module_cfg=dsa()), (4, 8, 224, 224), '32.454', '166.968', marks=pytest.mark.sweep),
        (network(module_cfg=dsa()), (4, 8, 256, 256), '32.454', '218.079'),
        (network(inflate=(0, 0, 0, 0)), (4, 8, 224, 224), '24.328', '130.792'),
        (network(inflate=(1, 1, 1, 1)), (4, 8, 224, 224), '32.987', '190.804'),
        pytest.param(network(101), (4, 8, 224, 224), '60.359', '341.656', marks=pytest.mark.sweep),
        pytest.param(network(18, 200), (4, 4, 224, 224), '31.923', '54.913', marks=pytest.mark.sweep),
        (network(18, 200, dsa(18)), (4, 4, 224, 224), '31.923', '54.914'),
    ],
)
def test_costs_equal_those_of_the_release(model: dict, shape: tuple[int, ...], params: str, gmacs: str) -> None:
    summary = summarize_model(model, shape)
    assert f'{summary["params"] / 1e6:.3f}' == params
    assert f'{summary["gmacs"]:.3f}' == gmacs


@pytest.mark.parametrize(
    ('depth', 'num_classes', 'params', 'extra'),
    [
        (50, 400, 32_454_096, 360),
        pytest.param(50, 200, 32_044_296, 360, marks=pytest.mark.sweep),
        pytest.param(50, 174, 31_991_022, 360, marks=pytest.mark.sweep),
        (18, 200, None, 144),
    ],
)
def test_parameters_added_by_dsa(depth: int, num_classes: int, params: int | None, extra: int) -> None:
    control = count_control(depth, num_classes, (4, 4, 32, 32))['params']
    dsanet = summarize_model(network(depth, num_classes, dsa(depth)), (4, 4, 32, 32))['params']
    assert params in (control, None)
    assert dsanet - control == extra


@pytest.mark.parametrize(
    ('options', 'frames', 'gmacs', 'params'),
    [
        ({}, 8, '0.0042', 360),
        ({'channel_ratio': 1 / 4}, 8, '0.0084', 360),
        ({'channel_ratio': 1 / 2}, 8, '0.0169', 360),
        ({'channel_ratio': 1}, 8, '0.0338', 360),
        ({'expansion': 1}, 8, '0.0042', 180),
        ({'expansion': 4}, 8, '0.0042', 720),
        ({'expansion': 8}, 8, '0.0042', 1440),
        ({}, 4, '0.0021', 360),
        ({'place': 'before_conv3'}, 4, '0.0021', 360),
        ({'place': 'before_conv1'}, 4, '0.0085', 360),
        ({'place': 'before_add'}, 4, '0.0085', 360),
        ({'place': 'after_block'}, 4, '0.0085', 360),
    ],
)
def test_costs_added_by_dsa(options: dict, frames: int, gmacs: str, params: int) -> None:
    shape = (4, frames, 224, 224)
    control, dsanet = count_control(50, 400, shape), summarize_model(network(module_cfg=dsa(**options)), shape)
    assert f'{dsanet["gmacs"] - control["gmacs"]:.4f}' == gmacs
    assert dsanet['params'] - control['params'] == params


@pytest.mark.parametrize(
    ('depth', 'frames', 'params', 'gmacs'),
    [(18, 4, '0.737', '3.70'), (50, 4, '33.030', '147.98'), (50, 8, '33.030', '295.95')],
)
def test_costs_added_by_v4d(depth: int, frames: int, params: str, gmacs: str) -> None:
    v4d = {'type': 'V4D', 'num_snippets': 4, 'place': 'after_block', 'blocks': dsa(depth)['blocks']}
    shape = (4, frames, 224, 224)
    control, summary = count_control(depth, 400, shape), summarize_model(network(depth, module_cfg=v4d), shape)
    assert f'{(summary["params"] - control["params"]) / 1e6:.3f}' == params
    assert f'{summary["gmacs"] - control["gmacs"]:.2f}' == gmacs


# Published by the authors of MVFNet, the SlowFast and PyTorchVideo model zoos, mmaction2 and torchvision; SlowFast 4x16
# in table 2 of arXiv 1812.03982. X3D's model zoo has 3.8 and 6.2 M parameters.
@pytest.mark.parametrize(
    ('config', 'shape', 'params', 'gmacs'),
    [
        ('kinetics/mvfnet_r50_8x8', None, '24.34', None),
        pytest.param('kinetics/mvfnet_r101_8x8', None, '43.36', None, marks=pytest.mark.sweep),
        ('kinetics/i3d_r50_32x2', None, '28.04', None),
        ('kinetics/slowonly_r50_8x8', (1, 8, 256, 256), '32.45', '54.52'),
        ('kinetics/r2plus1d_r34_8x8', None, '63.8', None),
        ('kinetics/slowfast_r50_4x16', (1, 32, 256, 256), '34.48', '36.1'),
        pytest.param('kinetics/slowfast_r50_8x8', (1, 32, 256, 256), '34.57', '65.71', marks=pytest.mark.sweep),
        pytest.param('kinetics/x3d_s', None, '3.8', '1.96', marks=pytest.mark.sweep),
        ('kinetics/x3d_m', None, '3.79', '4.73'),
        pytest.param('kinetics/x3d_l', None, '6.2', '18.37', marks=pytest.mark.sweep),
        ('ucf101/ucf101_dsanet_r2plus1d_18_4x16', (4, 16, 112, 112), None, '162.08'),  # 4 x 40.52
    ],
)
def test_costs_equal_published_ones(
    config: str, shape: tuple[int, ...] | None, params: str | None, gmacs: str | None
) -> None:
    loaded = load_config(ROOT / f'configs/{config}.py')
    summary = summarize_model(loaded['model'], shape or find_input_shape(loaded))
    for published, counted in ((params, summary['params'] / 1e6), (gmacs, summary['gmacs'])):
        if published is not None:
            assert f'{counted:.{len(published.partition(".")[2])}f}' == published


# Without mvit_v2_s: torchvision counts its attention differently.
@pytest.mark.parametrize(
    ('name', 'size', 'channels'),
    [
        pytest.param('r3d_18', 112, 512, marks=pytest.mark.sweep),
        pytest.param('mc3_18', 112, 512, marks=pytest.mark.sweep),
        pytest.param('r2plus1d_18', 112, 512, marks=pytest.mark.sweep),
        ('s3d', 224, 1024),
        ('swin3d_t', 224, 768),
    ],
)
def test_torchvision_models_cost_as_published(name: str, size: int, channels: int) -> None:
    from torchvision.models import get_model_weights

    model = {
        'type': 'Recognizer3D',
        'backbone': {'type': 'TorchvisionVideo', 'name': name},
        'cls_head': {'type': 'TSNHead', 'num_classes': 400, 'in_channels': channels},
    }
    published = get_model_weights(name).DEFAULT.meta
    summary = summarize_model(model, (1, 16, size, size))
    assert summary['params'] == published['num_params']
    assert f'{summary["gmacs"]:.2f}' == f'{published["_ops"]:.2f}'


def test_costs_of_resnet18_by_hand() -> None:
    """Count layer by layer: stages 3 and 4 inflated to 3x3x3, one snippet of one frame of 32 x 32."""
    macs, params, size, channels = 64 * 3 * 49 * 16 * 16, 64 * 3 * 49 + 128, 8, 64
    for stage in range(4):
        out, length = 64 * 2**stage, 3 if stage >= 2 else 1
        size = size // 2 if stage else size
        convolutions = [channels * out * 9 * length, *[out * out * 9 * length] * 3]
        norms = 4
        if channels != out:
            convolutions.append(channels * out)
            norms += 1
        macs += sum(convolutions) * size * size
        params += sum(convolutions) + norms * 2 * out
        channels = out
    model = {
        'type': 'Recognizer3D',
        'backbone': {'type': 'ResNet_I3D', 'depth': 18},
        'cls_head': {'type': 'I3DClsHead', 'num_classes': 10, 'in_channels': 512},
    }
    summary = summarize_model(model, (1, 1, 32, 32))
    assert summary['params'] == params + 5130
    assert summary['gmacs'] * 1e9 == macs + 5120


def test_network_without_products_has_no_macs() -> None:
    assert count_macs(nn.ReLU(), torch.zeros(1, 2)) == 0


def test_stages_have_shapes_and_parameters() -> None:
    summary = summarize_model(load_config(ROOT / CONTROL)['model'], (4, 8, 224, 224))
    shapes = {stage['name']: stage['shape'] for stage in summary['stages']}
    assert shapes['backbone.conv1'] == [4, 64, 8, 112, 112]
    assert shapes['backbone.layer1'] == [4, 256, 8, 56, 56]
    assert shapes['backbone.layer4'] == [4, 2048, 8, 7, 7]
    assert shapes['cls_head'] == [1, 400]
    assert sum(stage['params'] for stage in summary['stages']) == summary['params']


def test_parts_of_containers_are_stages() -> None:
    backbone = {'type': 'SlowFast', 'depth': 10, 'base_channels': 8}
    head = {'type': 'TSNHead', 'num_classes': 5, 'in_channels': 72}
    summary = summarize_model({'type': 'Recognizer3D', 'backbone': backbone, 'cls_head': head}, (2, 16, 64, 64))
    shapes = {stage['name']: stage['shape'] for stage in summary['stages']}
    assert shapes['backbone.slow_path.layer2'] == [2, 16, 2, 8, 8]
    assert shapes['backbone.fast_path.layer2'] == [2, 2, 16, 8, 8]
    assert shapes['backbone.laterals.3'] == [2, 8, 2, 4, 4]
    assert sum(stage['params'] for stage in summary['stages']) == summary['params']


def test_pipeline_without_size_raises() -> None:
    config = {'test_dataloader': {'dataset': {'pipeline': [{'type': 'PackInputs'}]}}}
    with pytest.raises(ValueError, match='--input-shape'):
        find_input_shape(config)


def test_macs_of_attentive_head_are_counted() -> None:
    channels, num_snippets, num_classes = 512, 4, 10
    model = network(18, num_classes)
    head = {'type': 'AttentiveHead', 'num_classes': num_classes, 'in_channels': channels}
    shape = (num_snippets, 1, 32, 32)
    linear, attentive = summarize_model(model, shape), summarize_model({**model, 'cls_head': head}, shape)
    projections = 2 * channels**2 + 2 * num_snippets * channels**2  # of query and output, of keys and values
    products = 2 * num_snippets * channels
    mlp = 8 * channels**2
    classifiers = num_classes * channels * (1 - num_snippets)  # one per view instead of one per snippet
    difference = round(1e9 * (attentive['gmacs'] - linear['gmacs']))
    assert difference == projections + products + mlp + classifiers
