import argparse
import re
import subprocess
import sys

import pytest
import torch

from dsanet import commands
from dsanet.commands.launch import launch_command
from dsanet.engine import launching
from tests.as_processes import set_variables
from tests.commands.conftest import ROOT


def test_too_many_gpus_is_an_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    assert commands.main(['launch', '8', 'tool.py']) == 2
    assert re.match('error: .*8.* 2', capsys.readouterr().err)


def test_launcher_gets_environment_and_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []
    monkeypatch.setattr(launching, 'run', lambda *call: calls.append(call) or (3, 'rank 1 failed'))
    monkeypatch.setenv('MAX_RESTARTS', '7')
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    assert commands.main(['launch', '2', 'tool.py', '--seed', '1']) == 3
    assert capsys.readouterr().err == 'rank 1 failed\n'
    assert calls == [(launching.LaunchCfg(2, max_restarts=7), [sys.executable, '-u', 'tool.py', '--seed', '1'])]


@pytest.mark.parametrize('command', [['train', 'c.py'], ['test', 'c.py', 'x.pth']])
def test_gpus_option_starts_the_command_in_processes(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []
    monkeypatch.setattr(launching, 'run', lambda *call: calls.append(call) or (143, 'stopped by SIGTERM'))
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    argv = [*command, '--gpus', '2', '--amp', 'bf16']
    assert commands.main(argv) == 143
    assert calls == [(launching.LaunchCfg(2), [sys.executable, '-u', '-m', 'dsanet', *argv])]
    # In the started processes, the command runs without another launch.
    set_variables(monkeypatch, RANK=0, WORLD_SIZE=4, LOCAL_WORLD_SIZE=2)
    assert launch_command(argparse.Namespace(gpus=2, argv=argv)) is None
    assert len(calls) == 1
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '3')
    with pytest.raises(SystemExit, match='^2$'):
        commands.main(argv)
    assert re.search('\nerror: .*--gpus 2.*=3 ', capsys.readouterr().err)


def test_help_lists_all_environment_variables(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match='^0$'):
        commands.main(['launch', '--help'])
    text = capsys.readouterr().out
    for name in ('MAX_RESTARTS', 'NNODES', 'NODE_RANK', 'MASTER_ADDR', 'PORT', 'JOIN_TIMEOUT', 'STOP_TIMEOUT'):
        assert f'\n  {name} ' in text


@pytest.mark.parametrize(
    ('script', 'arguments'), [('dist_train_recognizer.sh', ['c.py']), ('dist_test_recognizer.sh', ['c.py', 'x.pth'])]
)
def test_dist_scripts_show_their_usage(script: str, arguments: list[str]) -> None:
    done = subprocess.run(['bash', script, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f'usage: bash {script} CONFIG ' in done.stderr
