from types import SimpleNamespace

import pytest
import torch

from codes.engine.preparation import check_loss, seed_iteration, set_determinism
from codes.models.losses import BinaryCrossEntropyLoss, CrossEntropyLoss, FocalLoss, Loss


def test_iterations_and_processes_have_seeds_of_their_own() -> None:
    draws = set()
    for place in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0, 0, 1)]:
        seed_iteration(*place)
        draws.add(torch.rand(1).item())
    assert len(draws) == 5
    seed_iteration(1, 0, 0)
    assert torch.rand(1).item() in draws


def test_determinism_is_what_was_asked_for() -> None:
    for wanted in (True, False):
        set_determinism(wanted)
        assert torch.are_deterministic_algorithms_enabled() == wanted


@pytest.mark.parametrize('loss', [CrossEntropyLoss(), FocalLoss()])
def test_losses_of_one_label_refuse_several(loss: Loss) -> None:
    check_loss(loss, SimpleNamespace(multi_hot=None))
    check_loss(BinaryCrossEntropyLoss(), SimpleNamespace(multi_hot=3))
    with pytest.raises(ValueError, match=rf'{type(loss).__name__}\) needs one label a video, but .* have multi_hot=3'):
        check_loss(loss, SimpleNamespace(multi_hot=3))
