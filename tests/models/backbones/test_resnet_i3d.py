import pytest
import torch
import torchvision
from torch import nn

from dsanet.models.backbones.resnet_i3d import ARCHITECTURES, Bottleneck3d, ResNet_I3D


@pytest.mark.parametrize('depth', sorted(ARCHITECTURES))
def test_parameters_without_inflation_equal_torchvision(depth: int) -> None:
    with torch.device('meta'):
        backbone = ResNet_I3D(depth, inflate=(0, 0, 0, 0))
    if depth == 10:
        assert [len(stage) for stage in backbone.stages] == [1, 1, 1, 1]
        return
    with torch.device('meta'):
        image = getattr(torchvision.models, f'resnet{depth}')()
    names = {name for name in image.state_dict() if not name.startswith('fc.')}
    assert set(backbone.state_dict()) == names
    assert sum(p.numel() for p in backbone.parameters()) == sum(
        p.numel() for n, p in image.named_parameters() if not n.startswith('fc.')
    )


@pytest.mark.parametrize('depth', [18, 50])
@torch.no_grad()
def test_features_of_one_frame_equal_image_network(depth: int) -> None:
    image = getattr(torchvision.models, f'resnet{depth}')().eval()
    backbone = ResNet_I3D(depth, inflate=(0, 0, 0, 0)).eval()
    weights = {k: v.unsqueeze(2) if v.dim() == 4 else v for k, v in image.state_dict().items()}
    backbone.load_state_dict({k: v for k, v in weights.items() if not k.startswith('fc.')})
    x = torch.randn(1, 3, 64, 64)
    image.avgpool, image.fc = nn.Identity(), nn.Identity()
    torch.testing.assert_close(backbone(x.unsqueeze(2)).flatten(), image(x).flatten(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ('style', 'kernel1', 'kernel2'), [('3x1x1', (3, 1, 1), (1, 3, 3)), ('3x3x3', (1, 1, 1), (3, 3, 3))]
)
def test_inflate_style_chooses_the_inflated_convolution(style: str, kernel1: tuple, kernel2: tuple) -> None:
    with torch.device('meta'):
        backbone = ResNet_I3D(50, inflate=(0, 0, (1, 0, 0, 0, 0, 1), 0), inflate_style=style)
    kernels = [(block.conv1.kernel_size, block.conv2.kernel_size) for block in backbone.layer3]
    flat = ((1, 1, 1), (1, 3, 3))
    assert kernels == [(kernel1, kernel2), flat, flat, flat, flat, (kernel1, kernel2)]
    assert {block.conv2.kernel_size for block in backbone.layer4} == {(1, 3, 3)}


def test_basic_blocks_inflate_both_convolutions() -> None:
    with torch.device('meta'):
        backbone = ResNet_I3D(18)
    assert backbone.layer3[1].conv1.kernel_size == backbone.layer3[1].conv2.kernel_size == (3, 3, 3)
    assert backbone.layer2[1].conv1.kernel_size == (1, 3, 3)


@pytest.mark.parametrize(
    ('options', 'frames'),
    [
        ({}, 8),
        ({'conv1_kernel_t': 5}, 8),
        ({'conv1_kernel_t': 5, 'conv1_stride_t': 2}, 4),
        ({'pool1_kernel_t': 3, 'pool1_stride_t': 2}, 4),
        ({'conv1_stride_t': 2, 'pool1_stride_t': 2}, 2),
        ({'pool2_stride_t': 2}, 4),
    ],
)
@torch.no_grad()
def test_strides_of_stem_and_pooling_shorten_time(options: dict, frames: int) -> None:
    backbone = ResNet_I3D(10, base_channels=4, **options).eval()
    assert backbone.conv1.kernel_size == (options.get('conv1_kernel_t', 1), 7, 7)
    assert backbone(torch.randn(2, 3, 8, 64, 64)).shape == (2, 32, frames, 2, 2)


def test_base_channels_scale_the_network() -> None:
    with torch.device('meta'):
        assert [ResNet_I3D(d, base_channels=16).out_channels for d in (10, 50)] == [128, 512]


def test_frozen_stages_keep_weights_and_statistics() -> None:
    backbone = ResNet_I3D(10, base_channels=4, frozen_stages=2)
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in backbone.parameters() if p.requires_grad], lr=0.1)
    backbone.train()
    backbone(torch.randn(2, 3, 2, 32, 32)).square().sum().backward()
    optimizer.step()
    changed = {k.split('.')[0] for k, v in backbone.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {'layer3', 'layer4'}


@pytest.mark.parametrize(('frozen', 'free'), [(-1, 6), (0, 4), (1, 3), (4, 0)])
def test_frozen_stages_count_from_the_stem(frozen: int, free: int) -> None:
    backbone = ResNet_I3D(10, base_channels=4, frozen_stages=frozen)
    parts = {name.split('.')[0] for name, p in backbone.named_parameters() if p.requires_grad}
    assert len(parts) == free


def test_norm_eval_keeps_statistics_but_trains_weights() -> None:
    backbone = ResNet_I3D(10, base_channels=4, norm_eval=True)
    backbone.train()
    before = backbone.bn1.running_mean.clone()
    backbone(torch.randn(2, 3, 2, 32, 32)).square().sum().backward()
    assert torch.equal(backbone.bn1.running_mean, before)
    assert backbone.bn1.weight.grad is not None
    assert backbone.training


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        ({'depth': 42}, 'depth=42 .*10, 18, 34, 50, 101, 152'),
        ({'depth': 10, 'inflate_style': '5x1x1'}, "inflate_style='5x1x1' .*3x1x1, 3x3x3"),
        ({'depth': 10, 'conv1_kernel_t': 2}, 'conv1_kernel_t=2'),
        ({'depth': 10, 'pool1_kernel_t': 0}, 'pool1_kernel_t=0'),
        ({'depth': 10, 'conv1_stride_t': 0}, 'conv1_stride_t=0'),
        ({'depth': 10, 'pool2_stride_t': 0}, 'pool2_stride_t=0'),
        ({'depth': 10, 'base_channels': 0}, 'base_channels=0'),
        ({'depth': 10, 'frozen_stages': 5}, 'frozen_stages=5'),
        ({'depth': 10, 'inflate': (0, 1)}, r'inflate=\(0, 1\) .*4'),
        ({'depth': 50, 'inflate': (0, 0, (1, 0), 1)}, r'inflate\[2\]=\(1, 0\) .*6'),
    ],
)
def test_invalid_options_raise(options: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        ResNet_I3D(**options)


def test_bottleneck_strides_in_its_second_convolution() -> None:
    block = Bottleneck3d(16, 8, stride=(1, 2, 2))
    assert (block.conv1.stride, block.conv2.stride) == ((1, 1, 1), (1, 2, 2))
