from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from codes.config import RuntimeCfg
from codes.engine.evaluation import Predictions, check_metrics, compute_metrics, predict
from codes.engine.runner import build_loader, read_section
from codes.evaluation.metrics import Accuracy, MeanAveragePrecision, MeanClassAccuracy
from tests.engine.conftest import make_config

DEVICE = torch.device('cpu')


class _Indexed(nn.Module):
    """Scores each video by its own first pixels, so that a swapped sample would be seen."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.flatten(1)[:, :8].float()


def test_predictions_come_in_the_order_of_the_data_set(data: Path) -> None:
    config = make_config(data)
    runtime = read_section(config, 'runtime', RuntimeCfg)
    loader = build_loader(config['val_dataloader'], 'val_dataloader', runtime)
    predictions = predict(_Indexed(), loader, DEVICE)
    for i in range(7):
        sample = loader.dataset[i]
        assert np.array_equal(predictions.scores[i], sample['inputs'].flatten()[:8].float())
        assert predictions.labels[i] == sample['label']


def test_scores_that_are_not_finite_are_no_result(data: Path) -> None:
    config = make_config(data)
    loader = build_loader(config['val_dataloader'], 'val_dataloader', RuntimeCfg())
    model = _Indexed()
    model.register_forward_hook(lambda _module, _args, scores: scores * float('nan'))
    with pytest.raises(RuntimeError, match=r'the scores of .*\.mp4 and 3 more videos are not finite'):
        predict(model, loader, DEVICE)


def test_metrics_put_their_numbers_together() -> None:
    predictions = Predictions(np.float32([[2, 1], [3, 4], [1, 0]]), np.array([0, 0, 1]))
    numbers = compute_metrics([Accuracy(topk=(1,)), MeanClassAccuracy()], predictions)
    assert numbers == pytest.approx({'top1': 100 / 3, 'mean_class_accuracy': 25})


@pytest.mark.parametrize('metric', [Accuracy(), MeanClassAccuracy()])
def test_metrics_of_one_label_refuse_several_before_anything_is_scored(metric: object) -> None:
    check_metrics([metric], SimpleNamespace(multi_hot=None))
    check_metrics([MeanAveragePrecision()], SimpleNamespace(multi_hot=3))
    with pytest.raises(ValueError, match=r'metrics.1 \(\w+\) needs one label a video, but the data have multi_hot=3'):
        check_metrics([MeanAveragePrecision(), metric], SimpleNamespace(multi_hot=3))
