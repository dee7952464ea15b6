"""The commands of docs/explaining.md, run in their order."""

import logging
import re
import shlex
from pathlib import Path

import pytest

from dsanet import commands
from tests.docs.pages import PAGES, ROOT
from tests.explain.recognizers import make_large_recognizer
from tests.make_recognizer import save_recognizer
from tests.make_videos import write_video


def test_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging.getLogger('dsanet'), 'handlers', [])
    save_recognizer(make_large_recognizer(), tmp_path / 'best.pth')
    write_video('clip.mp4', 30)
    (tmp_path / 'pretrained').symlink_to(ROOT / 'pretrained')
    calls = re.findall(r'^    dsanet (.*)$', PAGES['docs/explaining.md'], re.M)
    assert [call.split()[0] for call in calls] == ['explain', 'make-demo-videos', 'explain']
    for call in calls:
        assert not commands.main(shlex.split(call)), call
    assert all(Path(name).is_file() for name in ('maps.png', 'maps.mp4', 'demo_maps.png'))
