import logging
import os
import pickle
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from codes.engine.checkpoint import (
    epoch_files,
    find_state_dict,
    inflate,
    load_weights,
    newest_checkpoint,
    read_checkpoint,
    save_atomically,
    translate_keys,
)
from codes.models.backbones.resnet_i3d import ResNet_I3D
from codes.registry import MODELS, build

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


def test_failed_write_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / 'epoch_1.pth'
    save_atomically({'epoch': 1}, file)

    def half_a_write(content: object, stream: object) -> None:
        stream.write(b'half')
        raise OSError('disk full')

    monkeypatch.setattr(torch, 'save', half_a_write)
    with pytest.raises(OSError, match='disk full'):
        save_atomically({'epoch': 2}, file)
    assert read_checkpoint(file) == {'epoch': 1}


def test_newest_checkpoint_passes_over_damaged_ones(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for epoch in (2, 9, 10):
        save_atomically({'epoch': epoch}, tmp_path / f'epoch_{epoch}.pth')
    (tmp_path / 'epoch_11.pth.part').write_bytes(b'never finished')
    data = (tmp_path / 'epoch_10.pth').read_bytes()
    (tmp_path / 'epoch_10.pth').write_bytes(data[: len(data) // 2])
    assert [f.name for f in epoch_files(tmp_path)] == ['epoch_10.pth', 'epoch_9.pth', 'epoch_2.pth']
    with caplog.at_level(logging.WARNING, 'codes'):
        file, content = newest_checkpoint(tmp_path)
    assert (file.name, content) == ('epoch_9.pth', {'epoch': 9})
    assert 'passed over' in caplog.text
    assert 'epoch_10.pth' in caplog.text


def test_newest_checkpoint_of_an_empty_folder_is_none_and_of_damaged_ones_an_error(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None
    (tmp_path / 'epoch_1.pth').write_bytes(b'x')
    with pytest.raises(ValueError, match='none of the 1 checkpoints in .* can be read'):
        newest_checkpoint(tmp_path)


class _Hostile:
    def __reduce__(self) -> tuple:
        return os.system, ('touch hacked',)


@pytest.mark.parametrize(
    ('data', 'text'),
    [
        (b'', 'cannot be read as a checkpoint'),
        (b'<html>not found</html>', 'cannot be read as a checkpoint'),
        (pickle.dumps(_Hostile(), protocol=2), 'cannot be read as a checkpoint'),
    ],
)
def test_files_that_are_no_checkpoint_are_refused_and_run_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / 'x.pth'
    file.write_bytes(data)
    with pytest.raises(ValueError, match=text):
        read_checkpoint(file)
    save({'state_dict': _Hostile()}, file)
    with pytest.raises(ValueError, match=text):
        read_checkpoint(file)
    assert not (tmp_path / 'hacked').exists()


def test_missing_and_foreign_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r'there is no checkpoint .*x.pth'):
        read_checkpoint(tmp_path / 'x.pth')
    with pytest.raises(ValueError, match='holds a list, not a checkpoint'):
        read_checkpoint(save([1], tmp_path / 'y.pth'))
    with pytest.raises(ValueError, match="no weights among the keys 'epoch'"):
        find_state_dict({'epoch': 3})


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
    with caplog.at_level(logging.INFO, 'codes'):
        report = load_weights(backbone, file)
    assert len(report.matched) == len(backbone.state_dict()) == 120
    assert len(report.inflated) == 20
    assert report.unexpected == ['fc.weight', 'fc.bias']
    assert not report.missing
    torch.testing.assert_close(backbone.layer4[1].conv2.weight.sum(2), image.layer4[1].conv2.weight)
    assert '120 matched (20 of them inflated from 2D), 0 missing, 2 unexpected (fc.weight, fc.bias)' in caplog.text


def test_image_weights_load_into_a_recogniser_too(tmp_path: Path) -> None:
    backbone = ResNet_I3D(10, base_channels=4)
    model = make_model()
    report = load_weights(model, save({'model': backbone.state_dict()}, tmp_path / 'backbone.pth'))
    assert torch.equal(model.backbone.conv1.weight, backbone.conv1.weight)
    assert {key.split('.')[0] for key in report.missing} == {'backbone', 'cls_head'}
    assert all('.dsa.' in key or 'fc_cls' in key for key in report.missing)


def test_recogniser_weights_load_into_a_backbone(tmp_path: Path) -> None:
    model = make_model()
    backbone = ResNet_I3D(10, base_channels=4)
    report = load_weights(backbone, save({'state_dict': model.state_dict()}, tmp_path / 'model.pth'))
    assert torch.equal(model.backbone.conv1.weight, backbone.conv1.weight)
    assert not report.missing


def test_keys_of_the_2021_release_and_of_ddp_are_translated() -> None:
    x = torch.zeros(1)
    keys = [
        'module.backbone.layer2.1.block.conv1.weight',
        'backbone.layer2.1.dsa.generate.0.weight',
        'layer1.0.bn1.bias',
    ]
    assert list(translate_keys(dict.fromkeys(keys, x))) == [
        'backbone.layer2.1.conv1.weight',
        'backbone.layer2.1.dsa.generate.0.weight',
        'layer1.0.bn1.bias',
    ]


def test_classifier_of_another_size_starts_fresh_and_is_reported(tmp_path: Path) -> None:
    file = save({'state_dict': make_model(num_classes=7).state_dict()}, tmp_path / 'x.pth')
    model = make_model()
    fresh = model.cls_head.fc_cls.weight.clone()
    report = load_weights(model, file)
    assert report.reinitialised == ['cls_head.fc_cls.weight', 'cls_head.fc_cls.bias']
    assert torch.equal(model.cls_head.fc_cls.weight, fresh)
    with pytest.raises(ValueError, match=r'does not fit the model: .* 2 reinitialised \(cls_head.fc_cls.weight'):
        load_weights(model, file, strict=True)


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
    del state['backbone.conv1.weight']
    with pytest.raises(ValueError, match=r'1 missing \(backbone.conv1.weight\)'):
        load_weights(make_model(), save(state, tmp_path / 'x.pth'), strict=True)
