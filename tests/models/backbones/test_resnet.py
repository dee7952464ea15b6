import pytest
import torch
import torchvision
from torch import nn

from dsanet.models.backbones.resnet import ResNet
from dsanet.models.backbones.resnet_i3d import ResNet_I3D


@pytest.mark.parametrize('depth', [18, 50])
@torch.no_grad()
def test_features_of_each_frame_equal_image_network(depth: int) -> None:
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
def test_equals_i3d_without_inflation(depth: int) -> None:
    backbone = ResNet(depth, base_channels=4).eval()
    other = ResNet_I3D(depth, base_channels=4, inflate=(0, 0, 0, 0)).eval()
    other.load_state_dict(backbone.state_dict())
    x = torch.randn(2, 3, 2, 32, 32)
    assert torch.equal(backbone(x), other(x))


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


def test_invalid_options_raise() -> None:
    with pytest.raises(ValueError, match='depth=20 .*10, 18, 34, 50, 101, 152'):
        ResNet(20)
    with pytest.raises(ValueError, match='frozen_stages=5'):
        ResNet(10, frozen_stages=5)
