from pathlib import Path

import pytest

from dsanet import commands
from tests.reports.run_dirs import write_run


def test_report_is_written_to_the_work_dir(tmp_path: Path) -> None:
    folder = write_run(tmp_path / 'x', 0)
    commands.main(['report', str(folder)])
    assert (folder / 'report.html').read_text().startswith('<!DOCTYPE html>')


def test_wrong_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = write_run(tmp_path / 'x', 0)
    (folder / 'results.json').write_text('[')
    (tmp_path / 'file.mp4').write_text('')
    out = tmp_path / 'out.html'
    for source in (folder, tmp_path / 'nowhere', tmp_path / 'file.mp4'):
        with pytest.raises(SystemExit, match='^2$'):
            commands.main(['report', str(source), '--out', str(out)])
        error = capsys.readouterr().err
        assert error.startswith('error: ')
        assert str(source) in error
    assert not out.exists()


def test_file_is_not_a_work_dir(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / 'file.mp4').write_text('')
    with pytest.raises(SystemExit, match='^2$'):
        commands.main(['report', str(tmp_path / 'file.mp4')])
    error = capsys.readouterr().err
    assert 'scalars.jsonl' in error
    assert '--out' not in error
