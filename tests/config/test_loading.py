import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dsanet.config.formatting import format_config
from dsanet.config.loading import find_differences, load_config, parse_option, read_section
from dsanet.config.registry import MODELS, build
from dsanet.config.schema import ParametersCfg

PAGE = """
\"\"\"A note.\"\"\"
num_classes = 4
num_snippets = 2
data_root = 'data/x'
train_list = '${data_root}/train.txt'
_sample = dict(type='SampleSnippets', num_snippets='${num_snippets}', frames_per_snippet=2)
model = dict(
    type='Recognizer3D',
    backbone=dict(type='ResNet_I3D', depth=10, base_channels=4),
    cls_head=dict(type='I3DClsHead', num_classes='${num_classes}', in_channels=32),
    module_cfg=dict(type='DSA', num_snippets='${num_snippets}', blocks=(0, 1, 1, 0)),
)
test_dataloader = dict(batch_size=2, dataset=dict(type='VideoDataset', list_file='${train_list}', pipeline=[
    dict(type='OpenVideo'), _sample, dict(type='DecodeVideo'), dict(type='PackInputs')]))
metrics = [dict(type='Accuracy', topk=(1,))]
"""


@pytest.fixture
def page(tmp_path: Path) -> Path:
    file = tmp_path / 'page.py'
    file.write_text(PAGE)
    return file


def edit(page: Path, old: str, new: str) -> Path:
    assert old in page.read_text(), f'{old} is not in the page'
    page.write_text(page.read_text().replace(old, new))
    return page


def test_settings_take_effect_with_their_type_or_as_text(page: Path) -> None:
    config = load_config(page)
    assert config['model']['cls_head']['num_classes'] == 4
    assert config['test_dataloader']['dataset']['list_file'] == 'data/x/train.txt'
    assert set(config) == {'model', 'test_dataloader', 'metrics'}


def test_overriding_a_setting_changes_it_everywhere(page: Path) -> None:
    config = load_config(page, ['num_snippets=4', 'data_root=/my data'])
    assert config['model']['module_cfg']['num_snippets'] == 4
    assert config['test_dataloader']['dataset']['pipeline'][1]['num_snippets'] == 4
    assert config['test_dataloader']['dataset']['list_file'] == '/my data/train.txt'


def test_overriding_the_last_reference_to_a_setting_is_fine(page: Path) -> None:
    config = load_config(page, ['train_list=None'])
    assert config['test_dataloader']['dataset']['list_file'] is None


def test_options_reach_into_lists_and_may_add_an_argument(page: Path) -> None:
    options = ['test_dataloader.dataset.pipeline.1.num_groups=3', 'model.module_cfg.blocks=[0, 0, 1, 0]']
    config = load_config(page, options)
    assert config['test_dataloader']['dataset']['pipeline'][1]['num_groups'] == 3
    assert list(config['model']['module_cfg']['blocks']) == [0, 0, 1, 0]


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('3', 3),
        ('1e-3', 1e-3),
        ('None', None),
        ('true', True),
        ('False', False),
        ('[1, 2]', [1, 2]),
        ("{'a': 1}", {'a': 1}),
        ('a/b,c', 'a/b,c'),
        ('1 + 1', '1 + 1'),
        ('x=y', 'x=y'),
    ],
)
def test_option_values_are_literals_or_text(text: str, value: object) -> None:
    assert parse_option(f'a.b={text}') == (['a', 'b'], value)


@pytest.mark.parametrize(
    ('option', 'text'),
    [
        ('num_snipets=4', "num_snipets is not in the config. Did you mean 'num_snippets'"),
        ('model.cls_hed.num_classes=4', "model.cls_hed is not in the config. Did you mean 'cls_head'"),
        (
            'model.cls_head.num_clases=4',
            "model.cls_head.num_clases is not an argument of I3DClsHead. Did you mean 'num_classes'",
        ),
        ('test_dataloader.dataset.pipeline.9.type=x', 'the list has entries 0 to 3'),
        (
            'test_dataloader.dataset.list_file.0=x',
            r"list_file is '\$\{train_list\}': override train_list.0 instead",
        ),
        ('num_classes.x=1', 'num_classes is 4'),
        ('model.module_cfg.blocks.0=1', 'a tuple is replaced as a whole'),
        ('_sample.num_snippets=1', '_sample is not in the config'),
    ],
)
def test_wrong_options_are_refused_with_text(page: Path, option: str, text: str) -> None:
    with pytest.raises(KeyError, match=text):
        load_config(page, [option])


def test_option_without_equals_sign_is_refused(page: Path) -> None:
    with pytest.raises(ValueError, match="override 'num_classes' must be key=value"):
        load_config(page, ['num_classes'])


@pytest.mark.parametrize(
    ('old', 'new', 'error', 'text'),
    [
        ('metrics =', 'metricks =', KeyError, "metricks is neither a section nor a setting.*Did you mean 'metrics'"),
        (
            "${num_classes}'",
            "${num_klasses}'",
            KeyError,
            r"cls_head.num_classes refers to \${num_klasses}, which is not a setting. Did you mean 'num_classes'",
        ),
        (
            "'data/x'",
            "'${train_list}'",
            ValueError,
            'the settings train_list -> data_root -> train_list refer to each other',
        ),
        (
            'batch_size=2',
            'batchsize=2',
            KeyError,
            "test_dataloader.batchsize is not an argument of build_dataloader. Did you mean 'batch_size'",
        ),
        ('batch_size=2', 'batch_size=2, seed=1', KeyError, 'test_dataloader.seed is not an argument'),
        ("type='Accuracy'", "type='Acuracy'", KeyError, "metrics.0.type='Acuracy' is not a registered metric"),
        (
            "type='Recognizer3D'",
            "type='ResNet'",
            ValueError,
            "model.type='ResNet' .*: Recognizer3D$",
        ),
        ("type='Recognizer3D'", "type='Recognizer'", KeyError, "Did you mean 'Recognizer3D'.*: Recognizer3D"),
        (
            'frames_per_snippet=2',
            'frame_per_snippet=2',
            KeyError,
            "pipeline.1.frame_per_snippet is not an argument of SampleSnippets. Did you mean 'frames_per_snippet'",
        ),
        (
            'metrics = [',
            'runtime = dict(sed=1)\nmetrics = [',
            KeyError,
            "runtime.sed is not an argument of RuntimeCfg. Did you mean 'seed'",
        ),
        (
            'metrics = [',
            "runtime = dict(amp='fp8')\nmetrics = [",
            ValueError,
            "runtime: amp='fp8' must be None, 'bf16' or 'fp16'",
        ),
        ('metrics = [', 'train_cfg = dict(max_epochs=0)\nmetrics = [', ValueError, 'train_cfg: max_epochs=0'),
        (
            'metrics = [',
            'train_cfg = dict(max_epochs=1, ema_decay=1.0)\nmetrics = [',
            ValueError,
            'train_cfg: ema_decay=1.0 must lie between 0 and 1, or be None',
        ),
        (
            'metrics = [',
            'parameters = dict(decay_norm=False)\nmetrics = [',
            KeyError,
            "parameters.decay_norm is not an argument of ParametersCfg. Did you mean 'decay_norms'",
        ),
        (
            'metrics = [',
            'parameters = dict(lr_multipliers=3.0)\nmetrics = [',
            ValueError,
            'parameters: lr_multipliers=3.0 must be a dict of numbers by part of a name',
        ),
        (
            'metrics = [',
            "parameters = dict(lr_multipliers={'cls_head': '5'})\nmetrics = [",
            ValueError,
            r"parameters: lr_multipliers\['cls_head'\]='5' must be a number of at least 0",
        ),
        (
            'metrics = [',
            "parameters = dict(lr_multipliers={'a..b': 5})\nmetrics = [",
            ValueError,
            "parameters: lr_multipliers has the key 'a..b', which is no part of a name",
        ),
        (
            'metrics = [',
            "parameters = dict(lr_multipliers={'dsa': 5, '.dsa.': 2})\nmetrics = [",
            ValueError,
            "parameters: lr_multipliers has 'dsa' twice; dots around a key mean nothing",
        ),
        (
            'metrics = [',
            'parameters = dict(bias_lr_multiplier=-1)\nmetrics = [',
            ValueError,
            'parameters: bias_lr_multiplier=-1 must be a number of at least 0',
        ),
        (
            'metrics = [',
            "optimizer = dict(type='SGD', lr=1, params=[])\nmetrics = [",
            KeyError,
            'optimizer.params is not an argument of SGD',
        ),
        ('metrics = [', 'metrics = 3 # [', TypeError, 'metrics must be a list of dicts'),
    ],
)
def test_mistakes_in_the_file_are_refused_with_text(
    page: Path, old: str, new: str, error: type[Exception], text: str
) -> None:
    edit(page, old, new)
    with pytest.raises(error, match=text):
        load_config(page)


@pytest.mark.parametrize(
    ('old', 'new', 'text'),
    [
        (
            'batch_size=2',
            "batch_size='x'",
            "test_dataloader.batch_size='x' does not fit build_dataloader, which takes int",
        ),
        ('topk=(1,)', 'topk=5', 'metrics.0.topk=5 does not fit Accuracy'),
        (
            'metrics = [',
            'train_cfg = dict(max_epochs=2.5)\nmetrics = [',
            'train_cfg.max_epochs=2.5 does not fit TrainCfg',
        ),
        (
            'metrics = [',
            'runtime = dict(timeout_minutes=0)\nmetrics = [',
            'timeout_minutes=0 must be more than 0 and at',
        ),
        ('metrics = [', 'runtime = dict(log_interval=2.5)\nmetrics = [', 'runtime.log_interval=2.5 does not fit'),
        (
            'frames_per_snippet=2',
            "frames_per_snippet=2, random='yes'",
            "pipeline.1.random='yes' does not fit SampleSnippets",
        ),
        (
            "'${data_root}/train",
            "'${data-root}/train",
            r"train_list='\$\{data-root\}/train.txt'",
        ),
    ],
)
def test_wrong_types_and_references_are_refused_with_text(page: Path, old: str, new: str, text: str) -> None:
    edit(page, old, new)
    with pytest.raises(ValueError, match=text):
        load_config(page)


def test_missing_section_and_missing_file_are_named(page: Path, tmp_path: Path) -> None:
    edit(page, "metrics = [dict(type='Accuracy', topk=(1,))]", '')
    with pytest.raises(KeyError, match='the config has no metrics'):
        load_config(page)
    with pytest.raises(FileNotFoundError, match=r'nowhere\.py'):
        load_config(tmp_path / 'nowhere.py')


def test_resolved_config_can_be_written_and_loaded_as_it_is(page: Path, tmp_path: Path) -> None:
    config = load_config(page, ['num_classes=7'])
    (tmp_path / 'resolved.py').write_text(format_config(config))
    again = load_config(tmp_path / 'resolved.py')
    assert again == config
    assert build(again['model'], MODELS).num_classes == 7


def test_parameters_take_part_in_settings_overrides_and_dumps(page: Path, tmp_path: Path) -> None:
    new = "head_lr = 5.0\nparameters = dict(lr_multipliers={'cls_head': '${head_lr}', '.dsa.': 2})\nmetrics = ["
    edit(page, 'metrics = [', new)
    config = load_config(page, ['head_lr=10', 'parameters.decay_norms=False'])
    assert config['parameters'] == {'lr_multipliers': {'cls_head': 10, '.dsa.': 2}, 'decay_norms': False}
    (tmp_path / 'resolved.py').write_text(format_config(config))
    assert load_config(tmp_path / 'resolved.py') == config
    assert read_section(config, 'parameters', ParametersCfg).lr_multipliers == {'cls_head': 10, '.dsa.': 2}


def test_loading_and_building_leave_the_config_alone(page: Path) -> None:
    config = load_config(page)
    before = repr(config)
    build(config['model'], MODELS)
    assert repr(config) == before


@pytest.mark.parametrize(
    ('was', 'now', 'told'),
    [
        ({'a': {'b': [1, {'c': 2}]}, 'd': (1, 2)}, {'d': [1, 2], 'a': {'b': (1, {'c': 3})}}, 'a.b.1.c was 2 and is 3'),
        ({'lr': 0.1}, {'lr': 0.1, 'momentum': 0.9}, 'momentum was None and is 0.9'),
        ({'lr': 0.1, 'momentum': 0.9}, {'lr': 0.1}, 'momentum was 0.9 and is None'),
        ({'lr': 0.1, 'momentum': None}, {'lr': 0.1}, None),
        ({'module_cfg': {'type': 'DSA'}}, {'module_cfg': None}, "module_cfg was {'type': 'DSA'} and is None"),
        ({'size': [1, 2]}, {'size': [1, 2, 3]}, 'size was [1, 2] and is [1, 2, 3]'),
        ({'name': 'abc'}, {'name': 'abd'}, 'name was abc and is abd'),
    ],
)
def test_difference_of_two_configs_is_told_as_deep_inside_as_it_can_be(was: dict, now: dict, told: str | None) -> None:
    differences = find_differences(was, now)
    assert differences == ({told.split(' was ')[0]: told} if told else {})
    below = find_differences(was, now, 'model')
    assert below == {f'model.{path}': f'model.{text}' for path, text in differences.items()}


def test_differences_stand_in_the_order_of_the_later_config() -> None:
    differences = find_differences({'gone': 1, 'a': 1, 'b': {'y': 1, 'x': 1}}, {'b': {'x': 2, 'y': 2}, 'a': 2})
    assert list(differences) == ['b.x', 'b.y', 'a', 'gone']


@pytest.fixture
def derive(page: Path) -> Callable[[str], Path]:
    """Write a page that derives from the other one."""
    edit(page, 'metrics = [', "optimizer = dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=0.01)\nmetrics = [")

    def write(text: str) -> Path:
        file = page.with_name('derived.py')
        file.write_text(f"_base_ = ['page.py']\n{text}\n")
        return file

    return write


def test_another_type_replaces_what_a_base_has(derive: Callable[[str], Path]) -> None:
    config = load_config(derive("optimizer = dict(type='AdamW', lr=1e-3)\nmodel = dict(module_cfg=dict(type='MVF'))"))
    assert config['optimizer'] == {'type': 'AdamW', 'lr': 1e-3}
    assert config['model']['module_cfg'] == {'type': 'MVF'}
    assert config['model']['backbone']['depth'] == 10
    merged = load_config(derive("optimizer = dict(type='SGD', lr=1e-3)"))
    assert merged['optimizer'] == {'type': 'SGD', 'lr': 1e-3, 'momentum': 0.9, 'weight_decay': 0.01}


def test_option_that_sets_a_type_leaves_old_keys(derive: Callable[[str], Path]) -> None:
    with pytest.raises(KeyError, match='optimizer.momentum .* override the whole dict'):
        load_config(derive(''), ['optimizer.type=AdamW'])
    config = load_config(derive(''), ["optimizer={'type':'AdamW','lr':1e-3}"])
    assert config['optimizer'] == {'type': 'AdamW', 'lr': 1e-3}
    with pytest.raises(KeyError, match='optimizer.beta ') as error:
        load_config(derive("optimizer = dict(type='AdamW', lr=1)"), ['optimizer.type=AdamW', 'optimizer.beta=1'])
    assert 'whole dict' not in str(error.value)


def test_inherited_setting_may_be_left_unused_but_not_ones_own(derive: Callable[[str], Path]) -> None:
    unused = "test_dataloader = dict(dataset=dict(list_file='my.txt'))\n"
    assert load_config(derive(unused))['test_dataloader']['dataset']['list_file'] == 'my.txt'
    with pytest.raises(KeyError, match='train_list is neither a section nor a setting that something refers to'):
        load_config(derive(unused + "train_list = 'other.txt'"))
    with pytest.raises(KeyError, match='train_list is neither a section nor a setting that something refers to'):
        load_config(derive(unused), ['train_list=other.txt'])
    option = 'test_dataloader.dataset.list_file=${train_list}'
    config = load_config(derive(unused), [option, 'train_list=other.txt'])
    assert config['test_dataloader']['dataset']['list_file'] == 'other.txt'


@pytest.mark.parametrize('options', ['num_classes=8', {'num_classes': 8}])
def test_options_that_are_no_list_are_refused(page: Path, options: object) -> None:
    with pytest.raises(ValueError, match=r"options=.*num_classes.* must be a list of texts, such as \['num_classes=8'"):
        load_config(page, options)


def test_config_is_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_config('demo/dsanet_ordered_actions', ['num_classes=4'])
    assert config['model']['cls_head']['num_classes'] == 4


BLOCK = """
from torch import nn

from dsanet.config.registry import MODELS

@MODELS.register_module()
class LabBlock(nn.Module):
    def __init__(self, in_channels: int) -> None:
        super().__init__()
"""


@pytest.fixture
def lab(page: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A config whose module_cfg is a block from the folder my_lab beside it; the working directory is another."""
    folder = page.parent / 'my_lab'
    folder.mkdir()
    (folder / 'blocks.py').write_text(BLOCK)
    monkeypatch.chdir(page.parent.parent)
    yield edit(page, "type='DSA', num_snippets='${num_snippets}'", "type='LabBlock'")
    MODELS.module_dict.pop('LabBlock', None)
    for name in [name for name in sys.modules if name.startswith('my_lab')]:
        del sys.modules[name]


def test_imports_of_the_config_register_parts(lab: Path) -> None:
    edit(lab, 'metrics = [', "imports = ['my_lab.blocks']\nmetrics = [")
    config = load_config(lab)
    assert config['imports'] == ['my_lab.blocks']
    assert list(config)[0] == 'imports'
    model = build(config['model'], MODELS)
    assert 'LabBlock' in {type(module).__name__ for module in model.modules()}


def test_imports_of_the_call_travel_in_the_config(lab: Path) -> None:
    with pytest.raises(KeyError, match="model.module_cfg.type='LabBlock'"):
        load_config(lab)
    config = load_config(lab, imports=['my_lab.blocks', 'my_lab.blocks'])
    assert config['imports'] == ['my_lab.blocks']
    resolved = lab.with_name('resolved.py')
    resolved.write_text(format_config(config))
    assert load_config(resolved, imports=['json']) == {**config, 'imports': ['my_lab.blocks', 'json']}
    assert config['imports'] == ['my_lab.blocks']


@pytest.mark.parametrize('imports', ["'my_lab.blocks'", '[3]', '{}', 'None'])
def test_imports_must_be_a_list_of_names(lab: Path, imports: str) -> None:
    with pytest.raises(ValueError, match='imports='):
        load_config(edit(lab, 'metrics = [', f'imports = {imports}\nmetrics = ['), imports=['json'])
    with pytest.raises(ValueError, match="imports='json'"):
        load_config(lab, imports='json')
