from pathlib import Path

import numpy as np
import pytest

from dsanet.inference.long.predictor import predict_long
from dsanet.web.analysis import analyze_video
from tests.make_recognizer import make_recognizer
from tests.make_videos import read_index, write_video


def test_results_are_those_of_prediction(tmp_path: Path) -> None:
    recognizer = make_recognizer()
    path = tmp_path / 'a.mp4'
    write_video(path, 60)  # 2.4 s
    parts: list[float] = []
    analysis = analyze_video(recognizer, path, 1.0, parts.append)
    expected = recognizer(str(path))
    assert (analysis.prediction.video, analysis.prediction.labels) == ('a.mp4', expected.labels)
    np.testing.assert_array_equal(analysis.prediction.all_scores, expected.all_scores)
    film = predict_long(recognizer, path, 1.0)
    assert analysis.film is not None
    assert [s.to_dict() for s in analysis.film.segments] == [s.to_dict() for s in film.segments]
    assert len(parts) == film.num_windows
    assert parts[-1] == 1.0
    assert analyze_video(recognizer, path, 3.0).film is None


def test_inputs_are_the_frames_of_the_indices(tmp_path: Path) -> None:
    path = tmp_path / 'a.mp4'
    write_video(path, 60)
    analysis = analyze_video(make_recognizer(), path, 4.0)
    indices = analysis.prediction.frame_indices
    assert indices is not None
    assert analysis.inputs.shape[1:3] == indices.shape[1:]
    seen = [[[read_index(frame) for frame in frames] for frames in view] for view in analysis.inputs]
    num_crops = len(analysis.inputs) // len(indices)
    assert seen == np.tile(indices, (num_crops, 1, 1)).tolist()


def test_unreadable_video_names_only_the_file(tmp_path: Path) -> None:
    (tmp_path / 'bad.mp4').write_bytes(b'hello')
    with pytest.raises(ValueError, match=r'bad\.mp4') as error:
        analyze_video(make_recognizer(), tmp_path / 'bad.mp4', 4.0)
    assert str(tmp_path) not in str(error.value)
