import json
from pathlib import Path

import pytest

from dsanet import commands
from dsanet.inference.features.files import write_recipe
from dsanet.inference.recognizer import Recognizer, load_recognizer
from tests.inference.features.test_probe import recipe_of, write_set
from tests.make_recognizer import make_recognizer, save_recognizer, write_some_videos

Capture = pytest.CaptureFixture[str]


def probe(*arguments: object) -> int:
    try:
        return commands.main(['probe', *map(str, arguments)]) or 0
    except SystemExit as error:
        return int(error.code or 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint, and features ``train`` and ``val`` with labels 0 and 2."""
    own: Recognizer = make_recognizer()
    save_recognizer(own, tmp_path / 'best.pth')
    shapes, labels = {'a.npz': (2, 32), 'b.npz': (2, 32)}, {'a.npz': (0,), 'b.npz': (2,)}
    for name in ('train', 'val'):
        write_set(tmp_path / name, recipe_of(own, tmp_path / 'best.pth', 'clip'), shapes, labels)
    return tmp_path


def test_probe_predicts_like_any_checkpoint(folder: Path, capsys: Capture) -> None:
    (folder / 'classes.txt').write_text('jump\nrun\nsit\n')
    arguments = [folder / 'train', folder / 'val', '--out', folder / 'new' / 'out', '--epochs', 2]
    assert probe(*arguments, '--lr', 0.1, 0.001, '--class-file', folder / 'classes.txt') == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:4]] == ['0.001', '0.1']
    assert sum('best' in line for line in lines) == 1
    content = json.loads((folder / 'new' / 'out' / 'probe.json').read_text())
    assert content['head'] == 'linear'
    assert sorted(row['lr'] for row in content['results']) == [0.001, 0.1]
    write_some_videos(folder / 'videos')
    assert commands.main(['predict', str(folder / 'new/out/probe.pth'), str(folder / 'videos/a.mp4')]) == 0
    assert set(json.loads(capsys.readouterr().out)['labels']) == {'jump', 'run', 'sit'}


def test_labels_without_names_are_numbers(folder: Path) -> None:
    assert probe(folder / 'train', folder / 'val', '--out', folder / 'out', '--epochs', 1) == 0
    assert load_recognizer(folder / 'out' / 'probe.pth', 'cpu').class_names == ['0', '1', '2']
    assert sorted(file.name for file in (folder / 'out').iterdir()) == ['probe.json', 'probe.pth']


@pytest.mark.parametrize(
    ('arguments', 'text'),
    [
        (['gone', 'val'], 'gone'),
        (['train', 'empty'], 'recipe.json'),
        (['train', 'other'], 'recipes'),
        (['train', 'val', '--head', 'attentive'], '--level snippet'),
        (['train', 'val', '--checkpoint', 'train/a.npz'], 'SHA-256'),
        (['train', 'val', '--class-file', 'two.txt'], 'label 2'),
        (['train', 'val', '--class-file', 'gone.txt'], 'gone.txt'),
        (['train', 'val', '--device', 'gpu'], 'gpu'),
        (['train', 'val', '--out', 'two.txt'], '--out'),
    ],
)
def test_wrong_arguments_are_one_error_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], text: str, capsys: Capture
) -> None:
    monkeypatch.chdir(folder)
    (folder / 'empty').mkdir()
    (folder / 'two.txt').write_text('jump\nrun\n')
    write_set(folder / 'other', {'level': 'video', 'config': {}}, {'a.npz': (32,)}, {'a.npz': (0,)})
    assert probe('--out', 'out', *arguments) == 2
    errors = capsys.readouterr().err.splitlines()
    assert errors[-1].startswith('error: ')
    assert text in errors[-1]
    assert sum('error: ' in line for line in errors) == 1
    assert not (folder / 'out').exists()


def test_checkpoint_of_the_features_is_not_replaced(folder: Path, capsys: Capture) -> None:
    own = make_recognizer()
    save_recognizer(own, folder / 'probe.pth')
    for name in ('train', 'val'):
        (folder / name / 'recipe.json').unlink()
        write_recipe(folder / name, recipe_of(own, folder / 'probe.pth', 'clip'))
    content = (folder / 'probe.pth').read_bytes()
    assert probe(folder / 'train', folder / 'val', '--out', folder) == 2
    assert 'overwrite' in capsys.readouterr().err
    assert (folder / 'probe.pth').read_bytes() == content
