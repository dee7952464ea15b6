from pathlib import Path

import numpy as np
import pytest

from dsanet.inference.long.predictor import predict_long
from dsanet.inference.samples import load_samples
from dsanet.inference.sources import Source
from dsanet.web.analysis import analyze_video
from tests.make_recognizer import make_recognizer
from tests.make_videos import write_video


def test_results_are_those_of_prediction(tmp_path: Path) -> None:
    recognizer = make_recognizer()
    path = tmp_path / 'a.mp4'
    write_video(path, 60)  # 2.4 s
    parts: list[float] = []
    analysis = analyze_video(recognizer, path, 2.0, parts.append)
    expected = recognizer(str(path))
    assert (analysis.prediction.video, analysis.prediction.labels) == ('a.mp4', expected.labels)
    np.testing.assert_array_equal(analysis.prediction.all_scores, expected.all_scores)
    film = predict_long(recognizer, path, 2.0)
    assert analysis.film is not None
    assert [s.to_dict() for s in analysis.film.segments] == [s.to_dict() for s in film.segments]
    assert len(parts) == film.num_windows
    assert parts[-1] == 1.0
    assert analyze_video(recognizer, path, 3.0).film is None


def test_inputs_are_those_of_the_model(tmp_path: Path) -> None:
    path = tmp_path / 'a.mp4'
    write_video(path, 60)
    recognizer = make_recognizer()
    analysis = analyze_video(recognizer, path, 4.0)
    indices = analysis.prediction.frame_indices
    assert indices is not None
    packed = next(load_samples([Source('a', str(path))], recognizer.pipelines, 1)).batches[0]['inputs'][0]
    assert analysis.inputs.shape[1:3] == indices.shape[1:]
    for v, u, t in np.ndindex(analysis.inputs.shape[:3]):
        np.testing.assert_array_equal(analysis.inputs[v, u, t].transpose(2, 0, 1), packed[v, u, :, t])


def test_unreadable_video_names_only_the_file(tmp_path: Path) -> None:
    (tmp_path / 'bad.mp4').write_bytes(b'hello')
    with pytest.raises(ValueError, match=r'bad\.mp4') as error:
        analyze_video(make_recognizer(), tmp_path / 'bad.mp4', 4.0)
    assert str(tmp_path) not in str(error.value)
