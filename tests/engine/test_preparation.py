from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from dsanet.config.registry import MODELS, build
from dsanet.config.schema import LOADERS
from dsanet.engine.preparation import (
    check_clip_shape,
    check_loss,
    check_same_classes,
    place_model,
    seed_iteration,
    set_determinism,
)
from dsanet.models.losses import BinaryCrossEntropyLoss, CrossEntropyLoss, FocalLoss, Loss
from dsanet.models.modules_maker.non_local import MODES, NonLocal3d
from tests.engine.conftest import make_config


def test_iterations_and_processes_have_seeds_of_their_own() -> None:
    draws = set()
    for place in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0, 0, 1)]:
        seed_iteration(*place)
        draws.add(torch.rand(1).item())
    assert len(draws) == 5
    seed_iteration(1, 0, 0)
    assert torch.rand(1).item() in draws


def test_determinism_is_what_was_asked_for() -> None:
    for wanted in (True, False):
        set_determinism(wanted)
        assert torch.are_deterministic_algorithms_enabled() == wanted


@pytest.mark.parametrize('loss', [CrossEntropyLoss(), FocalLoss()])
def test_losses_of_one_label_refuse_several(loss: Loss) -> None:
    check_loss(loss, SimpleNamespace(multi_hot=None))
    check_loss(BinaryCrossEntropyLoss(), SimpleNamespace(multi_hot=3))
    with pytest.raises(ValueError, match=rf'{type(loss).__name__}\) needs one label a video, but .* have multi_hot=3'):
        check_loss(loss, SimpleNamespace(multi_hot=3))


@pytest.mark.parametrize('mode', MODES)
def test_filters_of_3d_convolutions_are_placed_channels_last_and_nothing_else_changes(mode: str) -> None:
    module = NonLocal3d(6, mode=mode)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    parameters = dict(module.named_parameters())
    place_model(module, torch.device('cpu'))
    assert all(parameters[name] is parameter for name, parameter in module.named_parameters())
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])
        filters = before[name].dim() == 5
        expected = before[name].to(memory_format=torch.channels_last_3d) if filters else before[name]
        assert value.stride() == expected.stride(), name
    assert module.g[0].conv.weight.stride() == (6, 1, 6, 6, 6)
    assert mode != 'concatenation' or module.concat_project.conv.weight.dim() == 4  # of a 2D convolution


def sampling_of(config: dict, name: str) -> dict:
    return config[name]['dataset']['pipeline'][1]


@pytest.mark.parametrize('name', LOADERS)
def test_snippets_of_every_section_are_compared_with_the_models(name: str, tmp_path: Path) -> None:
    config = make_config(tmp_path)  # of lists that are not there: no dataset is built
    model = build(config['model'], MODELS)
    check_clip_shape(model, config, LOADERS)
    sampling_of(config, name)['num_snippets'] = 4
    text = (
        rf'{name}.dataset.pipeline.1: samples of num_snippets=4 and frames_per_snippet=2 do not fit the model: '
        'the data have num_snippets=4 .* DSA in backbone.layer2.0.dsa has num_snippets=2'
    )
    with pytest.raises(ValueError, match=text):
        check_clip_shape(model, config, LOADERS)
    check_clip_shape(model, config, set(LOADERS) - {name})
    config.pop(name)
    check_clip_shape(model, config, LOADERS)


@pytest.mark.parametrize(
    ('module', 'frames', 'text'),
    [
        ({'type': 'TAM', 'frames_per_snippet': 2}, 4, 'features of 4 frames do not fit frames_per_snippet=2'),
        ({'type': 'TemporalShift', 'shift_div': 4}, 1, '.* a snippet has one frame here'),
        ({'type': 'NonLocal3d'}, 4, None),
        (None, 4, None),
    ],
)
def test_frames_of_every_section_are_compared_with_the_models(
    module: dict | None, frames: int, text: str | None, tmp_path: Path
) -> None:
    config = make_config(tmp_path)
    config['model']['module_cfg'] = module and {**module, 'place': 'before_conv1', 'blocks': (0, 1, 0, 0)}
    sampling_of(config, 'val_dataloader')['frames_per_snippet'] = frames
    model = build(config['model'], MODELS)
    if text is None:
        check_clip_shape(model, config, LOADERS)
    else:
        text = f'val_dataloader.dataset.pipeline.1: .* and frames_per_snippet={frames} do not fit the model: {text}'
        with pytest.raises(ValueError, match=text):
            check_clip_shape(model, config, LOADERS)


def test_snippets_of_each_part_of_a_mixture_are_compared(tmp_path: Path) -> None:
    config, other = make_config(tmp_path), make_config(tmp_path)
    sampling_of(other, 'train_dataloader')['num_snippets'] = 8
    parts = [c['train_dataloader']['dataset'] for c in (config, other)]
    config['train_dataloader']['dataset'] = {'type': 'MixedDataset', 'datasets': parts}
    with pytest.raises(ValueError, match=r'train_dataloader.dataset.datasets.1.pipeline.1: samples of num_snippets=8 '):
        check_clip_shape(build(config['model'], MODELS), config, LOADERS)


def test_validation_data_must_mean_the_same_classes() -> None:
    train = SimpleNamespace(class_names=['a', 'b'], classes_from='train/classes.txt')
    check_same_classes(train, SimpleNamespace(class_names=None))
    check_same_classes(train, SimpleNamespace(class_names=['a', 'b']))
    with pytest.raises(ValueError, match=r"class 0 is 'a' in train/classes\.txt, but 'b' in the validation data"):
        check_same_classes(train, SimpleNamespace(class_names=['b', 'a']))
