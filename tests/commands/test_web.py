from pathlib import Path

import pytest

from dsanet import commands


def test_missing_gradio_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    with pytest.raises(SystemExit, match='^2$'):
        commands.main(['web', str(tmp_path / 'best.pth')])
    error = capsys.readouterr().err
    assert error.startswith('error: ')
    assert error.count('\n') == 1
    assert 'gradio' in error
