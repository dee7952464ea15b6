import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from dsanet.models.backbones.x3d import X3D, SqueezeExcitation, X3DBlock
from dsanet.models.modules_maker.block_maker import insert_modules

BLOCKS = {0.5: (1, 1, 3, 2), 2.2: (3, 5, 11, 7), 5.0: (5, 10, 25, 15)}


def randomize(backbone: nn.Module) -> None:
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
        elif isinstance(module, nn.Conv3d):
            nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)


# Table 2 of arXiv 2004.04730 has 3.76 M and 6.08 M; PyTorchVideo has these, without the 48 weights of the first
# shortcut's norm, which the release and mmaction2 have.
PARAMETERS = {2.2: 3_794_274, 5.0: 6_153_384}


@pytest.mark.parametrize('factor', [0.5, 2.2, pytest.param(5.0, marks=pytest.mark.sweep)])
def test_depth_factor_multiplies_blocks_rounded_up(factor: float) -> None:
    with torch.device('meta'):
        backbone = X3D(factor)
    assert backbone.out_channels == 2048
    if factor in PARAMETERS:
        assert sum(p.numel() for p in backbone.parameters()) + 2049 * 400 == PARAMETERS[factor] + 48
    assert tuple(len(stage) for stage in backbone.stages) == BLOCKS[factor]
    for stage in backbone.stages:
        assert [block.se is not None for block in stage] == [j % 2 == 0 for j in range(len(stage))]


@pytest.mark.parametrize(('channels', 'inner'), [(54, 8), (108, 8), (216, 16), (432, 32)])
def test_inner_channels_are_rounded_to_eight(channels: int, inner: int) -> None:
    assert SqueezeExcitation(channels).fc1.out_channels == inner


@torch.no_grad()
def test_squeeze_and_excitation_scales_channels() -> None:
    module = SqueezeExcitation(16)
    x = torch.randn(2, 16, 3, 4, 5)
    for i in range(2):
        mean = x[i].flatten(1).mean(1)
        hidden = (module.fc1.weight.flatten(1) @ mean + module.fc1.bias).relu()
        gate = torch.sigmoid(module.fc2.weight.flatten(1) @ hidden + module.fc2.bias)
        torch.testing.assert_close(module(x)[i], x[i] * gate[:, None, None, None])


def slow_block(block: X3DBlock, x: Tensor) -> Tensor:
    y = block.bn1(block.conv1(x)).relu()
    padded = functional.pad(y, (1, 1, 1, 1, 1, 1))
    stride = block.conv2.stride[1]
    height, width = (-(-size // stride) for size in y.shape[3:])
    out = torch.zeros(len(y), y.shape[1], y.shape[2], height, width)
    for t in range(3):  # each channel by itself: shifted copies times one number
        for i in range(3):
            for j in range(3):
                part = padded[:, :, t : t + y.shape[2], i : i + y.shape[3] : stride, j : j + y.shape[4] : stride]
                out += part * block.conv2.weight[:, 0, t, i, j][:, None, None, None]
    out = block.bn2(out)
    if block.se is not None:
        out = block.se(out)
    out = block.bn3(block.conv3(out * out.sigmoid()))
    return (out + (x if block.downsample is None else block.downsample(x))).relu()


@torch.no_grad()
def test_network_equals_slow_forward() -> None:
    backbone = X3D(0.5).eval()
    randomize(backbone)
    x = torch.randn(2, 3, 3, 40, 32)
    y = functional.conv3d(x, backbone.conv1_s.weight, stride=(1, 2, 2), padding=(0, 1, 1))
    y = functional.pad(y, (0, 0, 0, 0, 2, 2))
    kernel = backbone.conv1_t.weight[:, 0, :, 0, 0]
    y = sum(y[:, :, t : t + 3] * kernel[:, t, None, None, None] for t in range(5))
    y = backbone.bn1(y).relu()
    for stage in backbone.stages:
        for block in stage:
            y = slow_block(block, y)
    conv, norm, _ = backbone.conv5
    pooled = norm(conv(y)).relu().mean((2, 3, 4))
    expected = (pooled @ backbone.lin5.weight.flatten(1).T).relu()
    out = backbone(x)
    assert out.shape == (2, 2048, 1, 1, 1)
    assert y.shape == (2, 192, 3, 2, 1)
    torch.testing.assert_close(out.flatten(1), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_modules_are_inserted_at_every_place() -> None:
    backbone = X3D(0.5).eval()
    randomize(backbone)
    x = torch.randn(4, 3, 2, 32, 32)
    before = backbone(x)
    for place in backbone.layer2[0].place_channels:
        dsa = {'type': 'DSA', 'num_snippets': 2, 'channel_ratio': 1.0, 'place': place, 'blocks': (0, 1, 0, 0)}
        insert_modules(backbone, dsa)
        backbone.eval()
        after = backbone(x)
        assert not torch.allclose(after, before, rtol=1e-3, atol=1e-4), place
        before = after


def test_options_reach_the_network() -> None:
    backbone = X3D(0.5, frozen_stages=1, partial_bn=True, pretrained='x3d_s.pyth')
    trained = {name.split('.')[0] for name, p in backbone.named_parameters() if p.requires_grad}
    assert trained == {'layer2', 'layer3', 'layer4', 'conv5', 'lin5'}
    assert not backbone.layer3[0].bn1.training
    assert backbone.conv5[1].training
    assert backbone.pretrained == 'x3d_s.pyth'
    assert not any(m.training for m in X3D(0.5, norm_eval=True).modules() if isinstance(m, nn.BatchNorm3d))


def test_activation_checkpointing_gives_equal_gradients() -> None:
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        backbone = X3D(0.5, activation_checkpointing=checkpointing)
        backbone(torch.randn(2, 3, 2, 32, 32)).sum().backward()
        gradients.append([p.grad for p in backbone.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_depth_factor_of_zero_raises() -> None:
    with pytest.raises(ValueError, match=r'depth_factor=0.*2\.2'):
        X3D(0)
