import pytest
import torch

from codes.engine.optim import CosineSchedule, StepSchedule, set_learning_rate


def test_step_schedule_of_the_paper() -> None:
    schedule = StepSchedule(milestones=(50, 75, 90), warmup_epochs=10, warmup_start_factor=0.01)
    epochs = [0, 5, 9.999, 10, 49.99, 50, 74.99, 75, 90, 99.99]
    expected = [0.01, 0.505, 0.9999, 1, 1, 0.1, 0.1, 0.01, 0.001, 0.001]
    assert [schedule.factor(e, 100) for e in epochs] == pytest.approx(expected, rel=1e-3)


def test_warmup_is_linear_by_iteration_and_meets_the_step_inside_it() -> None:
    schedule = StepSchedule(milestones=(1,), gamma=0.5, warmup_epochs=2, warmup_start_factor=0)
    assert [schedule.factor(i / 4, 4) for i in range(9)] == pytest.approx(
        [0, 0.125, 0.25, 0.375, 0.25, 0.3125, 0.375, 0.4375, 0.5]
    )


def test_cosine_schedule_falls_from_one_to_the_final_factor() -> None:
    schedule = CosineSchedule(final_factor=0.2, warmup_epochs=2, warmup_start_factor=0.5)
    assert [schedule.factor(e, 10) for e in (0, 1, 2, 6, 10)] == pytest.approx([0.5, 0.75, 1, 0.6, 0.2])


def test_cosine_schedule_without_warmup_starts_at_the_base_rate() -> None:
    assert CosineSchedule().factor(0, 5) == 1


def test_learning_rate_is_the_groups_own_base_times_the_factor() -> None:
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.SGD([{'params': weights[:1]}, {'params': weights[1:], 'lr': 2.0}], lr=1.0)
    set_learning_rate(optimizer, 0.5)
    assert set_learning_rate(optimizer, 0.1) == pytest.approx(0.1)
    assert [group['lr'] for group in optimizer.param_groups] == pytest.approx([0.1, 0.2])


@pytest.mark.parametrize(
    ('make', 'text'),
    [
        (lambda: StepSchedule(milestones=(5, 3)), r'milestones=\(5, 3\) must ascend'),
        (lambda: StepSchedule(milestones=(), warmup_epochs=-1), 'warmup_epochs=-1 must be at least 0'),
        (lambda: CosineSchedule(warmup_start_factor=2), r'warmup_start_factor=2 lie in \[0, 1\]'),
        (lambda: CosineSchedule(final_factor=-1), r'final_factor=-1 must lie in \[0, 1\]'),
    ],
)
def test_wrong_schedules_are_refused_with_text(make: object, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()
