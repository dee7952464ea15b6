import logging
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from dsanet import commands, load_recognizer
from dsanet.config.formatting import format_config
from dsanet.config.registry import MODELS, build
from dsanet.utils.checkpoint_io import save_atomically
from tests.commands.test_convert import MODEL, mmaction2_state
from tests.engine.conftest import make_config
from tests.make_videos import write_video

NAMES = [f'class {k}' for k in 'abcdefgh']


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    return make_config(tmp_path)


@pytest.fixture
def checkpoint(config: dict[str, Any], tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = build(config['model'], MODELS, 'model')
    torch.nn.init.normal_(model.cls_head.fc_cls.weight)
    file = tmp_path / 'best.pth'
    save_atomically({'state_dict': model.state_dict(), 'config': config, 'class_names': NAMES}, file)
    return file


@pytest.fixture(autouse=True)
def _restore_logger(monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.getLogger('dsanet')
    for name, value in {'handlers': [], 'propagate': True, 'level': logger.level}.items():
        monkeypatch.setattr(logger, name, value)


def run(*arguments: object) -> int | str | None:
    try:
        return commands.main(['export', *map(str, arguments)])
    except SystemExit as error:
        return error.code


def test_exported_file_predicts_like_the_checkpoint(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = write_video(tmp_path / 'clip.mp4', 30)
    assert run(checkpoint, '--format', 'pt2', '--video', video) == 0
    captured = capsys.readouterr()
    assert f'{checkpoint.with_suffix(".pt2")} (' in captured.out
    assert captured.err == ''
    recognizer = load_recognizer(checkpoint, 'cpu')
    record = {'path': video, 'label': -1, 'index': 0, 'rng': None, 'facts': {}}
    inputs = recognizer.pipelines['video'](record)['inputs'][None]  # (1, V, U, C, T, H, W)
    extra = {'dsanet': ''}
    module = torch.export.load(checkpoint.with_suffix('.pt2'), extra_files=extra).module()
    with torch.no_grad():
        scores, probabilities = module(inputs.permute(0, 1, 2, 4, 5, 6, 3))
        expected = recognizer.model(inputs)
    torch.testing.assert_close(scores, expected)
    torch.testing.assert_close(probabilities, expected.softmax(dim=1))
    assert '"class h"' in extra['dsanet']


@pytest.mark.sweep
def test_weights_of_others_need_a_config(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({'state_dict': mmaction2_state()}, tmp_path / 'theirs.pth')
    (tmp_path / 'config.py').write_text(format_config(config | {'model': MODEL}))
    assert run(tmp_path / 'theirs.pth', '--format', 'pt2') == 2
    assert 'theirs.pth has no config' in capsys.readouterr().err
    assert run(tmp_path / 'theirs.pth', '--config', tmp_path / 'config.py', '--out', tmp_path / 'x.pt2') == 0
    assert (tmp_path / 'x.pt2').is_file()


@pytest.mark.parametrize(
    ('arguments', 'status', 'message'),
    [
        (['best.pth'], 2, '--format'),
        (['best.pth', '--format', 'tflite'], 2, 'onnx.*pt2.*openvino'),
        (['best.pth', '--out', 'x.tflite'], 2, r"'x\.tflite'.*\.onnx"),
        (['best.pth', '--out', 'x.onnx', '--format', 'pt2'], 2, r'x\.onnx.*\.pt2'),
        (['best.pth', '--out', 'folder.pt2'], 2, r'folder\.pt2'),
        (['best.pth', '--out', 'clip.mp4/x.pt2'], 2, r'clip\.mp4'),
        (['none.pth', '--format', 'pt2'], 2, r'none\.pth does not exist'),
        (['best.pth', '--out', 'used.pt2'], 2, r'used\.pt2 already exists'),
        (['best.pth', '--out', 'used.xml'], 2, r'openvino|used\.bin already exists'),
        (['clip.mp4', '--format', 'pt2'], 2, r'clip\.mp4'),
        (['other.pth', '--format', 'pt2'], 2, r'fc_cls'),
        (['best.pth', '--format', 'pt2', '--video', 'none.mp4'], 2, r'none\.mp4 does not exist'),
        (['best.pth', '--format', 'pt2', '--video', 'broken.mp4'], 2, r'broken\.mp4'),
        (['best.pth', '--format', 'pt2', '--video', 'folder.pt2'], 2, r'folder\.pt2'),
        (['best.pth', '--format', 'pt2', '--cfg-options', 'test_dataloader.dataset.pipeline=[]'], 2, 'inputs'),
    ],
)
def test_wrong_input_is_one_line(
    arguments: list[str],
    status: int,
    message: str,
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = checkpoint.parent
    monkeypatch.chdir(folder)
    write_video('clip.mp4', 4)
    (folder / 'folder.pt2').mkdir()
    (folder / 'used.pt2').touch()
    (folder / 'used.bin').touch()
    (folder / 'broken.mp4').write_bytes(Path('clip.mp4').read_bytes()[:300])
    content = torch.load(checkpoint, weights_only=True)
    del content['state_dict']['cls_head.fc_cls.weight']
    torch.save(content, 'other.pth')
    before = sorted(folder.rglob('*'))
    assert run(*arguments) == status
    assert sorted(folder.rglob('*')) == before
    lines = capsys.readouterr().err.splitlines()
    assert len([line for line in lines if 'error: ' in line]) == 1
    assert re.search(message, lines[-1]), lines[-1]


def test_missing_package_is_reported_before_loading(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    assert run('none.pth', '--format', 'onnx') == 2
    assert 'pip install onnx onnxscript onnxruntime' in capsys.readouterr().err
