"""The dsanet program: its help, unknown commands, import time and Ctrl-C."""

import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import dsanet
from dsanet import commands
from tests.utils.test_signals import IMPORTER, INTERRUPT, run

HEAVY = {'av', 'cv2', 'matplotlib', 'numpy', 'torch', 'tqdm'}
# Arguments that pass the argument parser of each command.
ARGUMENTS = {
    'train': ['x.py'],
    'test': ['x.py', 'x.pth'],
    'launch': ['2', 'x.py'],
    'predict': ['x.pth', 'x.mp4'],
    'check': ['x.py'],
    'browse': ['x.py'],
    'build-list': ['ucf101', 'videos', 'out'],
    'extract-frames': ['videos', 'out'],
    'transcode': ['videos', 'out'],
    'make-shards': ['list.txt', 'out', '--num-shards', '8'],
    'make-demo-videos': ['out'],
    'make-demo-film': ['film.mp4'],
    'demo': [],
    'summary': ['x.py'],
    'curves': ['.'],
    'report': ['.'],
    'find-lr': ['x.py'],
    'web': ['x.pth'],
    'explain': ['x.pth', 'x.mp4', '--out', 'x.png'],
    'features': ['x.pth', 'x.mp4', '--out', 'out'],
    'probe': ['x', 'y', '--out', 'out'],
    'dsa-kernels': ['x.pth', 'x.mp4'],
    'order': ['x.pth'],
    'experiment': ['x.toml'],
    'score': ['x.pkl'],
    'convert': ['x.pth', 'y.pth'],
    'export': ['x.pth', '--format', 'onnx'],
    'publish': ['x.pth', 'out'],
    'benchmark': ['model', 'x.py'],
    'scaling': [
        *'--step 1 --batch-size 8 --decode 1 --video-mb 1 --gradient-mb 100 --network 10 --storage 1000'.split(),
    ],
}


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    files = {file.stem for file in Path(commands.__file__).parent.glob('*.py')} - {
        '__init__',
        'arguments',
        'benchmark_decoding',
        'predict_long',
    }
    assert files == {name.replace('-', '_') for name in commands.COMMANDS}
    assert commands.main(['--help']) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    for name in commands.COMMANDS:
        assert [line[0] for line in lines if line].count(name) == 1


def test_version_option_lists_installed_dependencies(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(['--version']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f'dsanet {dsanet.__version__}'
    assert lines[1].startswith(f'python {platform.python_version()} (')
    versions = dict(line.split() for line in lines[2:])
    assert {name: versions[name] for name in ('torch', 'numpy', 'av')} == {
        name: metadata.version(name) for name in ('torch', 'numpy', 'av')
    }
    assert 'pytest' not in versions
    assert len(versions) == len(lines) - 2


def test_version_option_needs_no_installation(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, 'requires', fail)
    assert commands.main(['--version']) == 0
    assert capsys.readouterr().out.startswith(f'dsanet {dsanet.__version__}\n')


@pytest.mark.parametrize(
    ('argv', 'text'),
    [(['trian'], "'train'"), (['build_list'], "'build-list'"), (['--helo'], '--help'), ([], '--help')],
)
def test_unknown_command_suggests_the_nearest(argv: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(argv) == 2
    assert text in capsys.readouterr().err


@pytest.mark.parametrize(
    'argv', [['transcode', 'videos', ''], ['check', 'x.py', '--out', ''], ['train', 'x.py', '--cfg-options', 'a=1', '']]
)
def test_empty_argument_is_an_error(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(argv) == 2
    assert repr(argv[-2]) in capsys.readouterr().err


def test_work_dir_that_is_a_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / 'run').touch()
    with pytest.raises(SystemExit, match='^2$'):
        commands.main(['train', 'demo/dsanet_ordered_actions', '--work-dir', str(tmp_path / 'run')])
    assert re.match(rf'error: --work-dir {tmp_path}/run ', capsys.readouterr().err)


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


@pytest.mark.parametrize('name', commands.COMMANDS)
def test_ctrl_c_during_imports_gives_status_130(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'scalars.jsonl').touch()
    done = run(f'{IMPORTER}\nfrom dsanet.commands import main\nsys.exit(main({[name, *ARGUMENTS[name]]}))')
    assert done.returncode == 130
    assert done.stderr.count('\n') == 1, 'one line, no traceback'


def test_ctrl_c_at_work_gives_status_130(tmp_path: Path) -> None:
    code = f"""
from dsanet.commands import main
import dsanet.data_tools.video.batch
dsanet.data_tools.video.batch.process_folder = lambda *_: {INTERRUPT}
sys.exit(main(['transcode', {str(tmp_path)!r}, {str(tmp_path / 'out')!r}]))
"""
    done = run(code)
    assert done.returncode == 130
    assert done.stderr.count('\n') == 1, 'one line, no traceback'


@pytest.mark.parametrize('command', ['test', 'convert'])
def test_leftover_rank_is_one_line(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv('RANK', '0')
    with pytest.raises(SystemExit, match='^2$'):
        commands.main([command, str(tmp_path / 'a.pth'), str(tmp_path / 'b.pth')])
    assert re.fullmatch(r'error: .*RANK.*\n', capsys.readouterr().err)
