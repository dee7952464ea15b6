import json
from pathlib import Path

import pytest

from dsanet import commands

LINES = [{'epoch': 1, 'iteration': 1, 'train/loss': 1.5}, {'epoch': 1, 'iteration': 1, 'val/top1': 9}]


def test_curves_of_work_dirs(tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / 'here').mkdir()
    monkeypatch.chdir(tmp_path / 'here')
    (tmp_path / 'scalars.jsonl').write_text('\n'.join(json.dumps(line) for line in LINES))
    out = tmp_path / 'x.png'
    commands.main(['curves', str(tmp_path), '--out', str(out)])
    assert out.is_file()
    commands.main(['curves', str(tmp_path), str(tmp_path)])
    assert (tmp_path / 'here' / 'curves.png').is_file(), 'of several runs: in the current folder'
    assert not (tmp_path / 'curves.png').exists()
    commands.main(['curves', str(tmp_path)])
    assert (tmp_path / 'curves.png').is_file(), 'of one run: in its work dir'
    (tmp_path / 'curves.png').unlink()
    (tmp_path / 'curves.png').mkdir()
    for argv, text in (
        ([tmp_path], 'curves.png'),
        ([tmp_path / 'nowhere'], 'nowhere'),
        ([tmp_path, '--scalars', 'val/top5'], 'top5'),
    ):
        with pytest.raises(SystemExit, match='^2$'):
            commands.main(['curves', *map(str, argv)])
        assert text in capsys.readouterr().err


@pytest.mark.skipif(not Path('/dev/full').exists(), reason='requires /dev/full of Linux')
def test_full_disk_is_status_one(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / 'scalars.jsonl').write_text('\n'.join(json.dumps(line) for line in LINES))
    (tmp_path / 'x.png').symlink_to('/dev/full')
    with pytest.raises(SystemExit, match='^1$'):
        commands.main(['curves', str(tmp_path), '--out', str(tmp_path / 'x.png')])
    assert capsys.readouterr().err.startswith('error: ')


def test_plot_does_not_replace_the_curves(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / 'scalars.jsonl').write_text('\n'.join(json.dumps(line) for line in LINES))
    (tmp_path / 'x.png').symlink_to('scalars.jsonl')
    for name in ('x.png', 'scalars.jsonl', 'x'):
        with pytest.raises(SystemExit, match='^2$'):
            commands.main(['curves', str(tmp_path), '--out', str(tmp_path / name)])
        assert f'{tmp_path}/{name}' in capsys.readouterr().err
    assert len((tmp_path / 'scalars.jsonl').read_text().splitlines()) == 2
