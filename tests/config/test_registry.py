import inspect
from pathlib import Path

import pytest

from dsanet.config.registry import (
    DATASETS,
    METRICS,
    MODELS,
    OPTIMIZERS,
    TRANSFORMS,
    build,
    check,
    check_arguments,
    nearest,
)

HEAD = {'type': 'I3DClsHead', 'num_classes': 3, 'in_channels': 4}
MODEL = {'type': 'Recognizer3D', 'backbone': {'type': 'ResNet_I3D', 'depth': 10, 'base_channels': 4}, 'cls_head': HEAD}


def test_build_makes_children_first_and_hands_them_over() -> None:
    model = build({**MODEL, 'cls_head': {**HEAD, 'in_channels': 32}}, MODELS)
    assert (model.num_classes, model.backbone.out_channels) == (3, 32)


@pytest.mark.parametrize(
    ('cfg', 'error', 'text'),
    [
        (
            {**MODEL, 'bakbone': 1},
            KeyError,
            "model.bakbone is not an argument of Recognizer3D. Did you mean 'backbone'",
        ),
        (
            {'type': 'Recogniser3D'},
            KeyError,
            "model.type='Recogniser3D' is not a registered model. Did you mean 'Recognizer3D'",
        ),
        ({'backbone': 1}, KeyError, "model has no 'type'; it names one of the registered models"),
        ({'type': 'Recognizer3D'}, KeyError, 'model.backbone is missing; Recognizer3D needs it'),
        (
            {**MODEL, 'backbone': {'type': 'ResNet_I3D', 'dept': 10}},
            KeyError,
            "model.backbone.dept is not an argument of ResNet_I3D. Did you mean 'depth'",
        ),
        (
            {**MODEL, 'backbone': {'type': 'ResNet_I3D', 'depth': 11}},
            ValueError,
            r'model.backbone \(ResNet_I3D\): depth=11',
        ),
        (
            {**MODEL, 'module_cfg': {'type': 'DSA', 'num_snipets': 4}},
            KeyError,
            "model.module_cfg.num_snipets is not.*'num_snippets'",
        ),
        (
            {**MODEL, 'module_cfg': [{'type': 'DSA', 'alpha': 4}]},
            KeyError,
            'model.module_cfg.0.alpha is not an argument of DSA',
        ),
        (None, TypeError, 'model must be a dict with a type, got None'),
    ],
)
def test_mistakes_are_named_by_their_full_path(cfg: dict, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        build(cfg, MODELS)


def test_missing_folders_are_named_with_the_section(tmp_path: Path) -> None:
    cfg = {'type': 'VideoDataset', 'data_root': str(tmp_path / 'nowhere'), 'pipeline': []}
    with pytest.raises(FileNotFoundError, match=r"^train_dataloader.dataset \(VideoDataset\): data_root='.*' is no f"):
        build(cfg, DATASETS, 'train_dataloader.dataset')


def test_pipelines_are_looked_up_among_the_transforms() -> None:
    cfg = {'type': 'VideoDataset', 'pipeline': [{'type': 'Flipp'}], 'list_file': 'x'}
    text = r"data.pipeline.0.type='Flipp' is not a registered transform. Did you mean 'Flip'"
    with pytest.raises(KeyError, match=text):
        build(cfg, DATASETS, 'data')


def test_arguments_that_the_framework_hands_over_are_not_for_the_config() -> None:
    def function(own: int, handed: int) -> None:
        del own, handed

    check_arguments(function, {'own': 1}, 'here', given=['handed'])
    with pytest.raises(KeyError, match='here.handed is not an argument of function'):
        check_arguments(function, {'own': 1, 'handed': 2}, 'here', given=['handed'])


def test_nearest_is_silent_without_a_close_name() -> None:
    assert nearest('zzz', ['depth', 'inflate']) == ''
    assert nearest('dept', ['depth', 'inflate']) == " Did you mean 'depth'?"


@pytest.mark.parametrize('registry', [MODELS, METRICS, OPTIMIZERS, TRANSFORMS], ids=lambda r: r.name)
def test_no_constructor_of_ours_swallows_arguments(registry: object) -> None:
    with pytest.raises(KeyError):
        build({'type': ''}, registry)
    for name, cls in registry.module_dict.items():
        kinds = {p.kind for p in inspect.signature(cls).parameters.values()}
        assert inspect.Parameter.VAR_KEYWORD not in kinds, f'{name} takes any argument'


@pytest.mark.parametrize(
    ('change', 'text'),
    [
        (
            {'backbone': {'depth': 10}},
            r"model.backbone=\{'depth': 10\} does not fit Recognizer3D, which takes Backbone",
        ),
        ({'backbone': 'ResNet_I3D'}, "model.backbone='ResNet_I3D' does not fit Recognizer3D, which takes Backbone"),
        ({'backbone': HEAD}, "model.backbone.type='I3DClsHead' is no Backbone"),
        (
            {'cls_head': {**HEAD, 'dropout': 'x'}},
            "model.cls_head.dropout='x' does not fit I3DClsHead, which takes float",
        ),
        ({'cls_head': {**HEAD, 'num_classes': 2.5}}, 'model.cls_head.num_classes=2.5 does not fit I3DClsHead'),
        ({'max_views_per_forward': True}, 'model.max_views_per_forward=True does not fit Recognizer3D'),
        ({'module_cfg': {'type': 'DSA', 'channel_ratio': 'a'}}, "model.module_cfg.channel_ratio='a' does not fit DSA"),
    ],
)
def test_values_of_another_type_are_named_by_their_full_path(change: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        build({**MODEL, **change}, MODELS)


def test_optimisers_of_torch_are_checked_too() -> None:
    with pytest.raises(ValueError, match="optimizer.lr='a' does not fit SGD"):
        build({'type': 'SGD', 'lr': 'a'}, OPTIMIZERS, params=[])


@pytest.mark.parametrize(
    ('path', 'value', 'text'),
    [
        ('loss', {'type': 'DSA'}, "model.cls_head.loss.type='DSA' is no Loss"),
        ('batch_augment', {'type': 'FocalLoss'}, "model.batch_augment.type='FocalLoss' is no BatchAugment"),
        ('data_preprocessor', {'type': 'FocalLoss'}, "type='FocalLoss' is no DataPreprocessor"),
    ],
)
def test_optional_parts_must_be_of_their_kind(path: str, value: dict, text: str) -> None:
    head = {'type': 'I3DClsHead', 'num_classes': 2, 'in_channels': 64}
    model = {'type': 'Recognizer3D', 'backbone': {'type': 'ResNet_I3D', 'depth': 10}, 'cls_head': head}
    (head if path == 'loss' else model)[path] = value
    with pytest.raises(ValueError, match=text):
        check(model, MODELS, 'model')
