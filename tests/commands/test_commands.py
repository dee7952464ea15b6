"""The dsanet program: its help, unknown commands, import time and Ctrl-C."""

import subprocess
import sys
from pathlib import Path

import pytest

import dsanet
from dsanet import commands

HEAVY = {'av', 'cv2', 'matplotlib', 'numpy', 'torch', 'tqdm'}


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    files = {file.stem for file in Path(commands.__file__).parent.glob('*.py')} - {'__init__', 'arguments'}
    assert files == {name.replace('-', '_') for name in commands.COMMANDS}
    assert commands.main(['--help']) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    for name in commands.COMMANDS:
        assert [line[0] for line in lines if line].count(name) == 1


def test_version_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(['--version']) == 0
    assert capsys.readouterr().out == f'dsanet {dsanet.__version__}\n'


@pytest.mark.parametrize(
    ('argv', 'text'),
    [(['trian'], "'train'"), (['build_list'], "'build-list'"), (['--helo'], '--help'), ([], '--help')],
)
def test_unknown_command_suggests_the_nearest(argv: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(argv) == 2
    assert text in capsys.readouterr().err


def test_help_does_not_import_slow_modules() -> None:
    code = f"""
import sys
from dsanet.commands import COMMANDS, main
main(['--help'])
for name in COMMANDS:
    try:
        main([name, '--help'])
    except SystemExit as end:
        assert end.code == 0, name
    heavy = {HEAVY} & set(sys.modules)
    assert not heavy, (name, heavy)
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, '')
    assert done.stdout.count('usage: dsanet ') == 1 + len(commands.COMMANDS)


def test_package_runs_as_a_program() -> None:
    done = subprocess.run([sys.executable, '-m', 'dsanet', 'trian'], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "'train'" in done.stderr


def test_ctrl_c_gives_status_130_and_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr('dsanet.data_tools.video.batch.process_folder', interrupt)
    assert commands.main(['transcode', str(tmp_path), str(tmp_path / 'out')]) == 130
    assert capsys.readouterr().err.count('\n') == 1
