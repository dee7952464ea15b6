import numpy as np
import pytest
import torch

from dsanet.config.registry import MODELS, build
from dsanet.explain.order import ARRANGEMENTS, OrderResult, arrange, find_arrangements, measure_order
from dsanet.inference.recognizer import Recognizer
from tests.engine.conftest import make_config

RNG = np.random.default_rng(0)
# U snippets of T frames; the value of a frame is 10 * snippet + frame.
NUMBERED = (10 * torch.arange(4)[:, None] + torch.arange(3)).view(1, 1, 4, 1, 3, 1, 1).repeat(5, 2, 1, 3, 1, 2, 2)


def make(tmp_path, **changes) -> Recognizer:
    config = make_config(tmp_path)
    config['model'] |= changes
    torch.manual_seed(0)
    model = build(config['model'], MODELS)
    torch.nn.init.normal_(model.cls_head.fc_cls.weight)
    return Recognizer(model, config, [f'class {k}' for k in range(8)], 'cpu')


def batches(num_snippets: int = 4) -> list[dict]:
    frames = RNG.integers(0, 256, (5, 2, num_snippets, 3, 2, 16, 16), dtype=np.uint8)
    whole = {
        'inputs': torch.from_numpy(frames),
        'label': torch.tensor([0, 1, 2, 1, 0]),
        'index': torch.arange(5),
        'path': list('abcde'),
    }
    return [{key: value[part] for key, value in whole.items()} for part in (slice(0, 3), slice(3, 5))]


@pytest.mark.parametrize(
    ('name', 'snippets', 'frames'),
    [
        ('in order', [0, 1, 2, 3], [0, 1, 2]),
        ('reversed', [3, 2, 1, 0], [0, 1, 2]),
        ('repeated', [2, 2, 2, 2], [0, 1, 2]),
        ('dropped', [0, 1, 1, 3], [0, 1, 2]),
        ('frames reversed', [0, 1, 2, 3], [2, 1, 0]),
    ],
)
def test_arrangements_move_snippets_and_frames(name, snippets, frames) -> None:
    result = arrange(NUMBERED, name, range(5))
    assert result.shape == NUMBERED.shape
    expected = torch.tensor([[10 * s + f for f in frames] for s in snippets])
    assert (result == expected.view(1, 1, 4, 1, 3, 1, 1)).all()


def test_shuffles_depend_on_video_and_seed_only() -> None:
    one = arrange(NUMBERED, 'shuffled', range(5), seed=1)
    orders = one[:, 0, :, 0, 0, 0, 0] // 10  # (5, 4)
    assert torch.equal(one[:, 0], one[:, 1]), 'one order for all views'
    assert torch.equal(orders.sort(dim=1).values, torch.arange(4).expand(5, 4))
    assert torch.equal(one[:, :, :, :, :, 0, 0] % 10, NUMBERED[:, :, :, :, :, 0, 0] % 10)
    assert torch.equal(one[3:], arrange(NUMBERED[:2], 'shuffled', [3, 4], seed=1))
    assert not torch.equal(one, arrange(NUMBERED, 'shuffled', range(5), seed=2))
    many = arrange(NUMBERED[:1].expand(200, -1, -1, -1, -1, -1, -1), 'shuffled', range(200))[:, 0, :, 0, 0, 0, 0]
    assert len(many.unique(dim=0)) == 23, 'all orders of four but the time order'


def test_control_does_not_move_and_dsa_does(tmp_path) -> None:
    dsa = make(tmp_path, module_cfg={'type': 'DSA', 'num_snippets': 4, 'channel_ratio': 1, 'blocks': (0, 1, 1, 1)})
    control = make(tmp_path, module_cfg=None)
    results = measure_order([dsa, control], batches())
    assert results[0].names == tuple(ARRANGEMENTS)
    moved, still = (dict(zip(one.names, one.score_changes(), strict=True)) for one in results)
    scale = np.abs(results[1].scores).max()
    for name in ('reversed', 'shuffled'):
        assert still[name] < 1e-5 * scale
        assert moved[name] > 1e-3 * scale
    for name in ('repeated', 'dropped', 'frames reversed'):
        assert still[name] > 1e-3 * scale, 'other content'
    assert results[1].changed()[1:3].tolist() == [0, 0]


def test_scores_are_those_of_arranged_videos(tmp_path) -> None:
    recognizer = make(tmp_path)
    parts = batches(2)
    (result,) = measure_order([recognizer], parts, seed=3)
    assert result.labels.tolist() == [0, 1, 2, 1, 0]
    inputs = torch.cat([part['inputs'] for part in parts])
    for i, name in enumerate(result.names):
        for video in range(5):
            alone = recognizer.score(arrange(inputs[video : video + 1], name, [video], 3))[0]
            np.testing.assert_allclose(result.scores[i, video], alone[0], rtol=1e-4, atol=1e-4)


def test_accuracies_match_hand_computation() -> None:
    best = np.array([[0, 1, 1, 3], [0, 0, 1, 3]])
    scores = np.eye(4, dtype=np.float32)[best] * np.array([2, 5], np.float32)[:, None, None]
    result = OrderResult(('in order', 'reversed'), scores, np.array([0, 1, 1, 1]))
    assert result.accuracies().tolist() == [75, 50]
    np.testing.assert_allclose(result.class_accuracies()[:, :2], [[100, 200 / 3], [100, 100 / 3]])
    assert np.isnan(result.class_accuracies()[:, 2:]).all()
    assert result.changed().tolist() == [0, 1]
    assert result.score_changes().tolist() == [0, 5]


@pytest.mark.parametrize(
    ('shape', 'names'),
    [
        ((4, 8), list(ARRANGEMENTS)),
        ((8, 1), ['in order', 'reversed', 'shuffled', 'repeated', 'dropped']),
        ((1, 8), ['in order', 'frames reversed']),
    ],
)
def test_only_possible_arrangements_are_measured(shape, names) -> None:
    assert list(find_arrangements(*shape)) == names


def test_single_frame_is_an_error() -> None:
    with pytest.raises(ValueError, match='num_snippets=1'):
        find_arrangements(1, 1)


def test_wrong_data_are_errors(tmp_path) -> None:
    recognizer = make(tmp_path)
    with pytest.raises(ValueError, match='no videos'):
        measure_order([recognizer], [])
    with pytest.raises(ValueError, match='multi_hot'):
        measure_order([recognizer], [batches(2)[0] | {'label': torch.zeros(3, 8)}])
    recognizer.model.cls_head.fc_cls.weight.data.fill_(float('nan'))
    with pytest.raises(ValueError, match='^a: '):
        measure_order([recognizer], batches(2))
