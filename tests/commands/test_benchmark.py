"""The command ``benchmark``: its table, its JSON file, and its errors."""

import errno
import json
import os
from pathlib import Path

import pytest
import torch

from dsanet import commands
from dsanet.benchmarks import measuring, models
from dsanet.commands.benchmark import KINDS
from dsanet.config.formatting import format_config
from dsanet.utils import files
from tests.engine.conftest import make_config

COMMON = ['--repeats', '2', '--warmup', '1']
RESULT_KEYS = {
    'name',
    *(f'{clock}_{value}' for clock in ('wall', 'cpu') for value in ('s', 'median_s', 'min_s', 'spread')),
    'peak_mb',
    'added_mb',
}


@pytest.fixture
def config_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The config of a tiny model whose data are missing."""
    monkeypatch.setattr(measuring, 'MIN_REPEAT_S', 0)
    monkeypatch.setattr(measuring, 'free_memory', lambda: None)
    file = tmp_path / 'tiny.py'
    file.write_text(format_config(make_config(tmp_path / 'missing')))
    return file


def table_of(capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    """Return the cells of the printed table, without the line below the header."""
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith('| ') and '---' not in line]
    return [[cell.strip() for cell in line.split('|')[1:-1]] for line in lines]


def test_model_writes_table_and_json(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, 'reference_functions', lambda device: measuring.reference_functions(device, 32))
    threads: list[int] = []
    monkeypatch.setattr(torch, 'set_num_threads', threads.append)
    out = tmp_path / 'out' / 'model.json'
    argv = ['model', str(config_file), *COMMON, '--threads', '2', '--batch-size', '2', '--json', str(out)]
    assert commands.main(['benchmark', *argv]) == 0
    assert threads == [2, torch.get_num_threads()], 'set and restored'
    content = json.loads(out.read_text())
    assert set(content) == {
        'benchmark', 'machine', 'configs', 'repeats', 'warmup', 'not_measured', 'results',
    }  # fmt: skip
    assert set(content['machine']) == {
        'dsanet', 'torch', 'python', 'processor', 'gpu', 'cores', 'threads', 'load_average', 'load_at_end',
    }  # fmt: skip
    assert (content['benchmark'], content['configs'], content['repeats']) == ('model', ['tiny'], 2)
    names = [result['name'] for result in content['results']]
    rows = [f'tiny forward {precision}{variant}' for variant in ('', ', optimized') for precision in ('fp32', 'bf16')]
    assert names == ['matmul fp32', 'matmul bf16', 'copy', *rows]
    facts = {'precision', 'gmacs', 'videos', 'shape', 'gflops', 'share_of_matmul', 'x_plain'}
    assert set(content['results'][-1]) == RESULT_KEYS | facts
    assert content['results'][-1]['videos'] == 2
    assert len(content['results'][-1]['cpu_s']) == 2
    assert [row[0] for row in table_of(capsys)] == ['what', *names]


def test_two_configs_are_rows_of_one_table(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = config_file.with_name('other.py')
    other.write_text(config_file.read_text())
    argv = ['lists', str(config_file), str(other), '--lines', '50', '--repeats', '1']
    assert commands.main(['benchmark', *argv]) == 0
    header, *rows = table_of(capsys)
    assert [row[0] for row in rows] == ['tiny list', 'other list']
    assert [row[header.index('lines')] for row in rows] == ['50', '50']


@pytest.mark.parametrize(
    ('argv', 'text'),
    [
        (['modle', 'x.py'], 'modle'),
        ([], 'KIND'),
        (['model'], 'CONFIG'),
        (['model', 'missing.py'], 'missing.py'),
        (['data', 'demo/dsanet_ordered_actions', '--cfg-options', 'data_root=missing'], 'missing'),
        (['dsa', 'demo/i3d_ordered_actions'], 'DSA'),
        (['startup', '--repeats', '0'], '--repeats'),
        (['train', 'x.py', '--json', 'out.txt'], 'out.txt'),
        (['train', 'x.py', '--json', 'x' * 246 + '.json'], 'xxx.json'),
    ],
)
def test_wrong_arguments_have_status_2(argv: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match='^2$'):
        commands.main(['benchmark', *argv])
    assert text in capsys.readouterr().err


def test_failing_measurement_has_status_1(
    config_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError('not enough memory')

    monkeypatch.setattr(models, 'measure', fail)
    assert commands.main(['benchmark', 'model', str(config_file)]) == 1
    assert 'not enough memory' in capsys.readouterr().err


def test_full_disk_keeps_the_table(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / 'lists.json'

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(out))

    monkeypatch.setattr(files, 'write_atomically', fail)
    argv = ['lists', str(config_file), '--lines', '50', '--repeats', '1', '--json', str(out)]
    with pytest.raises(SystemExit, match='^1$'):
        commands.main(['benchmark', *argv])
    printed = capsys.readouterr()
    assert 'tiny list' in printed.out
    assert [line for line in printed.err.splitlines() if line.startswith('error: ') and str(out) in line]


@pytest.mark.parametrize('kind', KINDS)
def test_each_kind_has_its_help(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match='^0$'):
        commands.main(['benchmark', kind, '--help'])
    assert f'usage: dsanet benchmark {kind}' in capsys.readouterr().out
