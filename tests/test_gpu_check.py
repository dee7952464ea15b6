"""tools/gpu_check.py on the CPU, with tiny sizes."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from dsanet.models.modules_maker.DSA import DSA
from tools import gpu_check
from tools.gpu_check import Check, Skipped, main, run_part


@pytest.fixture
def check(tmp_path: Path) -> Check:
    return Check(torch.device('cpu'), True, tmp_path, time.monotonic() + 300)


def test_no_gpu_exits_with_two(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert main(['--out', str(tmp_path / 'out.json')]) == 2
    assert capsys.readouterr().err.count('\n') == 1
    assert not (tmp_path / 'out.json').exists()


def test_failing_part_does_not_stop_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(_: Check) -> dict[str, Any]:
        raise RuntimeError('no memory')

    def skip(_: Check) -> dict[str, Any]:
        raise Skipped('not installed')

    parts = {'a': fail, 'b': skip, 'c': lambda _: {'value': 1}}
    monkeypatch.setattr(gpu_check, 'PARTS', parts)
    monkeypatch.setattr(Check, 'run', lambda *_: '')
    out = tmp_path / 'out.json'
    assert main(['--device', 'cpu', '--quick', '--out', str(out)]) == 1
    results = json.loads(out.read_text())
    assert {name: part['status'] for name, part in results['parts'].items()} == {
        'a': 'failed',
        'b': 'skipped',
        'c': 'passed',
    }
    assert results['parts']['a']['error'] == 'RuntimeError: no memory'
    assert results['parts']['c']['result'] == {'value': 1}
    assert results['machine']['torch'] == torch.__version__
    assert main(['--device', 'cpu', '--parts', 'b', 'c', '--out', str(out)]) == 0


def test_no_part_starts_after_the_deadline(tmp_path: Path) -> None:
    late = Check(torch.device('cpu'), True, tmp_path, time.monotonic() - 1)
    assert run_part(lambda _: {}, late)['status'] == 'failed'


def test_failing_program_is_reported_with_output(check: Check) -> None:
    with pytest.raises(RuntimeError, match='exit status 3: reason'):
        check.run(['sh', '-c', 'echo reason; exit 3'])


@pytest.mark.parametrize('amp', [None, 'bf16'])
def test_model_speed_has_forward_and_step(check: Check, amp: str | None) -> None:
    result = gpu_check.model_speed(amp, amp is None, check)
    assert result['shape'] == [2, 1, 4, 4, 40, 40]
    for part in ('forward', 'step'):
        numbers = result[part]
        # 0.077 GMACs per view, see the config; a step is three passes.
        gflops = 2 * 2 * 0.077 * (3 if part == 'step' else 1)
        assert numbers['tflops'] == pytest.approx(gflops / numbers['median_ms'], rel=0.01, abs=0.006)
        assert numbers['videos_per_s'] == pytest.approx(2000 / numbers['median_ms'], rel=0.01)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_dsa_equals_a_grouped_convolution(check: Check, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpu_check.dsa_speed(dtype, check)['grouped_over_banded'] > 0
    aggregate = DSA.aggregate
    monkeypatch.setattr(DSA, 'aggregate', lambda self, x, kernel: aggregate(self, x, kernel).flip(1))
    with pytest.raises(AssertionError, match='differ'):
        gpu_check.dsa_speed(dtype, check)


def test_different_weights_are_named() -> None:
    weights = {'a': torch.zeros(2), 'b': torch.zeros(2)}
    gpu_check.check_equal(weights, {name: value.clone() for name, value in weights.items()})
    with pytest.raises(AssertionError, match='1 of 2 weights differ, such as b'):
        gpu_check.check_equal(weights, {'a': torch.zeros(2), 'b': torch.tensor([0, 1e-30])})


@pytest.mark.sweep
def test_training_parts_run_on_the_cpu(tmp_path: Path) -> None:
    out = tmp_path / 'out.json'
    assert main(['--device', 'cpu', '--quick', '--out', str(out), '--parts', 'resume', 'tests']) == 0
    parts = json.loads(out.read_text())['parts']
    assert {name: part['status'] for name, part in parts.items()} == {
        'resume': 'passed',
        'tests': 'skipped',
    }
    assert parts['resume']['result']['killed_after'].startswith('epoch_0_iter_')


def test_all_required_parts_exist() -> None:
    assert set(gpu_check.PARTS) == {
        *('tests', 'epoch_fp32', 'epoch_bf16', 'epoch_fp16', 'deterministic', 'resume', 'compile', 'decoding'),
        *('model_fp32', 'model_bf16', 'model_fp16', 'model_bf16_channels_first', 'dsa_fp32', 'dsa_bf16'),
    }
