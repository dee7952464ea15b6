import pytest
import torch

from dsanet.models.heads.i3d_cls_head import I3DClsHead
from dsanet.models.heads.tsn_head import TSNHead
from dsanet.models.losses import BinaryCrossEntropyLoss


@torch.no_grad()
def test_scores_are_those_of_the_mean_over_frames_pixels_and_snippets() -> None:
    head = TSNHead(num_classes=5, in_channels=6, init_std=1.0).eval()
    features = torch.randn(6, 6, 2, 3, 4)
    expected = []
    for view in features.split(3):
        pooled = torch.stack([view[:, c].mean() for c in range(6)])  # (C,)
        expected.append(head.fc_cls.weight @ pooled + head.fc_cls.bias)
    torch.testing.assert_close(head(features, num_snippets=3), torch.stack(expected))


@torch.no_grad()
def test_scores_by_hand() -> None:
    head = TSNHead(num_classes=2, in_channels=1, dropout=0.0)
    head.fc_cls.weight.copy_(torch.tensor([[1.0], [-2.0]]))
    head.fc_cls.bias.copy_(torch.tensor([0.5, 0.0]))
    features = torch.tensor([[1.0, 3.0], [5.0, 7.0]]).reshape(2, 1, 1, 1, 2)  # (N*V*U, C, T, H, W)
    torch.testing.assert_close(head(features, num_snippets=2), torch.tensor([[4.5, -8.0]]))


@torch.no_grad()
def test_eval_scores_are_those_of_the_i3d_head() -> None:
    head, other = TSNHead(5, 6, init_std=1.0).eval(), I3DClsHead(5, 6).eval()
    other.load_state_dict(head.state_dict())
    features = torch.randn(8, 6, 2, 3, 4)
    torch.testing.assert_close(head(features, 4), other(features, 4), rtol=1e-5, atol=1e-6)


def test_one_mask_holds_for_a_whole_view() -> None:
    """With the identity as classifier the scores show which features were dropped."""
    head = TSNHead(num_classes=32, in_channels=32, dropout=0.5)
    with torch.no_grad():
        head.fc_cls.weight.copy_(torch.eye(32))
    values = head(torch.ones(8, 32, 1, 2, 2), num_snippets=4)  # (N*V, K)
    assert set(values.unique().tolist()) == {0.0, 2.0}
    head.eval()
    assert torch.equal(head(torch.ones(8, 32, 1, 2, 2), num_snippets=4), torch.ones(2, 32))


def test_weights_start_with_the_given_deviation() -> None:
    head = TSNHead(num_classes=200, in_channels=500, init_std=0.05)
    assert head.fc_cls.weight.std().item() == pytest.approx(0.05, rel=0.02)
    assert head.fc_cls.bias.abs().max() == 0


def test_the_loss_of_the_config_is_taken() -> None:
    scores, label = torch.randn(4, 2), torch.tensor([0, 1, 1, 0])
    head = TSNHead(2, 1, loss=BinaryCrossEntropyLoss())
    assert head.loss(scores, label) == BinaryCrossEntropyLoss()(scores, label)
    assert TSNHead(2, 1).loss(scores, label) == torch.nn.functional.cross_entropy(scores, label)


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        ({'num_classes': 0}, 'num_classes=0 must be a whole number'),
        ({'num_classes': 2, 'dropout': -0.1}, r'dropout=-0.1 must lie in \[0, 1\)'),
    ],
)
def test_wrong_options_are_refused_with_text(options: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        TSNHead(in_channels=4, **options)
