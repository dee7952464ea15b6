import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dsanet import __version__
from dsanet.config.loading import load_config
from dsanet.inference.features.files import (
    VideoFeatures,
    check_recipe,
    is_finished,
    make_recipe,
    name_files,
    read_features,
    read_recipe,
    write_features,
    write_recipe,
)
from dsanet.inference.sources import Source
from dsanet.utils.files import hash_file
from tests.engine.conftest import make_config


def make_features(**changes: Any) -> VideoFeatures:
    rng = np.random.default_rng(0)
    values: dict[str, Any] = {
        'features': rng.standard_normal((4, 3)).astype(np.float32),
        'times': rng.random(4),
        'video': '/data/a b.mp4',
        'num_frames': 30,
        'fps': 25.0,
        'labels': (2, 5),
    }
    return VideoFeatures(**values | changes)


@pytest.mark.parametrize('changes', [{}, {'labels': (), 'fps': None}, {'video': '/data/\udcff.mp4'}])
def test_npz_files_round_trip(tmp_path: Path, changes: dict) -> None:
    content = make_features(**changes)
    write_features(content, tmp_path / 'new' / 'a.npz')
    found = read_features(tmp_path / 'new' / 'a.npz')
    assert np.array_equal(found.features, content.features)
    assert np.array_equal(found.times, content.times)
    assert found.features.dtype == np.float32
    for name in ('video', 'num_frames', 'fps', 'labels'):
        assert getattr(found, name) == getattr(content, name)
    assert [file.name for file in (tmp_path / 'new').iterdir()] == ['a.npz']


def test_npy_files_have_a_json_file(tmp_path: Path) -> None:
    content = make_features()
    write_features(content, tmp_path / 'a.npy')
    assert np.array_equal(np.load(tmp_path / 'a.npy'), content.features)
    facts = json.loads((tmp_path / 'a.npy.json').read_text())
    expected = {'video': '/data/a b.mp4', 'num_frames': 30, 'fps': 25.0, 'labels': [2, 5]}
    assert facts == {**expected, 'times': content.times.tolist()}
    write_features(make_features(times=np.full(4, np.nan), fps=None), tmp_path / 'b.npy')
    assert json.loads((tmp_path / 'b.npy.json').read_text())['times'] is None


@pytest.mark.parametrize('suffix', ['npz', 'npy'])
def test_finished_files_have_video_and_labels(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f'a.{suffix}'
    assert not is_finished(file, '/data/a b.mp4', (2, 5))
    write_features(make_features(), file)
    assert is_finished(file, '/data/a b.mp4', (2, 5))
    assert not is_finished(file, '/data/a b.mp4', ())
    with pytest.raises(ValueError, match=r'/data/a b\.mp4'):
        is_finished(file, '/other/a b.mp4', (2, 5))
    for damaged in (file, file.with_name(f'{file.name}.json')):
        damaged.write_bytes(b'x')
    assert not is_finished(file, '/data/a b.mp4', (2, 5))


@pytest.mark.parametrize('content', [b'', b'x', b'\x93NUMPY'])
def test_files_without_features_raise(tmp_path: Path, content: bytes) -> None:
    (tmp_path / 'a.npz').write_bytes(content)
    with pytest.raises(ValueError, match=r'a\.npz'):
        read_features(tmp_path / 'a.npz')
    np.savez(tmp_path / 'b.npz', features=np.zeros(3))
    with pytest.raises(ValueError, match=r'b\.npz'):
        read_features(tmp_path / 'b.npz')
    data = (tmp_path / 'b.npz').read_bytes()
    entry = data.index(b'PK\1\2')  # in the directory of the archive: flags, then compression
    for place in (entry + 8, entry + 10):
        (tmp_path / 'b.npz').write_bytes(data[:place] + b'\x21' + data[place + 1 :])
        with pytest.raises(ValueError, match=r'b\.npz'):
            read_features(tmp_path / 'b.npz')


def names_of(*paths: str) -> list[str]:
    return [str(file) for file in name_files([Source(path, path) for path in paths], Path('out'), 'npz')]


def test_names_follow_the_folder_of_all_videos() -> None:
    assert names_of('/v/jump/1.mp4', '/v/run/1.mp4') == ['out/jump/1.npz', 'out/run/1.npz']
    assert names_of('/v/jump/1.mp4', '/v/jump/v1.0') == ['out/1.npz', 'out/v1.0.npz']
    assert names_of('a.mp4', os.path.abspath('b.mkv')) == ['out/a.npz', 'out/b.npz']
    assert names_of('/v/1.mp4', '/v/1.mkv', '/v/2.avi') == ['out/1.mp4.npz', 'out/1.mkv.npz', 'out/2.npz']
    with pytest.raises(ValueError, match=r'/v/1\.mp4'):
        names_of('/v/1.mp4', '/v/2.mp4', '/v/x/../1.mp4')


def make_some_recipe(folder: Path, **settings: Any) -> dict[str, Any]:
    (folder / 'best.pth').write_bytes(b'weights')
    config = make_config(Path('nowhere'))
    dataset = config['test_dataloader']['dataset']
    options = {'level': 'clip', 'layer': None, **settings}
    return make_recipe(config, dataset['pipeline'], dataset, str(folder / 'best.pth'), **options)


def test_recipe_has_config_and_hash(tmp_path: Path) -> None:
    recipe = make_some_recipe(tmp_path)
    assert recipe['dsanet'] == __version__
    assert (recipe['level'], recipe['layer']) == ('clip', None)
    assert recipe['checkpoint_sha256'] == hash_file(tmp_path / 'best.pth')
    config = make_config(Path('nowhere'))
    loaded = load_config(recipe['config'])
    assert loaded['model']['backbone'] == config['model']['backbone']
    dataset = loaded['test_dataloader']['dataset']
    assert dataset['pipeline'] == config['test_dataloader']['dataset']['pipeline']
    assert 'list_file' not in dataset


def test_recipes_of_other_settings_raise(tmp_path: Path) -> None:
    folder = tmp_path / 'f'
    recipe = make_some_recipe(tmp_path)
    check_recipe(folder, recipe)
    assert not folder.exists()
    write_recipe(folder, recipe)
    assert read_recipe(folder) == recipe
    check_recipe(folder, recipe | {'checkpoint': '/moved/best.pth'})
    with pytest.raises(ValueError, match='level was clip and is video'):
        check_recipe(folder, recipe | {'level': 'video'})


def test_folders_without_recipe_raise(tmp_path: Path) -> None:
    recipe = make_some_recipe(tmp_path)
    folder = tmp_path / 'f'
    with pytest.raises(FileNotFoundError, match='does not exist'):
        read_recipe(folder)
    folder.mkdir()
    check_recipe(folder, recipe)
    (folder / 'a.npz').touch()
    with pytest.raises(ValueError, match=r'a\.npz'):
        check_recipe(folder, recipe)
    with pytest.raises(FileNotFoundError, match=r'recipe\.json'):
        read_recipe(folder)
    for text in ('{', '[]', '{"config": 3}', '{}'):
        (folder / 'recipe.json').write_text(text)
        with pytest.raises(ValueError, match='damaged'):
            read_recipe(folder)
