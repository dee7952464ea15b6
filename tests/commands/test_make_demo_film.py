import json
from pathlib import Path

import pytest

from dsanet import commands


def test_film_and_segments_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(['make-demo-film', str(tmp_path / 'new' / 'a.mp4'), '--num-actions', '1']) == 0
    assert 'a.json' in capsys.readouterr().out
    content = json.loads((tmp_path / 'new' / 'a.json').read_text())
    assert len(content['database']['a']['annotations']) == 1
    before = (tmp_path / 'new' / 'a.mp4').read_bytes()
    with pytest.raises(SystemExit, match='^2$'):
        commands.main(['make-demo-film', str(tmp_path / 'new' / 'a.mp4')])
    assert 'a.mp4 already exists' in capsys.readouterr().err
    assert (tmp_path / 'new' / 'a.mp4').read_bytes() == before
    (tmp_path / 'new' / 'a.mp4').unlink()
    with pytest.raises(SystemExit, match='^2$'):
        commands.main(['make-demo-film', str(tmp_path / 'new' / 'a.mp4')])
    assert 'a.json already exists' in capsys.readouterr().err


def test_wrong_size_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match='^2$'):
        commands.main(['make-demo-film', str(tmp_path / 'a.mp4'), '--size', '33'])
    assert capsys.readouterr().err.count('\n') == 1
    assert not list(tmp_path.iterdir())
