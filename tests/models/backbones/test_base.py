import pytest
from torch import nn

from dsanet.models.backbones.base import Backbone, find_stages


class Wrapped(Backbone):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net


def make_net(name: str, blocks: nn.Module, **others: nn.Module) -> nn.Module:
    net = nn.Module()
    net.stem = nn.Linear(1, 1)
    for part, module in ((name, blocks), *others.items()):
        net.add_module(part, module)
    net.norm = nn.LayerNorm(1)
    return net


def make_stage() -> nn.Module:
    stage = nn.Module()
    stage.downsample = nn.Linear(1, 1)
    stage.blocks = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    return stage


@pytest.mark.parametrize(
    ('net', 'expected'),
    [
        (make_net('blocks', nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))), {'blocks.0': 1, 'blocks.1': 2}),
        (make_net('blocks', nn.Sequential(nn.Sequential(nn.Linear(1, 1)))), {'blocks.0.0': 1}),
        (
            make_net('stages', nn.ModuleList([make_stage(), make_stage()])),
            {
                'stages.0.downsample': 0,
                'stages.0.blocks.1': 2,
                'stages.1.downsample': 2,
                'stages.1.blocks.0': 3,
                'stages.1.blocks.1': 4,
            },
        ),
        (
            make_net('layer1', nn.Sequential(nn.Linear(1, 1)), layer2=nn.Sequential(nn.Linear(1, 1))),
            {'layer1.0': 1, 'layer2.0': 2},
        ),
    ],
)
def test_layers_of_other_libraries_are_found(net: nn.Module, expected: dict[str, int]) -> None:
    backbone = Wrapped(net)
    depths = backbone.layer_depths()
    assert {name: depths[f'net.{name}.weight'] for name in expected} == expected
    assert depths['net.stem.weight'] == 0
    assert depths['net.norm.weight'] == len(backbone.layers_in_order) + 1 == max(expected.values()) + 1


def test_networks_without_known_names_have_no_layers() -> None:
    assert find_stages(nn.Linear(1, 1)) == find_stages(None) == []


def test_first_layer_alone_is_not_all_layers() -> None:
    hrnet = make_net('layer1', nn.Sequential(nn.Linear(1, 1)), stage2=nn.Sequential(nn.Linear(1, 1)))
    assert find_stages(hrnet) == []


@pytest.mark.parametrize(
    ('name', 'num_layers'),
    [('vit_tiny_patch16_224', 12), ('resnet18', 8), ('convnext_atto', 12), ('swin_tiny_patch4_window7_224', 12)],
)
def test_layers_equal_those_of_timm(name: str, num_layers: int) -> None:
    timm = pytest.importorskip('timm', reason='compares with networks of timm')
    net = timm.create_model(name, pretrained=False)
    backbone = Wrapped(net)
    assert len(backbone.layers_in_order) == num_layers
    depths = backbone.layer_depths()
    groups = timm.models.group_parameters(net, net.group_matcher(), reverse=True)
    pairs = sorted((groups[name], depths[f'net.{name}']) for name, _ in net.named_parameters())
    later = [(one, two) for one, two in zip(pairs, pairs[1:], strict=False) if one[0] < two[0]]
    assert all(one[1] <= two[1] for one, two in later), 'the order of the layers is the same'
