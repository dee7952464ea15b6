import pytest
import torch
import torchvision
from torch import nn

from dsanet.models.backbones.resnet import ResNet
from dsanet.models.backbones.resnet_i3d import ResNet_I3D


@pytest.mark.parametrize('depth', [18, 50])
@torch.no_grad()
def test_each_frame_gets_the_features_of_the_image_network(depth: int) -> None:
    image = getattr(torchvision.models, f'resnet{depth}')().eval()
    backbone = ResNet(depth).eval()
    weights = {k: v.unsqueeze(2) if v.dim() == 4 else v for k, v in image.state_dict().items()}
    backbone.load_state_dict({k: v for k, v in weights.items() if not k.startswith('fc.')})
    x = torch.randn(2, 3, 2, 64, 64)
    image.avgpool, image.fc = nn.Identity(), nn.Identity()
    expected = torch.stack([image(x[:, :, t]).unflatten(1, (-1, 2, 2)) for t in range(2)], dim=2)  # (B, C, T, 2, 2)
    torch.testing.assert_close(backbone(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('depth', [10, 50])
@torch.no_grad()
def test_it_is_the_i3d_network_without_inflation(depth: int) -> None:
    backbone = ResNet(depth, base_channels=4).eval()
    other = ResNet_I3D(depth, base_channels=4, inflate=(0, 0, 0, 0)).eval()
    other.load_state_dict(backbone.state_dict())
    x = torch.randn(2, 3, 2, 32, 32)
    assert torch.equal(backbone(x), other(x))


@torch.no_grad()
def test_no_frame_sees_another() -> None:
    backbone = ResNet(10, base_channels=4).eval()
    x = torch.randn(1, 3, 3, 32, 32)
    changed = x.clone()
    changed[:, :, 1] = torch.randn(1, 3, 32, 32)
    different = (backbone(x) - backbone(changed)).abs().amax(dim=(0, 1, 3, 4)) > 1e-6
    assert different.tolist() == [False, True, False]


@pytest.mark.parametrize('depth', [10, 18, 34, 50, 101, 152])
def test_all_depths_have_filters_of_one_frame(depth: int) -> None:
    with torch.device('meta'):
        backbone = ResNet(depth)
    kernels = {module.kernel_size[0] for module in backbone.modules() if isinstance(module, nn.Conv3d)}
    assert kernels == {1}


def test_options_reach_the_network() -> None:
    backbone = ResNet(10, base_channels=4, norm_eval=True, activation_checkpointing=True, pretrained='image.pth')
    assert backbone.out_channels == 32
    assert not backbone.bn1.training
    assert backbone.layer1[0].activation_checkpointing
    assert backbone.pretrained == 'image.pth'
    backbone = ResNet(10, base_channels=4, frozen_stages=1, partial_bn=True)
    trained = {name.split('.')[0] for name, p in backbone.named_parameters() if p.requires_grad}
    assert trained == {'layer2', 'layer3', 'layer4'}
    assert not any(p.requires_grad for p in backbone.layer3[0].bn1.parameters())


def test_wrong_options_are_refused_with_text() -> None:
    with pytest.raises(ValueError, match='depth=20 must be one of 10, 18, 34, 50, 101, 152'):
        ResNet(20)
    with pytest.raises(ValueError, match='frozen_stages=5 must lie in -1'):
        ResNet(10, frozen_stages=5)
