"""Kernels and maps of runs for their report: what is computed, and that a failure is a sentence."""

from pathlib import Path

import numpy as np
import pytest

from dsanet.config.registry import MODELS, build
from dsanet.data_tools.ordered_actions import CLASSES, make_dataset
from dsanet.evaluation.results import Results
from dsanet.explain.cam import explain_video
from dsanet.explain.kernels import collect_kernels
from dsanet.inference.recognizer import Recognizer, load_recognizer
from dsanet.inference.samples import load_samples
from dsanet.inference.sources import Source
from dsanet.reports.internals import Internals, look_inside
from tests.engine.conftest import make_config
from tests.explain.recognizers import make_large_recognizer
from tests.make_recognizer import save_recognizer


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('data')
    make_dataset(folder, num_videos=16, seed=0, val_fraction=0.5, size=64)
    return folder


@pytest.fixture
def run(data: Path, tmp_path: Path) -> Path:
    """Return the work dir of a run with DSA."""
    recognizer = make_large_recognizer()
    config = make_config(data)
    config['test_dataloader'] |= {'num_workers': 0}
    config['test_dataloader']['dataset']['pipeline'] = recognizer.config['test_dataloader']['dataset']['pipeline']
    (tmp_path / 'run').mkdir()
    save_recognizer(Recognizer(recognizer.model, config, CLASSES, 'cpu'), tmp_path / 'run' / 'best.pth')
    return tmp_path / 'run'


def make_results(data: Path, names: list[str]) -> Results:
    """Return results of two videos, of which the second is wrong."""
    rows = [line.split() for line in (data / 'val.txt').read_text().splitlines()[:2]]
    labels = np.array([int(label) for _, label in rows])
    scores = np.zeros((2, len(names)), np.float32)
    scores[0, labels[0]] = scores[1, (labels[1] + 1) % len(names)] = 3
    return Results('x', [str(data / path) for path, _ in rows], labels, scores, 'softmax', names)


def test_kernels_and_maps_are_of_the_best_checkpoint(run: Path, data: Path) -> None:
    recognizer = load_recognizer(run / 'best.pth', 'cpu', views='fast')
    names = recognizer.class_names
    results = make_results(data, names)
    found = look_inside(run, results, names)
    assert (found.checkpoint, found.why_no_kernels, found.why_no_maps) == ('best.pth', '', '')
    assert found.kernels is not None
    assert len(found.kernels.videos) == 8
    (mistake,) = found.mistakes
    predicted = names[int(results.scores[1].argmax())]
    assert (mistake.predicted.label, mistake.label.label) == (predicted, names[int(results.labels[1])])
    expected = explain_video(recognizer, Source('x', results.paths[1]), label=predicted)
    np.testing.assert_array_equal(mistake.predicted.maps, expected.maps)
    source = Source('x', found.kernels.videos[0])
    batch = next(load_samples([source], recognizer.pipelines, 1)).batches[0]
    alone = collect_kernels(recognizer, [(batch['inputs'], ['x'], [-1])])
    np.testing.assert_allclose(found.kernels.modules[0].kernels[0], alone.modules[0].kernels[0], atol=1e-6)


def test_last_epoch_replaces_a_missing_best(run: Path) -> None:
    for name in ('epoch_2.pth', 'epoch_10.pth'):
        (run / name).write_bytes((run / 'best.pth').read_bytes())
    (run / 'best.pth').unlink()
    found = look_inside(run, None, [])
    assert found.checkpoint == 'epoch_10.pth'
    assert found.kernels is not None
    assert found.why_no_maps


def test_last_epoch_can_be_preferred_to_best(run: Path) -> None:
    (run / 'epoch_3.pth').write_bytes((run / 'best.pth').read_bytes())
    assert look_inside(run, None, []).checkpoint == 'best.pth'
    assert look_inside(run, None, [], is_last_epoch=True).checkpoint == 'epoch_3.pth'


def break_checkpoint(run: Path, data: Path) -> None:
    (run / 'best.pth').write_bytes(b'x')


def remove_checkpoint(run: Path, data: Path) -> None:
    (run / 'best.pth').unlink()


def remove_data(run: Path, data: Path) -> None:
    config = make_config(data)
    config['test_dataloader']['dataset']['list_file'] = str(run / 'gone.txt')
    save_recognizer(Recognizer(load_recognizer(run / 'best.pth', 'cpu').model, config, device='cpu'), run / 'best.pth')


def break_videos(run: Path, data: Path) -> None:
    config = make_config(data)
    (run / 'bad.mp4').write_bytes(b'x' * 3000)
    (run / 'bad.txt').write_text(f'{run}/bad.mp4 0\n')
    config['test_dataloader']['dataset'] |= {'list_file': str(run / 'bad.txt'), 'class_file': None}
    save_recognizer(Recognizer(load_recognizer(run / 'best.pth', 'cpu').model, config, device='cpu'), run / 'best.pth')


def remove_dsa(run: Path, data: Path) -> None:
    config = make_config(data)
    config['model']['module_cfg'] = None
    save_recognizer(Recognizer(build(config['model'], MODELS), config, device='cpu'), run / 'best.pth')


@pytest.mark.parametrize('damage', [break_checkpoint, remove_checkpoint, remove_data, break_videos, remove_dsa])
def test_what_is_missing_is_one_sentence(damage, run: Path, data: Path) -> None:
    damage(run, data)
    found = look_inside(run, None, [])
    assert isinstance(found, Internals)
    assert found.kernels is None
    assert found.why_no_kernels.endswith('.')
    assert '\n' not in found.why_no_kernels


def test_missing_video_of_a_mistake_is_a_sentence(run: Path, data: Path) -> None:
    names = load_recognizer(run / 'best.pth', 'cpu').class_names
    results = make_results(data, names)
    results.paths[1] = 'gone.mp4'
    found = look_inside(run, results, names)
    assert found.mistakes == []
    assert 'gone.mp4' in found.why_no_maps
    assert found.kernels is not None
