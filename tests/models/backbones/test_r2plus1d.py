import re

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.video import r2plus1d_18

from dsanet.models.backbones.r2plus1d import R2Plus1D
from dsanet.models.modules_maker.block_maker import insert_modules


def our_key(key: str) -> str:
    """Our name of a weight of torchvision's r2plus1d_18."""
    stem = {'stem.0': 'conv1.spatial', 'stem.1': 'conv1.norm', 'stem.3': 'conv1.temporal', 'stem.4': 'bn1'}
    for theirs, ours in stem.items():
        if key.startswith(f'{theirs}.'):
            return key.replace(theirs, ours, 1)
    key = re.sub(r'\.conv(\d)\.1\.', r'.bn\1.', key)
    for number, ours in ((0, 'spatial'), (1, 'norm'), (3, 'temporal')):
        key = re.sub(rf'(\.conv\d)\.0\.{number}\.', rf'\1.{ours}.', key)
    return key


@torch.no_grad()
def test_features_equal_torchvision() -> None:
    theirs = r2plus1d_18().eval()
    for module in theirs.modules():  # random statistics, so that no norm is the identity
        if isinstance(module, nn.BatchNorm3d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    ours = R2Plus1D(18).eval()
    ours.load_state_dict({our_key(k): v for k, v in theirs.state_dict().items() if not k.startswith('fc.')})
    x = torch.randn(1, 3, 5, 32, 24)
    expected = theirs.layer4(theirs.layer3(theirs.layer2(theirs.layer1(theirs.stem(x)))))
    torch.testing.assert_close(ours(x), expected, rtol=1e-4, atol=1e-4)


def count(depth: int, style: str) -> int:
    """Parameters, with a linear layer for 400 classes."""
    with torch.device('meta'):
        return sum(p.numel() for p in R2Plus1D(depth, style=style).parameters()) + 512 * 400 + 400


def test_torchvision_style_has_31_505_325_parameters() -> None:
    assert count(18, 'torchvision') == 31_505_325


@pytest.mark.parametrize('depth', [18, 34])
def test_mmaction2_style_parameters_by_hand(depth: int) -> None:
    """Each 3D convolution is two with a norm between them, in shortcuts too; a norm follows each."""
    widths = {(64, 64): 144, (64, 128): 230, (128, 128): 288, (128, 256): 460}
    widths |= {(256, 256): 576, (256, 512): 921, (512, 512): 1152}
    shortcuts = {(64, 128): 54, (128, 256): 109, (256, 512): 219}

    def pair(in_channels: int, mid: int, out: int, pixels: int, frames: int) -> int:
        return in_channels * mid * pixels + 2 * mid + mid * out * frames + 2 * out

    total, channels = pair(3, 83, 64, 49, 3), 64
    for stage, size in enumerate({18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}[depth]):
        out = 64 * 2**stage
        for block in range(size):
            total += pair(channels, widths[channels, out], out, 9, 3) + pair(out, widths[out, out], out, 9, 3)
            if stage and not block:
                total += pair(channels, shortcuts[channels, out], out, 1, 1)
            channels = out
    assert count(depth, 'mmaction2') == total + 512 * 400 + 400


def test_mmaction2_style_depth_34_has_63_million_parameters() -> None:
    assert count(34, 'mmaction2') == 63_759_281


def slow_pair(pair: nn.Module, x: Tensor) -> Tensor:
    return pair.temporal(pair.norm(pair.spatial(x)).relu())


@pytest.mark.parametrize('style', ['torchvision', 'mmaction2'])
@torch.no_grad()
def test_network_equals_slow_forward(style: str) -> None:
    backbone = R2Plus1D(10, base_channels=4, style=style).eval()
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    x = torch.randn(2, 3, 8, 32, 32)
    y = backbone.bn1(slow_pair(backbone.conv1, x)).relu()
    if style == 'mmaction2':
        y = nn.functional.max_pool3d(y, (1, 3, 3), (1, 2, 2), (0, 1, 1))
    for stage in backbone.stages:
        for block in stage:
            branch = block.bn1(slow_pair(block.conv1, y)).relu()
            branch = block.bn2(slow_pair(block.conv2, branch))
            shortcut = y
            if block.downsample is not None:
                first, norm = block.downsample
                shortcut = norm(slow_pair(first, y) if style == 'mmaction2' else first(y))
            y = (branch + shortcut).relu()
    torch.testing.assert_close(backbone(x), y, rtol=1e-4, atol=1e-5)
    assert y.shape == ((2, 32, 1, 2, 2) if style == 'torchvision' else (2, 32, 1, 1, 1))


def test_mmaction2_style_norms_have_epsilon_1e_3() -> None:
    with torch.device('meta'):
        backbone = R2Plus1D(18, style='mmaction2')
    for name, module in backbone.named_modules():
        if isinstance(module, nn.BatchNorm3d):
            assert module.eps == (1e-5 if name.endswith('.norm') else 1e-3), name
    assert backbone.layer2[0].downsample[1].eps == 1e-3
    with torch.device('meta'):
        assert {m.eps for m in R2Plus1D(18).modules() if isinstance(m, nn.BatchNorm3d)} == {1e-5}


@torch.no_grad()
def test_modules_can_be_inserted() -> None:
    backbone = R2Plus1D(10, base_channels=4).eval()
    x = torch.randn(4, 3, 8, 32, 32)
    plain = backbone(x)
    insert_modules(backbone, {'type': 'DSA', 'num_snippets': 2, 'channel_ratio': 1.0, 'blocks': (0, 1, 1, 0)})
    backbone.eval()
    assert backbone.layer2[0].inserted == {'before_conv2': ['dsa']}
    assert not torch.allclose(backbone(x), plain, rtol=1e-3, atol=1e-3)


def test_options_reach_the_network() -> None:
    backbone = R2Plus1D(10, base_channels=8, norm_eval=True, stochastic_depth=0.4, pretrained='video.pth')
    assert backbone.out_channels == 64
    assert not backbone.conv1.norm.training
    assert [stage[0].stochastic_depth.p for stage in backbone.stages] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert backbone.pretrained == 'video.pth'
    backbone = R2Plus1D(10, base_channels=8, frozen_stages=1, partial_bn=True)
    trained = {name.split('.')[0] for name, p in backbone.named_parameters() if p.requires_grad}
    assert trained == {'layer2', 'layer3', 'layer4'}
    for norm in (backbone.layer3[0].bn1, backbone.layer3[0].conv1.norm, backbone.layer3[0].downsample[1]):
        assert not norm.training
        assert not norm.weight.requires_grad
    assert R2Plus1D(10, base_channels=8, partial_bn=True).conv1.norm.training


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        ({'depth': 50}, 'depth=50 .*10, 18, 34'),
        ({'depth': 18, 'style': 'mmaction'}, "style='mmaction' .*torchvision, mmaction2"),
        ({'depth': 18, 'base_channels': 0}, 'base_channels=0'),
        ({'depth': 18, 'stochastic_depth': 1.0}, r'stochastic_depth=1.0.*\[0, 1\)'),
        ({'depth': 18, 'frozen_stages': -2}, 'frozen_stages=-2'),
    ],
)
def test_invalid_options_raise(options: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        R2Plus1D(**options)
