import logging
import re
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from dsanet.config.registry import MODELS, build
from dsanet.models.backbones.resnet import ResNet
from dsanet.models.backbones.resnet_i3d import ResNet_I3D
from dsanet.models.backbones.resnet_tsm import ResNetTSM
from dsanet.models.modules_maker.block_maker import insert_modules
from dsanet.models.weights.loading import find_state_dict, fit, inflate, load_weights, read_weights

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


def test_inflated_filter_answers_like_the_image_filter_inside_a_constant_clip() -> None:
    flat = torch.randn(5, 3, 3, 3)
    image = torch.randn(2, 3, 8, 8)
    clip = image.unsqueeze(2).repeat(1, 1, 5, 1, 1)  # (N, C, T, H, W)
    expected = nn.functional.conv2d(image, flat, padding=1)
    out = nn.functional.conv3d(clip, inflate(flat, 3), padding=(1, 1, 1))
    for t in (1, 2, 3):
        torch.testing.assert_close(out[:, :, t], expected, rtol=1e-4, atol=1e-5)
    # At the ends one of three frames is zero padding.
    torch.testing.assert_close(out[:, :, 0], expected * 2 / 3, rtol=1e-4, atol=1e-5)


def test_image_weights_of_torchvision_load_into_a_backbone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
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
    assert '120 matched (20 of them inflated from 2D), 0 missing, 2 unexpected (fc.weight, fc.bias)' in caplog.text
    assert "(layout: torchvision's or timm's image ResNet)" in caplog.text


def test_image_weights_load_into_a_recognizer_too(tmp_path: Path) -> None:
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


def test_averaged_weights_go_before_the_others_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain = make_model().state_dict()
    average = {key: torch.full_like(value, 2) for key, value in plain.items()}
    model = make_model()
    with caplog.at_level(logging.INFO, 'dsanet'):
        load_weights(model, save({'state_dict': plain, 'ema_state_dict': average}, tmp_path / 'x.pth'), strict=True)
    assert all((value == 2).all() for value in model.state_dict().values())
    assert '(layout: ours, averaged weights (EMA))' in caplog.text


@pytest.mark.parametrize('swapped', [None, {'steps': torch.tensor(3), 'module.backbone.conv1.weight': torch.zeros(1)}])
def test_averages_of_other_keys_are_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, swapped: dict | None
) -> None:
    plain = make_model().state_dict()
    model = make_model()
    with caplog.at_level(logging.INFO, 'dsanet'):
        load_weights(model, save({'state_dict': plain, 'ema_state_dict': swapped}, tmp_path / 'x.pth'), strict=True)
    assert torch.equal(model.backbone.conv1.weight, plain['backbone.conv1.weight'])
    assert '0 unexpected, 0 reinitialized (layout: ours)' in caplog.text


@pytest.mark.parametrize('name', ['state_dict', 'model', 'model_state'])
def test_weights_are_found_under_the_usual_names(name: str) -> None:
    x = torch.zeros(1)
    assert find_state_dict({name: {'a': x, 'epoch': 3}, 'optimizer': {'b': x}}) == ({'a': x}, False)
    assert find_state_dict({'a': x, 'epoch': 3}) == ({'a': x}, False)


def test_reading_weights_gives_class_names_if_they_are_names(tmp_path: Path) -> None:
    state = make_model().state_dict()
    for names, expected in ((['wave', 'clap'], ['wave', 'clap']), ('wave', None), ([1, 2], None), (None, None)):
        file = save({'state_dict': state, 'class_names': names}, tmp_path / 'x.pth')
        assert read_weights(file).class_names == expected


def test_networks_that_we_do_not_build_are_refused_by_name_of_the_file(tmp_path: Path) -> None:
    state = {'conv1.0.weight': torch.zeros(32, 3, 3, 3), 'layer1.0.conv1.weight': torch.zeros(64, 64, 1, 1)}
    with pytest.raises(ValueError, match=r'deep.pth: the stem has three convolutions'):
        load_weights(make_model(), save(state, tmp_path / 'deep.pth'))


def test_classifier_of_another_size_starts_fresh_and_is_reported(tmp_path: Path) -> None:
    file = save({'state_dict': make_model(num_classes=7).state_dict()}, tmp_path / 'x.pth')
    model = make_model()
    fresh = model.cls_head.fc_cls.weight.clone()
    report = load_weights(model, file)
    assert report.reinitialized == ['cls_head.fc_cls.weight', 'cls_head.fc_cls.bias']
    assert torch.equal(model.cls_head.fc_cls.weight, fresh)
    with pytest.raises(ValueError, match=r'does not fit the model: .* 2 reinitialized \(cls_head.fc_cls.weight'):
        load_weights(model, file, strict=True)


def test_a_bias_that_fits_starts_fresh_with_its_weight(tmp_path: Path) -> None:
    state = make_model().state_dict()
    state['cls_head.fc_cls.weight'] = torch.zeros(3, 48)
    state['cls_head.fc_cls.bias'] += 5
    model = make_model()
    report = load_weights(model, save(state, tmp_path / 'x.pth'))
    assert report.reinitialized == ['cls_head.fc_cls.weight', 'cls_head.fc_cls.bias']
    assert (model.cls_head.fc_cls.bias == 0).all()


def test_every_part_of_a_head_may_have_another_size_and_nothing_else() -> None:
    target = {'backbone.a.weight': torch.zeros(2), 'cls_head.relations.0.weight': torch.zeros(2)}
    source = {'backbone.a.weight': torch.ones(2), 'cls_head.relations.0.weight': torch.ones(3)}
    loaded, report = fit(source, target)
    assert list(loaded) == ['backbone.a.weight']
    assert report.reinitialized == ['cls_head.relations.0.weight']
    with pytest.raises(ValueError, match=r'backbone.a.weight has shape \(3,\), the model needs \(2,\)'):
        fit({'backbone.a.weight': torch.ones(3)}, target)


def test_a_classifier_alone_is_not_enough() -> None:
    target = {'backbone.a.weight': torch.zeros(2), 'cls_head.fc_cls.bias': torch.zeros(3)}
    source = {'backbone.slow_path.weight': torch.ones(2), 'cls_head.fc_cls.bias': torch.ones(3)}
    with pytest.raises(
        ValueError,
        match=r'only the classifier fits the model; it has backbone.slow_path.weight, .* has backbone.a.weight',
    ):
        fit(source, target)


def test_other_weights_of_another_shape_are_an_error(tmp_path: Path) -> None:
    state = make_model().state_dict()
    state['backbone.layer2.0.dsa.generate.0.weight'] = torch.zeros(8, 4)
    with pytest.raises(ValueError, match=r'generate.0.weight has shape \(8, 4\), the model needs \(4, 2\)'):
        load_weights(make_model(), save(state, tmp_path / 'x.pth'))


def test_nothing_matched_is_an_error_that_shows_both_sides(tmp_path: Path) -> None:
    file = save({'blocks.0.weight': torch.zeros(1)}, tmp_path / 'x.pth')
    with pytest.raises(
        ValueError, match=r'none of its 1 weights fits the model; it has .*blocks.0.weight.*backbone.conv1.weight'
    ):
        load_weights(make_model(), file)


def test_strict_loading_refuses_missing_weights_but_not_missing_batch_counters(tmp_path: Path) -> None:
    state = {k: v for k, v in make_model().state_dict().items() if 'num_batches_tracked' not in k}
    assert not load_weights(make_model(), save(state, tmp_path / 'x.pth'), strict=True).missing
    del state['backbone.bn1.weight']
    with pytest.raises(ValueError, match=r'1 missing \(backbone.bn1.weight\)'):
        load_weights(make_model(), save(state, tmp_path / 'x.pth'), strict=True)


def test_strict_loading_tells_the_sizes_of_another_classifier(tmp_path: Path) -> None:
    file = save(make_model(num_classes=5).state_dict(), tmp_path / 'x.pth')
    text = r'cls_head.fc_cls.weight is \(5, 32\) there, \(3, 32\) in the model: is num_classes of the config'
    with pytest.raises(ValueError, match=text):
        load_weights(make_model(), file, strict=True)


def test_without_the_first_filter_it_is_another_network(tmp_path: Path) -> None:
    state = make_model().state_dict()
    del state['backbone.conv1.weight']
    with pytest.raises(ValueError, match='not the first filter, backbone.conv1.weight: it is another network'):
        load_weights(make_model(), save(state, tmp_path / 'x.pth'))


def test_a_network_that_is_loaded_in_part_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = make_model().state_dict()
    del state['backbone.layer4.0.conv2.weight']
    load_weights(make_model(), save(state, tmp_path / 'x.pth'))
    assert '1 weights of the network itself keep their random start, backbone.layer4.0.conv2.weight' in caplog.text


@pytest.mark.parametrize('place', [{'blocks': (0, 1, 0, 0)}, {'after': 'layer2'}])
def test_inserted_modules_may_start_fresh_without_a_warning(
    place: dict, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = ResNet_I3D(10, base_channels=8).state_dict()
    backbone = ResNet_I3D(10, base_channels=8)
    dsa = {'type': 'DSA', 'num_snippets': 2, 'channel_ratio': 0.5, **place}
    insert_modules(backbone, [dsa, dsa] if 'blocks' in place else dsa)
    report = load_weights(backbone, save(state, tmp_path / 'x.pth'))
    assert report.missing
    assert 'random start' not in caplog.text


def test_weights_trained_with_shifts_want_a_network_with_shifts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = {}
    for key, value in ResNet(10, base_channels=8).state_dict().items():
        key = re.sub(r'(conv\d)\.weight', r'\1.conv.net.weight' if 'layer' in key else r'\1.conv.weight', key)
        key = re.sub(r'bn(\d)\.', r'conv\1.bn.', key)
        key = key.replace('downsample.0.', 'downsample.conv.').replace('downsample.1.', 'downsample.bn.')
        state[f'backbone.{key}'] = value.squeeze(2) if value.dim() == 5 else value
    file = save(state, tmp_path / 'tsm.pth')
    load_weights(ResNetTSM(10, base_channels=8), file)
    assert 'has a TemporalShift' not in caplog.text
    load_weights(ResNet(10, base_channels=8), file)
    assert 'tsm.pth has a TemporalShift, this one has none' in caplog.text


def as_pytorchvideo(state: dict[str, torch.Tensor], stages: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """Give a ResNet_I3D's weights the names of ``create_resnet``, whose stages are these of its blocks."""
    theirs = {}
    for key, value in state.items():
        key = re.sub(r'^conv1\.', 'blocks.0.conv.', re.sub(r'^bn1\.', 'blocks.0.norm.', key))
        key = re.sub(r'^layer(\d)\.', lambda match: f'blocks.{stages[int(match[1]) - 1]}.res_blocks.', key)
        key = key.replace('downsample.0.', 'branch1_conv.').replace('downsample.1.', 'branch1_norm.')
        key = re.sub(r'\.(conv|bn)([123])\.', lambda m: f'.branch2.{m[1]}_{"abc"[int(m[2]) - 1]}.', key)
        theirs[key.replace('.bn_', '.norm_')] = value
    return theirs


def test_weights_of_networks_with_other_strides_or_normalization_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
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
    assert warnings(pooled, gray, conv1_stride_t=2, pool1_stride_t=2, pool2_stride_t=2) == [
        f'{pooled}: its network has backbone.conv1_stride_t=1, this one 2',
        f'{pooled}: its network has backbone.pool1_stride_t=1, this one 2',
    ]
    assert warnings(straight, gray, pool2_stride_t=2) == [
        f'{straight}: its network has backbone.pool2_stride_t=1, this one 2'
    ]
    assert warnings(pooled, (120, 110, 100)) == [
        f'{pooled}: trained with data_preprocessor mean=(114.75, 114.75, 114.75), std=(57.375, 57.375, 57.375), this '
        'model has mean=(120.0, 110.0, 100.0), std=(57.375, 57.375, 57.375)',
        f'{pooled}: its network has backbone.pool2_stride_t=2, this one 1',
    ]
