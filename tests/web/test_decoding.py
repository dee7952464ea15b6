import time
from pathlib import Path

import numpy as np
import pytest

from dsanet.datasets.transforms.base import Transform
from dsanet.datasets.transforms.compose import Compose
from dsanet.inference.samples import load_samples
from dsanet.inference.sources import Source
from dsanet.web.decoding import read_in_time
from tests.make_recognizer import make_recognizer
from tests.make_videos import write_video
from tests.web.bad_steps import Bug, Crash, Hang


def test_samples_are_those_of_this_process(tmp_path: Path) -> None:
    write_video(tmp_path / 'a.mp4', 30)
    source, pipelines = Source('a.mp4', str(tmp_path / 'a.mp4')), make_recognizer().pipelines
    expected = next(load_samples([source], pipelines, 1))
    for found in read_in_time(source, [pipelines['video'], pipelines['video']]):
        np.testing.assert_array_equal(found.batches[0]['inputs'], expected.batches[0]['inputs'])
        np.testing.assert_array_equal(found.facts[0]['frame_indices'], expected.facts[0]['frame_indices'])
        assert found.facts[0]['num_frames'] == 30


@pytest.mark.parametrize(('step', 'word'), [(Hang, '0.5 s'), (Crash, 'crashed'), (Bug, 'x')])
def test_bad_decoder_is_an_error_in_time(step: type[Transform], word: str, tmp_path: Path) -> None:
    write_video(tmp_path / 'a.mp4', 30)
    source = Source('a.mp4', str(tmp_path / 'a.mp4'))
    start = time.monotonic()
    with pytest.raises(ValueError, match=word) as error:
        read_in_time(
            source, [Compose([step()], ('path', 'label', 'index', 'rng'), 'test')], 0.5 if step is Hang else 30
        )
    assert 'a.mp4' in str(error.value)
    assert time.monotonic() - start < 25
