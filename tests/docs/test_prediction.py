"""The commands and the Python code of docs/prediction.md, run in their order."""

import re
import shlex
from pathlib import Path

import pytest

from dsanet import commands
from tests.docs.pages import PAGES, code_blocks
from tests.make_recognizer import make_recognizer, save_recognizer, write_some_videos

PAGE = PAGES['docs/prediction.md']


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the files that the page names."""
    monkeypatch.chdir(tmp_path)
    save_recognizer(make_recognizer(), tmp_path / 'best.pth')
    write_some_videos(tmp_path / 'videos')
    (tmp_path / 'videos' / 'bad.mp4').unlink()
    for name in ('a.mp4', 'b.mp4', 'clip.mp4'):
        (tmp_path / name).write_bytes((tmp_path / 'videos' / 'a.mp4').read_bytes())
    return tmp_path


def test_commands_run(folder: Path) -> None:
    calls = [line.split(' | ')[0] for line in re.findall(r'^    dsanet (predict best\.pth .*)$', PAGE, re.M)]
    assert len(calls) == 5
    for call in calls:
        assert commands.main(shlex.split(call)) == 0, call
    assert {'predictions.csv', 'predictions.json', 'annotated.mp4'} <= {file.name for file in folder.iterdir()}


def test_python_code_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    for block in code_blocks(PAGE, 'python'):
        exec(block.replace('256, 256, 3', '64, 64, 3'), names)
    assert capsys.readouterr().out.count('class ') >= 8
