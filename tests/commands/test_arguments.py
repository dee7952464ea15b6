import argparse
import importlib
import sys
from pathlib import Path

import pytest

from dsanet import commands
from dsanet.commands import arguments
from dsanet.commands.arguments import (
    add_config_arguments,
    add_job_arguments,
    files_of_config,
    float_between,
    int_between,
    num_processes,
    output_file,
    read_config,
)
from dsanet.config.registry import METRICS
from dsanet.data_tools.video.batch import TIME_LIMIT
from tests.commands.conftest import ROOT

DEMO = str(ROOT / 'configs/demo/dsanet_ordered_actions.py')


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_config_arguments(parser)
    return parser.parse_args(argv)


def test_repeated_cfg_options_are_combined() -> None:
    args = parse([DEMO, '--cfg-options', 'optimizer.lr=0.25', '--cfg-options', 'train_cfg.max_epochs=3'])
    config = read_config(args)
    assert (config['optimizer']['lr'], config['train_cfg']['max_epochs']) == (0.25, 3)


def test_imported_modules_can_register_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / 'my_metrics.py').write_text(
        'from dsanet.config.registry import METRICS\n\n\n@METRICS.register_module()\nclass Mine:\n    pass\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    option = "metrics=[{'type': 'Mine'}]"
    with pytest.raises(KeyError, match='Mine'):
        read_config(parse([DEMO, '--cfg-options', option]))
    args = parse([DEMO, '--import', 'os', '--import', 'my_metrics', '--cfg-options', option])
    assert args.imports == ['os', 'my_metrics']
    assert read_config(args)['metrics'] == [{'type': 'Mine'}]
    del sys.modules['my_metrics'], METRICS.module_dict['Mine']


def test_unknown_import_is_an_error() -> None:
    with pytest.raises(ValueError, match='no_such_module'):
        read_config(parse([DEMO, '--import', 'no_such_module']))


@pytest.mark.parametrize(
    ('argv', 'option'),
    [
        (['convert', 'x.pth', 'y.pth', '--import', 'os'], '--import'),
        (['score', 'x', '--cfg-options', 'a=1'], '--cfg-options'),
    ],
)
def test_config_options_require_a_config(argv: list[str], option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match='^2$'):
        commands.main(argv)
    assert f'error: {option} ' in capsys.readouterr().err


@pytest.mark.parametrize('text', ['0', '-1', 'two', '', '1.5', '13'])
def test_int_between_checks_the_range(text: str) -> None:
    assert (int_between(1, 12)('12'), int_between(1)('13')) == (12, 13)
    with pytest.raises(argparse.ArgumentTypeError, match=f'1 .*12.* {text!r}'):
        int_between(1, 12)(text)


def test_output_file_needs_a_known_suffix(tmp_path: Path) -> None:
    assert output_file('.pkl')(f'{tmp_path}/new/x.pkl') == tmp_path / 'new' / 'x.pkl'
    assert list((tmp_path / 'new').iterdir()) == []
    for name in ('x.csv', 'new'):
        with pytest.raises(argparse.ArgumentTypeError, match=f'{name}.*.pkl or .json'):
            output_file('.pkl', '.json')(str(tmp_path / name))


@pytest.mark.parametrize('name', ['folder.json', 'file/x.json', 'x' * 246 + '.json', 'x' * 300 + '.json'])
def test_output_file_must_be_creatable(tmp_path: Path, name: str) -> None:
    (tmp_path / 'folder.json').mkdir()
    (tmp_path / 'file').touch()
    with pytest.raises(argparse.ArgumentTypeError, match=f'{tmp_path}/{name}'):
        output_file('.json')(f'{tmp_path}/{name}')
    assert sorted(file.name for file in tmp_path.iterdir()) == ['file', 'folder.json']


def test_defaults_match_the_library() -> None:
    parser = argparse.ArgumentParser()
    add_job_arguments(parser)
    assert parser.get_default('time_limit') == TIME_LIMIT
    assert arguments.default_folder('configs/demo/x.py') == Path('work_dirs/x')


def test_files_of_config_are_found(tmp_path: Path) -> None:
    for name in ('train.txt', 'weights.pth'):
        (tmp_path / name).touch()
    dataset = {'list_file': f'{tmp_path}/train.txt', 'data_root': str(tmp_path), 'class_file': f'{tmp_path}/absent'}
    config = {'datasets': [dataset, ({'pretrained': f'{tmp_path}/weights.pth'},)], 'lr': 0.1, 'name': None}
    assert files_of_config(config) == [f'{tmp_path}/train.txt', f'{tmp_path}/weights.pth']


@pytest.mark.parametrize(
    'text', ['10' * 15, '9' * 5000, '-1', '+1', '1.0', 'inf', 'nan', '2147483648', '', '\N{SUPERSCRIPT TWO}']
)
def test_integers_are_in_range(text: str) -> None:
    assert int_between(0)('2147483647') == 2**31 - 1
    for convert in (int_between(0), num_processes(0)):
        with pytest.raises(argparse.ArgumentTypeError, match='from 0 to '):
            convert(text)


@pytest.mark.parametrize('text', ['nan', 'inf', '-inf', '1e999', '1.01', '-0.01', 'x', '', '9' * 5000])
def test_floats_are_finite_and_in_range(text: str) -> None:
    assert float_between(0, 1)('0.5') == 0.5
    with pytest.raises(argparse.ArgumentTypeError, match='from 0 to 1'):
        float_between(0, 1)(text)


def test_no_option_takes_infinite_or_huge_numbers() -> None:
    for name in commands.COMMANDS:
        parser = argparse.ArgumentParser()
        importlib.import_module(f'dsanet.commands.{name.replace("-", "_")}').add_arguments(parser)
        assert [action.dest for action in parser._actions if action.type in (int, float)] == []
