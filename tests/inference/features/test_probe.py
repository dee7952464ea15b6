import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dsanet.inference.features.files import VideoFeatures, make_recipe, read_features, write_features, write_recipe
from dsanet.inference.features.probe import (
    FeatureSet,
    ProbeOptions,
    check_sets,
    load_backbone,
    load_features,
    save_probe,
    score_features,
    train_probe,
)
from dsanet.inference.recognizer import Recognizer, load_recognizer
from dsanet.inference.samples import build_sample_loader
from dsanet.inference.sources import find_sources
from tests.inference.features.test_extraction import extract_to
from tests.make_recognizer import save_recognizer
from tests.make_videos import write_video


@pytest.fixture(scope='module')
def checkpoint(recognizer: Recognizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_recognizer(recognizer, tmp_path_factory.mktemp('checkpoint') / 'best.pth')


def recipe_of(recognizer: Recognizer, checkpoint: Path, level: str = 'snippet') -> dict[str, Any]:
    dataset = recognizer.config['test_dataloader']['dataset']
    settings = {'level': level, 'layer': None, 'format': 'npz'}
    return make_recipe(recognizer.config, recognizer.steps, dataset, str(checkpoint), **settings)


def make_set(seed: int = 0, number: int = 60, snippets: int = 2, **recipe: Any) -> FeatureSet:
    """Three classes with other means, on a scale that needs standardization; channel 0 is constant."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(number) % 3
    centers = torch.eye(3).repeat(1, 2)[labels][:, None, None]  # (N, 1, 1, 6)
    features = 100 + 0.01 * (centers + 0.1 * torch.randn(number, 2, snippets, 6, generator=rng))
    features[..., 0] = 7.0
    return FeatureSet(Path('f'), features, labels, None, {'layer': None, 'level': 'snippet', **recipe})


@pytest.mark.parametrize('head', ['linear', 'attentive'])
def test_scores_of_the_checkpoint_equal_stored_features(
    recognizer: Recognizer, checkpoint: Path, tmp_path: Path, head: str
) -> None:
    (tmp_path / 'v').mkdir()
    for length in (12, 20, 30):
        write_video(str(tmp_path / 'v' / f'{length}.mp4'), length)
    sources = find_sources(str(tmp_path / 'v'))[0]
    extract_to(tmp_path / 'f', sources, recognizer)
    for file, label in zip(sorted((tmp_path / 'f').rglob('*.npz')), (2, 0, 1), strict=True):
        content = read_features(file)
        write_features(VideoFeatures(content.features, content.times, content.video, 30, 25.0, (label,)), file)
    write_recipe(tmp_path / 'f', recipe_of(recognizer, checkpoint))
    own = load_features(tmp_path / 'f')
    assert own.features.shape == (3, 2, 2, 32)
    options = ProbeOptions(head, lrs=(0.1, 0.01), epochs=2)
    best = train_probe(own, own, 3, options)[0]
    names = ['left', 'right', 'up']
    save_probe(best.head, options, load_backbone(own.recipe), names, tmp_path / 'probe.pth')
    loaded = load_recognizer(tmp_path / 'probe.pth', 'cpu')
    assert loaded.class_names == names
    assert type(loaded.model.cls_head).__name__ == {'linear': 'I3DClsHead', 'attentive': 'AttentiveHead'}[head]
    with torch.no_grad():
        expected = score_features(best.head, own.features).numpy()
    scores = np.stack([loaded([source.name])[0].all_scores for source in sources])
    assert np.ptp(expected) > 0.1
    assert scores == pytest.approx(expected, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize('head', ['linear', 'attentive'])
def test_learning_rates_do_not_affect_each_other(head: str) -> None:
    train, val = make_set(0), make_set(1, 31)
    together = train_probe(train, val, 3, ProbeOptions(head, lrs=(1e-5, 0.01), epochs=2, batch_size=32))
    for one in together:
        alone = train_probe(train, val, 3, ProbeOptions(head, lrs=(one.lr,), epochs=2, batch_size=32))[0]
        assert (alone.val_loss, alone.top1, alone.train_loss) == (one.val_loss, one.top1, one.train_loss)
        for key, value in alone.head.state_dict().items():
            assert torch.equal(value, one.head.state_dict()[key])


def test_linear_probe_learns_unscaled_features() -> None:
    train, val = make_set(0), make_set(1, 33)
    best, *others = train_probe(train, val, 3, ProbeOptions(lrs=(1e-6, 0.1), epochs=20))
    assert (best.lr, best.top1) == (0.1, 100)
    assert others[0].val_loss > best.val_loss
    layer: Any = best.head.fc_cls
    rows = val.features.mean(dim=(1, 2)).double().numpy()
    scores = rows @ layer.weight.detach().double().numpy().T + layer.bias.detach().double().numpy()
    assert np.array_equal(scores.argmax(axis=1), val.labels.numpy())
    expected = [math.log(np.exp(row - row[k]).sum()) for row, k in zip(scores, val.labels, strict=True)]
    assert best.val_loss == pytest.approx(np.mean(expected), rel=0.01, abs=0.01)


def test_constant_features_do_not_get_large_weights() -> None:
    head: Any = train_probe(make_set(), make_set(1), 3, ProbeOptions(lrs=(0.1,), epochs=20))[0].head
    weights = head.fc_cls.weight.abs().amax(dim=0)
    assert weights[0] < 0.1 < weights[1:].min()


def test_rates_without_finite_loss_come_last() -> None:
    train = make_set()
    results = train_probe(train, train, 3, ProbeOptions('attentive', lrs=(1e30, 0.01), epochs=2))
    assert [one.lr for one in results] == [0.01, 1e30]
    with pytest.raises(ValueError, match='finite'):
        train_probe(train, train, 3, ProbeOptions('attentive', lrs=(1e30,), epochs=2))


def test_training_leaves_the_global_generator() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    train_probe(make_set(), make_set(), 3, ProbeOptions(epochs=1))
    assert torch.equal(torch.rand(1), expected)


def write_set(
    folder: Path, recipe: dict, shapes: dict[str, tuple[int, ...]], labels: dict[str, tuple[int, ...]]
) -> None:
    write_recipe(folder, recipe)
    for name, shape in shapes.items():
        rows = np.zeros(shape, np.float32)
        write_features(VideoFeatures(rows, np.zeros(shape[:-1]), name, 9, None, labels.get(name, ())), folder / name)


@pytest.mark.parametrize(
    ('level', 'shape', 'expected'),
    [('clip', (6, 4), (2, 6, 1, 4)), ('snippet', (6, 3, 4), (2, 6, 3, 4)), ('video', (4,), (2, 1, 1, 4))],
)
def test_levels_are_views_and_snippets(tmp_path: Path, level: str, shape: tuple, expected: tuple) -> None:
    recipe = {'level': level, 'config': {}}
    write_set(tmp_path, recipe, {'a.npz': shape, 'sub/b.npz': shape}, {'a.npz': (3,), 'sub/b.npz': (1,)})
    found = load_features(tmp_path)
    assert (tuple(found.features.shape), found.labels.tolist(), found.class_names) == (expected, [3, 1], None)


def test_class_folders_are_labels(tmp_path: Path) -> None:
    recipe = {'level': 'video', 'config': {}}
    write_set(tmp_path, recipe, {'run/1.npz': (4,), 'jump/1.npz': (4,), 'run/2.npz': (4,)}, {})
    found = load_features(tmp_path)
    assert (found.labels.tolist(), found.class_names) == ([0, 1, 1], ['jump', 'run'])
    found = load_features(tmp_path, ['run', 'sit', 'jump'])
    assert (found.labels.tolist(), found.class_names) == ([2, 0, 0], ['run', 'sit', 'jump'])
    with pytest.raises(ValueError, match="'run'"):
        load_features(tmp_path, ['jump'])


@pytest.mark.parametrize(
    ('recipe', 'shapes', 'labels', 'text'),
    [
        ({}, {}, {}, 'no features'),
        ({'format': 'npy'}, {}, {}, 'npz'),
        ({'level': 'x'}, {'a.npz': (4,)}, {}, "level='x'"),
        ({}, {'a.npz': (4,), 'b.npz': (5,)}, {}, r'b\.npz.*\(5,\)'),
        ({}, {'a.npz': (4,)}, {}, 'no labels'),
        ({}, {'a.npz': (4,), 'b.npz': (4,)}, {'a.npz': (1,)}, r'b\.npz has 0'),
        ({}, {'a.npz': (4,)}, {'a.npz': (1, 2)}, r'a\.npz has 2'),
        ({'level': 'snippet'}, {'a.npz': (6, 4)}, {'a.npz': (1,)}, r"a\.npz.*\(6, 4\).*'snippet'"),
    ],
)
def test_unsuitable_folders_raise(tmp_path: Path, recipe: dict, shapes: dict, labels: dict, text: str) -> None:
    write_set(tmp_path, {'level': 'video', 'config': {}, **recipe}, shapes, labels)
    with pytest.raises(ValueError, match=text):
        load_features(tmp_path)


@pytest.mark.parametrize('value', [math.nan, math.inf])
def test_features_must_be_finite(tmp_path: Path, value: float) -> None:
    write_set(tmp_path, {'level': 'video', 'config': {}}, {'a.npz': (4,)}, {'a.npz': (1,)})
    rows = np.array([1, value, 0, 0], np.float32)
    write_features(VideoFeatures(rows, np.zeros(()), 'b', 9, None, (0,)), tmp_path / 'b.npz')
    with pytest.raises(ValueError, match=r'b\.npz'):
        load_features(tmp_path)


def test_videos_must_not_count_twice(tmp_path: Path) -> None:
    write_set(tmp_path, {'level': 'video', 'config': {}}, {'a.npz': (4,)}, {'a.npz': (1,)})
    (tmp_path / 'sub').mkdir()
    (tmp_path / 'sub' / 'a.npz').write_bytes((tmp_path / 'a.npz').read_bytes())
    with pytest.raises(ValueError, match=r'a\.npz.*sub/a\.npz|sub/a\.npz.*a\.npz'):
        load_features(tmp_path)


def test_validation_features_inside_are_not_trained_on(tmp_path: Path) -> None:
    recipe = {'level': 'video', 'config': {}}
    write_set(tmp_path, recipe, {'a.npz': (4,)}, {'a.npz': (1,)})
    write_set(tmp_path / 'val', recipe, {'b.npz': (4,)}, {'b.npz': (1,)})
    with pytest.raises(ValueError, match='val'):
        load_features(tmp_path)
    assert len(load_features(tmp_path / 'val').labels) == 1


def test_sets_must_match() -> None:
    train = make_set()
    check_sets(train, make_set(1), 'attentive', 3)
    for other, head, num_classes, text in (
        (make_set(checkpoint_sha256='a'), 'linear', 3, 'checkpoint_sha256'),
        (train, 'linear', 2, 'label 2'),
        (make_set(snippets=3), 'linear', 3, r'\(2, 3, 6\).*\(2, 2, 6\)'),
    ):
        with pytest.raises(ValueError, match=text):
            check_sets(train, other, head, num_classes)
    with pytest.raises(ValueError, match='layer'):
        check_sets(make_set(layer='backbone'), make_set(layer='backbone'), 'linear', 3)
    with pytest.raises(ValueError, match='--level snippet'):
        check_sets(make_set(level='clip'), make_set(level='clip'), 'attentive', 3)
    with pytest.raises(ValueError, match='two or more'):
        check_sets(make_set(number=1), make_set(), 'linear', 3)


def test_common_videos_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    train, val = replace(make_set(number=3), videos='abc'), replace(make_set(number=3), videos='cde')
    check_sets(train, val, 'linear', 3)
    assert [record.args for record in caplog.records] == [(1, 3, 'c')]
    caplog.clear()
    check_sets(train, replace(val, videos='def'), 'linear', 3)
    assert not caplog.records


@pytest.mark.parametrize(
    'options', [{'head': 'mlp'}, {'lrs': ()}, {'lrs': (0.0,)}, {'lrs': (math.inf,)}, {'epochs': 0}]
)
def test_invalid_options_raise(options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        ProbeOptions(**options)


def test_backbone_must_be_that_of_the_features(recognizer: Recognizer, checkpoint: Path, tmp_path: Path) -> None:
    recipe = recipe_of(recognizer, checkpoint)
    moved = tmp_path / 'moved.pth'
    moved.write_bytes(checkpoint.read_bytes())
    state = load_backbone(recipe, moved)[1]
    assert all(torch.equal(value, state[key]) for key, value in recognizer.model.state_dict().items())
    (tmp_path / 'other.pth').write_bytes(b'x')
    with pytest.raises(ValueError, match=r'other\.pth'):
        load_backbone(recipe, tmp_path / 'other.pth')
    with pytest.raises(FileNotFoundError, match='--checkpoint'):
        load_backbone(recipe | {'checkpoint': '/gone.pth'})


def test_loader_of_features_reads_all_sources(recognizer: Recognizer, videos: Path) -> None:
    sources = find_sources(str(videos / 'sub'))[0]
    loader = build_sample_loader(sources, recognizer.pipelines, 1, 0, 1, 2)
    assert [sample.facts.keys() for sample in loader] == [{1}]
