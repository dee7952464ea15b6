import inspect
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

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
    get_class,
)
from dsanet.models.backbones.base import Backbone

HEAD = {'type': 'I3DClsHead', 'num_classes': 3, 'in_channels': 4}
MODEL = {'type': 'Recognizer3D', 'backbone': {'type': 'ResNet_I3D', 'depth': 10, 'base_channels': 4}, 'cls_head': HEAD}


def test_build_builds_nested_parts() -> None:
    model = build({**MODEL, 'cls_head': {**HEAD, 'in_channels': 32}}, MODELS)
    assert (model.num_classes, model.backbone.out_channels) == (3, 32)


@pytest.mark.parametrize(
    ('cfg', 'error', 'text'),
    [
        (
            {**MODEL, 'bakbone': 1},
            KeyError,
            'model.bakbone .*Recognizer3D.*backbone',
        ),
        (
            {'type': 'Recogniser3D'},
            KeyError,
            "model.type='Recogniser3D' .*Recognizer3D",
        ),
        ({'type': ['Recognizer3D']}, KeyError, 'model.type=.*Recognizer3D'),
        ({'backbone': 1}, KeyError, 'model .*type'),
        ({'type': 'Recognizer3D'}, KeyError, 'model.backbone .*Recognizer3D'),
        (
            {**MODEL, 'backbone': {'type': 'ResNet_I3D', 'dept': 10}},
            KeyError,
            'model.backbone.dept .*ResNet_I3D.*depth',
        ),
        (
            {**MODEL, 'backbone': {'type': 'ResNet_I3D', 'depth': 11}},
            ValueError,
            r'model.backbone \(ResNet_I3D\): depth=11',
        ),
        (
            {**MODEL, 'module_cfg': {'type': 'DSA', 'num_snipets': 4}},
            KeyError,
            'model.module_cfg.num_snipets .*num_snippets',
        ),
        (
            {**MODEL, 'module_cfg': [{'type': 'DSA', 'alpha': 4}]},
            KeyError,
            'model.module_cfg.0.alpha .*DSA',
        ),
        (None, TypeError, 'model .*None'),
    ],
)
def test_errors_name_the_full_path(cfg: dict, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        build(cfg, MODELS)


def test_missing_folder_error_names_the_section(tmp_path: Path) -> None:
    cfg = {'type': 'VideoDataset', 'data_root': str(tmp_path / 'nowhere'), 'pipeline': []}
    with pytest.raises(FileNotFoundError, match=r'^train_dataloader.dataset \(VideoDataset\): data_root=.*nowhere'):
        build(cfg, DATASETS, 'train_dataloader.dataset')


def test_pipeline_steps_are_transforms() -> None:
    cfg = {'type': 'VideoDataset', 'pipeline': [{'type': 'Flipp'}], 'list_file': 'x'}
    with pytest.raises(KeyError, match=r"data.pipeline.0.type='Flipp' .*Transform.*Flip\b"):
        build(cfg, DATASETS, 'data')


@pytest.mark.parametrize('registry', [MODELS, METRICS, OPTIMIZERS, TRANSFORMS], ids=lambda r: r.kind)
def test_constructors_have_no_kwargs(registry: object) -> None:
    for name, cls in registry.module_dict.items():
        kinds = {p.kind for p in inspect.signature(cls).parameters.values()}
        assert inspect.Parameter.VAR_KEYWORD not in kinds, f'{name} takes any argument'


@pytest.mark.parametrize(
    ('change', 'text'),
    [
        ({'backbone': HEAD}, "model.backbone.type='I3DClsHead' .*Backbone.* R2Plus1D, ResNet, "),
        ({'cls_head': {**HEAD, 'dropout': 'x'}}, "model.cls_head.dropout='x' .*I3DClsHead.*float"),
        ({'cls_head': {**HEAD, 'num_classes': 2.5}}, 'model.cls_head.num_classes=2.5 .*I3DClsHead'),
        ({'max_views_per_forward': True}, 'model.max_views_per_forward=True .*Recognizer3D'),
        ({'module_cfg': {'type': 'DSA', 'channel_ratio': 'a'}}, "model.module_cfg.channel_ratio='a' .*DSA"),
    ],
)
def test_wrong_value_types_name_the_full_path(change: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        build({**MODEL, **change}, MODELS)


def test_torch_optimizer_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="optimizer.lr='a' .*SGD"):
        build({'type': 'SGD', 'lr': 'a'}, OPTIMIZERS, params=[])


@pytest.mark.parametrize(
    ('path', 'value', 'text'),
    [
        ('loss', {'type': 'DSA'}, "model.cls_head.loss.type='DSA' .*Loss"),
        ('batch_augment', {'type': 'FocalLoss'}, "model.batch_augment.type='FocalLoss' .*BatchAugment"),
        ('data_preprocessor', {'type': 'FocalLoss'}, "type='FocalLoss' .*DataPreprocessor"),
    ],
)
def test_optional_parts_must_be_of_their_base_class(path: str, value: dict, text: str) -> None:
    head = {'type': 'I3DClsHead', 'num_classes': 2, 'in_channels': 64}
    model = {'type': 'Recognizer3D', 'backbone': {'type': 'ResNet_I3D', 'depth': 10}, 'cls_head': head}
    (head if path == 'loss' else model)[path] = value
    with pytest.raises(ValueError, match=text):
        check(model, MODELS, 'model')


@pytest.mark.parametrize(
    ('change', 'error', 'text'),
    [
        ({'backbone': {'depth': 10}}, KeyError, 'model.backbone .*type.*Backbone'),
        ({'backbone': 'ResNet_I3D'}, TypeError, 'model.backbone .*ResNet_I3D'),
        ({'backbone': None}, TypeError, 'model.backbone .*None'),
        ({'backbone': [{'type': 'ResNet'}]}, TypeError, 'model.backbone '),
    ],
)
def test_parts_must_be_dicts_with_a_type(change: dict, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        check({**MODEL, **change}, MODELS, 'model')


@pytest.mark.parametrize(
    ('pipeline', 'error', 'text'),
    [
        ('PackInputs', TypeError, 'data.pipeline '),
        ({'type': 'PackInputs'}, TypeError, 'data.pipeline '),
        (None, TypeError, 'data.pipeline '),
        ([3], TypeError, 'data.pipeline.0 '),
        ([{'type': 'PackInputs'}, {'size': 3}], KeyError, 'data.pipeline.1 .*type'),
    ],
)
def test_lists_of_parts_name_the_entry(pipeline: object, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        check({'type': 'VideoDataset', 'pipeline': pipeline}, DATASETS, 'data')


def test_unknown_type_error_lists_allowed_classes() -> None:
    with pytest.raises(KeyError, match="backbone.type='ResNet_I2D'.*ResNet_I3D") as error:
        check({**MODEL, 'backbone': {'type': 'ResNet_I2D'}}, MODELS, 'model')
    allowed = error.value.args[0].partition('Allowed: ')[2].split(', ')
    assert allowed == sorted(name for name, cls in MODELS.module_dict.items() if issubclass(cls, Backbone))
    assert 'TorchvisionVideo' in allowed


def test_unknown_module_error_lists_modules_only() -> None:
    with pytest.raises(KeyError, match=r'module_cfg.type=.*: DSA, MVF, NonLocal3d, TAM, TemporalShift, V4D"$'):
        check({**MODEL, 'module_cfg': {'type': 'nowhere'}}, MODELS, 'model')


def test_mmaction2_type_error_shows_our_config() -> None:
    with pytest.raises(KeyError, match=r"dict\(type='ResNet_I3D', depth=50, inflate=\(0, 0, 1, 1\)\)"):
        check({**MODEL, 'backbone': {'type': 'ResNet3dSlowOnly'}}, MODELS, 'model')


def test_type_of_another_registry_is_recognized() -> None:
    with pytest.raises(KeyError, match="metrics.0.type='FocalLoss' .*model"):
        get_class({'type': 'FocalLoss'}, METRICS, 'metrics.0')


@pytest.mark.parametrize(
    ('registry', 'other'),
    [
        ('METRICS', 'dsanet.models'),
        pytest.param('TRANSFORMS', 'dsanet.engine', marks=pytest.mark.sweep),
        pytest.param('MODELS', 'dsanet.engine', marks=pytest.mark.sweep),
    ],
)
def test_registry_imports_only_its_own_modules(registry: str, other: str) -> None:
    code = (
        f'import sys; from dsanet.config.registry import {registry}; assert "torch" not in sys.modules; '
        f'assert {registry}.module_dict; assert not [m for m in sys.modules if m.startswith("{other}.")]'
    )
    subprocess.run([sys.executable, '-c', code], check=True)


@pytest.fixture
def tools() -> Registry:
    return Registry('tool')


def test_registering_a_name_twice_raises(tools: Registry) -> None:
    @tools.register_module()
    class Hammer:
        pass

    assert tools.register_module(module=Hammer) is Hammer
    hammer = type('Hammer', (), {'__module__': 'somewhere.else'})
    with pytest.raises(KeyError, match='Hammer .*tool'):
        tools.register_module(module=hammer)
    assert tools.module_dict == {'Hammer': Hammer}


def test_our_names_cannot_be_taken() -> None:
    code = "from dsanet.config.registry import METRICS; METRICS.register_module(module=type('Accuracy', (), {}))"
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert re.search(r'KeyError.*Accuracy.*dsanet\.evaluation\.metrics', result.stderr)


def test_redefined_class_replaces_itself(tools: Registry) -> None:
    def define() -> type:
        @tools.register_module()
        class Hammer:
            pass

        return Hammer

    define()
    again = define()
    assert tools.module_dict == {'Hammer': again}


class Handle:
    """A base class in a module of the user."""


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
        def __init__(self, handle: Handle, spare: Sequence[Handle] | None = None, free=None) -> None:
            self.parts = (handle, spare, free)

    return tools


def test_user_base_classes_work_by_annotation(box: Registry) -> None:
    wood = {'type': 'Wooden', 'length': 2}
    cfg = {'type': 'Hammer', 'handle': wood, 'spare': (wood, wood), 'free': [wood, 3]}
    handle, spare, free = build(cfg, box).parts
    assert handle.length == spare[1].length == free[0].length == 2
    assert (type(spare), free[1]) == (tuple, 3)
    for change in ({'handle': {'type': 'Nail'}}, {'spare': [{'type': 'Nail'}]}):
        with pytest.raises(ValueError, match="type='Nail' .*Handle.*: Wooden$"):
            check({**cfg, **change}, box, 'tool')


def test_base_class_names_its_registry(box: Registry) -> None:
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
    with pytest.raises(KeyError, match=r'shed.shelves.0.type.*: Rack'):
        build({'type': 'Shed', 'shelves': [{'type': 'Shed'}]}, shed)
