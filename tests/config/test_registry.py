import inspect
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import pytest

from dsanet.config.registry import (
    DATASETS,
    METRICS,
    MODELS,
    OPTIMIZERS,
    TRANSFORMS,
    Registry,
    build,
    check,
    find_class,
)
from dsanet.models.backbones.base import Backbone

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
            {'type': 'Recognizer3D'},
            KeyError,
            "model.type='Recognizer3D' is not a registered model. Did you mean 'Recognizer3D'",
        ),
        ({'type': ['Recognizer3D']}, KeyError, 'model.type=.*Recognizer3D'),
        ({'backbone': 1}, KeyError, "model has no 'type'"),
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
    with pytest.raises(FileNotFoundError, match=r"^train_dataloader.dataset \(VideoDataset\): data_root='.*nowhere'"):
        build(cfg, DATASETS, 'train_dataloader.dataset')


def test_pipelines_are_looked_up_among_the_transforms() -> None:
    cfg = {'type': 'VideoDataset', 'pipeline': [{'type': 'Flipp'}], 'list_file': 'x'}
    text = r"data.pipeline.0.type='Flipp' is not a registered Transform. Did you mean 'Flip'"
    with pytest.raises(KeyError, match=text):
        build(cfg, DATASETS, 'data')


@pytest.mark.parametrize('registry', [MODELS, METRICS, OPTIMIZERS, TRANSFORMS], ids=lambda r: r.kind)
def test_no_constructor_of_ours_swallows_arguments(registry: object) -> None:
    for name, cls in registry.module_dict.items():
        kinds = {p.kind for p in inspect.signature(cls).parameters.values()}
        assert inspect.Parameter.VAR_KEYWORD not in kinds, f'{name} takes any argument'


@pytest.mark.parametrize(
    ('change', 'text'),
    [
        ({'backbone': HEAD}, "model.backbone.type='I3DClsHead' is not a Backbone. Allowed: R2Plus1D, ResNet, "),
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


def test_optimizers_of_torch_are_checked_too() -> None:
    with pytest.raises(ValueError, match="optimizer.lr='a' does not fit SGD"):
        build({'type': 'SGD', 'lr': 'a'}, OPTIMIZERS, params=[])


@pytest.mark.parametrize(
    ('path', 'value', 'text'),
    [
        ('loss', {'type': 'DSA'}, "model.cls_head.loss.type='DSA' is not a Loss"),
        ('batch_augment', {'type': 'FocalLoss'}, "model.batch_augment.type='FocalLoss' is not a BatchAugment"),
        ('data_preprocessor', {'type': 'FocalLoss'}, "type='FocalLoss' is not a DataPreprocessor"),
    ],
)
def test_optional_parts_must_be_of_their_kind(path: str, value: dict, text: str) -> None:
    head = {'type': 'I3DClsHead', 'num_classes': 2, 'in_channels': 64}
    model = {'type': 'Recognizer3D', 'backbone': {'type': 'ResNet_I3D', 'depth': 10}, 'cls_head': head}
    (head if path == 'loss' else model)[path] = value
    with pytest.raises(ValueError, match=text):
        check(model, MODELS, 'model')


@pytest.mark.parametrize(
    ('change', 'error', 'text'),
    [
        ({'backbone': {'depth': 10}}, KeyError, "model.backbone has no 'type', .*Backbone"),
        ({'backbone': 'ResNet_I3D'}, TypeError, "model.backbone must be a dict with a type, got 'ResNet_I3D'"),
        ({'backbone': None}, TypeError, 'model.backbone must be a dict with a type, got None'),
        ({'backbone': [{'type': 'ResNet'}]}, TypeError, 'model.backbone must be a dict'),
    ],
)
def test_parts_must_be_described(change: dict, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        check({**MODEL, **change}, MODELS, 'model')


@pytest.mark.parametrize(
    ('pipeline', 'error', 'text'),
    [
        ('PackInputs', TypeError, 'data.pipeline must be a list'),
        ({'type': 'PackInputs'}, TypeError, 'data.pipeline must be a list'),
        (None, TypeError, 'data.pipeline must be a list'),
        ([3], TypeError, 'data.pipeline.0 must be a dict'),
        ([{'type': 'PackInputs'}, {'size': 3}], KeyError, "data.pipeline.1 has no 'type'"),
    ],
)
def test_lists_of_parts_are_checked_one_by_one(pipeline: object, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        check({'type': 'VideoDataset', 'pipeline': pipeline}, DATASETS, 'data')


def test_unknown_type_lists_what_fits_there() -> None:
    with pytest.raises(KeyError, match="backbone.type='ResNet_I2D'.*Did you mean 'ResNet_I3D'") as error:
        check({**MODEL, 'backbone': {'type': 'ResNet_I2D'}}, MODELS, 'model')
    allowed = error.value.args[0].partition('Allowed: ')[2].split(', ')
    assert allowed == sorted(name for name, cls in MODELS.module_dict.items() if issubclass(cls, Backbone))
    assert 'TorchvisionVideo' in allowed


def test_unknown_module_lists_modules_only() -> None:
    with pytest.raises(KeyError, match=r'module_cfg.type=.* Allowed: DSA, MVF, NonLocal3d, TAM, TemporalShift, V4D"$'):
        check({**MODEL, 'module_cfg': {'type': 'nowhere'}}, MODELS, 'model')


def test_name_of_mmaction2_is_answered_with_ours() -> None:
    with pytest.raises(KeyError, match=r"dict\(type='ResNet_I3D', depth=50, inflate=\(0, 0, 1, 1\)\)"):
        check({**MODEL, 'backbone': {'type': 'ResNet3dSlowOnly'}}, MODELS, 'model')


def test_name_of_another_registry_is_recognized() -> None:
    with pytest.raises(KeyError, match="metrics.0.type='FocalLoss' .*It is a model"):
        find_class({'type': 'FocalLoss'}, METRICS, 'metrics.0')


@pytest.mark.parametrize(
    ('registry', 'other'),
    [
        ('METRICS', 'dsanet.models'),
        pytest.param('TRANSFORMS', 'dsanet.engine', marks=pytest.mark.sweep),
        pytest.param('MODELS', 'dsanet.engine', marks=pytest.mark.sweep),
    ],
)
def test_registries_import_their_own_homes_only(registry: str, other: str) -> None:
    code = (
        f'import sys; from dsanet.config.registry import {registry}; assert "torch" not in sys.modules; '
        f'assert {registry}.module_dict; assert not [m for m in sys.modules if m.startswith("{other}.")]'
    )
    subprocess.run([sys.executable, '-c', code], check=True)


@pytest.fixture
def tools() -> Registry:
    return Registry('tool')


def test_name_registered_twice_is_an_error(tools: Registry) -> None:
    @tools.register_module()
    class Hammer:
        pass

    assert tools.register_module(module=Hammer) is Hammer
    hammer = type('Hammer', (), {'__module__': 'somewhere.else'})
    with pytest.raises(KeyError, match='Hammer is already registered as a tool'):
        tools.register_module(module=hammer)
    assert tools.module_dict == {'Hammer': Hammer}


def test_names_of_ours_are_taken_from_the_start() -> None:
    code = "from dsanet.config.registry import METRICS; METRICS.register_module(module=type('Accuracy', (), {}))"
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert 'Accuracy is already registered as a metric, by dsanet.evaluation.metrics' in result.stderr


def test_class_defined_again_replaces_itself(tools: Registry) -> None:
    def define() -> type:
        @tools.register_module()
        class Hammer:
            pass

        return Hammer

    define()
    again = define()
    assert tools.module_dict == {'Hammer': again}


class Handle:
    """A base class of a user's own, in a module of a user's own."""


class Grip(Protocol):
    def hold(self) -> None: ...


@pytest.fixture
def box(tools: Registry) -> Registry:
    @tools.register_module()
    class Wooden(Handle):
        def __init__(self, length: float = 1.0) -> None:
            self.length = length

    @tools.register_module()
    class Nail:
        pass

    @tools.register_module()
    class Hammer:
        def __init__(
            self, handle: Handle, spare: Sequence[Handle] | None = None, grip: Grip | None = None, free=None
        ) -> None:
            self.parts = (handle, spare, grip, free)

    return tools


def test_base_classes_of_users_are_looked_up_by_annotation(box: Registry) -> None:
    wood = {'type': 'Wooden', 'length': 2}
    cfg = {'type': 'Hammer', 'handle': wood, 'spare': (wood, wood), 'grip': {'type': 'Nail'}, 'free': [wood, 3]}
    handle, spare, grip, free = build(cfg, box).parts
    assert handle.length == spare[1].length == free[0].length == 2
    assert (type(spare), type(grip).__name__, free[1]) == (tuple, 'Nail', 3)
    for change in ({'handle': {'type': 'Nail'}}, {'spare': [{'type': 'Nail'}]}):
        with pytest.raises(ValueError, match="type='Nail' is not a Handle. Allowed: Wooden$"):
            check({**cfg, **change}, box, 'tool')


def test_base_class_says_where_its_kind_is_registered(box: Registry) -> None:
    shed = Registry('shed')

    class Shelf:
        registry = box

    @box.register_module()
    class Rack(Shelf):
        pass

    @shed.register_module()
    class Shed:
        def __init__(self, shelves: Sequence[Shelf]) -> None:
            self.shelves = shelves

    assert isinstance(build({'type': 'Shed', 'shelves': [{'type': 'Rack'}]}, shed).shelves[0], Rack)
    with pytest.raises(KeyError, match=r'shed.shelves.0.type.* Allowed: Rack'):
        build({'type': 'Shed', 'shelves': [{'type': 'Shed'}]}, shed)
