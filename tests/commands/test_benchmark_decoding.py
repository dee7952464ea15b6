from pathlib import Path

import pytest
import torch

from dsanet import commands
from dsanet.data_tools.video.decoding_benchmark import TRANSCODED
from dsanet.datasets.video.readers import READERS, is_installed
from tests.make_videos import write_video

DECODERS = [decoder for decoder in READERS if is_installed(decoder)]


@pytest.fixture(autouse=True)
def threads():
    number = torch.get_num_threads()
    yield
    torch.set_num_threads(number)


@pytest.fixture
def originals(tmp_path: Path) -> Path:
    (tmp_path / 'videos' / 'b').mkdir(parents=True)
    write_video(tmp_path / 'videos' / 'a.mp4', 40)
    write_video(tmp_path / 'videos' / 'b' / 'c.avi', 40, codec='mpeg4')
    return tmp_path / 'videos'


def test_benchmark_of_generated_videos(tmp_path, capsys):
    argv = '--num-videos 1 --rounds 1 --workers 0 --num-frames 40 --height 64 --width 96'.split()
    for _ in range(2):  # the second run reuses the files of the first
        commands.main(['benchmark', 'decoding', *argv, '--work-dir', str(tmp_path)])
        rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith('|')][2:]
        assert len(rows) == len(DECODERS) * (2 + len(TRANSCODED)) + 1
        cells = [[cell.strip() for cell in row.strip('|').split('|')] for row in rows]
        assert cells[-1][-1] == '40'
        assert not any(row[2] == '-' for row in cells)


def test_benchmark_of_a_folder(originals, capsys):
    argv = '--num-videos 1 --rounds 1 --workers 0 --in-worker'.split()
    commands.main(['benchmark', 'decoding', '--videos', str(originals), *argv])
    printed = capsys.readouterr().out
    rows = [line for line in printed.splitlines() if line.startswith('|')][2:]
    assert len(rows) == len(DECODERS) * (1 + len(TRANSCODED)) + 1
    assert not any(row.split('|')[3].strip() == '-' for row in rows)


@pytest.mark.parametrize(
    ('argv', 'message'),
    [
        (['--rounds', '0'], 'argument --rounds: '),
        (['--videos', 'nowhere'], 'nowhere'),
        (['--work-dir', __file__], __file__),
    ],
)
def test_invalid_options_are_reported(argv, message, capsys):
    with pytest.raises(SystemExit):
        commands.main(['benchmark', 'decoding', *argv])
    assert message in capsys.readouterr().err


def test_converted_videos_stay_out_of_the_originals(originals, capsys):
    with pytest.raises(SystemExit, match='^2$'):
        commands.main(['benchmark', 'decoding', '--videos', str(originals), '--work-dir', f'{originals}/b'])
    assert f'--work-dir {originals}/b' in capsys.readouterr().err
    assert sorted(file.name for file in originals.rglob('*')) == ['a.mp4', 'b', 'c.avi']
