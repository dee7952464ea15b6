import copy
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dsanet.config.registry import DATASETS, MODELS, build
from dsanet.config.schema import RuntimeCfg
from dsanet.data_tools.ordered_actions import make_dataset
from dsanet.datasets.video.sequential import read_sequentially
from dsanet.engine.evaluator import predict
from dsanet.engine.preparation import build_loader
from dsanet.inference.recognizer import Recognizer, find_device
from dsanet.inference.sources import find_sources
from tests.engine.conftest import make_config
from tests.make_videos import draw_frames, write_frames


@pytest.mark.parametrize('num_workers', [0, 1])
@pytest.mark.parametrize('average_views', ['score', 'prob'])
def test_scores_equal_the_test_bit_for_bit(
    recognizer: Recognizer, tmp_path: Path, num_workers: int, average_views: str
) -> None:
    make_dataset(tmp_path / 'data', num_videos=30, seed=0, val_fraction=0.5, size=32)
    config = make_config(tmp_path / 'data', model={'average_views': average_views})
    model = copy.deepcopy(recognizer.model)
    model.average_views = average_views
    own = Recognizer(model, config, device='cpu')
    loader = build_loader(config['test_dataloader'], 'test_dataloader', RuntimeCfg())
    expected = predict(model, loader, torch.device('cpu'))
    paths = [record.path for record in build(config['test_dataloader']['dataset'], DATASETS).records]
    results = own(paths, topk=3, num_workers=num_workers)
    assert [result.video for result in results] == paths
    assert np.array_equal(np.stack([result.all_scores for result in results]), expected.scores)
    scores = torch.from_numpy(expected.scores)
    probabilities = scores if average_views == 'prob' else scores.softmax(1)
    for result, row, chances in zip(results, expected.scores, probabilities, strict=True):
        best = np.argsort(-row)[:3]
        assert result.labels == [str(k) for k in best]
        assert result.scores == row[best].tolist()
        assert result.probabilities == pytest.approx(chances[best].tolist(), rel=1e-6)
        assert (result.num_views, result.num_frames, result.seconds) == (2, 63, 63 / 25)


def test_bad_videos_are_results_with_an_error(recognizer: Recognizer, videos: Path) -> None:
    results = recognizer([videos, 'gone.mp4', draw_frames(3)[:, :4]], batch_size=3)
    assert [result.error is None for result in results] == [True, False, True, True, False, False]
    for result, name in ((results[1], 'bad.mp4'), (results[4], 'gone.mp4'), (results[5], 'array')):
        assert name in result.error
        assert result.to_dict() == {'video': result.video, 'error': result.error}
    with pytest.raises(FileNotFoundError, match=r'gone\.mp4'):
        recognizer('gone.mp4')
    with pytest.raises(ValueError, match=r'bad\.mp4'):
        recognizer(videos / 'bad.mp4')


def test_files_arrays_and_contents_agree(recognizer: Recognizer, videos: Path, tmp_path: Path) -> None:
    file = recognizer(videos / 'a.mp4')
    content = recognizer((videos / 'a.mp4').read_bytes())
    assert np.array_equal(file.all_scores, content.all_scores)
    frames = draw_frames(30)
    array = recognizer(frames, fps=10)
    assert (array.num_frames, array.seconds, recognizer(frames).seconds) == (30, 3, None)
    write_frames(tmp_path / 'frames', 30, filename_tmpl='{:d}.png')
    assert np.array_equal(array.all_scores, recognizer(tmp_path / 'frames').all_scores)
    assert array.all_scores == pytest.approx(file.all_scores, abs=0.1)


def test_topk_is_at_most_all_classes(recognizer: Recognizer) -> None:
    result = recognizer(draw_frames(8), topk=100)
    assert sorted(result.labels) == [f'class {k}' for k in 'abcdefgh']
    assert result.scores == sorted(result.scores, reverse=True)
    assert sum(result.probabilities) == pytest.approx(1)
    assert recognizer(draw_frames(8), topk=1).labels == result.labels[:1]
    assert json.loads(json.dumps(result.to_dict()))['scores'] == result.scores
    with pytest.raises(ValueError, match='topk'):
        recognizer(draw_frames(8), topk=0)


def test_videos_of_other_sizes_share_a_batch(videos: Path) -> None:
    config = make_config(Path('nowhere'))
    pipeline = config['test_dataloader']['dataset']['pipeline']
    pipeline[:] = [step for step in pipeline if step['type'] != 'CenterCrop']
    torch.manual_seed(0)
    own = Recognizer(build(config['model'], MODELS), config, device='cpu')
    frames = draw_frames(8)
    small, large = frames[:, :32, :32], frames[:, :40, :48]
    results = own([small, large, small], batch_size=3)
    assert np.array_equal(results[0].all_scores, results[2].all_scores)
    assert results[1].all_scores == pytest.approx(own(large).all_scores, abs=1e-5)


def test_threads_can_share_a_recognizer(recognizer: Recognizer) -> None:
    clips = [draw_frames(8 + i) for i in range(6)]
    expected = [recognizer(clip).all_scores for clip in clips]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(recognizer, clips * 3))
    for result, scores in zip(results, expected * 3, strict=True):
        assert np.array_equal(result.all_scores, scores)


def test_scores_that_are_not_finite_are_errors(recognizer: Recognizer) -> None:
    model = copy.deepcopy(recognizer.model)
    with torch.no_grad():
        model.cls_head.fc_cls.bias[0] = torch.nan
    own = Recognizer(model, recognizer.config, device='cpu')
    with pytest.raises(ValueError, match='finite'):
        own(draw_frames(8))
    assert own([draw_frames(8)])[0].labels == ()


@pytest.mark.parametrize('device', ['gpu', 'cuda:x', 'cuda:99', 3.5])
def test_unknown_devices_raise(device: Any) -> None:
    with pytest.raises(ValueError, match='device='):
        find_device(device)


def test_automatic_device_is_the_best() -> None:
    assert find_device('auto').type == ('cuda' if torch.cuda.is_available() else 'cpu')


def test_spans_are_predicted_like_cut_arrays(recognizer: Recognizer, videos: Path, tmp_path: Path) -> None:
    rows = ['video,start,end', 'a.mp4,,', 'a.mp4,0.2,0.6', 'a.mp4,1.0,', 'a.mp4,5,6', 'none.mp4,1,2']
    (tmp_path / 'spans.csv').write_text('\n'.join(rows) + '\n')
    sources = find_sources(tmp_path / 'spans.csv', data_root=str(videos))[0]
    whole, middle, end, outside, missing = recognizer.iterate(sources)
    path = str(videos / 'a.mp4')
    assert [result.video for result in (whole, middle)] == [path, f'{path}#0.2-0.6']
    assert [result.num_frames for result in (whole, middle, end)] == [30, 10, 5]
    assert middle.seconds == pytest.approx(0.4)
    frames = np.stack(list(read_sequentially(path)))
    assert np.array_equal(middle.all_scores, recognizer(frames[5:15]).all_scores)
    assert np.array_equal(end.all_scores, recognizer(frames[25:]).all_scores)
    assert f'{path}#5-6' in outside.error
    assert missing.video.endswith('none.mp4#1-2')
    assert f'{videos}/none.mp4 ' in missing.error
