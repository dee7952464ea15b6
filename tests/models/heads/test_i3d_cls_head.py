import math

import pytest
import torch
from torch import Tensor

from dsanet.models.heads.i3d_cls_head import I3DClsHead
from dsanet.models.losses import BinaryCrossEntropyLoss, FocalLoss


def test_scores_are_averaged_over_snippets() -> None:
    head = I3DClsHead(num_classes=3, in_channels=2, dropout=0.0)
    with torch.no_grad():
        head.fc_cls.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
        head.fc_cls.bias.copy_(torch.tensor([0.0, 0.0, 10.0]))
    # Two snippets whose pooled features are (1, 3) and (3, 5): scores (1, 3, 14) and (3, 5, 18).
    features = torch.zeros(2, 2, 1, 1, 2)
    features[0, 0], features[0, 1] = torch.tensor([0.0, 2.0]), torch.tensor([3.0, 3.0])
    features[1, 0], features[1, 1] = torch.tensor([3.0, 3.0]), torch.tensor([4.0, 6.0])
    torch.testing.assert_close(head(features, num_snippets=2), torch.tensor([[2.0, 4.0, 16.0]]))


def test_dropout_acts_in_training_only() -> None:
    head = I3DClsHead(num_classes=5, in_channels=64, dropout=0.5)
    features = torch.rand(4, 64, 1, 2, 2)
    assert not torch.equal(head(features, 2), head(features, 2))
    head.eval()
    assert torch.equal(head(features, 2), head(features, 2))


def test_init_std_applies_to_the_classifier() -> None:
    head = I3DClsHead(num_classes=200, in_channels=500, init_std=0.05)
    assert head.fc_cls.weight.std().item() == pytest.approx(0.05, rel=0.02)
    assert head.fc_cls.bias.abs().max() == 0


def test_loss_is_the_mean_cross_entropy() -> None:
    head = I3DClsHead(num_classes=2, in_channels=1)
    scores = torch.tensor([[0.0, 0.0], [0.0, 2.0]])
    expected = (torch.tensor(2.0).log() + torch.tensor(1 + torch.e**-2).log()) / 2
    torch.testing.assert_close(head.loss(scores, torch.tensor([0, 1])), expected)


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        ({'num_classes': None}, 'num_classes=None'),
        ({'num_classes': 0}, 'num_classes=0'),
        ({'num_classes': '8'}, "num_classes='8'"),
        ({'num_classes': 2, 'dropout': 1.0}, r'dropout=1.0.*\[0, 1\)'),
        ({'num_classes': 2, 'test_window': (7,)}, r'test_window=\(7,\)'),
        ({'num_classes': 2, 'test_window': (7, 0)}, r'test_window=\(7, 0\)'),
    ],
)
def test_invalid_options_raise(options: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        I3DClsHead(in_channels=4, **options)


def test_configured_loss_is_used() -> None:
    scores, label = torch.randn(4, 2), torch.tensor([0, 1, 1, 0])
    head = I3DClsHead(num_classes=2, in_channels=1, loss=FocalLoss(gamma=1.5))
    assert head.loss(scores, label) == FocalLoss(gamma=1.5)(scores, label)


def slow_windows(head: I3DClsHead, features: Tensor, num_snippets: int) -> Tensor:
    """Probabilities (N*V, K): classify each window alone, as in training, and average."""
    height, width = head.test_window
    rows, columns = features.shape[3:]
    found = []
    for view in features.split(num_snippets):
        answers = []
        for top in range(rows - height + 1):
            for left in range(columns - width + 1):
                window = view[:, :, :, top : top + height, left : left + width]
                scores = torch.stack([head.fc_cls(snippet.mean(dim=(1, 2, 3))) for snippet in window])  # (U, K)
                answers.append(scores.mean(0).softmax(0))
        found.append(torch.stack(answers).mean(0))
    return torch.stack(found)


@pytest.mark.parametrize('window', [(2, 2), (1, 1), (2, 3), (3, 1), (4, 5)])
@torch.no_grad()
def test_window_scores_are_log_mean_probabilities(window: tuple[int, int]) -> None:
    head = I3DClsHead(num_classes=5, in_channels=6, init_std=1.0, test_window=window).eval()
    features = torch.randn(6, 6, 2, 4, 5)
    scores = head(features, num_snippets=3)
    torch.testing.assert_close(scores.exp(), slow_windows(head, features, 3))
    torch.testing.assert_close(scores.softmax(dim=1), slow_windows(head, features, 3))


@torch.no_grad()
def test_window_of_full_size_equals_no_window() -> None:
    plain = I3DClsHead(num_classes=5, in_channels=6, init_std=1.0).eval()
    windowed = I3DClsHead(num_classes=5, in_channels=6, test_window=[3, 4]).eval()
    windowed.load_state_dict(plain.state_dict())
    features = torch.randn(4, 6, 2, 3, 4)
    torch.testing.assert_close(windowed(features, 2).softmax(1), plain(features, 2).softmax(1))


@torch.no_grad()
def test_windows_need_a_softmax_loss() -> None:
    I3DClsHead(num_classes=5, in_channels=6, test_window=(1, 1), loss=FocalLoss())
    with pytest.raises(ValueError, match='test_window.*BinaryCrossEntropyLoss'):
        I3DClsHead(num_classes=5, in_channels=6, test_window=(1, 1), loss=BinaryCrossEntropyLoss())


def test_windows_apply_in_eval_mode_only() -> None:
    head = I3DClsHead(num_classes=5, in_channels=6, dropout=0.0, init_std=1.0, test_window=(1, 1))
    plain = I3DClsHead(num_classes=5, in_channels=6, dropout=0.0)
    plain.load_state_dict(head.state_dict())
    features = torch.randn(4, 6, 2, 3, 4)
    assert torch.equal(head(features, 2), plain(features, 2))
    assert not torch.allclose(head.eval()(features, 2), plain(features, 2), atol=1e-3)


@torch.no_grad()
def test_window_scores_of_extreme_logits_stay_finite() -> None:
    """Probabilities of e^-300 do not fit into a float; their logarithms do."""
    head = I3DClsHead(num_classes=2, in_channels=1, test_window=(1, 1)).eval()
    head.fc_cls.weight.copy_(torch.tensor([[300.0], [0.0]]))
    scores = head(torch.ones(1, 1, 1, 2, 2), num_snippets=1)
    torch.testing.assert_close(scores, torch.tensor([[0.0, -300.0]]))


@torch.no_grad()
def test_window_scores_by_hand() -> None:
    """Two windows with the probabilities 0.9 and 0.5 for the first class."""
    head = I3DClsHead(num_classes=2, in_channels=1, test_window=(1, 1)).eval()
    head.fc_cls.weight.copy_(torch.tensor([[1.0], [0.0]]))
    features = torch.tensor([math.log(9), 0.0]).reshape(1, 1, 1, 1, 2)
    torch.testing.assert_close(head(features, 1).exp(), torch.tensor([[0.7, 0.3]]))


@pytest.mark.parametrize('size', [(2, 4), (4, 2)])
def test_window_larger_than_features_raises(size: tuple[int, int]) -> None:
    head = I3DClsHead(num_classes=2, in_channels=3, test_window=(3, 3)).eval()
    with pytest.raises(ValueError, match=rf'test_window=\(3, 3\) .*{size[0]} x {size[1]}'):
        head(torch.zeros(2, 3, 1, *size), num_snippets=2)
