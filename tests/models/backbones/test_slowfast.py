import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from dsanet.models.backbones.slowfast import SlowFast
from dsanet.models.modules_maker.block_maker import insert_modules

DSA = {'type': 'DSA', 'num_snippets': 2, 'channel_ratio': 1.0}


def small(**options: object) -> SlowFast:
    """A network with random statistics, so that no norm is the identity."""
    backbone = SlowFast(10, base_channels=8, speed_ratio=4, **options).eval()
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    return backbone


def convolve(weights: dict[str, Tensor], key: str, x: Tensor, stride: tuple[int, int, int] = (1, 1, 1)) -> Tensor:
    weight = weights[f'{key}.weight']
    return functional.conv3d(x, weight, stride=stride, padding=[size // 2 for size in weight.shape[2:]])


def normalize(weights: dict[str, Tensor], key: str, x: Tensor) -> Tensor:
    values = [weights[f'{key}.{name}'] for name in ('running_mean', 'running_var', 'weight', 'bias')]
    mean, var, weight, bias = (value[:, None, None, None] for value in values)
    return (x - mean) / (var + 1e-5).sqrt() * weight + bias


def slow_stem(weights: dict[str, Tensor], path: str, x: Tensor) -> Tensor:
    x = normalize(weights, f'{path}.bn1', convolve(weights, f'{path}.conv1', x, (1, 2, 2))).relu()
    return functional.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))


def slow_block(weights: dict[str, Tensor], key: str, x: Tensor, stride: int) -> Tensor:
    steps = (1, stride, stride)
    branch = normalize(weights, f'{key}.bn1', convolve(weights, f'{key}.conv1', x, steps)).relu()
    branch = normalize(weights, f'{key}.bn2', convolve(weights, f'{key}.conv2', branch))
    shortcut = normalize(weights, f'{key}.downsample.1', convolve(weights, f'{key}.downsample.0', x, steps))
    return (branch + shortcut).relu()


def slow_forward(weights: dict[str, Tensor], x: Tensor, frames: list[int], has_norm: bool) -> tuple[Tensor, Tensor]:
    """Compute the features of both pathways of a network of depth 10 with a speed ratio of 4."""
    slow, fast = slow_stem(weights, 'slow_path', x[:, :, frames]), slow_stem(weights, 'fast_path', x)
    for i in range(4):
        lateral = convolve(weights, f'laterals.{i}.0', fast, (4, 1, 1))
        if has_norm:
            lateral = normalize(weights, f'laterals.{i}.1', lateral).relu()
        slow = slow_block(weights, f'slow_path.layer{i + 1}.0', torch.cat([slow, lateral], 1), 2 if i else 1)
        if i or 'fast_path.layer1.0.downsample.0.weight' in weights:
            fast = slow_block(weights, f'fast_path.layer{i + 1}.0', fast, 2 if i else 1)
        else:
            shortcut = fast
            for j in (1, 2):
                key = f'fast_path.layer1.0.conv{j}'
                fast = normalize(weights, f'fast_path.layer1.0.bn{j}', convolve(weights, key, fast))
                fast = fast.relu() if j == 1 else (fast + shortcut).relu()
    return slow, fast


CASES = [
    ({}, [0, 4, 8, 12]),
    ({'slow_sampling': 'linspace'}, [0, 5, 10, 15]),
    ({'lateral_kernel_t': 7, 'lateral_norm': False}, [0, 4, 8, 12]),
]


@pytest.mark.parametrize(('options', 'frames'), CASES)
@torch.no_grad()
def test_features_equal_slow_forward(options: dict, frames: list[int]) -> None:
    backbone = small(**options)
    x = torch.randn(2, 3, 16, 64, 48)
    slow, fast = slow_forward(backbone.state_dict(), x, frames, options.get('lateral_norm', True))
    out = backbone(x)
    assert out.shape == (2, 72, 4, 2, 2)
    torch.testing.assert_close(out[:, :64], slow, rtol=1e-4, atol=1e-5)
    for t in range(4):
        torch.testing.assert_close(out[:, 64:, t], fast[:, :, 4 * t : 4 * t + 4].mean(2), rtol=1e-4, atol=1e-5)
    pooled = torch.cat([slow.mean((2, 3, 4)), fast.mean((2, 3, 4))], dim=1)
    torch.testing.assert_close(out.mean((2, 3, 4)), pooled, rtol=1e-4, atol=1e-5)


def test_linspace_frames_equal_torch() -> None:
    for ratio in (2, 4, 8):
        backbone = SlowFast(10, base_channels=8, speed_ratio=ratio, slow_sampling='linspace')
        for frames in range(ratio, 65, ratio):
            x = torch.arange(frames).float()[None, None, :, None, None]
            wanted = torch.linspace(0, frames - 1, frames // ratio).long()
            assert torch.equal(backbone._slow_frames(x).flatten(), wanted.float())


# Published by PyTorchVideo for slowfast_r50 and slowfast_r101, and by its model zoo for 4x16, in millions.
@pytest.mark.parametrize(
    ('depth', 'options', 'millions'),
    [
        (50, {'speed_ratio': 8}, '34.48'),
        (50, {'speed_ratio': 4, 'lateral_kernel_t': 7}, '34.57'),
        pytest.param(101, {'speed_ratio': 4}, '62.83', marks=pytest.mark.sweep),
    ],
)
def test_parameters_equal_published_ones(depth: int, options: dict, millions: str) -> None:
    with torch.device('meta'):
        backbone = SlowFast(depth, **options)
    assert backbone.out_channels == 2304
    assert f'{(sum(p.numel() for p in backbone.parameters()) + 2305 * 400) / 1e6:.2f}' == millions


@pytest.mark.parametrize('place', [{'blocks': (0, 1, 1, 0)}, {'after': 'fast_path.layer2'}, {'after': 'laterals.1'}])
@torch.no_grad()
def test_modules_are_inserted_into_both_pathways(place: dict) -> None:
    backbone = small()
    x = torch.randn(4, 3, 8, 32, 32)
    plain = backbone(x)
    insert_modules(backbone, {**DSA, **place})
    backbone.eval()
    is_slow = 'blocks' in place
    assert bool(backbone.slow_path.layer2[0].inserted) is is_slow
    assert not backbone.fast_path.layer2[0].inserted
    changed = backbone(x)
    assert not torch.allclose(changed[:, :64], plain[:, :64], rtol=1e-3, atol=1e-3)
    if is_slow or place['after'] == 'laterals.1':
        torch.testing.assert_close(changed[:, 64:], plain[:, 64:])  # nothing flows back into the fast pathway


def test_frozen_stages_include_both_pathways() -> None:
    backbone = SlowFast(10, base_channels=8, frozen_stages=2)
    trained = {'.'.join(name.split('.')[:2]) for name, p in backbone.named_parameters() if p.requires_grad}
    late = {f'{path}.layer{i}' for path in ('slow_path', 'fast_path') for i in (3, 4)}
    assert trained == {*late, 'laterals.2', 'laterals.3'}
    assert not backbone.fast_path.bn1.training
    assert backbone.fast_path.layer3[0].bn1.training


def test_norm_options_apply_to_both_pathways() -> None:
    backbone = SlowFast(10, base_channels=8, norm_eval=True)
    assert not any(m.training for m in backbone.modules() if isinstance(m, nn.BatchNorm3d))
    backbone = SlowFast(10, base_channels=8, partial_bn=True)
    for path in (backbone.slow_path, backbone.fast_path):
        assert path.bn1.training
        assert not path.layer4[0].bn2.training


def test_activation_checkpointing_gives_equal_gradients() -> None:
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        backbone = SlowFast(10, base_channels=8, speed_ratio=4, activation_checkpointing=checkpointing)
        backbone(torch.randn(2, 3, 8, 32, 32)).sum().backward()
        gradients.append([p.grad for p in backbone.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_clip_that_does_not_fit_the_ratio_raises() -> None:
    with pytest.raises(ValueError, match='frames_per_snippet=18.*speed_ratio=4'):
        small()(torch.zeros(1, 3, 18, 32, 32))


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        ({'depth': 19}, 'depth=19.*10, 18, 34'),
        ({'depth': 18, 'base_channels': 12}, 'base_channels=12.*8'),
        ({'depth': 18, 'speed_ratio': 0}, 'speed_ratio=0'),
        ({'depth': 18, 'lateral_kernel_t': 4}, 'lateral_kernel_t=4.*odd'),
        ({'depth': 18, 'slow_sampling': 'random'}, "slow_sampling='random'.*stride, linspace"),
    ],
)
def test_invalid_options_raise(options: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        SlowFast(**options)


def test_layers_of_both_pathways_have_the_same_depth() -> None:
    depths = SlowFast(18, base_channels=8).layer_depths()
    for path in ('slow_path', 'fast_path'):
        assert depths[f'{path}.conv1.weight'] == 0
        assert depths[f'{path}.layer1.1.conv2.weight'] == 2
        assert depths[f'{path}.layer4.0.downsample.0.weight'] == 7
    assert [depths[f'laterals.{i}.0.weight'] for i in range(4)] == [0, 2, 4, 6]
