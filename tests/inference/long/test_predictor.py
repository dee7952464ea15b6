import tracemalloc
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from dsanet.datasets.video.pyav_reader import PyAVReader
from dsanet.datasets.video.readers import Frames
from dsanet.inference.long.predictor import predict_long
from dsanet.inference.long.segments import WindowScores
from dsanet.inference.recognizer import Recognizer
from tests.engine.conftest import make_config
from tests.make_color_films import make_color_recognizer, write_color_film
from tests.make_recognizer import make_recognizer
from tests.make_videos import write_video

SCENES = [('dark', 20), ('red', 30), ('dark', 20), ('green', 50), ('blue', 30), ('dark', 15)]  # at 10 fps


def write_lossless(path: Path, frames: Frames) -> str:
    """Write frames (T, H, W, 3) so that they decode to the same pixels."""
    with av.open(str(path), 'w') as container:
        stream: Any = container.add_stream('ffv1', rate=25)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = 'bgr0'
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format='rgb24').reformat(format='bgr0')))
        container.mux(stream.encode(None))
    return str(path)


def resizing_recognizer() -> Recognizer:
    """A recognizer whose pipeline resizes the frames, and uses six views."""
    recognizer = make_recognizer()
    config = make_config(Path('nowhere'))
    steps = config['test_dataloader']['dataset']['pipeline']
    place = [step['type'] for step in steps].index('CenterCrop')
    steps[place : place + 1] = [{'type': 'Resize', 'short_side': 20}, {'type': 'ThreeCrop', 'size': 20}]
    return Recognizer(recognizer.model, config, recognizer.class_names, 'cpu')


@pytest.mark.parametrize('name', ['a.mp4', 'a.ts'])
@pytest.mark.parametrize('resizes', [False, True])
def test_window_equals_the_span_predicted_alone(tmp_path: Path, name: str, resizes: bool) -> None:
    recognizer = resizing_recognizer() if resizes else make_recognizer()
    film = write_video(tmp_path / name, 130, g='30')
    reader = PyAVReader(film)
    frames = reader.read(np.arange(130))
    reader.close()
    windows: list[WindowScores] = []
    result = predict_long(recognizer, film, 1.6, 0.6, on_window=windows.append)
    assert result.num_windows == len(windows) == 7
    for k, window in enumerate(windows):
        numbers = [i for i in range(130) if 15 * k <= i < 15 * k + 40]
        assert window.num_frames == len(numbers)
        alone = recognizer(frames[numbers], fps=25)
        assert np.array_equal(window.scores, alone.all_scores)
        assert window.probabilities.max() == np.float32(alone.probabilities[0])
        if k % 3 == 0:
            cut = write_lossless(tmp_path / f'{k}.mkv', frames[numbers])
            assert np.array_equal(window.scores, recognizer(cut).all_scores)
    assert not np.array_equal(windows[0].scores, windows[1].scores)


@pytest.mark.parametrize('suffix', ['mp4', 'ts'])
def test_known_segments_are_found(tmp_path: Path, suffix: str) -> None:
    film = write_color_film(tmp_path / f'a.{suffix}', SCENES)
    result = predict_long(make_color_recognizer(), film, 1, 0.5, 0.5)
    assert [segment.label for segment in result.segments] == ['red', 'green', 'blue']
    for segment, (start, end) in zip(result.segments, [(2, 5), (7, 12), (12, 15)], strict=True):
        assert abs(segment.start - start) <= 0.5
        assert abs(segment.end - end) <= 0.5
        assert segment.score > 0.8
    assert result.seconds == pytest.approx(16.5)
    assert result.fps == 10
    assert result.num_windows == 32
    assert len(result.curve) == 33


def test_several_labels_at_a_time(tmp_path: Path) -> None:
    film = write_color_film(tmp_path / 'a.mp4', [('red', 20), ('blue', 20)])
    recognizer = make_color_recognizer(multi_label=True)
    assert {segment.label for segment in predict_long(recognizer, film, 1, 0.5).segments} == {'red', 'blue'}
    recognizer.model.cls_head.eval()
    assert [segment.end for segment in predict_long(recognizer, film, 1, 0.5, 0).segments] == [4, 4, 4]


def test_film_shorter_than_a_window(tmp_path: Path) -> None:
    result = predict_long(make_color_recognizer(), write_color_film(tmp_path / 'a.mp4', [('red', 3)]), 4)
    assert result.num_windows == 1
    assert [(s.label, s.start, s.end) for s in result.segments] == [('red', 0, pytest.approx(0.3))]


def test_result_for_json(tmp_path: Path) -> None:
    film = write_color_film(tmp_path / 'a.mp4', [('red', 30)])
    content = predict_long(make_color_recognizer(), Path(film), 1).to_dict()
    assert set(content) == {'video', 'seconds', 'fps', 'num_windows', 'segments'}
    assert content['video'] == film
    assert content['segments'][0]['label'] == 'red'


def test_scores_that_are_not_finite_are_errors(tmp_path: Path) -> None:
    recognizer = make_color_recognizer()
    recognizer.model.register_forward_hook(lambda _module, _inputs, scores: scores * float('nan'))
    with pytest.raises(ValueError, match='not finite'):
        predict_long(recognizer, write_color_film(tmp_path / 'a.mp4', [('red', 3)]))


@pytest.mark.parametrize('arguments', [(0,), (1, 2), (1, 1, 1.5), (1, 1, '0.5')])
def test_wrong_arguments_are_errors(tmp_path: Path, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match='window|stride|threshold'):
        predict_long(make_color_recognizer(), str(tmp_path / 'missing.mp4'), *arguments)


def test_other_inputs_than_files_are_errors(tmp_path: Path) -> None:
    recognizer = make_color_recognizer()
    with pytest.raises(FileNotFoundError, match='missing'):
        predict_long(recognizer, tmp_path / 'missing.mp4')
    with pytest.raises(ValueError, match='folder'):
        predict_long(recognizer, tmp_path)
    for value in (['a.mp4'], b'a.mp4', np.zeros((2, 4, 4, 3), np.uint8)):
        with pytest.raises(TypeError, match='path'):
            predict_long(recognizer, value)  # type: ignore[arg-type]


def peak_bytes(film: str) -> int:
    recognizer = make_color_recognizer()
    tracemalloc.start()
    try:
        predict_long(recognizer, film, 4, 4)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize('suffix', ['mp4', pytest.param('ts', marks=pytest.mark.sweep)])
def test_memory_does_not_grow_with_the_film(tmp_path: Path, suffix: str) -> None:
    short, long = (
        write_color_film(tmp_path / f'{number}.{suffix}', [('red', number)], size=256) for number in (100, 600)
    )
    image_bytes = 256 * 256 * 3
    peak_bytes(short)  # imports
    assert peak_bytes(long) - peak_bytes(short) < 10 * image_bytes, '500 more frames'
