"""dsanet extract-frames and transcode, when they cannot write."""

import errno
import os
import re
from pathlib import Path

import pytest

from dsanet import commands
from dsanet.data_tools.video.constant_rate import Resizer
from tests.make_videos import write_video


@pytest.fixture(params=['extract-frames', 'transcode'])
def command(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    (tmp_path / 'videos').mkdir()
    write_video(tmp_path / 'videos' / 'a.mp4', 3)
    return tmp_path / 'videos'


def run(command: str, videos: Path, out: Path) -> int:
    return commands.main([command, str(videos), str(out), '--workers', '0'])


def test_output_folder_must_be_writable(
    command: str, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / 'file').touch()
    for out in (tmp_path / 'file', tmp_path / 'file/out'):
        with pytest.raises(SystemExit, match='^2$'):
            run(command, videos, out)
        assert f'error: OUT_DIR {out} ' in capsys.readouterr().err


def test_full_disk_is_one_error_line(
    command: str,
    videos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def write(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Resizer, '__call__', write)
    assert run(command, videos, tmp_path / 'out') == 2
    error = capsys.readouterr().err
    assert 'Traceback' not in error
    assert re.match(f'error: .*{tmp_path / "out"}', error.splitlines()[-1])
