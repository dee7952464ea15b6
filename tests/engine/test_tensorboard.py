"""Pictures for TensorBoard, read back with its own reader."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dsanet.config.registry import MODELS, build
from dsanet.config.schema import RuntimeCfg
from dsanet.engine.logging import ScalarWriter
from dsanet.engine.tensorboard import CELL, compute_features, draw_batch, label_names
from tests.engine.conftest import make_config, train


def read_events(work_dir: Path) -> EventAccumulator:
    events = EventAccumulator(str(work_dir / 'tensorboard'))
    events.Reload()
    return events


def find_label_files(work_dir: Path) -> list[Path]:
    return list((work_dir / 'tensorboard').rglob('metadata.tsv'))


@pytest.fixture(scope='module')
def runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any]]:
    """A run as usual, and the same run with all that TensorBoard can show."""
    root = tmp_path_factory.mktemp('runs')
    found = {}
    for name, extras in (('plain', []), ('all', ['graph', 'embedding'])):
        config = make_config(data, train_cfg={'max_epochs': 1, 'ema_decay': 0.9}, runtime={'tensorboard': extras})
        found[name] = (root / name, train(config, root / name))
    return found


def test_first_batch_is_shown_once(runs: dict) -> None:
    for folder, _ in runs.values():
        events = read_events(folder)
        assert events.Tags()['images'] == ['first_batch']
        (event,) = events.Images('first_batch')
        assert event.step == 1
        picture = np.asarray(Image.open(io.BytesIO(event.encoded_image_string)))
        assert picture.shape == (event.height, event.width, 3)
        assert picture.std() > 20


def test_graph_and_embedding_only_on_request(runs: dict) -> None:
    assert not read_events(runs['plain'][0]).Tags()['graph']
    assert find_label_files(runs['plain'][0]) == []
    folder, _ = runs['all']
    events = read_events(folder)
    assert events.Tags()['graph']
    assert any('backbone' in node.name for node in events.Graph().node)
    (labels,) = find_label_files(folder)
    rows = np.loadtxt(labels.with_name('tensors.tsv'), delimiter='\t')
    assert rows.shape == (7, 32)  # validation videos, channels
    assert len(labels.read_text().splitlines()) == 7
    assert labels.with_name('sprite.png').is_file()
    assert labels.parent.parent.name == '00002', 'after the last iteration'


def test_pictures_do_not_change_the_run(runs: dict) -> None:
    plain, full = (trainer.stepper for _, trainer in runs.values())
    for one, other in ((plain.model, full.model), (plain.average.model, full.average.model)):
        assert one.training == other.training
        for name, value in one.state_dict().items():
            assert torch.equal(value, other.state_dict()[name]), name
    scalars = [read_events(folder) for folder, _ in runs.values()]
    for tag in ('train/loss', 'val/top1'):
        assert [e.value for e in scalars[0].Scalars(tag)] == [e.value for e in scalars[1].Scalars(tag)]


def test_resumed_run_does_not_show_another_batch(data: Path, tmp_path: Path) -> None:
    train(make_config(data, train_cfg={'max_epochs': 1}), tmp_path)
    train(make_config(data, train_cfg={'max_epochs': 2}), tmp_path, resume='auto')
    assert [event.step for event in read_events(tmp_path).Images('first_batch')] == [1]


def test_features_are_means_over_the_head_input(data: Path) -> None:
    model: Any = build(make_config(data)['model'], MODELS, 'model').eval()
    inputs = torch.randint(
        0, 256, (3, 2, 2, 3, 2, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    features = compute_features(model, inputs)
    with torch.no_grad():
        for video in range(3):
            views = model.data_preprocessor(inputs[video])  # (V, U, C, T, H, W)
            maps = [model.backbone(view).mean(dim=(0, 2, 3, 4)) for view in views]
            torch.testing.assert_close(features[video], torch.stack(maps).mean(0), rtol=1e-4, atol=1e-5)
    model.max_views_per_forward = 1
    torch.testing.assert_close(compute_features(model, inputs), features, rtol=1e-4, atol=1e-5)


def test_batch_picture_has_all_frames() -> None:
    inputs = torch.zeros(2, 1, 3, 3, 2, 8, 8, dtype=torch.uint8)
    places = list(np.ndindex(2, 3, 2))  # video, snippet, frame
    for number, (video, snippet, frame) in enumerate(places):
        inputs[video, 0, snippet, :, frame] = torch.tensor([200, 10 * number, 30]).view(3, 1, 1)
    picture = draw_batch(inputs, ['wave', 'W' * 99], 'title')
    corners = []
    for number in range(len(places)):
        rows, columns = np.nonzero((picture == [200, 10 * number, 30]).all(axis=2))
        assert len(rows) == CELL * CELL
        corners.append((rows.min(), columns.min()))
    assert corners[0][0] == corners[1][0], 'frames are columns'
    assert corners[0][1] == corners[2][1] < corners[6][1], 'snippets are rows, videos are side by side'
    assert corners[0][0] < corners[2][0] < corners[4][0]


def test_snippets_of_one_frame_are_columns() -> None:
    inputs = torch.zeros(1, 1, 4, 3, 1, 8, 8, dtype=torch.uint8)
    for snippet in range(4):
        inputs[0, 0, snippet] = torch.tensor([200, 10 * snippet, 30]).view(3, 1, 1, 1)
    picture = draw_batch(inputs, ['wave'], 'title')
    corners = [np.argwhere((picture == [200, 10 * snippet, 30]).all(axis=2)).min(axis=0) for snippet in range(4)]
    assert len({row for row, _ in corners}) == 1
    assert np.all(np.diff([column for _, column in corners]) > CELL)


def test_labels_are_shown_by_name() -> None:
    assert label_names(torch.tensor([1, 0]), ['wave', 'clap']) == ['clap', 'wave']
    assert label_names(torch.tensor([[1.0, 0, 1], [0, 0, 0]]), None) == ['class 0, class 2', 'no class']


@pytest.mark.parametrize('wrong', ['graph', ['grahp']])
def test_unknown_extras_are_errors(wrong: object) -> None:
    with pytest.raises(ValueError, match='tensorboard=.*embedding'):
        RuntimeCfg(tensorboard=wrong)  # type: ignore[arg-type]


def test_only_rank_0_draws_and_errors_are_warnings(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    calls: list[Any] = []
    with ScalarWriter(tmp_path, is_main=False) as writer:
        writer.draw(calls.append)
    assert calls == []
    with ScalarWriter(tmp_path, is_main=True) as writer:
        writer.draw(calls.append)
        writer.draw(lambda board: board.no_such_method())
    assert len(calls) == 1
    assert [record.levelname for record in caplog.records] == ['WARNING']
