import subprocess
from pathlib import Path

import pytest
import torch

from tools import launch

ROOT = Path(__file__).parents[2]


def test_one_machine_takes_a_free_port() -> None:
    options = launch.torchrun_arguments(2, {})
    assert '--nproc-per-node=2' in options
    assert '--rdzv-endpoint=127.0.0.1:0' in options


def test_port_is_honoured() -> None:
    options = launch.torchrun_arguments(2, {'PORT': '4321'})
    assert options[2:] == ['--node-rank=0', '--master-addr=127.0.0.1', '--master-port=4321']


def test_several_machines_meet_at_the_master() -> None:
    environment = {'NNODES': '3', 'NODE_RANK': '1', 'MASTER_ADDR': '10.0.0.1', 'PORT': '4321'}
    assert launch.torchrun_arguments(8, environment) == [
        '--nnodes=3',
        '--nproc-per-node=8',
        '--node-rank=1',
        '--master-addr=10.0.0.1',
        '--master-port=4321',
    ]


def test_several_machines_without_a_master_are_refused() -> None:
    for environment in ({'NODE_RANK': '0'}, {'MASTER_ADDR': '10.0.0.1'}):
        with pytest.raises(ValueError, match='NNODES=2 machines need NODE_RANK, 0 to 1, and MASTER_ADDR'):
            launch.torchrun_arguments(8, {'NNODES': '2', **environment})
    with pytest.raises(ValueError, match="PORT='http' must be a whole number"):
        launch.torchrun_arguments(8, {'PORT': 'http'})


def test_more_gpus_than_present_are_refused_with_both_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    with pytest.raises(SystemExit, match='error: 8 GPUs were asked for, but this machine has 2'):
        launch.main(['8', 'tool.py'])


@pytest.mark.parametrize('gpus', ['0', '-1', 'two', ''])
def test_gpus_must_be_a_number(gpus: str) -> None:
    with pytest.raises(SystemExit, match='GPUS must be a whole number of at least 1'):
        launch.main([gpus, 'tool.py'])


@pytest.mark.parametrize(
    ('script', 'arguments'), [('dist_train_recognizer.sh', ['c.py']), ('dist_test_recognizer.sh', ['c.py', 'x.pth'])]
)
def test_scripts_show_their_usage(script: str, arguments: list[str]) -> None:
    done = subprocess.run(['bash', script, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f'usage: bash {script} CONFIG ' in done.stderr
