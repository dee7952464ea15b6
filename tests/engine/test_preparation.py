from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from dsanet.config.registry import MODELS, build
from dsanet.config.schema import LOADERS, RuntimeCfg
from dsanet.engine import preparation
from dsanet.engine.evaluator import autocast
from dsanet.engine.preparation import (
    build_train_loader,
    build_val_loader,
    check_clip_shape,
    class_names_of_run,
    place_model,
    set_determinism,
)
from dsanet.models.losses import BinaryCrossEntropyLoss, CrossEntropyLoss, FocalLoss, Loss
from dsanet.models.modules_maker.non_local import MODES, NonLocal3d
from tests.engine.conftest import make_config


def test_determinism_can_be_set_and_unset() -> None:
    for deterministic in (True, False):
        set_determinism(deterministic)
        assert torch.are_deterministic_algorithms_enabled() == deterministic


@pytest.mark.parametrize(
    ('options', 'size'),
    [
        ({'kernel_size': (3, 1, 1), 'padding': (1, 0, 0)}, (2, 4, 4)),
        ({'kernel_size': (1, 3, 3), 'stride': (1, 2, 2), 'padding': (0, 1, 1)}, (2, 1, 1)),
        ({'kernel_size': (3, 3, 3), 'stride': (1, 2, 2), 'padding': 1}, (2, 1, 1)),
        ({'kernel_size': (3, 3, 3), 'padding': 1}, (4, 4, 4)),
    ],
)
def test_bf16_gradients_of_small_inputs_are_right(options: dict, size: tuple[int, ...]) -> None:
    conv = nn.Conv3d(16, 32, **options)
    inputs = torch.randn(4, 16, *size)
    gradients = []
    for amp in (None, 'bf16'):
        preparation.avoid_broken_kernels(conv, torch.device('cpu'), amp)
        conv.zero_grad()
        x = inputs.clone().requires_grad_()
        with autocast(torch.device('cpu'), amp):
            y = conv(x)
        grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(0)).to(y.dtype)
        # Memory that is not initialized then contains NaN.
        del_soon = [torch.full((2**n,), torch.nan) for n in range(4, 18) for _ in range(6)]
        del del_soon
        y.backward(grad)
        gradients.append((conv.weight.grad, conv.bias.grad, x.grad))
    for exact, rounded in zip(*gradients, strict=True):
        torch.testing.assert_close(rounded, exact, rtol=0.02, atol=0.02 * exact.abs().max().item())


@pytest.mark.parametrize('kernel', [(1, 1, 1), (3, 1, 1)])
def test_one_thread_uses_onednn(kernel: tuple[int, ...]) -> None:
    conv = nn.Conv3d(16, 32, kernel, padding=(kernel[0] // 2, 0, 0))
    preparation.place_model(conv, torch.device('cpu'))
    inputs = torch.randn(4, 16, 4, 6, 6).to(memory_format=torch.channels_last_3d)
    found = []
    for change in (False, True):
        if change:
            preparation.avoid_slow_kernels(conv, torch.device('cpu'))
        conv.zero_grad()
        x = inputs.clone().requires_grad_()
        with torch.profiler.profile() as profile:
            y = conv(x)
            (y * y).sum().backward()
        names = {event.key for event in profile.key_averages()}
        found.append((y, conv.weight.grad, x.grad, 'aten::slow_conv3d' in names, 'aten::mkldnn_convolution' in names))
    assert [one[3:] for one in found] == [(True, False), (False, True)]
    for slow, fast in zip(found[0][:3], found[1][:3], strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-4)
    assert found[1][0].is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize(('device', 'amp'), [('cpu', None), ('cpu', 'fp16'), ('cuda', 'bf16')])
def test_other_runs_keep_their_convolutions(device: str, amp: str | None) -> None:
    model = nn.Sequential(nn.Conv3d(3, 3, 1))
    preparation.avoid_broken_kernels(model, torch.device(device), amp)
    assert 'forward' not in vars(model[0])


@pytest.mark.parametrize('mode', MODES)
def test_only_3d_filters_are_channels_last(mode: str) -> None:
    module = NonLocal3d(6, mode=mode)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    parameters = dict(module.named_parameters())
    place_model(module, torch.device('cpu'))
    assert all(parameters[name] is parameter for name, parameter in module.named_parameters())
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])
        is_filter = before[name].dim() == 5
        expected = before[name].to(memory_format=torch.channels_last_3d) if is_filter else before[name]
        assert value.stride() == expected.stride(), name
    assert module.g[0].conv.weight.stride() == (6, 1, 6, 6, 6)
    assert mode != 'concatenation' or module.concat_project.conv.weight.dim() == 4  # of a 2D convolution


# -- loaders -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def loader(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What ``build_loader`` returns: a loader whose dataset can be changed."""
    dataset = SimpleNamespace(multi_hot=None, class_names=None, check_labels=lambda num_classes: None)
    loader = SimpleNamespace(dataset=dataset)
    monkeypatch.setattr(preparation, 'build_loader', lambda *args: loader)
    return loader


def model_with(loss: Loss) -> SimpleNamespace:
    return SimpleNamespace(num_classes=8, batch_augment=None, cls_head=SimpleNamespace(criterion=loss))


@pytest.mark.parametrize('loss', [CrossEntropyLoss(), FocalLoss()])
def test_single_label_losses_refuse_several(loss: Loss, loader: SimpleNamespace, tmp_path: Path) -> None:
    config = make_config(tmp_path)
    assert build_train_loader(config, model_with(loss), RuntimeCfg(), 1) is loader
    loader.dataset.multi_hot = 3
    assert build_train_loader(config, model_with(BinaryCrossEntropyLoss()), RuntimeCfg(), 1) is loader
    with pytest.raises(ValueError, match=rf'model\.cls_head\.loss .*{type(loss).__name__}.*multi_hot=3'):
        build_train_loader(config, model_with(loss), RuntimeCfg(), 1)


def test_mixup_refuses_batches_of_one(data: Path) -> None:
    config = make_config(data, model={'batch_augment': {'type': 'MixupCutmix'}})
    model = build(config['model'], MODELS)
    config['train_dataloader']['batch_size'] = 1
    with pytest.raises(ValueError, match=r'train_dataloader\.batch_size=1 .*MixupCutmix.* 2 '):
        build_train_loader(config, model, RuntimeCfg(), 1)
    config['train_dataloader']['batch_size'] = 2
    build_train_loader(config, model, RuntimeCfg(), 1)


def test_validation_classes_must_equal_training_classes(loader: SimpleNamespace, tmp_path: Path) -> None:
    config, model = make_config(tmp_path), model_with(CrossEntropyLoss())
    train = SimpleNamespace(dataset=SimpleNamespace(class_names=['a', 'b'], classes_from='train/classes.txt'))
    for class_names in (None, ['a', 'b']):
        loader.dataset.class_names = class_names
        assert build_val_loader(config, model, RuntimeCfg(), train) is loader
    loader.dataset.class_names = ['b', 'a']
    with pytest.raises(ValueError, match=r"0.*'a'.*train/classes\.txt.*'b'"):
        build_val_loader(config, model, RuntimeCfg(), train)
    assert class_names_of_run(train, loader) == (['a', 'b'], 'train/classes.txt')
    train.dataset.class_names = None
    assert class_names_of_run(train, loader) == (['b', 'a'], 'the validation data')
    assert class_names_of_run(train, None).names is None
    config.pop('val_dataloader')
    assert build_val_loader(config, model, RuntimeCfg(), train) is None


# -- snippets and frames -----------------------------------------------------------------------------------------------


def sampling_of(config: dict, name: str) -> dict:
    return config[name]['dataset']['pipeline'][1]


@pytest.mark.parametrize('name', LOADERS)
def test_snippets_of_every_section_must_fit(name: str, tmp_path: Path) -> None:
    config = make_config(tmp_path)  # no dataset is built: the lists do not exist
    model = build(config['model'], MODELS)
    check_clip_shape(model, config, LOADERS)
    sampling_of(config, name)['num_snippets'] = 4
    text = rf'{name}\.dataset\.pipeline\.1: .*num_snippets=4.*frames_per_snippet=2.*layer2\.0\.dsa.*num_snippets=2'
    with pytest.raises(ValueError, match=text):
        check_clip_shape(model, config, LOADERS)
    check_clip_shape(model, config, set(LOADERS) - {name})
    config.pop(name)
    check_clip_shape(model, config, LOADERS)


@pytest.mark.parametrize(
    ('module', 'frames', 'is_error'),
    [
        ({'type': 'TAM', 'frames_per_snippet': 2}, 4, True),
        ({'type': 'TemporalShift', 'shift_div': 4}, 1, True),
        ({'type': 'NonLocal3d'}, 4, False),
        (None, 4, False),
    ],
)
def test_frames_of_every_section_must_fit(module: dict | None, frames: int, is_error: bool, tmp_path: Path) -> None:
    config = make_config(tmp_path)
    config['model']['module_cfg'] = module and {**module, 'place': 'before_conv1', 'blocks': (0, 1, 0, 0)}
    sampling_of(config, 'val_dataloader')['frames_per_snippet'] = frames
    model = build(config['model'], MODELS)
    if is_error:
        text = rf'val_dataloader\.dataset\.pipeline\.1: .*frames_per_snippet={frames} '
        with pytest.raises(ValueError, match=text):
            check_clip_shape(model, config, LOADERS)
    else:
        check_clip_shape(model, config, LOADERS)


@pytest.mark.parametrize('name', LOADERS)
def test_crops_of_every_section_must_fit(name: str, tmp_path: Path) -> None:
    config = make_config(tmp_path)
    sizes = {'embed_dim': 8, 'depth': 1, 'num_heads': 1, 'patch_size': 5, 'input_size': (2, 20, 20)}
    config['model']['backbone'] = {'type': 'VisionTransformer', **sizes}
    config['model'] |= {'module_cfg': None, 'cls_head': {**config['model']['cls_head'], 'in_channels': 8}}
    model = build(config['model'], MODELS)
    for section in LOADERS:
        config[section]['dataset']['pipeline'].append({'type': 'CenterCrop', 'size': 40})
    check_clip_shape(model, config, LOADERS)
    config[name]['dataset']['pipeline'].append({'type': 'ThreeCrop', 'size': [40, 38]})
    with pytest.raises(ValueError, match=rf'{name}\.dataset\.pipeline\.1: .* 40 x 38 pixels .*\(2, 5, 5\)'):
        check_clip_shape(model, config, LOADERS)


def test_snippets_of_mixed_datasets_must_fit(tmp_path: Path) -> None:
    config, other = make_config(tmp_path), make_config(tmp_path)
    sampling_of(other, 'train_dataloader')['num_snippets'] = 8
    parts = [c['train_dataloader']['dataset'] for c in (config, other)]
    config['train_dataloader']['dataset'] = {'type': 'MixedDataset', 'datasets': parts}
    with pytest.raises(ValueError, match=r'train_dataloader\.dataset\.datasets\.1\.pipeline\.1: .*num_snippets=8 '):
        check_clip_shape(build(config['model'], MODELS), config, LOADERS)
