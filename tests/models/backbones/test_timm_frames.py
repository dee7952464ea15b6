"""Image networks of timm on each frame, compared with timm's own networks."""

import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from dsanet.config.registry import MODELS, build
from dsanet.explain.cam import compute_maps
from dsanet.models.backbones.feature_layout import FeatureLayout
from dsanet.models.backbones.timm_frames import TimmFrames
from dsanet.models.modules_maker.block_maker import insert_modules
from dsanet.models.optimization import fold_batch_norms
from dsanet.models.weights.loading import load_weights
from tests.make_recognizer import make_recognizer
from tests.models.test_snippet_order import measure_sensitivity

timm = pytest.importorskip('timm', reason='timm is optional')

# name, width, a stage or block, and the shape of its output for one frame of 64 x 96
SMALL = [
    ('test_resnet', 96, 'net.layer2', (48, 8, 12)),
    ('test_convnext', 64, 'net.stages.1', (32, 8, 12)),
    ('test_vit', 64, 'net.blocks.1', (64, 4, 6)),
]
LARGE = [
    ('test_efficientnet', 256, 'net.blocks.2', (32, 8, 12)),
    ('resnet18', 512, 'net.layer2', (128, 8, 12)),
    ('convnext_atto', 320, 'net.stages.1', (80, 8, 12)),
    ('convnext_femto', 384, 'net.stages.1', (96, 8, 12)),
    ('vit_tiny_patch16_224', 192, 'net.blocks.5', (192, 4, 6)),
    ('swin_tiny_patch4_window7_224', 768, 'net.layers.1', (192, 8, 12)),
    ('mobilenetv3_small_100', 1024, 'net.blocks.1', (24, 8, 12)),
    ('mobilenetv3_large_100', 1280, 'net.blocks.2', (40, 8, 12)),
    ('efficientnet_b0', 1280, 'net.blocks.2', (40, 8, 12)),
]
NETWORKS = [*SMALL, *(pytest.param(*row, marks=pytest.mark.sweep) for row in LARGE)]
CLIP = (2, 3, 3, 64, 96)  # (B, 3, T, H, W)


def make_scores_depend_on_frames(net: nn.Module) -> None:
    """Draw weights and statistics that keep the signal, and values for parameters that start at 0 or 1."""
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    norms = {norm.weight for norm in net.modules() if isinstance(norm, nn.modules.batchnorm._BatchNorm)}
    for parameter in net.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=(2 / parameter[0].numel()) ** 0.5)
        else:
            nn.init.normal_(parameter, mean=1.0 if parameter in norms else 0.5, std=0.2)


@pytest.mark.parametrize(('name', 'width', 'after', 'shape'), NETWORKS)
@torch.no_grad()
def test_features_are_inputs_of_timm_classifier(name: str, width: int, after: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    backbone = TimmFrames(name).eval().double()
    make_scores_depend_on_frames(backbone.net)
    other = timm.create_model(name, num_classes=5).eval().double()
    other.load_state_dict(other.state_dict() | backbone.net.state_dict())
    # timm's own networks with positions or windows accept one size only.
    size = (2, 3, 2, *backbone.probe_shape[3:]) if hasattr(other, 'patch_embed') else CLIP
    x = torch.randn(size, dtype=torch.float64)
    frames = [other.forward_head(other.forward_features(frame), pre_logits=True) for frame in x.unbind(2)]
    features = backbone(x)
    assert features.shape == (2, width, x.shape[2], 1, 1)
    assert backbone.out_channels == width
    assert (features - features.mean(dim=(0, 2), keepdim=True)).abs().max() > 1e-3, 'the frames have equal features'
    torch.testing.assert_close(features.flatten(2), torch.stack(frames, dim=2), rtol=1e-9, atol=1e-9)


def record_output(backbone: TimmFrames, name: str) -> list[Tensor]:
    """Return the list that gets the output of a submodule in a forward pass."""
    found: list[Tensor] = []
    backbone.get_submodule(name).register_forward_hook(lambda _module, _args, output: found.append(output.clone()))
    return found


def frame_features(name: str, output: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return the features of a frame (C, H, W), from an output without its batch axis."""
    if 'vit' in name:
        return torch.stack([token.clone() for token in output[1:]], dim=1).reshape(shape)  # (C, H, W)
    return output.permute(2, 0, 1) if 'swin' in name else output


@pytest.mark.parametrize(('name', 'width', 'after', 'shape'), NETWORKS)
@torch.no_grad()
def test_module_gets_snippets_of_frames(name: str, width: int, after: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    plain, backbone = TimmFrames(name), TimmFrames(name)
    make_scores_depend_on_frames(plain.net)
    backbone.load_state_dict(plain.state_dict())
    cfg = [{'type': 'DSA', 'num_snippets': 2, 'channel_ratio': 0.5}, {'type': 'TAM', 'frames_per_snippet': 3}]
    insert_modules(backbone, [{**module, 'after': after} for module in cfg])
    modules = [backbone.get_submodule(f'{kind}_after_{after.replace(".", "_")}') for kind in ('dsa', 'tam')]
    plain.eval(), backbone.eval()
    before, after_modules = record_output(plain, after), record_output(backbone, after)
    x = torch.randn(CLIP)
    assert not torch.allclose(plain(x), backbone(x), rtol=1e-3, atol=1e-4)
    features = torch.zeros(2, shape[0], 3, *shape[1:])
    for b in range(2):
        for t in range(3):
            features[b, :, t] = frame_features(name, before[0][b * 3 + t], shape)
    for module in modules:
        features = module(features)
    for b in range(2):
        for t in range(3):
            changed = frame_features(name, after_modules[0][b * 3 + t], shape)
            torch.testing.assert_close(changed, features[b, :, t], rtol=1e-4, atol=1e-5)
    if 'vit' in name:
        assert torch.equal(before[0][:, 0], after_modules[0][:, 0]), 'the class token is not changed'


def make_model(name: str, module_cfg: Any = None, head: Mapping[str, Any] | None = None) -> Any:
    """Return a recognizer for four snippets."""
    backbone = {'type': 'TimmFrames', 'name': name}
    cls_head = {'type': 'TSNHead', 'num_classes': 7, 'in_channels': TimmFrames(name).out_channels, **(head or {})}
    model: Any = build(
        {'type': 'Recognizer3D', 'backbone': backbone, 'cls_head': cls_head, 'module_cfg': module_cfg}, MODELS
    ).eval()
    make_scores_depend_on_frames(model.backbone.net)
    return model


def test_frames_need_dsa_for_snippet_order() -> None:
    dsa = {'type': 'DSA', 'num_snippets': 4, 'channel_ratio': 1.0, 'after': 'net.blocks.1'}
    for seed in range(3):
        torch.manual_seed(seed)
        model = make_model('test_vit')
        assert measure_sensitivity(model, (4, 1, 64, 64)) <= 1e-5
        insert_modules(model.backbone, dsa)
        assert measure_sensitivity(model.eval(), (4, 1, 64, 64)) > 1e-4


def test_relations_of_frames_depend_on_their_order() -> None:
    torch.manual_seed(0)
    head = {'type': 'TRNHead', 'num_snippets': 4, 'hidden_channels': 16}
    assert measure_sensitivity(make_model('test_resnet', head=head), (4, 1, 64, 64)) > 1e-4


@torch.no_grad()
def test_temporal_shift_in_a_residual_branch() -> None:
    plain, backbone, name = TimmFrames('test_resnet'), TimmFrames('test_resnet'), 'net.layer2.0.act1'
    make_scores_depend_on_frames(plain.net)
    backbone.load_state_dict(plain.state_dict())
    insert_modules(backbone, {'type': 'TemporalShift', 'after': name})
    before, after = record_output(plain.eval(), name), record_output(backbone.eval(), name)
    x = torch.randn(CLIP)
    assert not torch.allclose(backbone(x), plain(x), rtol=1e-3, atol=1e-4)
    expected, fold = before[0].clone(), before[0].shape[1] // 8
    for frame in range(6):
        t = frame % 3
        expected[frame, :fold] = before[0][frame + 1, :fold] if t < 2 else 0
        expected[frame, fold : 2 * fold] = before[0][frame - 1, fold : 2 * fold] if t > 0 else 0
    assert torch.equal(after[0], expected)
    with pytest.raises(ValueError, match='at least 2 frames'):
        backbone(x[:, :, :1])


@pytest.mark.parametrize(('name', 'suffix'), [('test_resnet', '.pth'), ('test_vit', '.safetensors')])
def test_weights_of_timm_load(name: str, suffix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / f'model{suffix}'
    net = timm.create_model(name)
    make_scores_depend_on_frames(net)
    save_file(net.state_dict(), file) if suffix == '.safetensors' else torch.save(net.state_dict(), file)
    model = make_model(
        name, {'type': 'DSA', 'num_snippets': 4, 'after': 'net.blocks.1' if 'vit' in name else 'net.layer2'}
    )
    with caplog.at_level(logging.INFO):
        report = load_weights(model, file)
    own = {f'backbone.net.{key}': value for key, value in net.state_dict().items()}
    assert set(report.matched) == {key for key in model.state_dict() if key.startswith('backbone.net.')}
    assert all(torch.equal(model.state_dict()[key], own[key]) for key in report.matched)
    assert len(report.unexpected) == 2  # the classifier
    assert [record.levelname for record in caplog.records] == ['INFO', 'WARNING']
    assert '(127.5, 127.5, 127.5)' in caplog.messages[1]  # these networks do not use the normalization of ImageNet
    load_weights(model.backbone, file)


def test_image_resnet_of_timm_with_deep_stem_loads(tmp_path: Path) -> None:
    net = timm.create_model('resnet10t')
    save_file(net.state_dict(), tmp_path / 'model.safetensors')
    backbone = TimmFrames('resnet10t')
    assert not load_weights(backbone, tmp_path / 'model.safetensors').missing
    assert torch.equal(backbone.net.conv1[0].weight, net.conv1[0].weight)


@pytest.mark.parametrize(
    ('name', 'layer', 'grid'), [('test_resnet', 'net.layer4', (3, 2, 2)), ('test_vit', 'net.blocks.5.norm1', (3, 4, 4))]
)
def test_maps_of_frames(name: str, layer: str, grid: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    model = make_model(name)
    nn.init.normal_(model.cls_head.fc_cls.weight)
    recognizer = make_recognizer()
    recognizer.model = model
    view = torch.randint(0, 256, (4, 3, 3, 64, 64), dtype=torch.uint8)
    maps, scores, found = compute_maps(recognizer, view, class_index=2)
    assert found == f'backbone.{layer}'
    assert maps.shape == (4, *grid)
    assert any(compute_maps(recognizer, view, class_index=k)[0].any() for k in range(7))
    with torch.no_grad():
        torch.testing.assert_close(scores, model(view[None, None])[0])
    if name == 'test_resnet':  # with an average after the last layer, the maps are weighted by the classifier
        features: list[Tensor] = []
        model.backbone.net.layer4.register_forward_hook(lambda _module, _args, output: features.append(output))
        with torch.no_grad():
            model(view[None, None])
        weight = model.cls_head.fc_cls.weight[2].detach()
        expected = torch.einsum('fchw,c->fhw', features[0], weight).relu().unflatten(0, (4, 3))  # (U, T, H, W)
        assert expected.max() > 0
        torch.testing.assert_close(maps / maps.max(), expected / expected.max(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(('name', 'folds'), [('test_resnet', True), ('test_efficientnet', False)])
@torch.no_grad()
def test_folded_batch_norms_keep_the_features(name: str, folds: bool) -> None:
    """The norms of EfficientNet include the activation, and are kept."""
    backbone = TimmFrames(name).eval()
    make_scores_depend_on_frames(backbone.net)
    x = torch.randn(CLIP)
    before = backbone(x)
    assert (fold_batch_norms(backbone) > 0) is folds
    torch.testing.assert_close(backbone(x), before, rtol=1e-4, atol=1e-5)


def test_layouts_depend_on_the_frames() -> None:
    backbone = TimmFrames('test_vit')
    with torch.device('meta'):
        backbone.to('meta')(torch.zeros(2, 3, 5, 64, 96))
    assert backbone.feature_layout('', (2, 64, 5, 1, 1)) == FeatureLayout('BCTHW')
    assert backbone.feature_layout('net.blocks.0', (10, 25, 64)) == FeatureLayout('FMC', (5, 4, 6), 1)
    assert backbone.feature_layout('net.patch_embed', (10, 24, 64)) == FeatureLayout('FMC', (5, 4, 6), 0)
    for shape in ((10, 64), (10, 23, 64), (10, 8, 8, 9)):
        assert backbone.feature_layout('net.blocks.0', shape) is None


@pytest.mark.parametrize(('name', 'size'), [('vit_tiny_patch16_224', 40), ('levit_128s', 64), ('convnext_atto', 16)])
def test_frames_of_wrong_size_raise(name: str, size: int) -> None:
    with torch.device('meta'), pytest.raises(ValueError, match=f'{name}.* {size} x {size} .* 224 x 224'):
        TimmFrames(name)(torch.zeros(1, 3, 2, size, size))


@pytest.mark.parametrize('name', ['resnet8', 'hf_hub:timm/resnet18'])
def test_unknown_network_raises(name: str) -> None:
    with pytest.raises(ValueError, match=f"name='{name}'"):
        TimmFrames(name)


def test_missing_timm_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'timm', None)
    with pytest.raises(ValueError, match='pip install timm'):
        TimmFrames('resnet18')


@pytest.mark.sweep
@pytest.mark.parametrize(('name', 'after'), [('test_convnext', 'net.stages.1'), ('test_vit', 'net.blocks.1')])
@torch.no_grad()
def test_export_accepts_any_batch_size(name: str, after: str) -> None:
    backbone = TimmFrames(name).eval()
    insert_modules(backbone, {'type': 'DSA', 'num_snippets': 2, 'channel_ratio': 0.5, 'after': after})
    make_scores_depend_on_frames(backbone.eval())
    x = torch.randn(4, *CLIP[1:])
    exported = torch.export.export(backbone, (x,), dynamic_shapes=({0: torch.export.Dim('batch') * 2},))
    larger = torch.randn(6, *CLIP[1:])
    torch.testing.assert_close(exported.module()(larger), backbone(larger), rtol=1e-4, atol=1e-5)
