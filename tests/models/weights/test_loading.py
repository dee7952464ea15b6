import logging
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from dsanet.config.registry import MODELS, build
from dsanet.models.backbones.resnet import ResNet
from dsanet.models.backbones.resnet_i3d import ResNet_I3D
from dsanet.models.backbones.resnet_tsm import ResNetTSM
from dsanet.models.backbones.slowfast import SlowFast
from dsanet.models.modules_maker.block_maker import insert_modules
from dsanet.models.weights.loading import inflate, load_weights, match_state_dict, read_weights

MODEL = {
    'type': 'Recognizer3D',
    'backbone': {'type': 'ResNet_I3D', 'depth': 10, 'base_channels': 4},
    'cls_head': {'type': 'I3DClsHead', 'num_classes': 3, 'in_channels': 32},
    'module_cfg': {'type': 'DSA', 'num_snippets': 2, 'blocks': (0, 1, 0, 0)},
}


def make_model(**head: int) -> nn.Module:
    return build({**MODEL, 'cls_head': {**MODEL['cls_head'], **head}}, MODELS)


def save(content: object, file: Path) -> Path:
    torch.save(content, file)
    return file


def test_inflated_filter_equals_image_filter_on_constant_clip() -> None:
    flat = torch.randn(5, 3, 3, 3)
    image = torch.randn(2, 3, 8, 8)
    clip = image.unsqueeze(2).repeat(1, 1, 5, 1, 1)  # (N, C, T, H, W)
    expected = nn.functional.conv2d(image, flat, padding=1)
    out = nn.functional.conv3d(clip, inflate(flat, 3), padding=(1, 1, 1))
    for t in (1, 2, 3):
        torch.testing.assert_close(out[:, :, t], expected, rtol=1e-4, atol=1e-5)
    # At the ends one of three frames is zero padding.
    torch.testing.assert_close(out[:, :, 0], expected * 2 / 3, rtol=1e-4, atol=1e-5)


def test_torchvision_image_weights_load_into_a_backbone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    image = torchvision.models.resnet18()
    file = save(image.state_dict(), tmp_path / 'resnet18.pth')
    backbone = ResNet_I3D(18)
    with caplog.at_level(logging.INFO, 'dsanet'):
        report = load_weights(backbone, file)
    assert len(report.matched) == len(backbone.state_dict()) == 120
    assert len(report.inflated) == 20
    assert report.unexpected == ['fc.weight', 'fc.bias']
    assert not report.missing
    torch.testing.assert_close(backbone.layer4[1].conv2.weight.sum(2), image.layer4[1].conv2.weight)
    assert re.search(r'resnet18\.pth.*120 .*20 .*0 missing, 2 unexpected \(fc\.weight, fc\.bias\)', caplog.text)
    assert 'timm' in caplog.text


def test_backbone_weights_load_into_a_recognizer(tmp_path: Path) -> None:
    backbone = ResNet_I3D(10, base_channels=4)
    model = make_model()
    report = load_weights(model, save({'model': backbone.state_dict()}, tmp_path / 'backbone.pth'))
    assert torch.equal(model.backbone.conv1.weight, backbone.conv1.weight)
    assert {key.split('.')[0] for key in report.missing} == {'backbone', 'cls_head'}
    assert all('.dsa.' in key or 'fc_cls' in key for key in report.missing)


def test_recognizer_weights_load_into_a_backbone(tmp_path: Path) -> None:
    model = make_model()
    backbone = ResNet_I3D(10, base_channels=4)
    report = load_weights(backbone, save({'state_dict': model.state_dict()}, tmp_path / 'model.pth'))
    assert torch.equal(model.backbone.conv1.weight, backbone.conv1.weight)
    assert not report.missing


def test_ema_weights_are_preferred(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plain = make_model().state_dict()
    average = {key: torch.full_like(value, 2) for key, value in plain.items()}
    model = make_model()
    with caplog.at_level(logging.INFO, 'dsanet'):
        load_weights(model, save({'state_dict': plain, 'ema_state_dict': average}, tmp_path / 'x.pth'), strict=True)
    assert all((value == 2).all() for value in model.state_dict().values())
    assert 'EMA' in caplog.text


@pytest.mark.parametrize('swapped', [None, {'steps': torch.tensor(3), 'module.backbone.conv1.weight': torch.zeros(1)}])
def test_ema_weights_with_other_keys_are_ignored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, swapped: dict | None
) -> None:
    plain = make_model().state_dict()
    model = make_model()
    with caplog.at_level(logging.INFO, 'dsanet'):
        load_weights(model, save({'state_dict': plain, 'ema_state_dict': swapped}, tmp_path / 'x.pth'), strict=True)
    assert torch.equal(model.backbone.conv1.weight, plain['backbone.conv1.weight'])
    assert 'EMA' not in caplog.text


@pytest.mark.parametrize(
    ('change', 'name'),
    [
        (lambda weight: weight.to(torch.int8), 'int8'),
        (lambda weight: weight.to(torch.complex64), 'complex'),
        (lambda weight: weight.to_sparse(), 'sparse'),
    ],
)
@pytest.mark.filterwarnings('ignore:Sparse:UserWarning')
def test_weights_of_another_kind_raise(change: Callable, name: str) -> None:
    target = make_model().state_dict()
    key = 'backbone.conv1.weight'
    with pytest.raises(ValueError, match=name):
        match_state_dict({**target, key: change(target[key])}, target)
    loaded, _ = match_state_dict({**target, key: target[key].half()}, target)
    assert loaded[key].dtype == torch.float16


def test_class_names_must_be_strings(tmp_path: Path) -> None:
    state = make_model().state_dict()
    for names, expected in ((['wave', 'clap'], ['wave', 'clap']), ('wave', None), ([1, 2], None), (None, None)):
        file = save({'state_dict': state, 'class_names': names}, tmp_path / 'x.pth')
        assert read_weights(file).class_names == expected


def test_unsupported_network_raises(tmp_path: Path) -> None:
    state = {'conv1.0.weight': torch.zeros(32, 3, 3, 3), 'layer1.0.conv1.weight': torch.zeros(64, 64, 1, 1)}
    with pytest.raises(ValueError, match=r'deep\.pth.*resnet18'):
        load_weights(make_model(), save(state, tmp_path / 'deep.pth'))


def test_classifier_of_another_size_is_reinitialized(tmp_path: Path) -> None:
    file = save({'state_dict': make_model(num_classes=7).state_dict()}, tmp_path / 'x.pth')
    model = make_model()
    fresh = model.cls_head.fc_cls.weight.clone()
    report = load_weights(model, file)
    assert report.reinitialized == ['cls_head.fc_cls.weight', 'cls_head.fc_cls.bias']
    assert torch.equal(model.cls_head.fc_cls.weight, fresh)
    with pytest.raises(ValueError, match=r'x\.pth.* 2 reinitialized \(cls_head\.fc_cls\.weight'):
        load_weights(model, file, strict=True)


def test_bias_is_reinitialized_with_its_weight(tmp_path: Path) -> None:
    state = make_model().state_dict()
    state['cls_head.fc_cls.weight'] = torch.zeros(3, 48)
    state['cls_head.fc_cls.bias'] += 5
    model = make_model()
    report = load_weights(model, save(state, tmp_path / 'x.pth'))
    assert report.reinitialized == ['cls_head.fc_cls.weight', 'cls_head.fc_cls.bias']
    assert (model.cls_head.fc_cls.bias == 0).all()


def test_only_head_weights_can_be_reinitialized() -> None:
    target = {'backbone.a.weight': torch.zeros(2), 'cls_head.relations.0.weight': torch.zeros(2)}
    source = {'backbone.a.weight': torch.ones(2), 'cls_head.relations.0.weight': torch.ones(3)}
    loaded, report = match_state_dict(source, target)
    assert list(loaded) == ['backbone.a.weight']
    assert report.reinitialized == ['cls_head.relations.0.weight']
    with pytest.raises(ValueError, match=r'backbone\.a\.weight.*\(3,\).*\(2,\)'):
        match_state_dict({'backbone.a.weight': torch.ones(3)}, target)


def test_matching_the_classifier_only_raises() -> None:
    target = {'backbone.a.weight': torch.zeros(2), 'cls_head.fc_cls.bias': torch.zeros(3)}
    source = {'backbone.slow_path.weight': torch.ones(2), 'cls_head.fc_cls.bias': torch.ones(3)}
    with pytest.raises(ValueError, match=r'backbone\.slow_path\.weight.*backbone\.a\.weight'):
        match_state_dict(source, target)


def test_backbone_weight_of_another_shape_raises(tmp_path: Path) -> None:
    state = make_model().state_dict()
    state['backbone.layer2.0.dsa.generate.0.weight'] = torch.zeros(8, 4)
    with pytest.raises(ValueError, match=r'generate\.0\.weight.*\(8, 4\).*\(4, 2\)'):
        load_weights(make_model(), save(state, tmp_path / 'x.pth'))


def test_no_matching_key_shows_both_sides(tmp_path: Path) -> None:
    file = save({'blocks.0.weight': torch.zeros(1)}, tmp_path / 'x.pth')
    with pytest.raises(ValueError, match=r'1 .*blocks\.0\.weight.*backbone\.conv1\.weight'):
        load_weights(make_model(), file)


def test_strict_loading_ignores_missing_batch_counters(tmp_path: Path) -> None:
    state = {k: v for k, v in make_model().state_dict().items() if 'num_batches_tracked' not in k}
    assert not load_weights(make_model(), save(state, tmp_path / 'x.pth'), strict=True).missing
    del state['backbone.bn1.weight']
    with pytest.raises(ValueError, match=r'1 missing \(backbone\.bn1\.weight\)'):
        load_weights(make_model(), save(state, tmp_path / 'x.pth'), strict=True)


def test_strict_loading_shows_the_classifier_sizes(tmp_path: Path) -> None:
    file = save(make_model(num_classes=5).state_dict(), tmp_path / 'x.pth')
    with pytest.raises(ValueError, match=r'cls_head\.fc_cls\.weight.*\(5, 32\).*\(3, 32\).*num_classes'):
        load_weights(make_model(), file, strict=True)


def test_missing_first_filter_raises(tmp_path: Path) -> None:
    state = make_model().state_dict()
    del state['backbone.conv1.weight']
    with pytest.raises(ValueError, match=r'backbone\.conv1\.weight'):
        load_weights(make_model(), save(state, tmp_path / 'x.pth'))


def test_missing_backbone_weights_log_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = make_model().state_dict()
    del state['backbone.layer4.0.conv2.weight']
    load_weights(make_model(), save(state, tmp_path / 'x.pth'))
    warning = next(record for record in caplog.records if record.levelno == logging.WARNING)
    assert re.search(r'1 .*backbone\.layer4\.0\.conv2\.weight', warning.message)


@pytest.mark.parametrize('place', [{'blocks': (0, 1, 0, 0)}, {'after': 'layer2'}])
def test_missing_inserted_modules_log_no_warning(place: dict, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = ResNet_I3D(10, base_channels=8).state_dict()
    backbone = ResNet_I3D(10, base_channels=8)
    dsa = {'type': 'DSA', 'num_snippets': 2, 'channel_ratio': 0.5, **place}
    insert_modules(backbone, [dsa, dsa] if 'blocks' in place else dsa)
    report = load_weights(backbone, save(state, tmp_path / 'x.pth'))
    assert report.missing
    assert not [record for record in caplog.records if record.levelno == logging.WARNING]


def test_tsm_weights_in_plain_resnet_log_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = {}
    for key, value in ResNet(10, base_channels=8).state_dict().items():
        key = re.sub(r'(conv\d)\.weight', r'\1.conv.net.weight' if 'layer' in key else r'\1.conv.weight', key)
        key = re.sub(r'bn(\d)\.', r'conv\1.bn.', key)
        key = key.replace('downsample.0.', 'downsample.conv.').replace('downsample.1.', 'downsample.bn.')
        state[f'backbone.{key}'] = value.squeeze(2) if value.dim() == 5 else value
    file = save(state, tmp_path / 'tsm.pth')
    load_weights(ResNetTSM(10, base_channels=8), file)
    assert 'TemporalShift' not in caplog.text
    load_weights(ResNet(10, base_channels=8), file)
    assert re.search(r'WARNING.*tsm\.pth.*TemporalShift', caplog.text)


def as_pytorchvideo(state: dict[str, torch.Tensor], stages: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """Rename the weights of a ResNet_I3D as in ``create_resnet``; ``stages`` are the numbers of its blocks."""
    theirs = {}
    for key, value in state.items():
        key = re.sub(r'^conv1\.', 'blocks.0.conv.', re.sub(r'^bn1\.', 'blocks.0.norm.', key))
        key = re.sub(r'^layer(\d)\.', lambda match: f'blocks.{stages[int(match[1]) - 1]}.res_blocks.', key)
        key = key.replace('downsample.0.', 'branch1_conv.').replace('downsample.1.', 'branch1_norm.')
        key = re.sub(r'\.(conv|bn)([123])\.', lambda m: f'.branch2.{m[1]}_{"abc"[int(m[2]) - 1]}.', key)
        theirs[key.replace('.bn_', '.norm_')] = value
    return theirs


def test_other_slow_frames_log_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """PySlowFast and mmaction2 select other frames for the slow pathway, with weights of the same shapes."""
    paths = {'slow_path': 's1.pathway0_stem', 'fast_path': 's1.pathway1_stem'}
    keys = {f'{ours}.conv1.weight': f'{theirs}.conv.weight' for ours, theirs in paths.items()}
    for sampling, expected in (('linspace', 0), ('stride', 1)):
        backbone = SlowFast(10, base_channels=8, slow_sampling=sampling)
        state = backbone.state_dict()
        caplog.clear()
        load_weights(backbone, save({theirs: state[ours] for ours, theirs in keys.items()}, tmp_path / 'theirs.pyth'))
        found = [record.message for record in caplog.records if "slow_sampling='linspace'" in record.message]
        assert len(found) == expected


def test_other_strides_or_normalization_log_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    weights = ResNet_I3D(50, base_channels=4, conv1_kernel_t=5).state_dict()
    pooled = save(as_pytorchvideo(weights, (1, 3, 4, 5)), tmp_path / 'pooled.pth')
    straight = save(as_pytorchvideo(weights, (1, 2, 3, 4)), tmp_path / 'straight.pth')

    def warnings(file: Path, mean: tuple[float, ...], **strides: int) -> list[str]:
        backbone = {'type': 'ResNet_I3D', 'depth': 50, 'base_channels': 4, 'conv1_kernel_t': 5, **strides}
        preprocessor = {'type': 'DataPreprocessor', 'mean': mean, 'std': (57.375,) * 3}
        head = {'type': 'I3DClsHead', 'num_classes': 3, 'in_channels': 128}
        model = {'type': 'Recognizer3D', 'backbone': backbone, 'cls_head': head, 'data_preprocessor': preprocessor}
        caplog.clear()
        load_weights(build(model, MODELS), file)
        return [record.message for record in caplog.records if record.levelno == logging.WARNING]

    gray = (114.75,) * 3
    assert warnings(pooled, gray, pool2_stride_t=2) == warnings(straight, gray) == []
    first, second = warnings(pooled, gray, conv1_stride_t=2, pool1_stride_t=2, pool2_stride_t=2)
    assert re.search(r'pooled\.pth.*conv1_stride_t=1.*\b2', first)
    assert re.search(r'pooled\.pth.*pool1_stride_t=1.*\b2', second)
    (only,) = warnings(straight, gray, pool2_stride_t=2)
    assert re.search(r'straight\.pth.*pool2_stride_t=1.*\b2', only)
    first, second = warnings(pooled, (120, 110, 100))
    assert re.search(r'mean=\(114\.75, 114\.75, 114\.75\).*mean=\(120\.0, 110\.0, 100\.0\)', first)
    assert re.search(r'pool2_stride_t=2.*\b1', second)
