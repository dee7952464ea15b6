import pytest
import torch
from torch import nn
from torch.nn import functional

from dsanet.models.backbones.csn import CSN, CSNBottleneck
from dsanet.models.modules_maker.block_maker import insert_modules


@pytest.mark.parametrize('mode', ['ir', 'ip'])
def test_features_and_parameters(mode: str) -> None:
    with torch.device('meta'):
        backbone = CSN(50, mode).eval()
        out = backbone(torch.zeros(2, 3, 16, 64, 96))
    assert out.shape == (2, 2048, 2, 2, 3)
    assert {m.eps for m in backbone.modules() if isinstance(m, nn.BatchNorm3d)} == {1e-3}
    convolutions = [m for m in backbone.modules() if isinstance(m, nn.Conv3d)]
    wide = [m for m in convolutions[1:] if m.kernel_size != (1, 1, 1)]
    assert len(wide) == 16
    assert all(m.kernel_size == (3, 3, 3) and m.groups == m.in_channels for m in wide)
    total = sum(p.numel() for p in backbone.parameters()) + 2049 * 400
    if mode == 'ip':  # a 1x1x1 convolution and a norm in each block
        total -= sum(size * (width**2 + 2 * width) for size, width in ((3, 64), (4, 128), (6, 256), (3, 512)))
    assert f'{total / 1e6:.2f}' == '13.13'  # of ir-CSN-50 in mmaction2's model zoo


@pytest.mark.parametrize('mode', ['ir', 'ip'])
@torch.no_grad()
def test_block_equals_slow_forward(mode: str) -> None:
    block = CSNBottleneck(256, 128, (2, 2, 2), mode, activation_checkpointing=False).eval()
    for module in block.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    x = torch.randn(2, 256, 4, 6, 8)
    y = block.bn1(block.conv1(x)).relu()
    if mode == 'ip':
        pointwise, norm, depthwise = block.conv2
        y = norm(torch.einsum('oc,bcthw->bothw', pointwise.weight.flatten(1), y))
    else:
        (depthwise,) = block.conv2
    channels = [
        functional.conv3d(y[:, c : c + 1], depthwise.weight[c : c + 1], stride=2, padding=1) for c in range(128)
    ]
    y = block.bn3(block.conv3(block.bn2(torch.cat(channels, dim=1)).relu()))
    torch.testing.assert_close(block(x), (y + block.downsample(x)).relu(), rtol=1e-4, atol=1e-5)


def test_options_reach_the_network() -> None:
    with torch.device('meta'):
        backbone = CSN(50, frozen_stages=1, partial_bn=True, norm_eval=True, pretrained='csn.pth')
        insert_modules(backbone, {'type': 'DSA', 'num_snippets': 2, 'blocks': (0, 0, (1, 0, 0, 0, 0, 0), 0)})
    assert backbone.layer3[0].inserted == {'before_conv2': ['dsa']}
    assert not backbone.layer1[0].conv1.weight.requires_grad
    assert not backbone.layer2[0].bn2.weight.requires_grad
    assert backbone.layer2[0].conv2[0].weight.requires_grad
    assert backbone.pretrained == 'csn.pth'
    assert not any(m.training for m in backbone.modules() if isinstance(m, nn.BatchNorm3d))


@pytest.mark.parametrize(
    ('options', 'text'), [({'depth': 18}, 'depth=18.*50, 101, 152'), ({'depth': 50, 'mode': 'is'}, "mode='is'.*ir, ip")]
)
def test_invalid_options_raise(options: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        CSN(**options)
