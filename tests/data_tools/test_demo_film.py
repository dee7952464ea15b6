import json
from pathlib import Path

import numpy as np
import pytest

from dsanet.data_tools.demo_film import PAUSE_RANGE, make_film
from dsanet.data_tools.ordered_actions import CLASSES, NUM_FRAMES
from dsanet.datasets.video.sequential import read_sequentially


def test_segments_are_where_shapes_move(tmp_path: Path) -> None:
    truth = make_film(tmp_path / 'film.mp4', num_actions=3, seed=1)
    content = json.loads(truth.read_text())['database']['film']
    frames = np.stack(list(read_sequentially(str(tmp_path / 'film.mp4'))))
    assert content['duration'] == len(frames) / 25
    brightest = frames.max(axis=3).reshape(len(frames), -1).max(axis=1)
    inside = np.zeros(len(frames), bool)
    end = 0
    for annotation in content['annotations']:
        assert annotation['label'] in CLASSES
        start, before = round(25 * annotation['segment'][0]), end
        end = round(25 * annotation['segment'][1])
        assert end - start == NUM_FRAMES
        assert PAUSE_RANGE[0] <= start - before <= PAUSE_RANGE[1]
        inside[start:end] = True
    assert len(content['annotations']) == 3
    is_bright = brightest > 150
    assert not (is_bright & ~inside).any(), 'no shape in a pause'
    assert is_bright[inside].mean() > 0.5


def test_equal_seeds_give_equal_films(tmp_path: Path) -> None:
    films = []
    for name, seed in (('a', 0), ('b', 0), ('c', 1)):
        (tmp_path / name).mkdir()
        make_film(tmp_path / name / 'film.mp4', 1, seed)
        files = (tmp_path / name / 'film.mp4', tmp_path / name / 'film.json')
        films.append([file.read_bytes() for file in files])
    assert films[0] == films[1]
    assert films[0] != films[2]


@pytest.mark.parametrize('size', [30, 41])
def test_wrong_size_is_an_error(tmp_path: Path, size: int) -> None:
    with pytest.raises(ValueError, match='size'):
        make_film(tmp_path / 'film.mp4', size=size)
    assert not list(tmp_path.iterdir())
