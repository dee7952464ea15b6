import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from dsanet.models.heads.i3d_cls_head import I3DClsHead
from dsanet.models.losses import BinaryCrossEntropyLoss, CrossEntropyLoss, FocalLoss, check_targets, one_hot

LOG3, LOG9 = math.log(3), math.log(9)
# Two videos of two classes whose probabilities are (3/4, 1/4) and (1/10, 9/10).
SCORES = torch.tensor([[LOG3, 0.0], [0.0, LOG9]])
CLASSES = torch.tensor([0, 0])


def value(loss: nn.Module, label: Tensor = CLASSES) -> float:
    """The loss of the two videos."""
    return loss(SCORES, label).item()


def test_cross_entropy_by_hand() -> None:
    assert value(CrossEntropyLoss()) == pytest.approx(-(math.log(0.75) + math.log(0.1)) / 2)


def test_label_smoothing_by_hand() -> None:
    """A fifth is spread over two classes: 0.9 for the label, 0.1 for the other."""
    first = 0.9 * math.log(0.75) + 0.1 * math.log(0.25)
    second = 0.9 * math.log(0.1) + 0.1 * math.log(0.9)
    assert value(CrossEntropyLoss(label_smoothing=0.2)) == pytest.approx(-(first + second) / 2)


def test_class_weights_by_hand() -> None:
    label = torch.tensor([0, 1])
    expected = -(2 * math.log(0.75) + 6 * math.log(0.9)) / 2
    assert value(CrossEntropyLoss(class_weights=[2, 6]), label) == pytest.approx(expected)


def test_class_weights_of_smoothed_and_mixed_labels() -> None:
    """Each class's share of a label counts with the weight of that class."""
    first = 2 * 0.9 * math.log(0.75) + 6 * 0.1 * math.log(0.25)
    second = 2 * 0.9 * math.log(0.1) + 6 * 0.1 * math.log(0.9)
    loss = CrossEntropyLoss(label_smoothing=0.2, class_weights=[2, 6])
    assert value(loss) == pytest.approx(-(first + second) / 2)
    mixed = torch.tensor([[0.9, 0.1], [0.9, 0.1]])
    assert value(CrossEntropyLoss(class_weights=[2, 6]), mixed) == pytest.approx(-(first + second) / 2)


def test_class_weights_with_mean_one_keep_the_scale() -> None:
    """Three videos of class 0 and one of class 1, each with the loss log 2: 4 / (2 * 3) and 4 / (2 * 1)."""
    scores, label = torch.zeros(4, 2), torch.tensor([0, 0, 0, 1])
    for loss in (CrossEntropyLoss(class_weights=[2 / 3, 2]), FocalLoss(gamma=0.0, class_weights=[2 / 3, 2])):
        assert loss(scores, label).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize(
    'loss',
    [
        CrossEntropyLoss(class_weights=[1, 1, 10]),
        CrossEntropyLoss(label_smoothing=0.1, class_weights=[1, 1, 10]),
        FocalLoss(class_weights=[1, 1, 10]),
        BinaryCrossEntropyLoss(positive_weight=3.0),
    ],
)
def test_losses_of_batch_parts_add_up(loss: nn.Module) -> None:
    scores, label = torch.randn(4, 3), torch.tensor([0, 2, 1, 1])
    for target in (label, torch.rand(4, 3).softmax(1)):
        parts = [loss(*part) for part in zip(scores.split(2), target.split(2), strict=True)]
        torch.testing.assert_close(sum(parts) / 2, loss(scores, target))


@pytest.mark.parametrize('kind', [CrossEntropyLoss, FocalLoss])
def test_batch_with_zero_weights_has_zero_loss(kind: type[nn.Module]) -> None:
    scores = torch.randn(2, 2, requires_grad=True)
    loss = kind(class_weights=[0, 1])(scores, CLASSES)
    loss.backward()
    assert loss.item() == 0
    assert not scores.grad.any()


def test_mixed_labels_by_hand() -> None:
    label = torch.tensor([[0.3, 0.7], [1.0, 0.0]])
    expected = -(0.3 * math.log(0.75) + 0.7 * math.log(0.25) + math.log(0.1)) / 2
    assert value(CrossEntropyLoss(), label) == pytest.approx(expected)


@pytest.mark.parametrize('gamma', [0.0, 0.5, 1.0, 2.0, 3.5])
def test_focal_loss_by_hand(gamma: float) -> None:
    expected = -(0.25**gamma * math.log(0.75) + 0.9**gamma * math.log(0.1)) / 2
    assert value(FocalLoss(gamma=gamma)) == pytest.approx(expected)


def test_focal_loss_with_class_weights_by_hand() -> None:
    expected = -(2 * 0.25**2 * math.log(0.75) + 6 * 0.1**2 * math.log(0.9)) / 2
    assert value(FocalLoss(class_weights=[2, 6]), torch.tensor([0, 1])) == pytest.approx(expected)


def test_focal_loss_of_mixed_labels_by_hand() -> None:
    label = torch.tensor([[0.3, 0.7], [1.0, 0.0]])
    mixed = 0.3 * 0.25**2 * math.log(0.75) + 0.7 * 0.75**2 * math.log(0.25)
    assert value(FocalLoss(), label) == pytest.approx(-(mixed + 0.9**2 * math.log(0.1)) / 2)


@pytest.mark.parametrize('kind', [CrossEntropyLoss, FocalLoss])
def test_balanced_weights_must_be_computed_first(kind: type[nn.Module]) -> None:
    loss = kind(class_weights='balanced')
    loss.check_num_classes(2)
    assert loss.probabilities(torch.zeros(1, 2)).tolist() == [[0.5, 0.5]]
    with pytest.raises(ValueError, match="class_weights='balanced'"):
        loss(torch.zeros(1, 2), torch.tensor([1]))


@pytest.mark.parametrize('class_weights', [None, [0.5, 1, 2, 0, 3]])
def test_focal_loss_with_gamma_0_is_cross_entropy(class_weights: list | None) -> None:
    scores, label = torch.randn(6, 5), torch.randint(5, (6,))
    torch.testing.assert_close(
        FocalLoss(gamma=0.0, class_weights=class_weights)(scores, label),
        CrossEntropyLoss(class_weights=class_weights)(scores, label),
    )
    mixed = torch.rand(6, 5).softmax(1)
    torch.testing.assert_close(
        FocalLoss(gamma=0.0, class_weights=class_weights)(scores, mixed),
        CrossEntropyLoss(class_weights=class_weights)(scores, mixed),
    )


@pytest.mark.parametrize('gamma', [0.0, 0.5, 1.0, 2.0])
def test_focal_loss_of_extreme_logits_has_finite_gradient(gamma: float) -> None:
    scores = torch.tensor([[100.0, 0.0], [0.0, 100.0]], requires_grad=True)
    loss = FocalLoss(gamma=gamma)(scores, CLASSES)
    loss.backward()
    assert loss.item() == pytest.approx(50)
    assert scores.grad.isfinite().all()


@pytest.mark.parametrize('smoothing', [0.0, 0.1])
@pytest.mark.parametrize('class_weights', [None, [0.5, 1, 2, 0, 3]])
def test_cross_entropy_equals_torch_sum_over_videos(smoothing: float, class_weights: list | None) -> None:
    scores, label = torch.randn(6, 5), torch.randint(5, (6,))
    weight = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
    summed = functional.cross_entropy(scores, label, weight, label_smoothing=smoothing, reduction='sum')
    torch.testing.assert_close(CrossEntropyLoss(smoothing, class_weights)(scores, label), summed / 6)


@pytest.mark.parametrize(
    'loss',
    [
        CrossEntropyLoss(),
        CrossEntropyLoss(label_smoothing=0.1),
        CrossEntropyLoss(class_weights=[1, 2, 5, 0.5]),
        CrossEntropyLoss(label_smoothing=0.1, class_weights=[1, 2, 5, 0.5]),
        FocalLoss(),
        FocalLoss(class_weights=[1, 2, 5, 0.5]),
        BinaryCrossEntropyLoss(positive_weight=3.0),
    ],
)
def test_class_and_one_hot_labels_are_equivalent(loss: nn.Module) -> None:
    scores, label = torch.randn(6, 4), torch.tensor([0, 3, 2, 2, 1, 0])
    torch.testing.assert_close(loss(scores, label), loss(scores, one_hot(label, 4)))


def test_binary_cross_entropy_by_hand() -> None:
    """Probabilities of the classes: 3/4, 1/2 and 1/2, 9/10."""
    label = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    expected = -(math.log(0.75) + math.log(0.5) + math.log(0.5) + math.log(0.1)) / 4
    assert value(BinaryCrossEntropyLoss(), label) == pytest.approx(expected)
    expected = -(3 * math.log(0.75) + 3 * math.log(0.5) + math.log(0.5) + math.log(0.1)) / 4
    assert value(BinaryCrossEntropyLoss(positive_weight=3.0), label) == pytest.approx(expected)


def test_one_hot_returns_float_weights() -> None:
    assert one_hot(torch.tensor([1, 0]), 3).tolist() == [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    weights = torch.rand(2, 3)
    assert one_hot(weights, 3) is weights


def test_state_dict_is_empty() -> None:
    for loss in (CrossEntropyLoss(class_weights=[1, 2]), FocalLoss(class_weights=[1, 2]), BinaryCrossEntropyLoss(2.0)):
        assert not loss.state_dict()
        assert len(list(loss.buffers())) == 1


@pytest.mark.parametrize(
    ('label', 'text'),
    [
        (torch.tensor([0, 1, 1]), r'\(3,\).*torch\.int64.*\(2, 2\)'),
        (torch.tensor([0.0, 1.0]), r'\(2,\).*torch\.float32'),
        (torch.ones(2, 3), r'\(2, 3\).*torch\.float32'),
        (torch.ones(2, 2, dtype=torch.int64), r'\(2, 2\).*torch\.int64'),
    ],
)
def test_invalid_labels_raise(label: Tensor, text: str) -> None:
    for check in (check_targets, CrossEntropyLoss(), FocalLoss(), BinaryCrossEntropyLoss()):
        with pytest.raises(ValueError, match=text):
            check(SCORES, label)


@pytest.mark.parametrize('kind', [CrossEntropyLoss, FocalLoss])
def test_wrong_number_of_class_weights_raises(kind: type[nn.Module]) -> None:
    kind(class_weights=[1, 1, 1]).check_num_classes(3)
    with pytest.raises(ValueError, match='class_weights.*3.*num_classes=2'):
        kind(class_weights=[1, 1, 1]).check_num_classes(2)
    with pytest.raises(ValueError, match='class_weights.*3.*num_classes=2'):
        I3DClsHead(2, 4, loss=kind(class_weights=[1, 1, 1]))


def test_probabilities_by_hand() -> None:
    scores = torch.tensor([[0.0, math.log(3.0)]])
    torch.testing.assert_close(CrossEntropyLoss().probabilities(scores), torch.tensor([[0.25, 0.75]]))
    torch.testing.assert_close(FocalLoss().probabilities(scores), torch.tensor([[0.25, 0.75]]))
    torch.testing.assert_close(BinaryCrossEntropyLoss().probabilities(scores), torch.tensor([[0.5, 0.75]]))


@pytest.mark.parametrize(
    ('kind', 'options', 'text'),
    [
        (CrossEntropyLoss, {'label_smoothing': 1.0}, r'label_smoothing=1.0.*\[0, 1\)'),
        (CrossEntropyLoss, {'label_smoothing': -0.1}, r'label_smoothing=-0.1.*\[0, 1\)'),
        (CrossEntropyLoss, {'class_weights': 'equal'}, r"class_weights='equal'.*'balanced'"),
        (CrossEntropyLoss, {'class_weights': []}, r'class_weights=\[\]'),
        (FocalLoss, {'class_weights': [1, -1]}, r'class_weights=\[1, -1\]'),
        (FocalLoss, {'class_weights': [0, 0]}, r'class_weights=\[0, 0\]'),
        (FocalLoss, {'gamma': -1.0}, 'gamma=-1.0'),
        (BinaryCrossEntropyLoss, {'positive_weight': 0.0}, 'positive_weight=0.0'),
    ],
)
def test_invalid_options_raise(kind: type[nn.Module], options: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        kind(**options)
