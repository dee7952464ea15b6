import torch

from codes.engine.preparation import seed_iteration, set_determinism


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
