import logging
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from dsanet.engine.evaluator import predict
from dsanet.engine.stopping import RunError
from dsanet.engine.trainer import Trainer
from dsanet.engine.validation import build_val_metrics, validate
from dsanet.evaluation.metrics import MeanAveragePrecision
from dsanet.utils.checkpoint_io import read_checkpoint
from dsanet.utils.json_lines import read_json_lines
from tests.engine.conftest import DEVICE, make_config, train


def validate_with(trainer: Trainer) -> dict[str, float]:
    return validate(trainer.model, trainer.val_loader, trainer.metrics, DEVICE, None, epoch=3)


def test_averaged_weights_are_validated(data: Path, averaged: Path, tmp_path: Path) -> None:
    trainer = Trainer(make_config(data), tmp_path, DEVICE)
    content = read_checkpoint(averaged / 'epoch_4.pth')
    losses = {}
    for name in ('ema_state_dict', 'state_dict'):
        trainer.model.load_state_dict(content[name])
        predictions = predict(trainer.model, trainer.val_loader, DEVICE)
        scores, labels = map(torch.from_numpy, (predictions.scores, predictions.labels))
        losses[name] = torch.nn.functional.cross_entropy(scores, labels).item()
        assert validate_with(trainer)['loss'] == pytest.approx(losses[name], rel=1e-6)
    logged = [line['val/loss'] for line in read_json_lines(averaged / 'scalars.jsonl') if 'val/loss' in line][-1]
    assert logged == pytest.approx(losses['ema_state_dict'], rel=1e-6)
    assert logged != pytest.approx(losses['state_dict'], rel=1e-4)


def test_baseline_is_logged_once(data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = make_config(data, train_cfg={'max_epochs': 2})
    labels = [0, 1, 1, 1, 2, 2, 5]
    paths = [line.split()[0] for line in (data / 'val.txt').read_text().splitlines()]
    (tmp_path / 'val.txt').write_text('\n'.join(f'{path} {k}' for path, k in zip(paths, labels, strict=True)))
    config['val_dataloader']['dataset']['list_file'] = str(tmp_path / 'val.txt')
    with caplog.at_level(logging.INFO, 'dsanet'):
        train(config, tmp_path)
    assert [text.rpartition(': ')[2] for text in caplog.messages if 'most frequent class' in text] == ['top1 42.86']
    caplog.clear()
    with caplog.at_level(logging.INFO, 'dsanet'):
        train(config, tmp_path, resume='auto')
    assert 'most frequent class' not in caplog.text, 'nothing is validated again'


def with_several_labels(data: Path, folder: Path, *loaders: str, **model: object) -> dict:
    """Return a run of one epoch whose ``loaders``, 'train' or 'val', have two labels per video."""
    config = make_config(data, model=model, train_cfg={'max_epochs': 1}, runtime={'save_best': 'mAP'})
    config['metrics'] = [{'type': 'MeanAveragePrecision'}]
    for name in loaders:
        lines = (data / f'{name}.txt').read_text().splitlines()
        pairs = [f'{line},{(int(line.split()[-1]) + 1) % 8}' for line in lines]
        (folder / f'{name}.txt').write_text('\n'.join(pairs))
        dataset = config[f'{name}_dataloader']['dataset']
        dataset['list_file'], dataset['multi_hot'] = str(folder / f'{name}.txt'), 8
    return config


@pytest.mark.parametrize('average_views', ['score', 'prob'])
def test_several_labels_train_and_validate(
    data: Path, tmp_path: Path, average_views: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, 'dsanet')
    config = with_several_labels(data, tmp_path, 'train', 'val', average_views=average_views)
    config['model']['cls_head']['loss'] = {'type': 'BinaryCrossEntropyLoss'}
    trainer = train(config, tmp_path)
    predictions = predict(trainer.model, trainer.val_loader, DEVICE)
    assert (predictions.labels.shape, predictions.labels.dtype) == ((7, 8), np.float32)
    assert (predictions.labels.sum(axis=1) == 2).all()
    assert trainer.state.best['mAP'] == MeanAveragePrecision()(predictions.scores, predictions.labels)['mAP']
    logged = read_json_lines(tmp_path / 'scalars.jsonl')
    assert not any('train/top1' in line for line in logged)
    assert 'most frequent class' not in caplog.text
    assert ('val/loss' in logged[-1]) == (average_views == 'score')  # the loss needs scores, not probabilities
    if average_views == 'score':
        scores, labels = map(torch.from_numpy, (predictions.scores, predictions.labels))
        yes, no = labels * scores.sigmoid().log(), (1 - labels) * (-scores).sigmoid().log()
        assert logged[-1]['val/loss'] == pytest.approx(-(yes + no).mean().item())


def test_single_label_loss_skips_several_labels(data: Path, tmp_path: Path) -> None:
    metrics = validate_with(Trainer(with_several_labels(data, tmp_path, 'val'), tmp_path, DEVICE))
    assert metrics.keys() == {'mAP'}


def test_single_label_loss_refuses_several_in_training(data: Path, tmp_path: Path) -> None:
    config = with_several_labels(data, tmp_path, 'train', 'val')
    (tmp_path / 'train.txt').write_text('nowhere.mp4 0,1\n' * 8)  # no video is opened
    with pytest.raises(ValueError, match=r'model\.cls_head\.loss .*CrossEntropyLoss.*multi_hot=8.*Binary'):
        Trainer(config, tmp_path, DEVICE)


def test_save_best_must_be_a_metric(data: Path) -> None:
    config = make_config(data)
    assert len(build_val_metrics(config, 'top5', None)) == 1
    with pytest.raises(ValueError, match=r"save_best='top2'.*top1, top5"):
        build_val_metrics(config, 'top2', None)


def test_unreadable_video_ends_the_run(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / 'data')
    trainer = Trainer(make_config(tmp_path / 'data'), tmp_path, DEVICE)
    video = (tmp_path / 'data' / 'val.txt').read_text().split()[0]
    (tmp_path / 'data' / video).write_bytes(b'no video')
    with pytest.raises(RunError, match=rf'epoch 3: .*val\.txt:1: .*{re.escape(video)}'):
        validate_with(trainer)


def test_nonfinite_scores_end_the_run(data: Path, tmp_path: Path) -> None:
    trainer = Trainer(make_config(data), tmp_path, DEVICE)
    trainer.model.cls_head.fc_cls.weight.data.fill_(float('nan'))
    with pytest.raises(RunError, match='epoch 3'):
        validate_with(trainer)
