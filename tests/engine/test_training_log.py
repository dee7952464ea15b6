import json
import logging
import math
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from dsanet.engine import training_log
from dsanet.engine.stopping import RunError
from dsanet.engine.train_step import StepResult
from dsanet.engine.trainer import Trainer
from dsanet.engine.training_log import Meter, TrainingLog
from dsanet.utils.json_lines import read_json_lines
from tests.engine.conftest import DEVICE, make_config

GRAD_NORMS = {StepResult.UPDATED: 4.0, StepResult.OVERFLOW: math.inf, StepResult.NON_FINITE: math.nan}
BATCH = {'path': ['a', 'b'], 'bad': []}
BAD = {'path': 'x.mp4', 'reason': 'damaged', 'source': 'list.txt:3'}


def test_meter_returns_means_and_restarts() -> None:
    meter = Meter()
    meter.add({'loss': torch.tensor(1.0), 'time': 2.0})
    meter.add({'loss': torch.tensor(3.0), 'time': 4.0})
    assert meter.flush() == {'loss': 2.0, 'time': 3.0}
    meter.add({'time': 1.0})
    meter.add({'time': 2.0, 'loss': torch.tensor(3.0)})  # a scalar that is not always there
    assert meter.flush() == {'time': 1.5, 'loss': 3.0}


def test_meter_continues_bit_identically_from_state() -> None:
    values = torch.rand(7)
    straight, first, second = Meter(), Meter(), Meter()
    for value in values:
        straight.add({'loss': value})
    for value in values[:3]:
        first.add({'loss': value})
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for value in values[3:]:
        second.add({'loss': value})
    assert second.flush() == straight.flush()


def test_curves_have_rates_and_all_scalars(straight: Path) -> None:
    lines = [line for line in read_json_lines(straight / 'scalars.jsonl') if 'train/loss' in line]
    assert [line['iteration'] for line in lines] == list(range(1, 9))  # 8 videos in batches of 4, 4 epochs
    cosine = [0.5 * (1 + np.cos(np.pi * (i / 2 - 1) / 3)) for i in range(2, 8)]
    assert [line['train/lr'] for line in lines] == pytest.approx([0.05 * rate for rate in [0.01, 0.505, *cosine]])
    for name in ('loss', 'top1', 'grad_norm', 'data_time', 'time', 'memory'):
        assert all(np.isfinite(line[f'train/{name}']) for line in lines)
    assert not any('train/scale' in line for line in lines)


@pytest.fixture
def trainer(data: Path, tmp_path: Path) -> Trainer:
    """A run of four epochs of four iterations, with a line per two iterations."""
    config = make_config(data, runtime={'log_interval': 2}, train_cfg={'max_nonfinite': 1})
    config['train_dataloader'] |= {'batch_size': 2, 'max_bad_share': 0.5}
    return Trainer(config, tmp_path, DEVICE)


@pytest.fixture
def log(trainer: Trainer) -> Iterator[TrainingLog]:
    with open_log(trainer) as log:
        log.start_epoch()
        yield log


def open_log(trainer: Trainer) -> TrainingLog:
    return TrainingLog(trainer.work_dir, trainer.state, trainer.stepper, trainer.train_loader, [])


def add(log: TrainingLog, result: StepResult = StepResult.UPDATED, loss: float = 2.0) -> None:
    log.state.iteration += 1
    scalars = {'loss': torch.tensor(loss), 'grad_norm': torch.tensor(GRAD_NORMS[result])}
    log.add_iteration([BATCH], scalars, result, 0.1)


def test_lines_have_means_of_their_interval(log: TrainingLog, tmp_path: Path) -> None:
    for loss in (1.0, 2.0, 3.0, 5.0):
        add(log, loss=loss)
    lines = read_json_lines(tmp_path / 'scalars.jsonl')
    assert [(line['epoch'], line['iteration'], line['train/loss']) for line in lines] == [(1, 2, 1.5), (1, 4, 4.0)]
    assert [line['train/lr'] for line in lines] == [0.1, 0.1]


def test_overflows_do_not_enter_gradient_norm(
    log: TrainingLog, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    add(log)
    add(log, StepResult.OVERFLOW, loss=4.0)
    (line,) = read_json_lines(tmp_path / 'scalars.jsonl')
    assert (line['train/loss'], line['train/grad_norm']) == (3.0, 4.0)
    with caplog.at_level(logging.INFO, 'dsanet'):
        log.end_epoch()
    assert '1 steps' in caplog.text
    assert 'fp16' in caplog.text


@pytest.mark.parametrize(
    ('results', 'epoch', 'fails'),
    [
        ([StepResult.NON_FINITE], 0, True),
        ([StepResult.NON_FINITE, StepResult.UPDATED], 0, False),
        ([StepResult.OVERFLOW, StepResult.OVERFLOW], 0, False),  # the scaler is looking for its scale
        ([StepResult.OVERFLOW, StepResult.OVERFLOW], 3, True),
    ],
)
def test_epoch_without_a_step_is_an_error(
    log: TrainingLog, tmp_path: Path, results: list[StepResult], epoch: int, fails: bool
) -> None:
    log.state.epoch = epoch
    for result in results:
        add(log, result)
    with pytest.raises(RunError, match=f'Epoch {epoch + 1}/4') if fails else nullcontext():
        log.end_epoch()


def test_bad_samples_are_in_last_line_of_epoch(
    log: TrainingLog, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log.add_bad_samples([{**BATCH, 'bad': [[BAD]]}, BATCH, {**BATCH, 'bad': [[BAD]]}])
    with caplog.at_level(logging.INFO, 'dsanet'):
        for _ in range(4):
            add(log)
    assert [line.get('train/bad_samples') for line in read_json_lines(tmp_path / 'scalars.jsonl')] == [None, 2]
    assert str(tmp_path / 'bad_samples.jsonl') in caplog.messages[-1]


def test_eta_extrapolates_the_speed_so_far(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    times = iter([100.0, 130.0])
    monkeypatch.setattr(training_log.time, 'monotonic', lambda: next(times))
    trainer.state.iteration = 1  # of a run that was resumed
    with caplog.at_level(logging.INFO, 'dsanet'), open_log(trainer) as log:
        log.start_epoch()
        add(log)
    # 30 s for one iteration; 14 of 16 remain.
    assert '1/4 [2/4]' in caplog.text
    assert '0:07:00' in caplog.text


def test_speed_of_epoch_counts_its_own_iterations(
    log: TrainingLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = [0.0]
    monkeypatch.setattr(training_log.time, 'perf_counter', lambda: clock[0])
    log.state.iteration = 2
    log.start_epoch()
    with log.waiting_for_data():
        clock[0] += 1
    add(log)
    clock[0] += 3
    with caplog.at_level(logging.INFO, 'dsanet'):
        log.end_epoch()
    assert '0.5 videos/s' in caplog.text  # 2 videos in 4 s
    assert '25%' in caplog.text


def test_log_state_round_trip(log: TrainingLog, trainer: Trainer, tmp_path: Path) -> None:
    log.add_bad_samples([{**BATCH, 'bad': [[BAD]]}])
    add(log, loss=1.0)
    with open_log(trainer) as resumed:
        resumed.load_state_dict({})  # a checkpoint at the end of an epoch has no state
        assert resumed.bad_samples.num_files == 0
        resumed.load_state_dict(json.loads(json.dumps(log.state_dict())))
        assert resumed.state_dict() == log.state_dict()
        resumed.start_epoch()
        add(resumed, loss=2.0)
    assert [line['train/loss'] for line in read_json_lines(tmp_path / 'scalars.jsonl')] == [1.5]
    assert [line['path'] for line in read_json_lines(tmp_path / 'bad_samples.jsonl')] == [BAD['path']]
