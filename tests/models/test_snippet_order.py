"""Only models with DSA, V4D or TRN depend on the order of a video's snippets.

The others average over the snippets, so a gain over such a control on the same frames comes from the module.
"""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dsanet.config.registry import MODELS, build
from dsanet.models.backbones.torchvision_video import TorchvisionVideo
from dsanet.models.heads.tsn_head import TSNHead
from dsanet.models.recognizers.recognizer3d import Recognizer3D
from tests.make_tiny_networks import CLIP, TinyMViT, TinySwin

# Modules and heads that relate snippets to each other.
MIXING_TYPES = ('DSA', 'V4D', 'TRNHead')
ORDER = [2, 0, 3, 1]


def mixes_snippets(model_cfg: Mapping[str, Any]) -> bool:
    """Return whether a part of a model config relates snippets to each other."""
    module_cfg = model_cfg.get('module_cfg') or []
    parts = [module_cfg] if isinstance(module_cfg, Mapping) else [*module_cfg]
    return any(part['type'] in MIXING_TYPES for part in [*parts, model_cfg['cls_head']])


def randomize(model: nn.Module) -> None:
    """Draw zero weights, statistics and the classifier, so that every layer has an effect."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    for name, parameter in model.named_parameters():
        if not parameter.any():
            is_weight = parameter.dim() > 1
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5 if is_weight else 0.5)
        elif name.startswith('cls_head') and parameter.dim() > 1:
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)


def make_snippets(num_snippets: int, frames: int, height: int, width: int) -> Tensor:
    """Two videos whose snippets differ in brightness and color, not in noise alone: uint8 (N, V, U, C, T, H, W)."""
    level = torch.randint(20, 200, (2, 1, num_snippets, 3, 1, 1, 1))
    return (level + torch.randint(0, 56, (2, 1, num_snippets, 3, frames, height, width))).to(torch.uint8)


@torch.no_grad()
def order_sensitivity(model_cfg: Mapping[str, Any], shape: tuple[int, int, int, int]) -> float:
    """Return the change of the scores when snippets are permuted, relative to the largest score.

    Args:
        model_cfg: a model with random weights, in eval mode.
        shape: (U, T, H, W).
    """
    model = build(model_cfg, MODELS, 'model').eval()
    if model_cfg['backbone'].get('name') == 'mvit_v2_s':
        del model.backbone.net.blocks[5:14]  # equal blocks in the middle, to save time
    if model_cfg['backbone'].get('name') in ('s3d', 'mvit_v2_s'):
        for parameter in model.backbone.parameters():  # with their small initial weights the signal vanishes
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=(2 / parameter[0].numel()) ** 0.5)
    return measure_sensitivity(model, shape)


@torch.no_grad()
def measure_sensitivity(model: nn.Module, shape: tuple[int, int, int, int]) -> float:
    """Return the change of a model's scores when the snippets are permuted, relative to the largest score."""
    randomize(model)
    snippets = make_snippets(*shape)
    order = ORDER if shape[0] == 4 else [*range(1, shape[0]), 0]
    scores, shuffled = model(snippets), model(snippets[:, :, order])
    assert scores.isfinite().all(), 'the scores are not finite'
    scale = scores.abs().max()
    assert (scores - scores.mean(1, keepdim=True)).abs().max() > 1e-3 * scale, 'the scores of all classes are equal'
    return float((shuffled - scores).abs().max() / scale)


def make_cfg(
    backbone: dict[str, Any],
    module_cfg: dict[str, Any] | list[dict[str, Any]] | None = None,
    channels: int = 64,
    head: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The config of a small model for snippets."""
    cls_head = {'type': 'I3DClsHead', 'num_classes': 7, **(head or {}), 'in_channels': channels}
    return {'type': 'Recognizer3D', 'backbone': backbone, 'module_cfg': module_cfg, 'cls_head': cls_head}


def small(kind: str, **options: object) -> dict[str, Any]:
    """A backbone of 64 channels."""
    return {'type': kind, 'depth': 10, 'base_channels': 8, **options}


EVERYWHERE = (1, 1, 1, 1)
TRN = {'type': 'TRNHead', 'num_snippets': 4, 'hidden_channels': 16}
DSA = {'type': 'DSA', 'num_snippets': 4, 'channel_ratio': 0.5, 'blocks': (0, 1, 1, 0)}
V4D = {'type': 'V4D', 'num_snippets': 4, 'place': 'after_block', 'blocks': (0, 1, 1, 0)}
TAM = {'type': 'TAM', 'frames_per_snippet': 2, 'blocks': EVERYWHERE}
MVF = {'type': 'MVF', 'place': 'before_conv1', 'blocks': (0, 0, 1, 1)}
NON_LOCAL = {'type': 'NonLocal3d', 'sub_sample': False, 'place': 'after_block', 'blocks': (0, 1, 1, 0)}
SLOWFAST = small('SlowFast', speed_ratio=2)
X3D = {'type': 'X3D', 'depth_factor': 0.5}
R3D = {'type': 'TorchvisionVideo', 'name': 'r3d_18'}
VIT = {
    'type': 'VisionTransformer',
    'embed_dim': 64,
    'depth': 3,
    'num_heads': 4,
    'mlp_ratio': 2,
    'patch_size': 8,
    'input_size': (2, 32, 32),
}
VJEPA2 = {**VIT, 'positions': 'rotary', 'qkv_bias': 'qkv', 'pooling': 'attentive'}
CLASS_TOKEN = {**VIT, 'positions': 'learned', 'pooling': 'class_token'}
IN_VIT = {'place': 'after_block', 'blocks': ((1, 1, 0),)}

CONTROLS = {
    'i3d': make_cfg(small('ResNet_I3D')),
    'i3d_18': make_cfg(small('ResNet_I3D', depth=18)),
    'i3d_tsn_head': make_cfg(small('ResNet_I3D'), head={'type': 'TSNHead'}),
    'i3d_windows': {**make_cfg(small('ResNet_I3D'), head={'test_window': (1, 1)}), 'average_views': 'prob'},
    'c2d': make_cfg(small('ResNet'), head={'type': 'TSNHead'}),
    'tsm': make_cfg(small('ResNetTSM')),
    'tsm_block': make_cfg(small('ResNetTSM', shift_place='block')),
    'tam': make_cfg(small('ResNet'), TAM),
    'mvf': make_cfg(small('ResNet'), MVF),
    'non_local': make_cfg(small('ResNet_I3D'), NON_LOCAL),
    'r2plus1d': make_cfg(small('R2Plus1D')),
    'r2plus1d_mmaction2': make_cfg(small('R2Plus1D', style='mmaction2')),
    'r3d': make_cfg(R3D, channels=512),
    'vit': make_cfg(VIT),
    'vit_mvf': make_cfg(VIT, {**MVF, **IN_VIT}),
    'vit_vjepa2': make_cfg(VJEPA2),
    'vit_class_token': make_cfg(CLASS_TOKEN),
    'slowfast': make_cfg(SLOWFAST, channels=72),
    'x3d': make_cfg(X3D, channels=2048, head={'type': 'TSNHead'}),
}
MIXING = {
    'i3d_dsa': make_cfg(small('ResNet_I3D'), DSA),
    'i3d_18_dsa': make_cfg(small('ResNet_I3D', depth=18), DSA),
    'i3d_dsa_after': make_cfg(small('ResNet_I3D'), {**DSA, 'place': 'after_block'}),
    'i3d_dsa_tsn_head': make_cfg(small('ResNet_I3D'), DSA, head={'type': 'TSNHead'}),
    'i3d_dsa_non_local': make_cfg(small('ResNet_I3D'), [DSA, NON_LOCAL]),
    'i3d_v4d': make_cfg(small('ResNet_I3D'), V4D),
    'c2d_trn': make_cfg(small('ResNet'), head=TRN),
    'c2d_trn_single': make_cfg(small('ResNet'), head={**TRN, 'multi_scale': False}),
    'tsm_dsa': make_cfg(small('ResNetTSM'), DSA),
    'tam_dsa': make_cfg(small('ResNet'), [TAM, DSA]),
    'mvf_dsa': make_cfg(small('ResNet'), [MVF, DSA]),
    'r2plus1d_dsa': make_cfg(small('R2Plus1D'), DSA),
    'r3d_dsa': make_cfg(
        R3D, {'type': 'DSA', 'num_snippets': 4, 'channel_ratio': 1.0, 'after': 'net.layer2'}, channels=512
    ),
    'slowfast_dsa': make_cfg(SLOWFAST, DSA, channels=72),
    'slowfast_dsa_fast_path': make_cfg(
        SLOWFAST, {'type': 'DSA', 'num_snippets': 4, 'channel_ratio': 1.0, 'after': 'fast_path.layer2'}, channels=72
    ),
    'x3d_dsa': make_cfg(X3D, {**DSA, 'place': 'after_block'}, channels=2048, head={'type': 'TSNHead'}),
    'r3d_v4d': make_cfg(R3D, {'type': 'V4D', 'num_snippets': 4, 'after': 'net.layer3'}, channels=512),
    'vit_dsa': make_cfg(VIT, {**DSA, **IN_VIT}),
    'vit_v4d': make_cfg(VIT, {**V4D, **IN_VIT}),
    'vit_vjepa2_dsa': make_cfg(VJEPA2, {**DSA, **IN_VIT}),
    'vit_class_token_dsa': make_cfg(CLASS_TOKEN, {**DSA, **IN_VIT}),
}


def test_mixes_snippets_knows_all_configs() -> None:
    for name, model_cfg in {**CONTROLS, **MIXING}.items():
        assert mixes_snippets(model_cfg) is (name in MIXING), name


@pytest.mark.parametrize('name', CONTROLS)
def test_control_ignores_snippet_order(name: str) -> None:
    assert order_sensitivity(CONTROLS[name], (4, 2, 32, 32)) <= 1e-5


@pytest.mark.parametrize('name', MIXING)
def test_dsa_v4d_and_trn_depend_on_snippet_order(name: str) -> None:
    assert order_sensitivity(MIXING[name], (4, 2, 32, 32)) > 1e-4


# name, channels, (T, H, W), submodule: torchvision's other networks at their smallest sizes
TORCHVISION = [
    ('mc3_18', 512, (2, 32, 32), 'net.layer2'),
    ('r2plus1d_18', 512, (2, 32, 32), 'net.layer2'),
    pytest.param('swin3d_t', 768, (2, 32, 32), 'net.features.0', marks=pytest.mark.sweep),
    pytest.param('s3d', 1024, (13, 209, 209), 'net.features.15', marks=pytest.mark.sweep),
    pytest.param('mvit_v2_s', 768, (16, 224, 224), 'net.blocks.3', marks=pytest.mark.sweep),
]


@pytest.mark.parametrize(('name', 'channels', 'size', 'after'), TORCHVISION)
def test_torchvision_networks_need_dsa_for_snippet_order(
    name: str, channels: int, size: tuple[int, int, int], after: str
) -> None:
    backbone = {'type': 'TorchvisionVideo', 'name': name}
    dsa = {'type': 'DSA', 'num_snippets': 2, 'channel_ratio': 1.0, 'after': after}
    assert order_sensitivity(make_cfg(backbone, channels=channels), (2, *size)) <= 1e-5
    assert order_sensitivity(make_cfg(backbone, dsa, channels), (2, *size)) > 1e-4


def draw_events(number: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw videos with a bright and a dark event in two of four snippets: uint8 (N, 1, U, 3, T, H, W).

    Returns:
        The videos, and whether the bright event is the first.
    """
    inputs = torch.randint(90, 110, (number, 1, 4, 3, 2, 16, 16), generator=generator)
    labels = torch.randint(2, (number,), generator=generator)
    for video, label in zip(inputs, labels, strict=True):
        first, second = torch.randperm(4, generator=generator)[:2].sort().values
        row, column = (8 * int(torch.randint(2, (), generator=generator)) for _ in range(2))
        video[0, first if label else second, :, :, row : row + 8, column : column + 8] = 220
        video[0, second if label else first, :, :, row : row + 8, column : column + 8] = 20
    return inputs.to(torch.uint8), labels


def train_on_order(module_cfg: dict[str, Any] | None, seed: int) -> float:
    """Train a transformer to tell the order of two events; return the accuracy for 400 other videos in percent."""
    backbone = {**VIT, 'embed_dim': 32, 'depth': 2, 'input_size': (2, 16, 16)}
    torch.manual_seed(seed)
    model = build(make_cfg(backbone, module_cfg, 32, {'num_classes': 2, 'dropout': 0.0}), MODELS, 'model')
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(120):
        inputs, labels = draw_events(16, generator)
        optimizer.zero_grad()
        model(inputs, labels)['loss'].backward()
        optimizer.step()
    inputs, labels = draw_events(400, generator)
    with torch.no_grad():
        return float((model.eval()(inputs).argmax(dim=1) == labels).float().mean()) * 100


@pytest.mark.sweep
@pytest.mark.parametrize('seed', [0, 1, 2])
def test_transformer_learns_snippet_order_with_dsa_only(seed: int) -> None:
    dsa = {'type': 'DSA', 'num_snippets': 4, 'channel_ratio': 1.0, 'place': 'after_block', 'blocks': ((1, 0),)}
    assert train_on_order(dsa, seed) > 95
    assert 40 < train_on_order(None, seed) < 60


@pytest.mark.parametrize(('network', 'after'), [(TinyMViT, 'net.blocks.1'), (TinySwin, 'net.features.0')])
def test_token_networks_need_dsa_for_snippet_order(network: type[TorchvisionVideo], after: str) -> None:
    dsa = {'type': 'DSA', 'num_snippets': 4, 'channel_ratio': 0.5, 'after': after}
    for seed in range(3):
        torch.manual_seed(seed)
        blind, seeing = (Recognizer3D(network(), TSNHead(7, 16), cfg).eval() for cfg in (None, dsa))
        for model in (blind, seeing):
            for parameter in model.backbone.parameters():  # with their small initial weights the signal vanishes
                if parameter.dim() > 1:
                    nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
        assert measure_sensitivity(blind, (4, *CLIP[2:])) <= 1e-5
        assert measure_sensitivity(seeing, (4, *CLIP[2:])) > 1e-4
