import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dsanet.config.formatting import format_config
from dsanet.config.loading import find_differences, load_config, parse_option, read_section
from dsanet.config.registry import MODELS, build
from dsanet.config.schema import ParametersCfg

CONFIG = """
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
def file(tmp_path: Path) -> Path:
    """A config file."""
    file = tmp_path / 'base.py'
    file.write_text(CONFIG)
    return file


def edit(file: Path, old: str, new: str) -> Path:
    assert old in file.read_text(), f'{old} is not in the config'
    file.write_text(file.read_text().replace(old, new))
    return file


def test_references_take_the_value_of_the_setting(file: Path) -> None:
    config = load_config(file)
    assert config['model']['cls_head']['num_classes'] == 4
    assert config['test_dataloader']['dataset']['list_file'] == 'data/x/train.txt'
    assert set(config) == {'model', 'test_dataloader', 'metrics'}


def test_override_of_a_setting_applies_everywhere(file: Path) -> None:
    config = load_config(file, ['num_snippets=4', 'data_root=/my data'])
    assert config['model']['module_cfg']['num_snippets'] == 4
    assert config['test_dataloader']['dataset']['pipeline'][1]['num_snippets'] == 4
    assert config['test_dataloader']['dataset']['list_file'] == '/my data/train.txt'


def test_override_can_replace_the_last_reference(file: Path) -> None:
    config = load_config(file, ['train_list=None'])
    assert config['test_dataloader']['dataset']['list_file'] is None


def test_override_can_index_lists_and_add_keys(file: Path) -> None:
    options = ['test_dataloader.dataset.pipeline.1.num_groups=3', 'model.module_cfg.blocks=[0, 0, 1, 0]']
    config = load_config(file, options)
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
        ("dict(type='V4D', blocks=(0, dict(x=1)))", {'type': 'V4D', 'blocks': (0, {'x': 1})}),
        ("{'a': dict()}", {'a': {}}),
        ('dict(1)', 'dict(1)'),
        ('dict(**{})', 'dict(**{})'),
        ('list(a=1)', 'list(a=1)'),
        ("dict(a=open('x'))", "dict(a=open('x'))"),
        (' 3', 3),
    ],
)
def test_override_values_are_literals_or_strings(text: str, value: object) -> None:
    assert parse_option(f'a.b={text}') == (['a', 'b'], value)


@pytest.mark.parametrize(
    'text',
    ["__import__('os').abort()", "dict(a=__import__('os').abort())", '{[]: 1}', '1+' * 9999 + '1', '-' * 99999 + '1'],
    ids=range(5),
)
def test_other_expressions_are_text(text: str) -> None:
    assert parse_option(f'a={text}') == (['a'], text)


@pytest.mark.parametrize('text', ['dict(b=1, b=2)', "[dict(c={'b': 1, 'b': 1})]"])
def test_key_given_twice_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="'b' twice"):
        parse_option(f'a={text}')


@pytest.mark.parametrize('name', ['2024', '1e3', '0x10', '2024_01', 'true', '1.0', '(1)'])
def test_names_that_look_like_numbers_stay_text(file: Path, name: str) -> None:
    edit(file, "list_file='${train_list}'", "list_file='${train_list}', data_root='${data_root}', class_file='c'")
    dataset = load_config(file, [f'data_root={name}', f'test_dataloader.dataset.class_file={name}'])['test_dataloader'][
        'dataset'
    ]
    assert (dataset['data_root'], dataset['class_file']) == (name, name)
    if name not in ('true', '(1)'):
        assert dataset['list_file'] == f'{name}/train.txt'
    # An equal number elsewhere stays a number.
    config = load_config(file, ['num_classes=7', 'data_root=7'])
    assert config['model']['cls_head']['num_classes'] == 7
    assert config['test_dataloader']['dataset']['data_root'] == '7'


@pytest.mark.parametrize(
    ('option', 'remedy'),
    [
        ("num_classes='4'", 'write 4'),
        ('num_classes=4.0', 'write 4'),
        ('num_classes=1e1', 'write 10'),
        ('num_classes=4.5', None),
        ('num_classes=True', None),
        ("model.cls_head.dropout='1e-1'", r'write 0\.1'),
        ('model.cls_head.dropout=nan', 'a number must be finite'),
        ('model.cls_head.dropout=-inf', 'a number must be finite'),
        ('metrics.0.topk=x', None),
        ('metrics.0.topk=1', None),
    ],
)
def test_values_of_the_wrong_type_are_refused(file: Path, option: str, remedy: str | None) -> None:
    with pytest.raises(ValueError, match=r'has the wrong type: \w+ expects ') as raised:
        load_config(file, [option])
    found = re.search(r'; (.*)$', str(raised.value))
    assert re.fullmatch(remedy, found[1]) if remedy and found else found is None and remedy is None


def test_numbers_as_names_are_refused_in_files(file: Path) -> None:
    with pytest.raises(ValueError, match=r"list_file=3 has the wrong type.*; write '3'$"):
        load_config(edit(file, "list_file='${train_list}'", "list_file=3, data_root='${train_list}'"))


@pytest.mark.parametrize(
    ('option', 'text'),
    [
        ('num_snipets=4', r'num_snipets\b.*num_snippets'),
        ('model.cls_hed.num_classes=4', r'model\.cls_hed\b.*cls_head'),
        ('model.cls_head.num_clases=4', 'model.cls_head.num_clases .*I3DClsHead.*num_classes'),
        ('test_dataloader.dataset.pipeline.9.type=x', r'pipeline\.9\b.*0 to 3'),
        ('test_dataloader.dataset.list_file.0=x', r'list_file.*\$\{train_list\}.*train_list\.0'),
        ('num_classes.x=1', r'num_classes\.x.*4'),
        ('model.module_cfg.blocks.0=1', r'model\.module_cfg\.blocks\.0.*tuple'),
        ('_sample.num_snippets=1', '_sample'),
    ],
)
def test_invalid_overrides_raise(file: Path, option: str, text: str) -> None:
    with pytest.raises(KeyError, match=text):
        load_config(file, [option])


def test_override_without_equals_sign_raises(file: Path) -> None:
    with pytest.raises(ValueError, match="'num_classes'.*key=value"):
        load_config(file, ['num_classes'])


@pytest.mark.parametrize(
    ('old', 'new', 'error', 'text'),
    [
        ('metrics =', 'metricks =', KeyError, 'metricks .*metrics'),
        (
            "${num_classes}'",
            "${num_klasses}'",
            KeyError,
            r'cls_head\.num_classes\b.*\$\{num_klasses\}.*num_classes',
        ),
        (
            "'data/x'",
            "'${train_list}'",
            ValueError,
            'train_list -> data_root -> train_list',
        ),
        (
            'batch_size=2',
            'batchsize=2',
            KeyError,
            'test_dataloader.batchsize .*batch_size',
        ),
        ('batch_size=2', 'batch_size=2, seed=1', KeyError, 'test_dataloader.seed '),
        ("type='Accuracy'", "type='Acuracy'", KeyError, "metrics.0.type='Acuracy' .*Accuracy"),
        (
            "type='Recognizer3D'",
            "type='ResNet'",
            ValueError,
            "model.type='ResNet' .*: Recognizer3D$",
        ),
        ("type='Recognizer3D'", "type='Recognizer'", KeyError, "model.type='Recognizer' .*Recognizer3D"),
        (
            'frames_per_snippet=2',
            'frame_per_snippet=2',
            KeyError,
            'pipeline.1.frame_per_snippet .*SampleSnippets.*frames_per_snippet',
        ),
        (
            'metrics = [',
            'runtime = dict(sed=1)\nmetrics = [',
            KeyError,
            'runtime.sed .*seed',
        ),
        (
            'metrics = [',
            'parameters = dict(decay_norm=False)\nmetrics = [',
            KeyError,
            'parameters.decay_norm .*decay_norms',
        ),
        ('metrics = [', 'train_cfg = dict(max_epochs=0)\nmetrics = [', ValueError, 'train_cfg: max_epochs=0'),
        (
            'metrics = [',
            "optimizer = dict(type='SGD', lr=1, params=[])\nmetrics = [",
            KeyError,
            'optimizer.params .*SGD',
        ),
        ('metrics = [', 'metrics = 3 # [', TypeError, 'metrics .*3'),
    ],
)
def test_invalid_config_names_the_key(file: Path, old: str, new: str, error: type[Exception], text: str) -> None:
    edit(file, old, new)
    with pytest.raises(error, match=text):
        load_config(file)


@pytest.mark.parametrize(
    ('old', 'new', 'text'),
    [
        (
            'batch_size=2',
            "batch_size='x'",
            "test_dataloader.batch_size='x' .*int",
        ),
        (
            'frames_per_snippet=2',
            "frames_per_snippet=2, random='yes'",
            "pipeline.1.random='yes' .*SampleSnippets",
        ),
        (
            "'${data_root}/train",
            "'${data-root}/train",
            r"train_list='\$\{data-root\}/train.txt'",
        ),
    ],
)
def test_invalid_values_and_references_raise(file: Path, old: str, new: str, text: str) -> None:
    edit(file, old, new)
    with pytest.raises(ValueError, match=text):
        load_config(file)


def test_missing_section_and_file_raise(file: Path, tmp_path: Path) -> None:
    edit(file, "metrics = [dict(type='Accuracy', topk=(1,))]", '')
    with pytest.raises(KeyError, match='metrics'):
        load_config(file)
    with pytest.raises(FileNotFoundError, match=r'nowhere\.py'):
        load_config(tmp_path / 'nowhere.py')


def test_resolved_config_survives_saving(file: Path, tmp_path: Path) -> None:
    config = load_config(file, ['num_classes=7'])
    (tmp_path / 'resolved.py').write_text(format_config(config))
    again = load_config(tmp_path / 'resolved.py')
    assert again == config
    assert build(again['model'], MODELS).num_classes == 7


def test_parameters_section_supports_settings_and_overrides(file: Path, tmp_path: Path) -> None:
    new = "head_lr = 5.0\nparameters = dict(lr_multipliers={'cls_head': '${head_lr}', '.dsa.': 2})\nmetrics = ["
    edit(file, 'metrics = [', new)
    config = load_config(file, ['head_lr=10', 'parameters.decay_norms=False'])
    assert config['parameters'] == {'lr_multipliers': {'cls_head': 10, '.dsa.': 2}, 'decay_norms': False}
    (tmp_path / 'resolved.py').write_text(format_config(config))
    assert load_config(tmp_path / 'resolved.py') == config
    assert read_section(config, 'parameters', ParametersCfg).lr_multipliers == {'cls_head': 10, '.dsa.': 2}


def test_building_does_not_change_the_config(file: Path) -> None:
    config = load_config(file)
    before = repr(config)
    build(config['model'], MODELS)
    assert repr(config) == before


@pytest.mark.parametrize(
    ('was', 'now', 'expected'),
    [
        ({'a': {'b': [1, {'c': 2}]}, 'd': (1, 2)}, {'d': [1, 2], 'a': {'b': (1, {'c': 3})}}, ('a.b.1.c', 2, 3)),
        ({'lr': 0.1}, {'lr': 0.1, 'momentum': 0.9}, ('momentum', None, 0.9)),
        ({'lr': 0.1, 'momentum': 0.9}, {'lr': 0.1}, ('momentum', 0.9, None)),
        ({'lr': 0.1, 'momentum': None}, {'lr': 0.1}, None),
        ({'module_cfg': {'type': 'DSA'}}, {'module_cfg': None}, ('module_cfg', {'type': 'DSA'}, None)),
        ({'size': [1, 2]}, {'size': [1, 2, 3]}, ('size', [1, 2], [1, 2, 3])),
        ({'name': 'abc'}, {'name': 'abd'}, ('name', 'abc', 'abd')),
    ],
)
def test_differences_are_reported_at_the_deepest_key(was: dict, now: dict, expected: tuple | None) -> None:
    differences = find_differences(was, now)
    assert list(differences) == ([expected[0]] if expected else [])
    if expected:
        path, before, after = (re.escape(str(part)) for part in expected)
        assert re.fullmatch(rf'{path} .*{before} .*{after}', differences[expected[0]])
    assert list(find_differences(was, now, 'model')) == [f'model.{path}' for path in differences]


def test_differences_keep_the_order_of_the_later_config() -> None:
    differences = find_differences({'gone': 1, 'a': 1, 'b': {'y': 1, 'x': 1}}, {'b': {'x': 2, 'y': 2}, 'a': 2})
    assert list(differences) == ['b.x', 'b.y', 'a', 'gone']


@pytest.fixture
def derive(file: Path) -> Callable[[str], Path]:
    """Return a function that writes a config derived from the other one."""
    edit(file, 'metrics = [', "optimizer = dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=0.01)\nmetrics = [")

    def write(text: str) -> Path:
        derived = file.with_name('derived.py')
        derived.write_text(f"_base_ = ['base.py']\n{text}\n")
        return derived

    return write


def test_another_type_replaces_the_base_dict(derive: Callable[[str], Path]) -> None:
    config = load_config(derive("optimizer = dict(type='AdamW', lr=1e-3)\nmodel = dict(module_cfg=dict(type='MVF'))"))
    assert config['optimizer'] == {'type': 'AdamW', 'lr': 1e-3}
    assert config['model']['module_cfg'] == {'type': 'MVF'}
    assert config['model']['backbone']['depth'] == 10
    merged = load_config(derive("optimizer = dict(type='SGD', lr=1e-3)"))
    assert merged['optimizer'] == {'type': 'SGD', 'lr': 1e-3, 'momentum': 0.9, 'weight_decay': 0.01}


def test_override_of_type_keeps_old_keys(derive: Callable[[str], Path]) -> None:
    with pytest.raises(KeyError, match=r'optimizer\.momentum .*"optimizer='):
        load_config(derive(''), ['optimizer.type=AdamW'])
    config = load_config(derive(''), ["optimizer={'type':'AdamW','lr':1e-3}"])
    assert config['optimizer'] == {'type': 'AdamW', 'lr': 1e-3}
    with pytest.raises(KeyError, match='optimizer.beta ') as error:
        load_config(derive("optimizer = dict(type='AdamW', lr=1)"), ['optimizer.type=AdamW', 'optimizer.beta=1'])
    assert '"optimizer=' not in str(error.value)


def test_unused_setting_raises_unless_inherited(derive: Callable[[str], Path]) -> None:
    unused = "test_dataloader = dict(dataset=dict(list_file='my.txt'))\n"
    assert load_config(derive(unused))['test_dataloader']['dataset']['list_file'] == 'my.txt'
    with pytest.raises(KeyError, match='train_list'):
        load_config(derive(unused + "train_list = 'other.txt'"))
    with pytest.raises(KeyError, match='train_list'):
        load_config(derive(unused), ['train_list=other.txt'])
    option = 'test_dataloader.dataset.list_file=${train_list}'
    config = load_config(derive(unused), [option, 'train_list=other.txt'])
    assert config['test_dataloader']['dataset']['list_file'] == 'other.txt'


@pytest.mark.parametrize('options', ['num_classes=8', {'num_classes': 8}])
def test_options_must_be_a_list(file: Path, options: object) -> None:
    with pytest.raises(ValueError, match='options=.*num_classes'):
        load_config(file, options)


def test_shipped_config_loads_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
def lab(file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A config whose module_cfg is a block from the folder my_lab beside it; the working directory is another."""
    folder = file.parent / 'my_lab'
    folder.mkdir()
    (folder / 'blocks.py').write_text(BLOCK)
    monkeypatch.chdir(file.parent.parent)
    yield edit(file, "type='DSA', num_snippets='${num_snippets}'", "type='LabBlock'")
    MODELS.module_dict.pop('LabBlock', None)
    for name in [name for name in sys.modules if name.startswith('my_lab')]:
        del sys.modules[name]


def test_imports_register_classes(lab: Path) -> None:
    edit(lab, 'metrics = [', "imports = ['my_lab.blocks']\nmetrics = [")
    config = load_config(lab)
    assert config['imports'] == ['my_lab.blocks']
    assert list(config)[0] == 'imports'
    model = build(config['model'], MODELS)
    assert 'LabBlock' in {type(module).__name__ for module in model.modules()}


def test_imports_argument_is_stored_in_the_config(lab: Path) -> None:
    with pytest.raises(KeyError, match="model.module_cfg.type='LabBlock'"):
        load_config(lab)
    config = load_config(lab, imports=['my_lab.blocks', 'my_lab.blocks'])
    assert config['imports'] == ['my_lab.blocks']
    resolved = lab.with_name('resolved.py')
    resolved.write_text(format_config(config))
    assert load_config(resolved, imports=['json']) == {**config, 'imports': ['my_lab.blocks', 'json']}
    assert config['imports'] == ['my_lab.blocks']


@pytest.mark.parametrize('imports', ["'my_lab.blocks'", '[3]', '{}', 'None'])
def test_imports_must_be_module_names(lab: Path, imports: str) -> None:
    with pytest.raises(ValueError, match='imports='):
        load_config(edit(lab, 'metrics = [', f'imports = {imports}\nmetrics = ['), imports=['json'])
    with pytest.raises(ValueError, match="imports='json'"):
        load_config(lab, imports='json')
