from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from dsanet.config.registry import MODELS, build
from dsanet.explain.cam import explain_video
from dsanet.explain.kernels import collect_kernels
from dsanet.inference.long.predictor import predict_long
from dsanet.inference.recognizer import Recognizer
from dsanet.inference.samples import load_samples
from dsanet.inference.sources import Source
from dsanet.web.analysis import analyze_video
from tests.engine.conftest import make_config
from tests.explain.recognizers import make_large_recognizer
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


def test_maps_and_kernels_are_those_of_the_library(tmp_path: Path) -> None:
    path = tmp_path / 'a.mp4'
    write_video(path, 60)
    recognizer = make_large_recognizer()
    analysis = analyze_video(recognizer, path, 4.0)
    source = Source('a.mp4', str(path))
    maps = explain_video(recognizer, source, label=analysis.prediction.labels[0])
    assert analysis.maps is not None
    assert (analysis.maps.layer, analysis.maps.label) == ('backbone.layer4', maps.label)
    np.testing.assert_array_equal(analysis.maps.maps, maps.maps)
    batch = next(load_samples([source], recognizer.pipelines, 1)).batches[0]
    kernels = collect_kernels(recognizer, [(batch['inputs'], ['a.mp4'], [-1])])
    assert analysis.kernels is not None
    for mine, other in zip(analysis.kernels.modules, kernels.modules, strict=True):
        assert (mine.name, mine.kernels.shape) == (other.name, other.kernels.shape)
        np.testing.assert_array_equal(mine.kernels, other.kernels)


def test_threads_get_their_own_maps_and_kernels(tmp_path: Path) -> None:
    recognizer = make_large_recognizer()
    paths = [tmp_path / f'{i}.mp4' for i in range(2)]
    for i, path in enumerate(paths):
        write_video(path, 40 + 20 * i)
    alone = [analyze_video(recognizer, path, 9.0) for path in paths]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda path: analyze_video(recognizer, path, 9.0), paths))
    for found, expected in zip(together, alone, strict=True):
        assert found.maps is not None
        assert expected.maps is not None
        np.testing.assert_array_equal(found.maps.maps, expected.maps.maps)
        assert found.kernels is not None
        assert expected.kernels is not None
        np.testing.assert_array_equal(found.kernels.modules[0].kernels, expected.kernels.modules[0].kernels)
    assert not any(module._forward_hooks for module in recognizer.model.modules())


def test_model_without_dsa_has_no_kernels(tmp_path: Path) -> None:
    write_video(tmp_path / 'a.mp4', 30)
    config = make_config(Path('nowhere'))
    config['model']['module_cfg'] = None
    recognizer = Recognizer(build(config['model'], MODELS), config, device='cpu')
    assert analyze_video(recognizer, tmp_path / 'a.mp4', 4.0).kernels is None


def test_slow_film_keeps_the_other_results(tmp_path: Path) -> None:
    write_video(tmp_path / 'a.mp4', 60)
    analysis = analyze_video(make_recognizer(), tmp_path / 'a.mp4', 1.0, film_limit=0)
    assert analysis.film is None
    assert analysis.why_no_film
    assert len(analysis.prediction.labels) == 5


def test_unreadable_video_names_only_the_file(tmp_path: Path) -> None:
    (tmp_path / 'bad.mp4').write_bytes(b'hello')
    with pytest.raises(ValueError, match=r'bad\.mp4') as error:
        analyze_video(make_recognizer(), tmp_path / 'bad.mp4', 4.0)
    assert str(tmp_path) not in str(error.value)
