import copy
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dsanet.config.registry import MODELS, build
from dsanet.inference.features import extraction
from dsanet.inference.features.extraction import FeatureExtractor, extract, summarize
from dsanet.inference.features.files import name_files, read_features
from dsanet.inference.recognizer import Recognizer
from dsanet.inference.samples import build_sample_loader
from dsanet.inference.sources import Source, find_sources
from tests.as_processes import as_processes
from tests.engine.conftest import make_config
from tests.make_recognizer import make_recognizer

HEADS = {
    'I3DClsHead': {},
    'TSNHead': {},
    'TRNHead': {'num_snippets': 2, 'hidden_channels': 8, 'init_std': 1.0},
    'AttentiveHead': {'num_heads': 2, 'init_std': 1.0},
}


@pytest.fixture
def inputs() -> torch.Tensor:
    """Frames (N, V, U, C, T, H, W)."""
    torch.manual_seed(0)
    return torch.randint(256, (3, 2, 2, 3, 2, 16, 16), dtype=torch.uint8)


def with_head(name: str, options: dict) -> Recognizer:
    head = {'type': name, 'num_classes': 8, 'in_channels': 32, **options}
    config = make_config(Path('nowhere'), model={'cls_head': head})
    torch.manual_seed(1)
    return Recognizer(build(config['model'], MODELS), config, device='cpu')


@pytest.mark.parametrize('name', HEADS)
@torch.no_grad()
def test_head_on_features_gives_the_scores(name: str, inputs: torch.Tensor) -> None:
    own = with_head(name, HEADS[name])
    found = FeatureExtractor(own)(inputs)
    assert found.shape == (3, 2, 2, 32)
    views = own.model.cls_head(found.flatten(0, 2)[..., None, None, None], num_snippets=2)
    assert torch.equal(views.unflatten(0, (3, 2)).mean(dim=1), own.score(inputs)[0])


@torch.no_grad()
def test_classifier_on_clip_features_gives_the_scores(recognizer: Recognizer, inputs: torch.Tensor) -> None:
    found = FeatureExtractor(recognizer)(inputs).numpy()
    facts = {'frame_indices': np.zeros((2, 2, 2), np.int64), 'num_frames': 9, 'fps': None}
    layer = recognizer.model.cls_head.fc_cls
    for rows, scores in zip(found, recognizer.score(inputs)[0], strict=True):
        clip = summarize(rows, facts, Source('a', 'a'), 'clip').features
        views = [layer.weight.numpy() @ row + layer.bias.numpy() for row in clip]
        assert np.mean(views, axis=0) == pytest.approx(scores.numpy(), rel=1e-4, abs=1e-5)


def test_forward_passes_of_few_views_are_joined(recognizer: Recognizer, inputs: torch.Tensor) -> None:
    model = copy.deepcopy(recognizer.model)
    model.max_views_per_forward = 4
    own = Recognizer(model, recognizer.config, device='cpu')
    torch.testing.assert_close(FeatureExtractor(own)(inputs), FeatureExtractor(recognizer)(inputs))


@pytest.mark.parametrize(
    ('layer', 'shape'),
    [
        ('backbone.layer2', (3, 2, 2, 8)),
        ('backbone.layer2.0.dsa', (3, 2, 2, 8)),
        ('backbone.bn1', (3, 2, 2, 4)),  # followed by a ReLU in place
    ],
)
def test_layers_are_averaged_over_other_axes(
    recognizer: Recognizer, inputs: torch.Tensor, layer: str, shape: tuple[int, ...]
) -> None:
    found = FeatureExtractor(recognizer, layer)(inputs)
    assert found.shape == shape
    outputs: list[torch.Tensor] = []
    module = recognizer.model.get_submodule(layer)
    hook = module.register_forward_hook(lambda _module, _arguments, output: outputs.append(output.mean(dim=(2, 3, 4))))
    for n in range(3):
        for v in range(2):
            recognizer.score(inputs[n : n + 1, v : v + 1])  # a view alone: its snippets are the rows
            torch.testing.assert_close(found[n, v], outputs.pop(), rtol=1e-4, atol=1e-5)
    hook.remove()


def test_layer_may_combine_snippets(recognizer: Recognizer, inputs: torch.Tensor) -> None:
    found = FeatureExtractor(recognizer, 'cls_head')(inputs)
    assert found.shape == (3, 2, 1, 8)
    torch.testing.assert_close(found.mean(dim=(1, 2)), recognizer.score(inputs)[0])
    facts = {'frame_indices': np.zeros((2, 2, 2), np.int64), 'num_frames': 9, 'fps': 25.0}
    assert summarize(found[0].numpy(), facts, Source('a', 'a'), 'video').features.shape == (8,)
    with pytest.raises(ValueError, match='--level'):
        summarize(found[0].numpy(), facts, Source('a', 'a'), 'snippet')


def test_linear_layers_have_their_channels_last(inputs: torch.Tensor) -> None:
    own = with_head('AttentiveHead', HEADS['AttentiveHead'])
    assert FeatureExtractor(own, 'cls_head.norm')(inputs).shape == (3, 2, 1, 32)  # over (N*V, U, C)


def test_unknown_layer_names_the_nearest(recognizer: Recognizer) -> None:
    with pytest.raises(ValueError, match=r"'backbone\.layer9'.*'backbone\.layer\d'"):
        FeatureExtractor(recognizer, 'backbone.layer9')


@pytest.mark.parametrize(
    ('layer', 'text'),
    [('backbone.layer1.0.relu', '2 times'), ('cls_head.criterion', '0 times'), ('cls_head.attention', 'tuple')],
)
def test_unsuitable_layers_raise(inputs: torch.Tensor, layer: str, text: str) -> None:
    with pytest.raises(ValueError, match=f'{layer}.*{text}'):
        FeatureExtractor(with_head('AttentiveHead', HEADS['AttentiveHead']), layer)(inputs)


def test_levels_and_times_equal_a_slow_loop() -> None:
    """Three crops of two groups of two snippets of three frames."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((6, 2, 5)).astype(np.float32)
    frames = np.array([[[0, 2, 4], [20, 22, 24]], [[10, 12, 14], [30, 32, 34]]])
    facts: dict[str, Any] = {'frame_indices': frames, 'num_frames': 40, 'fps': 10.0}
    source = Source('a.mp4', 'a.mp4', labels=(3,))
    snippet, clip, video = (summarize(rows, facts, source, level) for level in ('snippet', 'clip', 'video'))
    assert np.array_equal(snippet.features, rows)
    assert snippet.times == pytest.approx(np.array([[0.2, 2.2], [1.2, 3.2]] * 3))
    for view in range(6):
        assert clip.features[view] == pytest.approx((rows[view, 0] + rows[view, 1]) / 2)
        assert clip.times[view] == pytest.approx([1.2, 2.2][view % 2])
    assert video.features == pytest.approx(sum(rows[v, u] for v in range(6) for u in range(2)) / 12, abs=1e-6)
    assert video.times == pytest.approx(1.7)
    assert (video.num_frames, video.fps, video.labels, video.video) == (40, 10, (3,), str(Path('a.mp4').absolute()))
    ordered = summarize(rows, facts, source, 'snippet', in_time_order=True)
    assert ordered.times == pytest.approx([0.2, 1.2, 2.2, 3.2])
    for row, (group, u) in zip(ordered.features, [(0, 0), (1, 0), (0, 1), (1, 1)], strict=True):
        assert row == pytest.approx((rows[group, u] + rows[2 + group, u] + rows[4 + group, u]) / 3)
    assert np.isnan(summarize(rows, facts | {'fps': None}, source, 'clip').times).all()
    by_time = summarize(rows, facts | {'fps': None, 'frame_times': frames / 10 + 1}, source, 'clip')
    assert by_time.times == pytest.approx(summarize(rows, facts, source, 'clip').times + 1)
    span = Source('a.mp4#5-9', 'a.mp4', span=(5.0, 9.0))
    assert summarize(rows, facts, span, 'video').times == pytest.approx(5 + 1.7)


@pytest.fixture(scope='module')
def many(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Source]:
    """Seven videos, the second of which is damaged."""
    root = tmp_path_factory.mktemp('many')
    for i in range(7):
        shutil.copy(videos / ('bad.mp4' if i == 1 else 'a.mp4' if i % 2 else 'sub/d.mkv'), root / f'{i}.mp4')
    return find_sources(str(root))[0]


def extract_to(folder: Path, sources: list[Source], recognizer: Recognizer, rank: int = 0, size: int = 1) -> Any:
    files = name_files(sources, folder, 'npz')
    loader = build_sample_loader(sources, recognizer.pipelines, 2, 0, rank, size)
    return extract(FeatureExtractor(recognizer), loader, sources, files, 'snippet', lambda: None)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_several_processes_write_each_video_once(
    many: list[Source], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world_size = 3
    own = [make_recognizer() for _ in range(world_size)]
    _, problems = extract_to(tmp_path / 'one', many, own[0])
    assert list(problems) == [1]
    assert '1.mp4' in problems[1]
    written: list[Path] = []
    write = extraction.write_features
    monkeypatch.setattr(
        extraction, 'write_features', lambda content, file: (written.append(file), write(content, file))
    )
    results = as_processes(
        monkeypatch, world_size, lambda rank: extract_to(tmp_path / 'all', many, own[rank], rank, world_size)
    )
    assert results == [(0, problems)] * world_size
    assert set(Counter(written).values()) == {1}
    assert contents(tmp_path / 'all') == contents(tmp_path / 'one')
    assert len(contents(tmp_path / 'one')) == 6


def test_interrupted_extraction_continues(
    many: list[Source], tmp_path: Path, recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = [source for i, source in enumerate(many) if i != 1]
    extract_to(tmp_path / 'f', good, recognizer)
    before = contents(tmp_path / 'f')
    assert len(before) == 6
    names = sorted(before)
    (tmp_path / 'f' / names[3]).unlink()
    (tmp_path / 'f' / names[4]).write_bytes(before[names[4]][:100])  # damaged
    sizes: list[int] = []
    score = recognizer.score
    monkeypatch.setattr(recognizer, 'score', lambda inputs: (sizes.append(len(inputs)), score(inputs))[1])
    assert extract_to(tmp_path / 'f', good, recognizer) == (4, {})
    assert sizes == [2, 2]  # whole batches, so that the features have the same bits
    assert contents(tmp_path / 'f') == before
    assert extract_to(tmp_path / 'f', good, recognizer) == (6, {})
    assert sizes == [2, 2]


def test_features_equal_those_of_a_video_alone(many: list[Source], tmp_path: Path, recognizer: Recognizer) -> None:
    extract_to(tmp_path / 'f', many, recognizer)
    content = read_features(tmp_path / 'f' / '3.npz')
    inputs = next(iter(build_sample_loader([many[3]], recognizer.pipelines, 1))).batches[0]['inputs']
    assert content.features == pytest.approx(FeatureExtractor(recognizer)(inputs)[0].numpy(), rel=1e-4, abs=1e-5)
    assert content.features.shape == content.times.shape + (32,) == (2, 2, 32)
    assert (content.num_frames, content.video) == (30, many[3].name)


def test_features_that_are_not_finite_are_reported(many: list[Source], tmp_path: Path, recognizer: Recognizer) -> None:
    model = copy.deepcopy(recognizer.model)
    with torch.no_grad():
        model.backbone.layer4[0].bn2.bias.fill_(torch.nan)
    own = Recognizer(model, recognizer.config, device='cpu')
    _, problems = extract_to(tmp_path / 'f', many[:3], own)
    assert sorted(problems) == [0, 1, 2]
    assert 'finite' in problems[0]
    assert not (tmp_path / 'f').exists()


def test_errors_of_the_disk_are_raised(
    many: list[Source], tmp_path: Path, recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(extraction, 'write_features', fail)
    with pytest.raises(OSError, match='No space'):
        extract_to(tmp_path / 'f', many, recognizer)
