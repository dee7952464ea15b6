import logging
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from dsanet.config.loading import read_section
from dsanet.config.schema import RuntimeCfg
from dsanet.engine import evaluator
from dsanet.engine.evaluator import Predictions, predict
from dsanet.engine.preparation import build_loader
from dsanet.engine.result_parts import ResultParts
from tests.as_processes import as_processes
from tests.engine.conftest import make_config

DEVICE = torch.device('cpu')
ROOT = Path(__file__).parents[2]


class _Indexed(nn.Module):
    """Scores each video by its first pixels, so that swapped samples are detected."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.flatten(1)[:, :8].float()


def test_predictions_are_in_dataset_order(data: Path) -> None:
    config = make_config(data)
    runtime = read_section(config, 'runtime', RuntimeCfg)
    loader = build_loader(config['val_dataloader'], 'val_dataloader', runtime)
    predictions = predict(_Indexed(), loader, DEVICE)
    for i in range(7):
        sample = loader.dataset[i]
        assert np.array_equal(predictions.scores[i], sample['inputs'].flatten()[:8].float())
        assert predictions.labels[i] == sample['label']


def test_progress_is_logged_without_a_terminal(
    data: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 1000, 25))
    monkeypatch.setattr(evaluator, 'time', SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(logging.getLogger('dsanet'), 'propagate', True)
    section = {**make_config(data)['val_dataloader'], 'batch_size': 1, 'num_workers': 0}
    with caplog.at_level(logging.INFO, 'dsanet'):
        predict(_Indexed(), build_loader(section, 'val_dataloader', RuntimeCfg()), DEVICE, text='validation')
    # The clock is read before each of the 7 batches, and once more after each log line.
    assert [re.findall(r'(\d+)/(\d+)', message) for message in caplog.messages] == [[('2', '7')], [('5', '7')]]
    assert all('validation' in message for message in caplog.messages)


def test_nonfinite_scores_raise(data: Path) -> None:
    config = make_config(data)
    loader = build_loader(config['val_dataloader'], 'val_dataloader', RuntimeCfg())
    model = _Indexed()
    model.register_forward_hook(lambda _module, _args, scores: scores * float('nan'))
    with pytest.raises(FloatingPointError, match=r'\b4 of 4 .*\.mp4'):
        predict(model, loader, DEVICE)


class _Killed(Exception):
    pass


class _OfTheBatch(_Indexed):
    """Scores that depend strongly on the other videos in the batch."""

    def __init__(self, die_in: int | None = None) -> None:
        super().__init__()
        self.die_in = die_in
        self.num_batches = 0

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.num_batches == self.die_in:
            raise _Killed(f'in batch {self.die_in}')
        self.num_batches += 1
        return super().forward(inputs) + inputs.float().mean()


def score_on(
    monkeypatch: pytest.MonkeyPatch, data: Path, world_size: int, batch_size: int = 2
) -> list[tuple[Predictions | None, int]]:
    """Score the validation videos on several processes; return predictions and number of batches of each."""

    def work(_rank: int) -> tuple[Predictions | None, int]:
        model = _OfTheBatch()
        loader = build_loader(val_section(data, batch_size), 'val_dataloader', RuntimeCfg())
        return predict(model, loader, DEVICE), model.num_batches

    return as_processes(monkeypatch, world_size, work)


def val_section(data: Path, batch_size: int) -> dict:
    return {**make_config(data)['val_dataloader'], 'batch_size': batch_size}


@pytest.mark.parametrize('batch_size', [1, 3, 4])
def test_scores_are_bit_identical_across_world_sizes(
    data: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    ((alone, num_batches),) = score_on(monkeypatch, data, 1, batch_size)
    assert alone.scores.shape == (7, 8)
    monkeypatch.setattr(evaluator, 'SYNC_EVERY', 1)
    for world_size in (2, 3, 8):  # the last one is more than the number of videos
        every = score_on(monkeypatch, data, world_size, batch_size)
        assert sum(number for _, number in every) == num_batches
        main, *others = [predictions for predictions, _ in every]
        assert np.array_equal(main.scores, alone.scores)
        assert np.array_equal(main.labels, alone.labels)
        assert others == [None] * (world_size - 1)


def test_ranks_synchronize_every_few_batches(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluator, 'SYNC_EVERY', 3)
    events: list[str] = []
    monkeypatch.setattr(evaluator, '_sync_errors', lambda failure: events.append('sync'))
    model = _Indexed()
    model.register_forward_hook(lambda *_: events.append('batch'))
    predict(model, build_loader(val_section(data, 1), 'val_dataloader', RuntimeCfg()), DEVICE)
    assert events == ['sync', *['batch'] * 3, 'sync', *['batch'] * 3, 'sync', 'batch', 'sync']


def test_error_of_one_rank_is_raised_everywhere(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    caught: list[str] = []

    def work(rank: int) -> None:
        model = _OfTheBatch()
        if rank == 1:
            model.register_forward_hook(lambda _module, _args, scores: scores * float('nan'))
        loader = build_loader(val_section(data, 1), 'val_dataloader', RuntimeCfg())
        with pytest.raises(FloatingPointError, match=r'\.mp4') as error:
            predict(model, loader, DEVICE)
        assert model.num_batches <= (1 if rank == 1 else evaluator.SYNC_EVERY)
        caught.append(str(error.value))

    as_processes(monkeypatch, 3, work)
    assert len(caught) == 3
    assert len(set(caught)) == 1


IDENTITY = {'checkpoint': 'abc'}


@pytest.mark.parametrize('die_in', [0, 1, 2])
@pytest.mark.parametrize(('before', 'after'), [(1, 1), (2, 3), (3, 1)])
def test_resume_is_bit_identical_across_world_sizes(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, die_in: int, before: int, after: int
) -> None:
    ((alone, num_batches),) = score_on(monkeypatch, data, 1, 1)
    models: list[_OfTheBatch] = []

    def test(die_in: int | None) -> Predictions | None:
        models.append(model := _OfTheBatch(die_in))
        loader = build_loader(val_section(data, 1), 'val_dataloader', RuntimeCfg())
        parts = ResultParts(tmp_path, IDENTITY)
        parts.start(resume=die_in is None)
        return predict(model, loader, DEVICE, parts=parts)

    with pytest.raises(_Killed):
        as_processes(monkeypatch, before, lambda rank: test(die_in if rank == 0 else 100))
    num_scored = sum(model.num_batches for model in models)
    assert die_in <= num_scored < num_batches
    models.clear()
    predictions, *_ = as_processes(monkeypatch, after, lambda _rank: test(None))
    assert np.array_equal(predictions.scores, alone.scores)
    assert np.array_equal(predictions.labels, alone.labels)
    assert sum(model.num_batches for model in models) == num_batches - num_scored
