from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from dsanet.inference.long.annotation import annotate_film, draw_bar, text_at
from dsanet.inference.long.predictor import LongPrediction
from dsanet.inference.long.segments import Segment
from tests.make_videos import read_index, write_video

SEGMENTS = [Segment('a', 0, 1, 0.9), Segment('b', 0.5, 2, 0.6)]
RESULT = LongPrediction('x', SEGMENTS, [], 3, 4.0, 25.0)


def test_labels_at_a_time() -> None:
    texts = [text_at(SEGMENTS, Fraction(time)) for time in ('0', '0.5', '1', '2')]
    assert texts == ['a  90%', 'a  90%, b  60%', 'b  60%', 'none']


def test_bar_shows_the_segments() -> None:
    bar = draw_bar(RESULT, 400)
    colors = [tuple(bar[7, x].tolist()) for x in (10, 120, 300)]
    assert len(set(colors)) == 3
    assert colors[2] == (225, 225, 225)


@pytest.mark.parametrize('name', ['a.mp4', 'a.ts'])
def test_copy_has_all_frames(tmp_path: Path, name: str) -> None:
    film = write_video(tmp_path / name, 30, 72, 320)
    annotate_film(film, LongPrediction('x', [Segment('a', 0, 0.6, 0.9)], [], 1, 1.2, 25.0), tmp_path / 'out.mp4')
    with av.open(str(tmp_path / 'out.mp4')) as container:
        images = [frame.to_ndarray(format='rgb24') for frame in container.decode(video=0)]
    assert len(images) == 30
    assert [read_index(image[30:102]) for image in images] == list(range(30))
    heads = [image[:30].astype(int) for image in images]
    assert np.abs(heads[0] - heads[14]).mean() < 1
    assert np.abs(heads[14] - heads[15]).mean() > 1, 'the text changes after 0.6 s'
