"""The commands of docs/features.md, run in their order."""

import logging
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from dsanet import commands
from tests.docs.pages import PAGES
from tests.make_recognizer import make_recognizer, save_recognizer, write_some_videos


def test_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    logger = logging.getLogger('dsanet')
    monkeypatch.setattr(logger, 'handlers', [])
    monkeypatch.setattr(logger, 'propagate', True)
    save_recognizer(make_recognizer(), tmp_path / 'best.pth')
    write_some_videos(tmp_path / 'videos')
    (tmp_path / 'videos' / 'bad.mp4').unlink()
    (tmp_path / 'clip.mp4').write_bytes((tmp_path / 'videos' / 'a.mp4').read_bytes())
    for name in ('train', 'val'):
        (tmp_path / f'{name}.txt').write_text('videos/a.mp4 0\nvideos/sub/d.mkv 1\n')
    calls = re.findall(r'^    dsanet (.*)$', PAGES['docs/features.md'], re.M)
    assert [call.split()[0] for call in calls].count('features') == 6
    for call in calls:
        # Processes start slowly, and tests/commands/test_features.py starts them.
        call = call.replace(' --gpus 2', '') + ' --epochs 2' * call.startswith('probe')
        assert not commands.main(shlex.split(call)), call
    assert len(np.load('features/npy/a.npy')) == 2 * 2
    assert len(np.load('features/fine/a.npy')) == 8 * 2
    assert (tmp_path / 'work_dirs/attentive/probe.pth').is_file()
    assert 'top1' in capsys.readouterr().out
