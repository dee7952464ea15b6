import json
from pathlib import Path

import cv2
import pytest

from dsanet import commands
from dsanet.config.formatting import format_config
from dsanet.config.registry import MODELS, build
from dsanet.explain.order import ARRANGEMENTS
from dsanet.inference.recognizer import Recognizer
from tests.engine.conftest import make_config
from tests.make_recognizer import make_recognizer, save_recognizer

Capture = pytest.CaptureFixture[str]


def call(*arguments: object) -> int:
    try:
        return commands.main(['order', *map(str, arguments)]) or 0
    except SystemExit as error:
        return int(error.code or 0)


@pytest.fixture
def folder(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model, a control without DSA, and one with other classes."""
    names = (data / 'classes.txt').read_text().splitlines()
    own = make_recognizer()
    own.class_names = names
    own.config = make_config(data)
    save_recognizer(own, tmp_path / 'best.pth')
    config = make_config(data)
    config['model']['module_cfg'] = None
    save_recognizer(Recognizer(build(config['model'], MODELS), config, names, 'cpu'), tmp_path / 'control.pth')
    save_recognizer(make_recognizer(), tmp_path / 'other.pth')
    (tmp_path / 'short.txt').write_text('\n'.join((data / 'val.txt').read_text().splitlines()[1:]))
    config['test_dataloader']['dataset']['list_file'] = str(tmp_path / 'short.txt')
    save_recognizer(Recognizer(build(config['model'], MODELS), config, names, 'cpu'), tmp_path / 'elsewhere.pth')
    (tmp_path / 'own.py').write_text(format_config(make_config(data)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_in_order_is_the_accuracy_of_a_test(folder: Path, capsys: Capture) -> None:
    assert call('best.pth', 'own.py', '--control', 'control.pth', '--json', 'order.json', '--out', 'order.png') == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    content = json.loads(Path('order.json').read_text())
    for name in ('model', 'control'):
        file = {'model': 'best.pth', 'control': 'control.pth'}[name]
        assert not commands.main(['test', file, '--metrics-out', f'{name}.metrics.json'])
        top1 = json.loads(Path(f'{name}.metrics.json').read_text())['top1']
        result = content[name]
        assert (result['checkpoint'], result['num_videos']) == (file, 7)
        assert list(result['arrangements']) == list(ARRANGEMENTS)
        assert result['arrangements']['in order']['top1'] == pytest.approx(top1)
        for row in result['arrangements'].values():
            hits = [a == b for a, b in zip(row['predicted'], result['labels'], strict=True)]
            assert row['top1'] == pytest.approx(100 * sum(hits) / 7)
    assert [row[2] for row in rows if row[:1] == ['all']] == [
        f'{content[name]["arrangements"]["in order"]["top1"]:.1f}' for name in ('model', 'control')
    ]
    control = content['control']['arrangements']
    assert control['shuffled']['per_class'] == control['in order']['per_class']
    assert control['reversed']['max_change'] < 1e-5
    assert cv2.imread('order.png').std() > 10


def test_config_of_the_checkpoint_is_the_default(folder: Path, capsys: Capture) -> None:
    assert call('best.pth') == 0
    assert 'control' not in capsys.readouterr().out


@pytest.mark.parametrize(
    ('arguments', 'text'),
    [
        (['gone.pth'], 'gone.pth'),
        (['best.pth', 'gone.py'], 'gone.py'),
        (['best.pth', '--control', 'gone.pth'], 'gone.pth'),
        (['best.pth', '--control', 'other.pth'], 'class 0'),
        (['best.pth', '--control', 'elsewhere.pth'], '6 and 7 videos'),
        (['best.pth', '--json', 'x.txt'], 'x.txt'),
        (['best.pth', '--cfg-options', 'test_dataloader.dataset.list_file=bad.txt'], 'bad.mp4'),
        (['best.pth', '--cfg-options', 'test_dataloader.dataset.list_file=gone.txt'], 'gone.txt'),
    ],
)
def test_errors_are_one_line(folder: Path, data: Path, arguments: list[str], text: str, capsys: Capture) -> None:
    (folder / 'bad.mp4').write_bytes(b'\0' * 5000)
    (folder / 'bad.txt').write_text(f'{folder}/bad.mp4 0\n')
    assert call('--out', 'order.png', *arguments) == 2
    errors = capsys.readouterr().err.splitlines()
    assert text in errors[-1]
    assert sum('error: ' in line for line in errors) == 1
    assert not (folder / 'order.png').exists()
