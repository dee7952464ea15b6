from pathlib import Path

import cv2
import numpy as np
import pytest

from dsanet import commands
from dsanet.config.formatting import format_config
from dsanet.config.registry import MODELS, build
from dsanet.inference.recognizer import Recognizer, load_recognizer
from tests.engine.conftest import make_config
from tests.make_recognizer import make_recognizer, save_recognizer, write_some_videos

Capture = pytest.CaptureFixture[str]


def call(*arguments: object) -> int:
    try:
        return commands.main(['dsa-kernels', *map(str, arguments)]) or 0
    except SystemExit as error:
        return int(error.code or 0)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    save_recognizer(make_recognizer(), tmp_path / 'best.pth')
    write_some_videos(tmp_path / 'videos')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def save_without_dsa(file: Path) -> None:
    config = make_config(Path('nowhere'))
    config['model']['module_cfg'] = None
    save_recognizer(Recognizer(build(config['model'], MODELS), config, device='cpu'), file)


def test_config_gives_table_picture_and_arrays(data: Path, folder: Path, capsys: Capture) -> None:
    recognizer = make_recognizer()
    recognizer.class_names = (data / 'classes.txt').read_text().splitlines()
    save_recognizer(recognizer, folder / 'named.pth')
    Path('own.py').write_text(format_config(make_config(data)))
    assert call('named.pth', 'own.py', '--npz', 'k.npz') == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    arrays = np.load('k.npz')
    kernels = arrays['backbone.layer2.0.dsa']
    assert (len(kernels), kernels.shape[2]) == (7, 3)
    assert sorted(arrays['labels']) == sorted(int(x.split()[1]) for x in (data / 'val.txt').read_text().splitlines())
    (row,) = [row for row in rows if row[0] == 'backbone.layer2.0.dsa']
    assert float(row[1]) == pytest.approx(1 - kernels[:, :, 1].mean(), abs=1e-3)
    assert cv2.imread('dsa_kernels.png').std() > 10


def test_number_of_videos_is_limited_and_printed(data: Path, folder: Path, capsys: Capture) -> None:
    config = make_config(data)
    config['test_dataloader']['dataset']['class_file'] = None
    Path('own.py').write_text(format_config(config))
    assert call('best.pth', 'own.py', '--num-videos', '3', '--npz', 'k.npz') == 0
    assert f'{len(np.load("k.npz")["labels"])} of 7 videos' in capsys.readouterr().out
    assert 2 <= len(np.load('k.npz')['labels']) <= 3


def test_videos_and_lists_are_accepted(folder: Path, capsys: Capture) -> None:
    Path('list.txt').write_text('videos/a.mp4 0\nvideos/sub/d.mkv 1\n')
    assert call('best.pth', 'list.txt', 'videos/sub', '--out', 'k.svg', '--npz', 'k.npz') == 0
    assert np.load('k.npz')['labels'].tolist() == [0, 1, -1, -1]
    assert '<svg' in Path('k.svg').read_text()


def test_bad_videos_are_skipped_with_status_1(folder: Path, capsys: Capture) -> None:
    assert call('best.pth', 'videos', '--out', 'k.png') == 1
    output = capsys.readouterr()
    assert 'bad.mp4' in output.err
    assert '3 videos' in output.out


@pytest.mark.parametrize(
    ('arguments', 'text'),
    [
        (['best.pth', 'videos/bad.mp4'], 'bad.mp4'),
        (['best.pth', 'gone.mp4'], 'gone.mp4'),
        (['best.pth', 'gone.py'], 'gone.py'),
        (['best.pth', 'demo/dsanet_ordered_actions', 'videos/a.mp4'], 'config'),
        (['best.pth', 'videos/a.mp4', '--num-videos', '3'], '--num-videos'),
        (['gone.pth', 'videos/a.mp4'], 'gone.pth'),
        (['plain.pth', 'videos/a.mp4'], 'demo/dsanet_ordered_actions'),
        (['best.pth', 'videos/a.mp4', '--npz', 'k.txt'], '.npz'),
        (['best.pth', 'videos/a.mp4', '--out', 'videos/a.mp4'], 'videos/a.mp4'),
    ],
)
def test_errors_are_one_line(folder: Path, arguments: list[str], text: str, capsys: Capture) -> None:
    save_without_dsa(folder / 'plain.pth')
    before = sorted(folder.rglob('*'))
    assert call(*arguments) == 2
    errors = capsys.readouterr().err.splitlines()
    assert text in errors[-1]
    assert sum('error: ' in line for line in errors) == 1
    assert sorted(folder.rglob('*')) == before


def test_checkpoint_is_not_overwritten(folder: Path) -> None:
    Path('own.png').write_bytes(Path('best.pth').read_bytes())
    assert call('own.png', 'videos/a.mp4', '--out', 'own.png') == 2
    assert load_recognizer('own.png', 'cpu').class_names == make_recognizer().class_names
