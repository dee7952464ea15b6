import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from dsanet.config.loading import load_config
from dsanet.config.registry import DATASETS, build
from dsanet.datasets.loader import EpochSampler
from dsanet.datasets.order import plan_groups
from dsanet.engine.class_weights import balanced_weights, resolve_class_weights
from dsanet.engine.trainer import Trainer
from dsanet.utils.checkpoint_io import read_checkpoint
from tests.engine.conftest import DEVICE, assert_same_run, make_config, train, train_until

LABELS = [0, 0, 0, 0, 0, 1, 1, 2]
WEIGHTS = [8 / (3 * 5), 8 / (3 * 2), 8 / 3]


@pytest.fixture
def config(data: Path, tmp_path: Path) -> dict:
    """A run on the eight training videos with unequal classes and balanced weights."""
    config = make_config(data, train_cfg={'max_epochs': 2})
    for name, labels in (('train', LABELS), ('val', LABELS[1:])):
        paths = [line.split()[0] for line in (data / f'{name}.txt').read_text().splitlines()]
        file = tmp_path / f'{name}.txt'
        file.write_text('\n'.join(f'{path} {label}' for path, label in zip(paths, labels, strict=True)))
        config[f'{name}_dataloader']['dataset']['list_file'] = str(file)
    config['model']['cls_head'] |= {'num_classes': 3, 'loss': loss('balanced')}
    return config


def loss(class_weights: object) -> dict:
    return {'type': 'FocalLoss', 'class_weights': class_weights}


def with_weights(config: dict, class_weights: object) -> dict:
    head = {**config['model']['cls_head'], 'loss': loss(class_weights)}
    return {**config, 'model': {**config['model'], 'cls_head': head}}


def dataset_of(config: dict) -> object:
    return build(config['train_dataloader']['dataset'], DATASETS, 'dataset')


def test_weights_are_computed_by_hand(config: dict, caplog: pytest.LogCaptureFixture) -> None:
    assert balanced_weights(dataset_of(config), 3) == WEIGHTS
    with caplog.at_level(logging.INFO, 'dsanet'):
        resolved = resolve_class_weights(config)
    assert resolved == with_weights(config, WEIGHTS)
    assert config['model']['cls_head']['loss'] == loss('balanced')
    assert ': 0.5333 (class 0) to 2.667 (class 2)' in caplog.text


def test_other_weights_are_kept_without_reading(config: dict) -> None:
    config['train_dataloader']['dataset']['list_file'] = 'nowhere.txt'
    for weights in (None, [1, 2, 3]):
        assert resolve_class_weights(with_weights(config, weights)) == with_weights(config, weights)
    assert resolve_class_weights(config, equal=True) == with_weights(config, [1, 1, 1])


@pytest.mark.parametrize('class_balance', [None, 'equal', 'square_root'])
@pytest.mark.parametrize('shares', [None, [1, 3]])
def test_classes_weigh_the_same_in_training(config: dict, class_balance: str | None, shares: list | None) -> None:
    """Draw many epochs; the weights of the samples of each class sum to a third."""
    part = config['train_dataloader']['dataset']
    mixed = {'type': 'MixedDataset', 'datasets': [part, {**part, 'classes': [1, 0, 2]}], 'weights': shares}
    dataset = build(mixed, DATASETS, 'dataset')
    weights = balanced_weights(dataset, 3, class_balance)
    sampler = EpochSampler(16, 4, 0, 0, 1, repeat=25, plan=plan_groups(dataset, class_balance))
    counts: Counter = Counter()
    for epoch in range(20):
        sampler.set_epoch(epoch)
        counts.update(dataset.labels[[key[1] for key in sampler]].tolist())
    total = sum(counts.values())
    assert [weights[k] * counts[k] / total for k in range(3)] == pytest.approx([1 / 3] * 3, rel=0.01)


def test_class_without_videos_is_named(config: dict) -> None:
    config['model']['cls_head']['num_classes'] = 5
    with pytest.raises(ValueError, match=r"class_weights='balanced'.* 2 of 5 .*: 3, 4\."):
        resolve_class_weights(config)
    dataset = dataset_of(config)
    dataset.class_names = ['run', 'walk', 'jump', 'sit']
    with pytest.raises(ValueError, match=r' 1 of 4 .*: sit\.'):
        balanced_weights(dataset, 4)


def test_several_labels_are_refused(config: dict) -> None:
    config['train_dataloader']['dataset']['multi_hot'] = 3
    with pytest.raises(ValueError, match=r'multi_hot=3; .*positive_weight'):
        resolve_class_weights(config)


def test_run_with_balanced_weights_resumes_bit_identically(config: dict, tmp_path: Path) -> None:
    """The checkpoint and the config of the work dir hold the numbers, and numbers give the same run."""
    train(config, tmp_path / 'straight')
    straight = read_checkpoint(tmp_path / 'straight' / 'epoch_2.pth')
    assert straight['config']['model']['cls_head']['loss'] == loss(WEIGHTS)
    assert load_config(tmp_path / 'straight' / 'config.py') == straight['config']
    train_until(config, tmp_path / 'resumed', 3)
    train(config, tmp_path / 'resumed', resume='auto')
    assert_same_run(straight, read_checkpoint(tmp_path / 'resumed' / 'epoch_2.pth'))
    train(with_weights(config, WEIGHTS), tmp_path / 'numbers')
    assert_same_run(straight, read_checkpoint(tmp_path / 'numbers' / 'epoch_2.pth'))


def test_resume_names_weights_of_changed_lists(config: dict, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train_until(config, tmp_path / 'run', 3)
    file = Path(config['train_dataloader']['dataset']['list_file'])
    file.write_text(file.read_text().replace(' 0\n', ' 2\n', 1))
    with caplog.at_level(logging.WARNING, 'dsanet'):
        train(config, tmp_path / 'run', resume='auto')
    assert 'model.cls_head.loss.class_weights' in caplog.text


def test_loss_uses_the_weights(config: dict, tmp_path: Path) -> None:
    trainer = Trainer(config, tmp_path, DEVICE)
    torch.testing.assert_close(trainer.model.cls_head.criterion.class_weights, torch.tensor(np.float32(WEIGHTS)))
