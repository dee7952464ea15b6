"""Output files of commands that explain and report: folders that cannot be written, and files that exist."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dsanet import commands
from tests.engine.conftest import make_config
from tests.make_recognizer import make_recognizer, save_recognizer
from tests.make_videos import write_video
from tests.reports.run_dirs import write_run

CALLS = {
    'explain': ['explain', 'best.pth', 'a.mp4', '--out', 'maps.png'],
    'explain to a video': ['explain', 'best.pth', 'a.mp4', '--out', 'maps.mp4'],
    'dsa-kernels': ['dsa-kernels', 'best.pth', 'a.mp4', '--out', 'kernels.png'],
    'dsa-kernels to arrays': ['dsa-kernels', 'best.pth', 'a.mp4', '--npz', 'kernels.npz'],
    'order': ['order', 'best.pth', '--out', 'order.png'],
    'order to JSON': ['order', 'best.pth', '--json', 'order.json'],
    'report': ['report', 'run', '--out', 'report.html'],
}


@pytest.fixture
def folder(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    own = make_recognizer()
    own.class_names = (data / 'classes.txt').read_text().splitlines()
    config = make_config(data)
    config['test_dataloader']['num_workers'] = 0
    own.config = config
    save_recognizer(own, tmp_path / 'best.pth')
    write_video(tmp_path / 'a.mp4', 20)
    (tmp_path / 'bad.mp4').write_bytes(b'\0' * 5000)
    write_run(tmp_path / 'run', 0)
    return tmp_path


@pytest.fixture
def read_only(folder: Path) -> Iterator[Path]:
    """Return a folder in which no file can be created, not even by root."""
    target = folder / 'read-only'
    target.mkdir()
    if os.geteuid():
        target.chmod(0o555)
        yield target
        target.chmod(0o755)
        return
    mount = ['mount', '-t', 'tmpfs', '-o', 'ro', 'none', str(target)]
    if not shutil.which('mount') or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip('root can write everywhere and cannot mount')
    yield target
    subprocess.run(['umount', str(target)], check=True)


def call(argv: list[str]) -> int:
    try:
        return commands.main(argv) or 0
    except SystemExit as error:
        return int(error.code or 0)


@pytest.mark.parametrize('name', CALLS)
def test_read_only_folder_is_one_error_line(name: str, read_only: Path, capsys: pytest.CaptureFixture[str]) -> None:
    *others, target = CALLS[name]
    assert call([*others, str(read_only / target)]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert sum('error: ' in line for line in errors) == 1
    assert str(read_only / target) in errors[-1]
    assert not list(read_only.iterdir())


def test_report_needs_a_writable_work_dir(read_only: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if os.geteuid():
        pytest.skip('the folder cannot be filled')
    subprocess.run(['mount', '-o', 'remount,rw', str(read_only)], check=True)
    work_dir = write_run(read_only / 'run', 0)
    subprocess.run(['mount', '-o', 'remount,ro', str(read_only)], check=True)
    assert call(['report', str(work_dir)]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert sum('error: ' in line for line in errors) == 1
    assert str(work_dir) in errors[-1]


@pytest.mark.parametrize('name', ['explain', 'dsa-kernels to arrays', 'order to JSON', 'report'])
def test_existing_file_is_replaced(name: str, folder: Path) -> None:
    *_, target = CALLS[name]
    Path(target).write_text('old')
    assert call(CALLS[name]) == 0
    assert Path(target).stat().st_size > 100
    assert not list(folder.glob('*.tmp*'))


@pytest.mark.parametrize('name', CALLS)
def test_existing_file_survives_an_error(name: str, folder: Path) -> None:
    command, source, *others, target = CALLS[name]
    Path(target).write_text('old')
    if command == 'order':
        (folder / 'bad.txt').write_text('bad.mp4 0\n')
        options = ['--cfg-options', 'test_dataloader.dataset.list_file=bad.txt', 'test_dataloader.dataset.data_root=.']
        argv = [command, source, *options, *others, target]
    elif command == 'report':
        (folder / 'run' / 'results.json').write_text('[')
        argv = CALLS[name]
    else:
        argv = [command, source, 'bad.mp4', *others[1:], target]
    before = sorted(folder.rglob('*'))
    assert call(argv) == 2
    assert Path(target).read_text() == 'old'
    assert sorted(folder.rglob('*')) == before
