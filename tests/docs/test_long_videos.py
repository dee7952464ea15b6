"""The commands and the Python code of docs/long_videos.md, run in their order."""

import re
import shlex
from pathlib import Path

import pytest

from dsanet import commands
from tests.docs.pages import PAGES, ROOT, code_blocks
from tests.make_recognizer import make_recognizer, save_recognizer
from tests.stream_servers import make_ts, pipe, serve

PAGE = PAGES['docs/long_videos.md']


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the checkpoint that the page names."""
    monkeypatch.chdir(tmp_path)
    save_recognizer(make_recognizer(), tmp_path / 'best.pth')
    (tmp_path / 'pretrained').symlink_to(ROOT / 'pretrained')
    return tmp_path


def test_commands_and_code_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calls = [shlex.split(call) for call in re.findall(r'^    dsanet (.*)$', PAGE, re.M)]
    assert [call[0] for call in calls] == ['make-demo-film', 'predict', 'predict', 'predict']
    for call in calls[:2]:
        assert commands.main([*call, '--num-actions', '1'] if call[0] == 'make-demo-film' else call) == 0
    named = set(re.findall(r'^\| `(\S+)` \|', PAGE, re.M))
    written = {file.name.replace('film', 'NAME') for file in (folder / 'results').iterdir()}
    assert written == {name for name in named if '.' in name}
    content = make_ts([('red', 60)])
    with pipe(folder / 'pipe', content) as path:
        assert commands.main([path if word == '/dev/video0' else word for word in calls[2]]) == 0
    assert (folder / 'live' / 'stream.csv').exists()
    with serve(content) as url:
        assert commands.main([url if word.startswith('rtsp:') else word for word in calls[3]]) == 0
    capsys.readouterr()
    names: dict[str, object] = {}
    with serve(content) as url:
        for block in code_blocks(PAGE, 'python'):
            exec(block.replace('http://127.0.0.1:8080/live.ts', url), names)
    assert 'num_dropped_windows' in capsys.readouterr().out
