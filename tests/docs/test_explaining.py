"""The commands of docs/explaining.md, run in their order."""

import logging
import re
import shlex
from pathlib import Path

import pytest

from dsanet import commands
from tests.docs.pages import PAGES
from tests.explain.recognizers import make_large_recognizer
from tests.make_recognizer import save_recognizer
from tests.make_videos import write_video


def test_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging.getLogger('dsanet'), 'handlers', [])
    save_recognizer(make_large_recognizer(), tmp_path / 'best.pth')
    write_video('clip.mp4', 30)
    calls = re.findall(r'^    dsanet (.*)$', PAGES['docs/explaining.md'], re.M)
    calls = [call for call in calls if call.split()[1] == 'best.pth']
    assert calls
    for call in calls:
        assert not commands.main(shlex.split(call)), call
    assert Path('maps.png').is_file()
    assert Path('maps.mp4').is_file()
