import pytest
import torch

from dsanet.models.heads.i3d_cls_head import I3DClsHead
from dsanet.models.heads.tsn_head import TSNHead


@torch.no_grad()
def test_scores_are_those_of_the_mean_features() -> None:
    head = TSNHead(num_classes=5, in_channels=6, init_std=1.0).eval()
    features = torch.randn(6, 6, 2, 3, 4)
    expected = []
    for view in features.split(3):
        pooled = torch.stack([view[:, c].mean() for c in range(6)])  # (C,)
        expected.append(head.fc_cls.weight @ pooled + head.fc_cls.bias)
    torch.testing.assert_close(head(features, num_snippets=3), torch.stack(expected))


@torch.no_grad()
def test_eval_scores_equal_i3d_head() -> None:
    head, other = TSNHead(5, 6, init_std=1.0).eval(), I3DClsHead(5, 6).eval()
    other.load_state_dict(head.state_dict())
    features = torch.randn(8, 6, 2, 3, 4)
    torch.testing.assert_close(head(features, 4), other(features, 4), rtol=1e-5, atol=1e-6)


def test_dropout_mask_is_shared_by_a_view() -> None:
    """With the identity as classifier the scores show which features were dropped."""
    head = TSNHead(num_classes=32, in_channels=32, dropout=0.5)
    with torch.no_grad():
        head.fc_cls.weight.copy_(torch.eye(32))
    values = head(torch.ones(8, 32, 1, 2, 2), num_snippets=4)  # (N*V, K)
    assert set(values.unique().tolist()) == {0.0, 2.0}
    head.eval()
    assert torch.equal(head(torch.ones(8, 32, 1, 2, 2), num_snippets=4), torch.ones(2, 32))


def test_init_std_applies_to_the_classifier() -> None:
    head = TSNHead(num_classes=200, in_channels=500, init_std=0.05)
    assert head.fc_cls.weight.std().item() == pytest.approx(0.05, rel=0.02)
    assert head.fc_cls.bias.abs().max() == 0


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        ({'num_classes': 0}, 'num_classes=0'),
        ({'num_classes': 2, 'dropout': -0.1}, r'dropout=-0.1.*\[0, 1\)'),
    ],
)
def test_invalid_options_raise(options: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        TSNHead(in_channels=4, **options)
