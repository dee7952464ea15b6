"""dsanet make-shards."""

from pathlib import Path

import pytest

pytest.importorskip('webdataset')

from dsanet import commands


def test_command_prints_the_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / 'a.mp4').write_bytes(b'a')
    (tmp_path / 'b.mp4').write_bytes(b'b')
    (tmp_path / 'list.txt').write_text('a.mp4 0\nb.mp4 1\n')
    out = tmp_path / 'out'
    args = ['make-shards', str(tmp_path / 'list.txt'), str(out), '--num-shards', '2', '--data-root', str(tmp_path)]
    assert commands.main(args) == 0
    assert f"shards='{out}/shard-{{0..1}}.tar', num_videos=2" in capsys.readouterr().out
    with pytest.raises(SystemExit) as error:
        commands.main(args)
    assert error.value.code == 2
