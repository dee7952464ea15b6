import pytest
import torch
from torch import Tensor, nn

from dsanet.models.backbones.base import Backbone
from dsanet.models.backbones.r2plus1d import R2Plus1D
from dsanet.models.backbones.resnet import ResNet
from dsanet.models.backbones.resnet_i3d import ResNet_I3D
from dsanet.models.modules_maker.block_maker import insert_modules
from dsanet.models.optimization import NORMS, fold_batch_norms

STAGE = {'place': 'before_conv2', 'blocks': (0, 1, 1, 0)}
CASES = [
    (ResNet_I3D(50, base_channels=8), None, 53),
    (ResNet_I3D(18, base_channels=8), {'type': 'DSA', **STAGE}, 20),
    (ResNet_I3D(18, base_channels=8), {'type': 'V4D', **STAGE}, 20),
    (ResNet_I3D(18, base_channels=8), {'type': 'TAM', 'frames_per_snippet': 4, **STAGE}, 20 + 4),
    (ResNet_I3D(18, base_channels=8), {'type': 'MVF', **STAGE}, 20),  # its batch norm is after a sum
    (ResNet_I3D(18, base_channels=8), {'type': 'NonLocal3d', 'place': 'after_block', 'blocks': (0, 1, 0, 0)}, 20 + 2),
    (R2Plus1D(18), None, None),
    (ResNet(18), None, 20),
]


def randomize(model: nn.Module) -> None:
    """Give the batch norms of a network random statistics and weights, and set it to eval mode."""
    for norm in model.modules():
        if isinstance(norm, NORMS) and norm.running_mean is not None:
            nn.init.normal_(norm.running_mean, std=0.1)
            nn.init.uniform_(norm.running_var, 0.5, 2)
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, std=0.1)
    model.eval()


def count_norms(model: nn.Module) -> int:
    return sum(isinstance(module, NORMS) for module in model.modules())


@pytest.mark.parametrize(('backbone', 'module_cfg', 'folded'), CASES)
@torch.no_grad()
def test_folded_network_gives_the_same_features(backbone: Backbone, module_cfg: dict, folded: int | None) -> None:
    insert_modules(backbone, module_cfg)
    randomize(backbone)
    backbone.double()
    names = [name for name, _ in backbone.named_modules()]
    before = count_norms(backbone)
    x = torch.randn(4, 3, 4, 64, 64, dtype=torch.double)
    expected = backbone(x)
    number = fold_batch_norms(backbone)
    assert number == before - count_norms(backbone) == (before if folded is None else folded)
    torch.testing.assert_close(backbone(x), expected, rtol=1e-9, atol=1e-9)
    assert [name for name, _ in backbone.named_modules()] == names


class _Cases(Backbone):
    """Batch norms that cannot be folded, and one that can."""

    out_channels = 3
    probe_shape = (1, 3, 2, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv3d(3, 3, 1) for _ in range(5))
        self.norms = nn.ModuleList(nn.BatchNorm3d(3) for _ in range(4))
        self.instance = nn.BatchNorm3d(3, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        shared = self.convs[0](x)
        x = self.norms[0](shared) + shared  # used twice
        x = self.norms[1](self.convs[1](x) * 2)  # something between them
        x = self.norms[2](self.convs[2](self.norms[2](self.convs[2](x))))  # called twice
        x = self.instance(self.convs[3](x))  # depends on the batch
        return self.norms[3](self.convs[4](x))


@torch.no_grad()
def test_only_norms_directly_behind_a_convolution_fold() -> None:
    model = _Cases().double()
    randomize(model)
    x = torch.randn(2, 3, 2, 8, 8, dtype=torch.double)
    expected = model(x)
    assert fold_batch_norms(model) == 1
    assert isinstance(model.norms[3], nn.Identity)
    torch.testing.assert_close(model(x), expected, rtol=1e-9, atol=1e-9)


class _Standardized(nn.Conv3d):
    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight / self.weight.std()
        return nn.functional.conv3d(x, weight, self.bias)


class _Activated(nn.BatchNorm3d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).relu()


class _Unusual(Backbone):
    """A convolution with a batch norm, changed in one way."""

    out_channels = 3
    probe_shape = (1, 3, 2, 8, 8)

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.conv = _Standardized(3, 3, 1) if kind == 'standardized' else nn.Conv3d(3, 3, 1)
        self.norm = _Activated(3) if kind == 'activated' else nn.BatchNorm3d(3)
        self.other = nn.Conv3d(3, 3, 1)
        self.kind = kind
        if kind == 'normalized':
            nn.utils.parametrizations.weight_norm(self.conv)
        if kind == 'shared':
            self.other.weight = self.conv.weight

    def forward(self, x: Tensor) -> Tensor:
        features = self.conv(x)
        x = self.other(self.norm(features))
        if self.kind == 'unsupported':
            x = x * x.sum().item() + features  # item does not work on the meta device
        return x


@pytest.mark.parametrize('kind', ['standardized', 'activated', 'normalized', 'shared', 'unsupported'])
@torch.no_grad()
def test_unusual_convolutions_and_norms_do_not_fold(kind: str) -> None:
    model = _Unusual(kind).double()
    randomize(model)
    x = torch.randn(2, 3, 2, 8, 8, dtype=torch.double)
    expected = model(x)
    assert fold_batch_norms(model) == 0
    torch.testing.assert_close(model(x), expected, rtol=1e-9, atol=1e-9)
