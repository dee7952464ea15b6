"""The Slurm scripts, with a fake srun that starts its command once per node on this machine."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dsanet.utils.checkpoint_io import read_checkpoint
from tests.engine.conftest import assert_same_run

ROOT = Path(__file__).parents[2]
SRUN = r"""#!/usr/bin/env bash
echo "$*" > "$STUB/srun_args"
while [[ $1 == --* ]]; do
    [[ $1 == --nodes=* ]] && nodes=${1#--nodes=}
    shift
done
status=0
for ((n = 0; n < nodes; n++)); do
    SLURM_JOB_ID=65432 SLURM_NNODES=$nodes SLURM_NODEID=$n SLURM_JOB_NODELIST="localhost[0-1]" "$@" &
    pids[n]=$!
done
for pid in "${pids[@]}"; do wait "$pid" || status=$?; done
exit $status
"""
SCONTROL = """#!/usr/bin/env bash
[[ $* == "show hostnames localhost[0-1]" ]] || exit 1
printf 'localhost\\nlocalhost-1\\n'
"""
PYTHON = """#!/usr/bin/env bash
echo "$*" > "$STUB/launch$NODE_RANK"
echo "$NNODES $MASTER_ADDR $PORT $STOP_TIMEOUT" >> "$STUB/launch$NODE_RANK"
exit "${STATUS:-0}"
"""


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """Return the environment of a machine with a fake Slurm, and a fake Python that records its arguments."""
    for name, text in {'srun': SRUN, 'scontrol': SCONTROL, 'some-python': PYTHON}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    path = f'{tmp_path}:{os.environ["PATH"]}'
    return {**os.environ, 'PATH': path, 'STUB': str(tmp_path), 'PYTHON': 'some-python'}


def run(script: str, *arguments: object, environment: dict[str, str]) -> subprocess.CompletedProcess:
    command = ['bash', f'tools/{script}', *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_train_script_starts_one_launcher_per_machine(slurm: dict[str, str], tmp_path: Path) -> None:
    environment = slurm | {'GPUS': '4', 'GPUS_PER_NODE': '2', 'CPUS_PER_TASK': '3', 'SRUN_ARGS': '--time=5 --account=x'}
    done = run('slurm_train.sh', 'video', 'name', 'a config.py', '--seed', '1', environment=environment)
    assert done.returncode == 0, done.stderr
    srun_args = (tmp_path / 'srun_args').read_text()
    for option in ('--partition=video', '--job-name=name', '--nodes=2', '--ntasks=2', '--ntasks-per-node=1'):
        assert option in srun_args
    for option in ('--gres=gpu:2', '--cpus-per-task=6', '--signal=TERM@180', '--time=5 --account=x bash '):
        assert option in srun_args
    for node in (0, 1):
        lines = (tmp_path / f'launch{node}').read_text().splitlines()
        assert lines == [
            'tools/launch.py 2 tools/train_recognizer.py a config.py --seed 1',
            '2 localhost 25432 150',
        ]


def test_test_script_passes_checkpoint_and_exit_status(slurm: dict[str, str], tmp_path: Path) -> None:
    environment = slurm | {'GPUS': '2', 'PORT': '4321', 'STATUS': '143', 'STOP_TIMEOUT': '60'}
    done = run('slurm_test.sh', 'video', 'name', 'c.py', 'x.pth', '--out', 'y.json', environment=environment)
    assert done.returncode == 143
    assert '--signal=TERM@90' in (tmp_path / 'srun_args').read_text()
    lines = (tmp_path / 'launch0').read_text().splitlines()
    assert lines == ['tools/launch.py 2 tools/test_recognizer.py c.py x.pth --out y.json', '1 localhost 4321 60']


@pytest.mark.parametrize(
    ('variables', 'text'),
    [
        ({'GPUS': '12'}, 'GPUS=12 .*GPUS_PER_NODE=8'),
        ({'GPUS': '0'}, 'GPUS.* 1.* 0'),
        ({'CPUS_PER_TASK': 'many'}, 'CPUS_PER_TASK.* 1.* many'),
    ],
)
def test_invalid_numbers_are_reported(variables: dict[str, str], text: str, slurm: dict[str, str]) -> None:
    done = run('slurm_train.sh', 'video', 'name', 'c.py', environment=slurm | variables)
    assert done.returncode == 2
    assert re.search(f'error: .*{text}', done.stderr)


@pytest.mark.parametrize(
    ('script', 'arguments'), [('slurm_train.sh', 'video name'), ('slurm_test.sh', 'video name c.py')]
)
def test_slurm_scripts_show_their_usage(script: str, arguments: str) -> None:
    done = run(script, *arguments.split(), environment=dict(os.environ))
    assert done.returncode == 2
    assert f'bash tools/{script} PARTITION JOB CONFIG' in done.stderr


@pytest.mark.faults
def test_two_machines_give_identical_weights(
    slurm: dict[str, str], config: Path, straight: Path, tmp_path: Path
) -> None:
    environment = slurm | {'GPUS': '2', 'GPUS_PER_NODE': '1', 'PYTHON': sys.executable, 'OMP_NUM_THREADS': '1'}
    done = run('slurm_train.sh', 'video', 'name', config, '--work-dir', tmp_path / 'work', environment=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert_same_run(read_checkpoint(straight / 'epoch_4.pth'), read_checkpoint(tmp_path / 'work' / 'epoch_4.pth'))
