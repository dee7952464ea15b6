import pytest
import torch

from codes.engine.preparation import place_model, seed_iteration, set_determinism
from codes.models.modules_maker.non_local import MODES, NonLocal3d


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


@pytest.mark.parametrize('mode', MODES)
def test_filters_of_3d_convolutions_are_placed_channels_last_and_nothing_else_changes(mode: str) -> None:
    module = NonLocal3d(6, mode=mode)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    parameters = dict(module.named_parameters())
    place_model(module, torch.device('cpu'))
    assert all(parameters[name] is parameter for name, parameter in module.named_parameters())
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])
        filters = before[name].dim() == 5
        expected = before[name].to(memory_format=torch.channels_last_3d) if filters else before[name]
        assert value.stride() == expected.stride(), name
    assert module.g[0].conv.weight.stride() == (6, 1, 6, 6, 6)
    assert mode != 'concatenation' or module.concat_project.conv.weight.dim() == 4  # of a 2D convolution
