"""Forward passes and steps: which variants run, with which costs, and what stays unchanged."""

import copy

import pytest
import torch

from dsanet.benchmarks.models import benchmark_model, benchmark_train, find_test_shape, random_batch, training_variants
from dsanet.engine.train_step import Stepper
from dsanet.models.recognizers.recognizer3d import Recognizer3D
from dsanet.models.summary import summarize_model
from tests.benchmarks.conftest import CPU

pytestmark = pytest.mark.usefixtures('short')
REFERENCES = ['matmul fp32', 'matmul bf16', 'copy']


def test_batch_is_like_that_of_a_loader() -> None:
    inputs, label = random_batch(2, (4, 3, 8, 6), 5, CPU)
    assert inputs.shape == (2, 1, 4, 3, 3, 8, 6)
    assert inputs.dtype == torch.uint8
    assert inputs[0, 0].is_contiguous(memory_format=torch.channels_last_3d), 'channels-last, as from PackInputs'
    assert label.shape == (2,)
    assert set(label.tolist()) <= set(range(5))


def test_forward_counts_videos_and_costs(config: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    config['test_dataloader']['dataset']['pipeline'][3]['size'] = 24
    assert find_test_shape(config) == (2, 2, 24, 24)
    before = copy.deepcopy(config)
    seen: list[tuple] = []
    forward = Recognizer3D.forward
    monkeypatch.setattr(
        Recognizer3D,
        'forward',
        lambda self, x: (
            seen.append((tuple(x.shape), self.training, torch.is_autocast_enabled('cpu'))) or forward(self, x)
        ),
    )
    results = benchmark_model({'tiny': config}, 2, 1, CPU, batch_size=3)
    names = [f'tiny forward {precision}{variant}' for variant in ('', ', optimized') for precision in ('fp32', 'bf16')]
    assert [result.name for result in results] == [*REFERENCES, *names]
    assert [result.facts['x_plain'] for result in results[3:5]] == [1, 1]
    one = summarize_model(config['model'], (2, 2, 24, 24))['gmacs']
    for result in results[3:]:
        assert result.facts['gmacs'] == pytest.approx(3 * one)
        assert result.facts['share_of_matmul'] > 0
        assert len(result.cpu_s) == 2
        assert min(result.cpu_s) > 0
    on_cpu = [entry for entry in seen if entry[0][0] == 3]
    assert on_cpu == [((3, 1, 2, 3, 2, 24, 24), False, amp) for _ in range(6) for amp in (False, True)]
    assert config == before


def test_input_shape_replaces_that_of_the_config(config: dict) -> None:
    results = benchmark_model({'tiny': config}, 1, 1, CPU, shape=(2, 2, 16, 32))
    assert results[-1].facts['shape'] == [2, 2, 16, 32]


def test_steps_with_and_without_modules_and_checkpointing(config: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    config['model']['backbone']['pretrained'] = 'missing.pth'
    before = copy.deepcopy(config)
    made: list[Stepper] = []
    create = Stepper.__init__
    monkeypatch.setattr(Stepper, '__init__', lambda self, *args: made.append(self) or create(self, *args))
    results = benchmark_train({'tiny': config}, 1, 1, CPU, batch_size=2)
    names = [
        f'tiny step {precision}{variant}'
        for variant in ('', ', checkpointing', ', without modules')
        for precision in ('fp32', 'bf16')
    ]
    assert [result.name for result in results] == [*REFERENCES, *names]
    assert [result.facts['x_plain'] for result in results[3:5]] == [1, 1]
    assert all(result.facts['x_plain'] > 0 for result in results[3:])
    forward = summarize_model(config['model'], (2, 2, 16, 16))['gmacs']
    assert results[3].facts['gmacs'] == pytest.approx(3 * 2 * forward)
    assert results[-1].facts['gmacs'] < results[3].facts['gmacs'], 'without DSA'
    assert [stepper.runtime.amp for stepper in made] == [None, 'bf16'] * 3
    assert {stepper.batch_size for stepper in made} == {2}
    assert all(p.isfinite().all() and p.grad is not None for s in made for p in s.model.parameters())
    assert config == before


def test_checkpointing_of_a_config_is_its_variant(config: dict) -> None:
    config['model']['backbone']['activation_checkpointing'] = True
    variants = training_variants(config)
    flags = {name: one['model']['backbone']['activation_checkpointing'] for name, one in variants.items()}
    assert flags == {'': False, ', checkpointing': True, ', without modules': False}
    config['model']['module_cfg'] = None
    assert list(training_variants(config)) == ['', ', checkpointing']
