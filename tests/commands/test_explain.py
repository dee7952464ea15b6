import logging
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import pytest
import torch

from dsanet import commands
from tests.explain.recognizers import make_large_recognizer
from tests.make_recognizer import save_recognizer, write_some_videos

Explain = Callable[..., tuple[int, str]]


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('explain') / 'videos'
    write_some_videos(root)
    save_recognizer(make_large_recognizer(), root / 'best.pth')
    return root


@pytest.fixture
def explain(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Explain:
    """Run the command among the videos; return its exit status and what it says."""
    logger = logging.getLogger('dsanet')
    monkeypatch.setattr(logger, 'handlers', [])
    monkeypatch.setattr(logger, 'propagate', True)
    monkeypatch.chdir(folder)

    def run(*arguments: object) -> tuple[int, str]:
        try:
            status = commands.main(['explain', *map(str, arguments)])
        except SystemExit as error:
            status = int(error.code or 0)
        return status or 0, ''.join(capsys.readouterr())

    return run


def test_picture_and_video_are_readable(explain: Explain, tmp_path: Path) -> None:
    sheet, film = tmp_path / 'new' / 'maps.png', tmp_path / 'maps.mp4'
    status, text = explain('best.pth', 'a.mp4', '--class', 'class c', '--out', sheet, film)
    assert status == 0
    assert 'class c' in text
    assert 'backbone.layer4' in text
    image = cv2.imread(str(sheet))
    assert image is not None
    assert image.std() > 10
    with av.open(film) as container:
        frames = [frame.to_ndarray(format='rgb24') for frame in container.decode(video=0)]
    assert len(frames) == 2 * 2


@pytest.mark.parametrize(
    'arguments',
    [
        ('best.pth', 'a.mp4', '--layer', 'backbone.layr4'),
        ('best.pth', 'a.mp4', '--class', 'class z'),
        ('best.pth', 'missing.mp4'),
        ('best.pth', 'bad.mp4'),
        ('best.pth', 'notes.txt'),
        ('best.pth', 'sub'),
        ('missing.pth', 'a.mp4'),
        ('a.mp4', 'a.mp4'),
        ('best.pth', 'a.mp4', '--device', 'cuda:99'),
    ],
)
def test_user_error_writes_nothing(explain: Explain, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    status, text = explain(*arguments, '--out', tmp_path / 'maps.png', tmp_path / 'maps.mp4')
    assert status == 2
    assert text.count('error:') == 1
    assert 'Traceback' not in text
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('target', ['maps.gif', 'file/maps.png', 'folder.png', 'same.png'])
def test_wrong_target_is_a_user_error(explain: Explain, tmp_path: Path, target: str) -> None:
    (tmp_path / 'file').write_text('')
    (tmp_path / 'folder.png').mkdir()
    again = [tmp_path / target] * (target == 'same.png')
    status, _ = explain('best.pth', 'a.mp4', '--out', tmp_path / target, *again)
    assert status == 2
    assert sorted(file.name for file in tmp_path.iterdir()) == ['file', 'folder.png']


def test_maps_of_zeros_are_reported(explain: Explain, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recognizer = make_large_recognizer()
    with torch.no_grad():
        # The features are not negative, so that nothing in them speaks for a class whose weights are.
        recognizer.model.cls_head.fc_cls.weight[2] = -1
    save_recognizer(recognizer, tmp_path / 'best.pth')
    status, _ = explain(tmp_path / 'best.pth', 'a.mp4', '--class', 'class c', '--out', tmp_path / 'maps.png')
    assert status == 0
    assert (tmp_path / 'maps.png').is_file()
    assert [record.levelname for record in caplog.records] == ['WARNING']
