import pytest
import torch

from codes.models.heads.i3d_cls_head import I3DClsHead


def test_scores_are_the_mean_over_snippets_of_each_snippets_scores() -> None:
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


def test_weights_start_with_the_given_deviation() -> None:
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
        ({'num_classes': 0}, 'num_classes=0 must be a whole number'),
        ({'num_classes': '8'}, "num_classes='8' must be a whole number"),
        ({'num_classes': 2, 'dropout': 1.0}, r'dropout=1.0 must lie in \[0, 1\)'),
    ],
)
def test_wrong_options_are_refused_with_text(options: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        I3DClsHead(in_channels=4, **options)
