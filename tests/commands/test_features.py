import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dsanet import commands
from dsanet.inference.features.files import read_features
from dsanet.inference.recognizer import load_recognizer
from dsanet.inference.sharing.publishing import publish
from tests.make_recognizer import make_recognizer, save_recognizer, write_some_videos

Features = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_recognizer(make_recognizer(), tmp_path_factory.mktemp('checkpoint') / 'best.pth')


@pytest.fixture(scope='module')
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('some') / 'videos'
    write_some_videos(root)
    (root.parent / 'spans.csv').write_text('video,label\nvideos/a.mp4,hop\n')
    return root


@pytest.fixture
def features(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Features:
    """Run the command in this process; return its exit status, log and errors."""
    logger = logging.getLogger('dsanet')
    monkeypatch.setattr(logger, 'handlers', [])
    monkeypatch.setattr(logger, 'propagate', True)
    monkeypatch.setattr(logger, 'level', logging.INFO)

    def run(*arguments: object) -> tuple[int, str, str]:
        try:
            status = commands.main(['features', *map(str, arguments)])
        except SystemExit as error:
            status = int(error.code or 0)
        return status or 0, *capsys.readouterr()

    return run


def test_list_with_labels_gives_files(features: Features, checkpoint: Path, videos: Path, tmp_path: Path) -> None:
    (tmp_path / 'list.txt').write_text('a.mp4 3\nsub/b c.mp4 1,4\nsub/d.mkv\n')
    out = tmp_path / 'new' / 'out'
    arguments = (checkpoint, tmp_path / 'list.txt', '--data-root', videos, '--out', out, '--workers', 1)
    status, log, _ = features(*arguments)
    assert status == 0
    assert '3 videos' in log
    names = sorted(str(file.relative_to(out)) for file in out.rglob('*') if file.is_file())
    assert names == ['a.npz', 'recipe.json', 'sub/b c.npz', 'sub/d.npz']
    found = [read_features(out / name) for name in (names[0], *names[2:])]
    assert [one.labels for one in found] == [(3,), (1, 4), ()]
    assert [one.features.shape for one in found] == [(2, 32)] * 3
    own = load_recognizer(checkpoint, 'cpu')
    layer = own.model.cls_head.fc_cls
    scores = [layer.weight.detach().numpy() @ row + layer.bias.detach().numpy() for row in found[0].features]
    assert np.mean(scores, axis=0) == pytest.approx(own(videos / 'a.mp4').all_scores, rel=1e-4, abs=1e-4)
    before = {name: (out / name).stat().st_mtime_ns for name in names}
    assert features(*arguments)[0] == 0
    assert {name: (out / name).stat().st_mtime_ns for name in names} == before


def test_features_of_a_shared_folder(features: Features, checkpoint: Path, videos: Path, tmp_path: Path) -> None:
    publish(checkpoint, tmp_path / 'model')
    assert features(f'local-dir:{tmp_path}/model', videos / 'a.mp4', '--out', tmp_path / 'out')[0] == 0
    recipe = json.loads((tmp_path / 'out' / 'recipe.json').read_text())
    assert recipe['checkpoint'] == str(tmp_path / 'model' / 'model.safetensors')


def test_bad_video_does_not_stop_others(features: Features, checkpoint: Path, videos: Path, tmp_path: Path) -> None:
    status, log, _ = features(checkpoint, videos, '--out', tmp_path, '--level', 'snippet', '--format', 'npy')
    assert status == 1
    assert log.splitlines()[-1].count('bad.mp4') == 1
    assert '1 of 4' in log
    names = [str(file.relative_to(tmp_path)) for file in tmp_path.rglob('*.npy')]
    assert sorted(names) == ['a.npy', 'sub/b c.npy', 'sub/d.npy']
    facts = json.loads((tmp_path / 'a.npy.json').read_text())
    assert np.load(tmp_path / 'a.npy').shape == (len(facts['times']), 32) == (4, 32)
    assert facts['times'] == sorted(facts['times'])


@pytest.mark.parametrize(
    ('arguments', 'text'),
    [
        (['nowhere.pth', 'VIDEOS'], 'nowhere.pth'),
        (['CHECKPOINT', 'VIDEOS', '--layer', 'backbone.layr4'], 'backbone.layer4'),
        (['CHECKPOINT', 'VIDEOS', '--layer', 'backbone.layer1.0.relu'], '2 times'),
        (['CHECKPOINT', 'VIDEOS', '--level', 'snippet', '--layer', 'cls_head'], '--level'),
        (['CHECKPOINT', 'http://127.0.0.1/a.mp4'], 'URL'),
        (['CHECKPOINT', 'EMPTY'], 'neither'),
        (['CHECKPOINT', 'VIDEOS/../spans.csv'], 'hop'),
        (['CHECKPOINT', 'VIDEOS/a.mp4', 'VIDEOS'], 'twice'),
        (['VIDEOS/a.mp4', 'VIDEOS'], 'a.mp4'),
        (['CHECKPOINT', 'VIDEOS', '--config', 'ucf101/ucf101_dsanet_r50_4x8'], 'best.pth'),
    ],
)
def test_wrong_arguments_are_one_error_line(
    features: Features, checkpoint: Path, videos: Path, tmp_path: Path, arguments: list[str], text: str
) -> None:
    (tmp_path / 'empty').mkdir()
    for name, place in {'CHECKPOINT': checkpoint, 'VIDEOS': videos, 'EMPTY': tmp_path / 'empty'}.items():
        arguments = [argument.replace(name, str(place)) for argument in arguments]
    status, _, errors = features(*arguments, '--out', tmp_path / 'out')
    assert status == 2
    assert [line for line in errors.splitlines() if line.startswith('error: ')] == [errors.splitlines()[-1]]
    assert text in errors
    assert [file.name for file in tmp_path.iterdir()] == ['empty']


def test_folders_of_other_features_are_refused(
    features: Features, checkpoint: Path, videos: Path, tmp_path: Path
) -> None:
    out = tmp_path / 'out'
    assert features(checkpoint, videos / 'a.mp4', '--out', out)[0] == 0
    content = (out / 'a.npz').read_bytes()
    status, _, errors = features(checkpoint, videos / 'a.mp4', '--out', out, '--level', 'video')
    assert (status, 'level was clip and is video' in errors) == (2, True)
    (tmp_path / 'a.mp4').write_bytes((videos / 'a.mp4').read_bytes())
    status, _, errors = features(checkpoint, tmp_path / 'a.mp4', '--out', out)
    assert (status, str(videos / 'a.mp4') in errors) == (2, True)
    assert (out / 'a.npz').read_bytes() == content
    assert features(checkpoint, videos / 'a.mp4', '--out', videos)[0] == 2
    assert features(checkpoint, videos / 'a.mp4', '--out', out / 'a.npz')[0] == 2
    assert sorted(file.name for file in out.iterdir()) == ['a.npz', 'recipe.json']


@pytest.mark.sweep
def test_two_processes_give_the_same_bits(checkpoint: Path, videos: Path, tmp_path: Path) -> None:
    for name, options in (('one', []), ('two', ['--gpus', '2'])):
        command = [sys.executable, '-m', 'dsanet', 'features', checkpoint, videos, '--out', tmp_path / name]
        environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
        done = subprocess.run(
            [*map(str, command), *options, '--cfg-options', 'test_dataloader.batch_size=1'],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert '1 of 4' in done.stdout + done.stderr
    one, two = ({f.name: f.read_bytes() for f in (tmp_path / n).rglob('*') if f.is_file()} for n in ('one', 'two'))
    assert one == two
    assert len(one) == 4
