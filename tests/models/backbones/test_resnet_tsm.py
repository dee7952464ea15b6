import pytest
import torch
from torch import Tensor, nn

from dsanet.models.backbones.resnet import ResNet
from dsanet.models.backbones.resnet_tsm import ResNetTSM
from dsanet.models.modules_maker.temporal_shift import TemporalShift


def slow_shift(x: Tensor, shift_div: int) -> Tensor:
    """The paper's shift, frame by frame."""
    fold = x.shape[1] // shift_div
    frames = []
    for t in range(x.shape[2]):
        nothing = torch.zeros_like(x[:, :fold, 0])
        future = x[:, :fold, t + 1] if t + 1 < x.shape[2] else nothing
        past = x[:, fold : 2 * fold, t - 1] if t > 0 else nothing
        frames.append(torch.cat([future, past, x[:, 2 * fold :, t]], dim=1))
    return torch.stack(frames, dim=2)


def slow_block(block: nn.Module, x: Tensor, place: str, shift_div: int) -> Tensor:
    """A residual block with the shift inside the branch, or before branch and shortcut."""
    shifted = slow_shift(x, shift_div)
    shortcut = shifted if place == 'block' else x
    branch = block.bn2(block.conv2(block.bn1(block.conv1(shifted)).relu()))
    if hasattr(block, 'conv3'):
        branch = block.bn3(block.conv3(branch.relu()))
    return (branch + (block.downsample(shortcut) if block.downsample is not None else shortcut)).relu()


@pytest.mark.parametrize('place', ['blockres', 'block'])
@pytest.mark.parametrize(('depth', 'shift_div'), [(18, 8), (18, 2), (50, 4)])
@torch.no_grad()
def test_network_equals_slow_blocks(depth: int, shift_div: int, place: str) -> None:
    backbone = ResNetTSM(depth, base_channels=8, shift_div=shift_div, shift_place=place).eval()
    x = torch.randn(2, 3, 3, 32, 32)
    features = backbone.maxpool(backbone.bn1(backbone.conv1(x)).relu())
    for stage in backbone.stages:
        for block in stage:
            features = slow_block(block, features, place, shift_div)
    torch.testing.assert_close(backbone(x), features, rtol=1e-4, atol=1e-5)


def shifts(depth: int, **options: object) -> list[str]:
    """The blocks of a network that shift."""
    with torch.device('meta'):
        backbone = ResNetTSM(depth, **options)
    return [name.rpartition('.')[0] for name, module in backbone.named_modules() if isinstance(module, TemporalShift)]


@pytest.mark.parametrize(
    ('depth', 'place', 'count'),
    [(10, 'blockres', 4), (34, 'blockres', 16), (50, 'blockres', 16), (50, 'block', 16), (101, 'block', 33)],
)
def test_every_block_shifts(depth: int, place: str, count: int) -> None:
    assert len(shifts(depth, shift_place=place)) == count


@pytest.mark.parametrize(('depth', 'sizes'), [(101, (3, 4, 23, 3)), (152, (3, 8, 36, 3))])
def test_every_second_block_of_deep_networks_shifts(depth: int, sizes: tuple[int, ...]) -> None:
    expected = [f'layer{i + 1}.{j}' for i, size in enumerate(sizes) for j in range(0, size, 2)]
    assert shifts(depth) == expected


def test_defaults_are_those_of_the_paper() -> None:
    with torch.device('meta'):
        backbone = ResNetTSM(50)
    assert backbone.layer1[0].inserted == {'before_conv1': ['temporalshift']}
    assert [backbone.layer1[0].temporalshift.fold, backbone.layer1[1].temporalshift.fold] == [8, 32]


@torch.no_grad()
def test_without_shift_equals_image_network() -> None:
    plain, backbone = ResNet(18, base_channels=8).eval(), ResNetTSM(18, base_channels=8).eval()
    backbone.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 3, 32, 32)
    assert not torch.allclose(backbone(x), plain(x), rtol=1e-3, atol=1e-3)
    for stage in backbone.stages:
        for block in stage:
            block.temporalshift = nn.Identity()
    assert torch.equal(backbone(x), plain(x))


def test_options_reach_the_network() -> None:
    options = {'base_channels': 8, 'norm_eval': True, 'activation_checkpointing': True, 'pretrained': 'image.pth'}
    backbone = ResNetTSM(10, **options)
    assert backbone.out_channels == 64
    assert not backbone.bn1.training
    assert backbone.layer1[0].activation_checkpointing
    assert backbone.pretrained == 'image.pth'
    backbone = ResNetTSM(10, base_channels=8, frozen_stages=1, partial_bn=True)
    trained = {name.split('.')[0] for name, p in backbone.named_parameters() if p.requires_grad}
    assert trained == {'layer2', 'layer3', 'layer4'}
    assert not any(p.requires_grad for p in backbone.layer3[0].bn1.parameters())


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        ({'depth': 10, 'shift_place': 'blockrest'}, "shift_place='blockrest' .*blockres, block"),
        ({'depth': 10, 'shift_div': 1}, 'shift_div=1 .*in_channels=64'),
        ({'depth': 10, 'base_channels': 4}, 'shift_div=8 .*in_channels=4'),
        ({'depth': 20}, 'depth=20 .*10, 18, 34, 50, 101, 152'),
    ],
)
def test_invalid_options_raise(options: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        ResNetTSM(**options)
