import argparse
import errno
import functools
import json
import logging
import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from dsanet.datasets.video_datasets import VideoSamples
from dsanet.engine import stopping
from dsanet.engine import trainer as trainer_module
from dsanet.engine.checkpointing import list_checkpoints
from dsanet.engine.optim import set_learning_rate
from dsanet.engine.stopping import RunError, Stopped
from dsanet.engine.train_step import Stepper
from dsanet.engine.trainer import Trainer
from dsanet.models.recognizers.recognizer3d import Recognizer3D
from dsanet.utils import distributed
from dsanet.utils.checkpoint_io import read_checkpoint, save_atomically
from dsanet.utils.json_lines import read_json_lines
from tests.engine.conftest import (
    DEVICE,
    EMA,
    assert_same_run,
    make_config,
    read_curves,
    small_steps,
    train,
    train_until,
)


def resume_from(source: Path, config: dict, work_dir: Path) -> Trainer:
    """Return a trainer that is ready to continue from a checkpoint."""
    work_dir.mkdir(exist_ok=True)
    trainer = Trainer(config, work_dir, DEVICE)
    trainer.prepare(str(source), check_data=False)
    return trainer


# -- exact resume ------------------------------------------------------------------------------------------------------


def test_resumed_run_is_bit_identical(data: Path, straight: Path, tmp_path: Path) -> None:
    train_until(make_config(data, num_workers=2), tmp_path, iteration=4)
    train(make_config(data, num_workers=2), tmp_path, resume='auto')
    assert_same_run(*(read_checkpoint(folder / 'epoch_4.pth') for folder in (straight, tmp_path)))
    assert read_curves(tmp_path) == read_curves(straight)


def test_resumed_average_is_bit_identical(data: Path, averaged: Path, tmp_path: Path) -> None:
    train_until(make_config(data, train_cfg=EMA), tmp_path, iteration=4)
    train(make_config(data, train_cfg=EMA), tmp_path, resume='auto')
    for name in ('epoch_4.pth', 'best.pth'):
        one, two = (read_checkpoint(folder / name) for folder in (averaged, tmp_path))
        assert_same_run(one, two)
        assert one['ema_updates'] == two['ema_updates'] == 2 * one['epoch']  # two iterations per epoch


@pytest.mark.parametrize(('iteration', 'num_workers'), [(1, 0), (3, 0), (6, 0), (3, 2)])
def test_resume_within_epoch_is_bit_identical(
    data: Path, in_small_steps: Path, tmp_path: Path, num_workers: int, iteration: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_until(small_steps(data, num_workers), tmp_path, iteration)
    file = list_checkpoints(tmp_path)[0][1]
    assert file.name == f'epoch_{iteration // 4}_iter_{iteration % 4}.pth'
    resumed = resume_from(file, small_steps(data), tmp_path)
    assert_same_run(resumed.state_dict(), read_checkpoint(file))  # with the learning rates
    seen: list[tuple] = []
    original = VideoSamples.__getitem__
    monkeypatch.setattr(VideoSamples, '__getitem__', lambda self, key: (seen.append(key), original(self, key))[1])
    trainer = train(small_steps(data, num_workers), tmp_path, resume='auto')
    assert_same_run(*(read_checkpoint(d / 'epoch_2.pth') for d in (in_small_steps, tmp_path)))
    assert read_curves(tmp_path) == read_curves(in_small_steps)
    assert sorted(f.name for f in tmp_path.glob('*.pth')) == ['best.pth', 'epoch_1.pth', 'epoch_2.pth']
    if num_workers == 0:
        expected = [key for epoch in (0, 1) for key in samples_of(trainer, epoch)][2 * iteration :]
        assert [key for key in seen if isinstance(key, tuple)] == expected


def samples_of(trainer: Trainer, epoch: int) -> Iterator[tuple[int, int]]:
    """Return the keys of an epoch's training samples."""
    trainer.train_loader.sampler.set_epoch(epoch)
    return iter(trainer.train_loader.sampler)


@pytest.mark.parametrize('died_at', [1, 7])
def test_resume_with_other_batch_size(data: Path, tmp_path: Path, died_at: int) -> None:
    train_until(small_steps(data, log_interval=1), tmp_path, died_at)
    file = list_checkpoints(tmp_path)[0][1]
    lines, weights = read_curves(tmp_path), read_checkpoint(file)['state_dict']
    config = small_steps(data, log_interval=1)
    config['train_dataloader']['batch_size'] = 4  # 2 iterations per epoch instead of 4
    trainer = Trainer(config, tmp_path, DEVICE)
    trainer.prepare('auto', check_data=False)
    assert (trainer.state.epoch, trainer.state.iteration) == (died_at // 4, died_at % 4 // 2)
    assert all(torch.equal(value, weights[name]) for name, value in trainer.model.state_dict().items())
    assert file.is_file()
    trainer.train()
    assert read_curves(tmp_path)[: len(lines)] == lines
    assert read_checkpoint(tmp_path / 'epoch_2.pth')['epoch'] == 2


def test_resume_validates_epoch_that_was_not(data: Path, straight: Path, tmp_path: Path) -> None:
    content = read_checkpoint(straight / 'epoch_3.pth')
    save_atomically({**content, 'validated': False}, tmp_path / 'epoch_3.pth')
    trainer = train(make_config(data), tmp_path, resume=str(tmp_path / 'epoch_3.pth'))
    assert [line['epoch'] for line in read_json_lines(tmp_path / 'scalars.jsonl') if 'val/top1' in line] == [3, 4]
    assert_same_run(read_checkpoint(straight / 'epoch_4.pth'), trainer.state_dict())


@pytest.mark.parametrize('change', ['no validation', 'fp16'])
def test_resume_with_other_validation_or_precision(data: Path, straight: Path, tmp_path: Path, change: str) -> None:
    content = read_checkpoint(straight / 'epoch_3.pth')
    save_atomically({**content, 'validated': False}, tmp_path / 'epoch_3.pth')
    config = make_config(data, runtime={'amp': 'fp16'} if change == 'fp16' else {})
    if change == 'no validation':
        config.pop('val_dataloader')
    assert train(config, tmp_path, resume='auto').state.epoch == 4


def test_resume_applies_and_names_changed_options(
    data: Path, straight: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config(data, optimizer={'lr': 3.0, 'weight_decay': 0.5}, runtime={'seed': 7})
    with caplog.at_level(logging.WARNING, 'dsanet'):
        trainer = resume_from(straight / 'epoch_4.pth', config, tmp_path)
    assert set_learning_rate(trainer.stepper.optimizer, 0.5) == 1.5
    assert trainer.stepper.optimizer.param_groups[0]['weight_decay'] == 0.5
    changes = [('optimizer.lr', '0.05', '3.0'), ('optimizer.weight_decay', '0.0001', '0.5'), ('runtime.seed', '7')]
    # The last one is about best.pth, which stays in the work dir of the run that is resumed.
    assert len(caplog.messages) == len(changes) + 1
    for message, tokens in zip(caplog.messages, [*changes, (f'{tmp_path}', 'best.pth')], strict=True):
        assert all(token in message for token in tokens)


def test_resume_of_same_config_warns_nothing(
    data: Path, straight: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, 'dsanet'):
        resume_from(straight / 'epoch_4.pth', make_config(data), tmp_path)
    assert [message for message in caplog.messages if 'best.pth' not in message] == []


def test_resume_refuses_other_models_and_weights(data: Path, straight: Path, tmp_path: Path) -> None:
    trainer = Trainer(make_config(data, model={'module_cfg': None}), tmp_path, DEVICE)
    with pytest.raises(ValueError, match=r'epoch_4\.pth .*backbone\.layer2\.0\.dsa.*model\.module_cfg') as refused:
        trainer.prepare(str(straight / 'epoch_4.pth'), check_data=False)
    assert '\n' not in str(refused.value)
    save_atomically({'state_dict': trainer.model.state_dict()}, tmp_path / 'weights.pth')
    with pytest.raises(ValueError, match=r'weights\.pth .*optimizer.*--load-from'):
        trainer.prepare(str(tmp_path / 'weights.pth'), check_data=False)


def test_auto_resume_skips_damaged_checkpoint(
    data: Path, in_small_steps: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(in_small_steps, tmp_path / 'run')
    damaged = tmp_path / 'run' / 'epoch_2.pth'
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    (tmp_path / 'run' / 'epoch_9.pth.part').write_bytes(b'killed here')
    with caplog.at_level(logging.WARNING, 'dsanet'):
        train(small_steps(data), tmp_path / 'run', resume='auto')
    assert str(damaged) in caplog.text
    assert (tmp_path / 'run' / 'epoch_2.pth.damaged').is_file()
    assert not list((tmp_path / 'run').glob('*.part'))
    assert_same_run(*(read_checkpoint(d / 'epoch_2.pth') for d in (in_small_steps, tmp_path / 'run')))


def test_new_run_refuses_later_checkpoints(data: Path, straight: Path, tmp_path: Path) -> None:
    shutil.copytree(straight, tmp_path / 'used')
    trainer = Trainer(make_config(data), tmp_path / 'used', DEVICE)
    with pytest.raises(ValueError, match=r'epoch_4\.pth, epoch_3\.pth'):
        trainer.prepare(check_data=False)
    with pytest.raises(ValueError, match=r'used .* epoch_4\.pth\. ') as refused:
        trainer.prepare(str(tmp_path / 'used' / 'epoch_3.pth'), check_data=False)
    assert 'epoch_3' not in str(refused.value)
    assert len(read_json_lines(tmp_path / 'used' / 'scalars.jsonl')) == len(read_json_lines(straight / 'scalars.jsonl'))


# -- preparation -------------------------------------------------------------------------------------------------------


def test_prepare_starts_workers_first_resumes_last(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def record(owner: object, name: str) -> None:
        original = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *args: (calls.append(name), original(*args))[1])

    before_files = ('try_pipelines', 'start_workers', 'check_before_training')
    for name in (*before_files, 'resume_run', 'check_no_other_run', 'remove_leftovers', 'write_config'):
        record(trainer_module, name)
    record(distributed, 'init_process_group')
    record(Stepper, 'load_initial_weights')
    record(Stepper, 'start')
    trainer = Trainer(make_config(data), tmp_path, DEVICE)
    trainer.prepare('auto')
    assert calls == [
        'try_pipelines',
        *['start_workers'] * 2,  # training and validation
        'init_process_group',
        'check_before_training',
        'resume_run',
        'check_no_other_run',
        'remove_leftovers',
        'write_config',
        'load_initial_weights',
        'start',
    ]
    assert (trainer.state.resumed_from, trainer.state.epoch) == (None, 0)  # no checkpoint to resume from


def test_load_from_starts_new_run_from_weights(data: Path, straight: Path, tmp_path: Path) -> None:
    trainer = Trainer(make_config(data, train_cfg=EMA), tmp_path, DEVICE)
    trainer.prepare(load_from=str(straight / 'epoch_4.pth'), check_data=False)
    expected = read_checkpoint(straight / 'epoch_4.pth')['state_dict']
    assert all(torch.equal(value, expected[name]) for name, value in trainer.model.state_dict().items())
    assert torch.equal(trainer.stepper.average.model.backbone.conv1.weight, expected['backbone.conv1.weight'])
    assert (trainer.state.epoch, trainer.stepper.average.num_updates) == (0, 0)
    assert not trainer.stepper.optimizer.state


@pytest.fixture(scope='module')
def named(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of an interrupted run on data with class names."""
    work_dir = tmp_path_factory.mktemp('named')
    config = with_classes(data, data / 'classes.txt')
    config['runtime']['checkpoint_interval'] = 1
    train_until(config, work_dir, iteration=1)
    return work_dir / 'epoch_0_iter_1.pth'


def with_classes(data: Path, file: Path, **changes: dict) -> dict:
    config = make_config(data, **changes)
    for section in ('train_dataloader', 'val_dataloader'):
        config[section]['dataset']['class_file'] = str(file)
    return config


@pytest.fixture
def swapped(data: Path, tmp_path: Path) -> Path:
    """A class file in another order."""
    names = (data / 'classes.txt').read_text().splitlines()
    names[2], names[3] = names[3], names[2]
    (tmp_path / 'swapped.txt').write_text('\n'.join(names))
    return tmp_path / 'swapped.txt'


@pytest.mark.parametrize('option', ['resume', 'load_from'])
def test_classes_in_another_order_are_refused(
    data: Path, named: Path, swapped: Path, tmp_path: Path, option: str
) -> None:
    trainer = Trainer(with_classes(data, swapped), tmp_path, DEVICE)
    names = (data / 'classes.txt').read_text().splitlines()
    text = rf"class 2 .*'{names[2]}'.*{named.name}.*'{names[3]}'.*{swapped.name}"
    with pytest.raises(ValueError, match=text) as refused:
        trainer.prepare(**{option: str(named)}, check_data=False)
    assert (f'model.backbone.pretrained={named}' in str(refused.value)) == (option == 'load_from')


@pytest.mark.parametrize('option', ['resume', 'load_from'])
def test_unknown_class_names_are_no_error(data: Path, named: Path, tmp_path: Path, option: str) -> None:
    trainer = Trainer(make_config(data), tmp_path, DEVICE)
    trainer.prepare(**{option: str(named)}, check_data=False)
    weights = read_checkpoint(named)['state_dict']
    assert torch.equal(trainer.model.cls_head.fc_cls.weight, weights['cls_head.fc_cls.weight'])


def test_pretrained_backbone_ignores_the_other_classes(data: Path, named: Path, swapped: Path, tmp_path: Path) -> None:
    config = with_classes(data, swapped)
    config['model']['backbone'] = {**config['model']['backbone'], 'pretrained': str(named)}
    trainer = Trainer(config, tmp_path, DEVICE)
    trainer.prepare(check_data=False)
    weights = read_checkpoint(named)['state_dict']
    for name, value in trainer.model.state_dict().items():
        is_of_head = name.startswith('cls_head')
        assert torch.equal(value, weights[name]) != is_of_head or not value.any(), name


def test_other_number_of_classes_is_no_error(data: Path, named: Path, tmp_path: Path) -> None:
    (tmp_path / 'nine.txt').write_text('\n'.join('abcdefghi'))
    config = with_classes(data, tmp_path / 'nine.txt')
    config['model']['cls_head'] = {**config['model']['cls_head'], 'num_classes': 9}
    trainer = Trainer(config, tmp_path, DEVICE)
    trainer.prepare(load_from=str(named), check_data=False)
    weights = read_checkpoint(named)['state_dict']
    assert torch.equal(trainer.model.backbone.conv1.weight, weights['backbone.conv1.weight'])
    assert trainer.state_dict()['class_names'] == list('abcdefghi')


def test_pickled_weights_need_allow_pickle(data: Path, straight: Path, tmp_path: Path) -> None:
    state = read_checkpoint(straight / 'epoch_4.pth')['state_dict']
    torch.save({'state_dict': state, 'options': argparse.Namespace(lr=0.1)}, tmp_path / 'old.pth')
    trainer = Trainer(make_config(data), tmp_path, DEVICE)
    with pytest.raises(ValueError, match=r'argparse\.Namespace'):
        trainer.prepare(load_from=str(tmp_path / 'old.pth'), check_data=False)
    trainer.prepare(load_from=str(tmp_path / 'old.pth'), allow_pickle=True, check_data=False)
    assert torch.equal(trainer.model.backbone.conv1.weight, state['backbone.conv1.weight'])


def test_config_and_data_must_fit_model(data: Path, tmp_path: Path) -> None:
    config = make_config(data)
    config['model']['cls_head']['num_classes'] = 5
    with pytest.raises(ValueError, match=r'train\.txt:\d+: .*num_classes=5'):
        Trainer(config, tmp_path, DEVICE)
    config = make_config(data)
    config['test_dataloader']['dataset']['pipeline'][1]['num_snippets'] = 4
    with pytest.raises(ValueError, match=r'test_dataloader.*num_snippets=4.*layer2\.0\.dsa.*num_snippets=2'):
        Trainer(config, tmp_path, DEVICE)
    config = make_config(data)
    config.pop('optimizer')
    with pytest.raises(KeyError, match='optimizer'):
        Trainer(config, tmp_path, DEVICE)


# -- the loop ----------------------------------------------------------------------------------------------------------


def test_training_lowers_the_loss(data: Path, tmp_path: Path) -> None:
    changes = {'train_cfg': {'max_epochs': 40}, 'optimizer': {'lr': 0.1}, 'schedule': {'warmup_epochs': 4}}
    config = make_config(data, **changes)
    config['train_dataloader']['dataset']['pipeline'][3:6] = [{'type': 'CenterCrop', 'size': 32}]
    config['model']['cls_head']['dropout'] = 0.0
    config.pop('val_dataloader')
    train(config, tmp_path)
    losses = [line['train/loss'] for line in read_json_lines(tmp_path / 'scalars.jsonl')]
    assert np.mean(losses[-10:]) < 0.25 * np.mean(losses[:2])


def test_seed_changes_the_run(data: Path, straight: Path, tmp_path: Path) -> None:
    train(make_config(data, runtime={'seed': 1}, train_cfg={'max_epochs': 1}), tmp_path)
    first = read_json_lines(straight / 'scalars.jsonl')[0]['train/loss']
    assert read_json_lines(tmp_path / 'scalars.jsonl')[0]['train/loss'] != first


def test_work_dir_has_last_and_best_checkpoint(straight: Path) -> None:
    assert sorted(f.name for f in straight.glob('*.pth')) == ['best.pth', 'epoch_3.pth', 'epoch_4.pth']
    lines = [line for line in read_json_lines(straight / 'scalars.jsonl') if 'val/top1' in line]
    assert [line['epoch'] for line in lines] == [1, 2, 3, 4]
    best = read_checkpoint(straight / 'best.pth')
    top = max(line['val/top1'] for line in lines)
    assert best['best']['top1'] == top
    assert best['epoch'] == next(line['epoch'] for line in lines if line['val/top1'] == top)


def test_checkpoint_has_config_and_class_names(straight: Path) -> None:
    content = read_checkpoint(straight / 'epoch_4.pth')  # with weights_only=True: tensors and plain types
    assert content['epoch'] == 4
    assert content['config']['model']['type'] == 'Recognizer3D'
    assert content['class_names'] is None


def test_keep_checkpoints_and_val_interval(data: Path, tmp_path: Path) -> None:
    config = make_config(data, train_cfg={'max_epochs': 3, 'val_interval': 2}, runtime={'keep_checkpoints': 1})
    train(config, tmp_path)
    assert sorted(f.name for f in tmp_path.glob('epoch*')) == ['epoch_3.pth']
    assert [x['epoch'] for x in read_json_lines(tmp_path / 'scalars.jsonl') if 'val/top1' in x] == [2, 3]


def test_averaging_does_not_change_the_training(straight: Path, averaged: Path) -> None:
    one, two = (read_checkpoint(folder / 'epoch_4.pth') for folder in (straight, averaged))
    assert 'ema_state_dict' not in one
    assert two['ema_state_dict'].keys() == two['state_dict'].keys()
    assert all(torch.equal(one['state_dict'][key], value) for key, value in two['state_dict'].items())
    weight = 'backbone.layer1.0.conv1.weight'
    assert not torch.equal(two['ema_state_dict'][weight], two['state_dict'][weight])


@pytest.mark.parametrize(('ema_decay', 'updates'), [(None, None), (0.5, 2)])
def test_averaging_can_start_or_stop_on_resume(
    data: Path, straight: Path, averaged: Path, tmp_path: Path, ema_decay: float | None, updates: int | None,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    for name in ('epoch_3.pth', 'best.pth'):
        shutil.copy((averaged if ema_decay is None else straight) / name, tmp_path)
    with caplog.at_level(logging.WARNING, 'dsanet'):
        trainer = train(make_config(data, train_cfg={**EMA, 'ema_decay': ema_decay}), tmp_path, resume='auto')
    (message,) = caplog.messages
    assert 'train_cfg.ema_decay' in message
    assert read_checkpoint(tmp_path / 'epoch_4.pth').get('ema_updates') == updates
    assert trainer.state.epoch == 4


def test_buffers_are_broadcast_after_each_epoch(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(make_config(data, train_cfg={**EMA, 'max_epochs': 1}), tmp_path, DEVICE)
    given = []
    monkeypatch.setattr(distributed, 'broadcast_buffers', lambda model: given.append((model, trainer.state.epoch)))
    trainer.prepare(check_data=False)
    trainer.train()
    assert given == [(trainer.model, 0), (trainer.stepper.average.model, 0)]


def test_run_with_parameter_groups_resumes_bit_identically(data: Path, tmp_path: Path) -> None:
    config = make_config(data)
    config['parameters'] = {'lr_multipliers': {'cls_head': 5, '.dsa.': 2}, 'decay_norms': False}
    trainer = train(config, tmp_path / 'straight')
    # Cosine over four epochs, of which one is warm-up; the last iteration starts at 3.5 epochs.
    rate = 0.05 * 0.5 * (1 + np.cos(np.pi * 2.5 / 3))
    rates = {group['lr'] for group in trainer.stepper.optimizer.param_groups}
    assert sorted(rates) == pytest.approx([rate, 2 * rate, 5 * rate])
    assert read_curves(tmp_path / 'straight')[-2]['train/lr'] == pytest.approx(rate)
    train_until(config, tmp_path / 'stopped', iteration=4)
    train(config, tmp_path / 'stopped', resume='auto')
    assert_same_run(*(read_checkpoint(tmp_path / d / 'epoch_4.pth') for d in ('straight', 'stopped')))


def transformer_recipe(data: Path) -> dict:
    """Return a config with everything that fine-tunes a vision transformer, for clips of 4 x 16 x 16."""
    network = {'embed_dim': 12, 'depth': 2, 'num_heads': 2, 'patch_size': 8, 'input_size': (4, 16, 16)}
    model = {
        'type': 'Recognizer3D',
        'backbone': {'type': 'VisionTransformer', 'stochastic_depth': 0.5, **network},
        'cls_head': {'type': 'TSNHead', 'num_classes': 8, 'in_channels': 12, 'init_std': 2e-5},
        'batch_augment': {'type': 'MixupCutmix'},
    }
    config = make_config(data, train_cfg={'max_epochs': 2})
    config |= {'model': model, 'optimizer': {'type': 'AdamW', 'lr': 1e-2, 'weight_decay': 0.05}}
    config['parameters'] = {'layer_decay': 0.5, 'decay_norms': False, 'decay_biases': False}
    for name in ('train', 'val', 'test'):
        pipeline = config[f'{name}_dataloader']['dataset']['pipeline']
        pipeline[1] = {'type': 'SampleSnippets', 'num_snippets': 1, 'frames_per_snippet': 4, 'fps': 5}
    train_loader = config['train_dataloader']
    train_loader['clips_per_video'] = 2
    train_loader['dataset']['pipeline'][1]['random'] = True
    train_loader['dataset']['pipeline'].insert(-1, {'type': 'RandomErasing', 'prob': 0.5})
    return config


def test_transformer_recipe_resumes_bit_identically(data: Path, tmp_path: Path) -> None:
    config = transformer_recipe(data)
    trainer = train(config, tmp_path / 'straight')
    config['train_dataloader']['num_workers'] = 2
    # Two epochs of four iterations, of which one is warm-up; the last one starts at 1.75 epochs.
    rate = 0.01 * 0.5 * (1 + np.cos(np.pi * 0.75))
    rates = {group['lr'] for group in trainer.stepper.optimizer.param_groups}
    assert sorted(rates) == pytest.approx([rate / 8, rate / 4, rate / 2, rate])
    train_until(config, tmp_path / 'stopped', iteration=6)
    train(config, tmp_path / 'stopped', resume='auto')
    assert_same_run(*(read_checkpoint(tmp_path / d / 'epoch_2.pth') for d in ('straight', 'stopped')))


def test_loss_of_clips_equals_slow_loop(data: Path, tmp_path: Path) -> None:
    config = transformer_recipe(data)
    config['model']['batch_augment'] = None
    config['model']['backbone']['stochastic_depth'] = config['model']['cls_head']['dropout'] = 0.0
    config['model']['cls_head']['init_std'] = 0.5
    trainer = Trainer(config, tmp_path, DEVICE)
    trainer.prepare(check_data=False)
    trainer.train_loader.sampler.set_epoch(1)
    keys = list(trainer.train_loader.sampler)[:4]
    assert [key[1] for key in keys[::2]] == [key[1] for key in keys[1::2]], 'two clips of each video'
    batch = next(iter(trainer.train_loader))
    trainer.model.train()
    losses = []
    for key in keys:  # each clip is decoded and scored alone
        sample = trainer.train_loader.dataset[key]
        label = torch.tensor([sample['label']])
        losses.append(trainer.model(sample['inputs'][None], label)['loss'].item())
    loss = trainer.model(batch['inputs'], batch['label'])['loss'].item()
    assert loss == pytest.approx(sum(losses) / 4, rel=1e-5)
    assert len({round(loss, 6) for loss in losses}) == 4, 'the clips differ'


def test_momentum_follows_parameters_into_other_groups(data: Path, straight: Path, tmp_path: Path) -> None:
    config = make_config(data)
    config['parameters'] = {'bias_lr_multiplier': 2.0, 'decay_norms': False}
    trainer = resume_from(straight / 'epoch_4.pth', config, tmp_path)
    saved = read_checkpoint(straight / 'epoch_4.pth')['optimizer']['state']
    assert len(trainer.stepper.optimizer.param_groups) == 3
    for i, parameter in enumerate(trainer.model.parameters()):
        assert torch.equal(trainer.stepper.optimizer.state[parameter]['momentum_buffer'], saved[i]['momentum_buffer'])


@pytest.mark.parametrize('amp', ['bf16', 'fp16'])
def test_mixed_precision_stays_close_to_float32(data: Path, straight: Path, tmp_path: Path, amp: str) -> None:
    trainer = train(make_config(data, runtime={'amp': amp}, train_cfg={'max_epochs': 1}), tmp_path)
    for name in ('train/loss', 'train/grad_norm'):
        exact, mixed = (read_json_lines(d / 'scalars.jsonl')[0][name] for d in (straight, tmp_path))
        assert exact != mixed
        assert exact == pytest.approx(mixed, rel=0.05)
    assert all(p.dtype == torch.float32 for p in trainer.model.parameters())


@pytest.fixture
def overflowing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start fp16 with a scale that overflows twice, and grow it after three good steps: it overflows again."""
    scaler = functools.partial(torch.amp.GradScaler, init_scale=2.0**18, growth_interval=3)
    monkeypatch.setattr(torch.amp, 'GradScaler', scaler)


def test_resumed_fp16_run_is_bit_identical(
    data: Path, tmp_path: Path, overflowing: None, caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config(data, runtime={'amp': 'fp16'}, train_cfg={**EMA, 'max_epochs': 3})
    config.pop('val_dataloader')
    with caplog.at_level(logging.INFO, 'dsanet'):
        train(config, tmp_path / 'straight')
    epochs = [message for message in caplog.messages if 'videos/s' in message]
    assert ['fp16' in message for message in epochs] == [True, False, True]  # epochs with skipped steps
    train_until(config, tmp_path / 'stopped', iteration=4)
    train(config, tmp_path / 'stopped', resume='auto')
    one, two = (read_checkpoint(tmp_path / name / 'epoch_3.pth') for name in ('straight', 'stopped'))
    assert_same_run(one, two)
    assert one['scaler'] == two['scaler']
    assert one['ema_updates'] == two['ema_updates'] == 3
    curves = read_curves(tmp_path / 'straight')
    assert curves == read_curves(tmp_path / 'stopped')
    # The run stopped after two good steps; the scale grows after the next one, and overflows.
    assert [line['train/scale'] for line in curves] == [2.0**17, *[2.0**16] * 3, 2.0**17, 2.0**16]


def test_convolutions_of_other_dimensions_train(data: Path, tmp_path: Path) -> None:
    """NonLocal3d with concatenation has a 2D convolution, TAM has 1D ones."""
    config = make_config(data, train_cfg={'max_epochs': 1})
    config['model']['module_cfg'] = [
        {'type': 'NonLocal3d', 'mode': 'concatenation', 'place': 'after_block', 'blocks': (0, 1, 0, 0)},
        {'type': 'TAM', 'frames_per_snippet': 2, 'place': 'before_conv1', 'blocks': (0, 1, 0, 0)},
    ]
    model = train(config, tmp_path).model
    assert {p.dim() for p in model.parameters()} == {1, 2, 3, 4, 5}
    assert all(p.grad is not None for p in model.parameters())
    assert model.backbone.conv1.weight.is_contiguous(memory_format=torch.channels_last_3d)


def test_accumulating_run_resumes_bit_identically(data: Path, tmp_path: Path) -> None:
    config = small_steps(data)
    config['train_cfg']['accumulate'] = 2
    config['train_dataloader'] |= {'repeat': 2, 'class_balance': 'equal'}
    trainer = train(config, tmp_path / 'straight')
    assert (trainer.stepper.batch_size, trainer.state.iterations_per_epoch) == (4, 4)  # 2 x 8 videos
    train_until(config, tmp_path / 'killed', iteration=3)
    assert list_checkpoints(tmp_path / 'killed')[0][1].name == 'epoch_0_iter_3.pth'
    train(config, tmp_path / 'killed', resume='auto')
    assert_same_run(*(read_checkpoint(tmp_path / d / 'epoch_2.pth') for d in ('straight', 'killed')))
    assert read_curves(tmp_path / 'straight') == read_curves(tmp_path / 'killed')
    with pytest.raises(ValueError, match=r'accumulate=3.* 12 .* 8'):
        Trainer(make_config(data, train_cfg={'accumulate': 3}), tmp_path, DEVICE)


def test_early_stopping_stays_stopped_on_resume(data: Path, tmp_path: Path) -> None:
    config = make_config(data, optimizer={'lr': 0.0}, train_cfg={'max_epochs': 9, 'patience': 2})
    trainer = train(config, tmp_path)
    top1 = [line['val/top1'] for line in read_json_lines(tmp_path / 'scalars.jsonl') if 'val/top1' in line]
    assert trainer.state.epoch == len(top1) == int(np.argmax(top1)) + 3 < 9
    assert train(config, tmp_path, resume='auto').state.epoch == trainer.state.epoch


def test_finished_run_trains_no_more(
    data: Path, straight: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copy(straight / 'epoch_4.pth', tmp_path)
    with caplog.at_level(logging.INFO, 'dsanet'):
        train(make_config(data), tmp_path, resume='auto')
    assert 'max_epochs=4' in caplog.text
    assert '[1/2]' not in caplog.text


@pytest.mark.parametrize(('sample', 'saved'), [(6, 'epoch_0_iter_3.pth'), (8, 'epoch_1.pth')])
def test_signal_ends_wait_for_data_exactly(
    data: Path, in_small_steps: Path, tmp_path: Path, sample: int, saved: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_sample, numbers = VideoSamples.__getitem__, iter(range(1000))

    def stop_and_hang(self: VideoSamples, key: tuple[int, int]) -> dict:
        if next(numbers) == sample:
            signal.raise_signal(signal.SIGTERM)
            time.sleep(60)
        return make_sample(self, key)

    monkeypatch.setattr(stopping, 'WAIT_SECONDS', 0.1)
    config = small_steps(data)
    del config['val_dataloader']
    with monkeypatch.context() as patch:
        patch.setattr(VideoSamples, '__getitem__', stop_and_hang)
        with pytest.raises(Stopped, match=f'SIGTERM.*{saved}'):
            train(config, tmp_path)
    assert (tmp_path / saved).is_file()
    train(config, tmp_path, resume='auto')
    one, two = (read_checkpoint(folder / 'epoch_2.pth') for folder in (in_small_steps, tmp_path))
    assert_same_run({**one, 'best': None}, {**two, 'best': None})


def test_profile_does_not_change_the_training(data: Path, in_small_steps: Path, tmp_path: Path) -> None:
    train(small_steps(data), tmp_path, profile=2)
    trace = json.loads((tmp_path / 'profile' / 'rank_0.json').read_text())
    steps = {event['name'] for event in trace['traceEvents'] if event['name'].startswith('ProfilerStep#')}
    assert steps == {'ProfilerStep#3', 'ProfilerStep#4'}
    assert_same_run(*(read_checkpoint(d / 'epoch_2.pth') for d in (in_small_steps, tmp_path)))


@pytest.mark.sweep
def test_compiled_model_trains_under_same_names(data: Path, tmp_path: Path) -> None:
    runs = []
    for is_compiled in (False, True):
        config = make_config(data, runtime={'compile': is_compiled}, train_cfg={'max_epochs': 1})
        config['model']['cls_head']['dropout'] = 0.0  # compiled code draws other random numbers
        runs.append(train(config, tmp_path / str(is_compiled)))
    assert runs[0].model.state_dict().keys() == runs[1].model.state_dict().keys()
    for iteration in (0, 1):  # the second one depends on the backward pass of the first
        for name in ('train/loss', 'train/grad_norm'):
            plain, compiled = (read_curves(tmp_path / folder)[iteration][name] for folder in ('False', 'True'))
            assert plain == pytest.approx(compiled, rel=1e-4)


def test_sync_bn_replaces_batch_norms(data: Path, straight: Path, tmp_path: Path) -> None:
    trainer = train(make_config(data, train_cfg={'sync_bn': True}), tmp_path)
    assert type(trainer.model.backbone.bn1).__name__ == 'SyncBatchNorm3d'
    # The results are the same: a single process has all statistics.
    assert_same_run(*(read_checkpoint(folder / 'epoch_4.pth') for folder in (straight, tmp_path)))


# -- what can go wrong -------------------------------------------------------------------------------------------------


def add_to_loss(monkeypatch: pytest.MonkeyPatch, iterations: set[int], value: float) -> None:
    """Add a constant to the loss of some iterations, counted from 0; the gradient stays finite."""
    forward, backward = Recognizer3D.forward, Stepper.backward
    current = -1

    def record(self: Stepper, batches: list, iteration: int) -> dict:
        nonlocal current
        current = iteration
        return backward(self, batches, iteration)

    def add(self: Recognizer3D, inputs: torch.Tensor, label: torch.Tensor | None = None) -> object:
        result = forward(self, inputs, label)
        if label is not None and current in iterations:
            result['loss'] = result['loss'] + value
        return result

    monkeypatch.setattr(Stepper, 'backward', record)
    monkeypatch.setattr(Recognizer3D, 'forward', add)


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_nonfinite_iterations_are_skipped_and_recorded(
    data: Path, tmp_path: Path, value: float, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    add_to_loss(monkeypatch, {1, 4}, value)
    with caplog.at_level(logging.WARNING, 'dsanet'):
        trainer = train(make_config(data, train_cfg={'max_nonfinite': 2}), tmp_path)
    records = read_json_lines(tmp_path / 'nonfinite.jsonl')
    assert [(r['epoch'], r['iteration']) for r in records] == [(1, 2), (3, 5)]
    order = [trainer.train_loader.dataset.records[i].path for _, i in list(samples_of(trainer, epoch=2))[:4]]
    assert records[1]['processes'] == [{'scalars': {'loss': str(value), 'grad_norm': 'nan'}, 'paths': order}]
    for token in ('iteration 5', 'epoch 3', '0.0375', f'loss {value}', f'{order[0]}, {order[1]}', '2 of at most 2'):
        assert token in caplog.messages[1]
    assert all(p.isfinite().all() for p in trainer.model.state_dict().values())
    assert [line['iteration'] for line in read_curves(tmp_path) if 'train/loss' in line] == [1, 3, 4, 6, 7, 8]
    assert read_checkpoint(tmp_path / 'epoch_4.pth')['num_nonfinite'] == 2


def test_too_many_nonfinite_iterations_end_run(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_config(data, train_cfg={'max_nonfinite': 1})
    add_to_loss(monkeypatch, {1, 4, 6}, float('nan'))
    with pytest.raises(RunError, match=r'iteration 5 .* 2 .*max_nonfinite=1'):
        train(config, tmp_path)
    assert len(read_json_lines(tmp_path / 'nonfinite.jsonl')) == 2
    # An iteration that a resumed run repeats counts once.
    with pytest.raises(RunError, match=r'iteration 5 .* 2 .*max_nonfinite=1'):
        train(config, tmp_path, resume='auto')
    assert [r['iteration'] for r in read_json_lines(tmp_path / 'nonfinite.jsonl')] == [2, 5]


def test_run_without_a_step_ends_with_an_error(data: Path, tmp_path: Path) -> None:
    loss = {'type': 'CrossEntropyLoss', 'class_weights': [3e38] * 8}  # finite, but the loss overflows
    config = make_config(data, train_cfg={'max_epochs': 1})
    config['model']['cls_head']['loss'] = loss
    for resume in (None, 'auto'):
        with pytest.raises(RunError, match=r'nonfinite\.jsonl'):
            train(config, tmp_path, resume=resume)
    assert list_checkpoints(tmp_path) == []


def test_steps_of_an_epoch_are_counted_across_resume(
    data: Path, in_small_steps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_steps(data)
    train({**config, 'train_cfg': {'max_epochs': 1}}, tmp_path)
    content = read_checkpoint(tmp_path / 'epoch_1.pth')
    save_atomically({**content, 'epoch': 0, 'iteration': 3, 'num_steps': 3}, tmp_path / 'epoch_0_iter_3.pth')
    (tmp_path / 'epoch_1.pth').unlink()
    add_to_loss(monkeypatch, {3}, float('nan'))
    assert train({**config, 'train_cfg': {'max_epochs': 1}}, tmp_path, resume='auto').state.epoch == 1


def test_damaged_side_files_do_not_block_resume(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    add_to_loss(monkeypatch, {1}, float('nan'))
    config = make_config(data, train_cfg={'max_epochs': 1})
    train(config, tmp_path)
    (tmp_path / 'bad_samples.jsonl').write_text('{"path": "x", "epoch": 1}\n')
    files = [tmp_path / f'{name}.jsonl' for name in ('scalars', 'nonfinite', 'bad_samples')]
    for file in files:
        first, rest = file.read_bytes()[:3], file.read_bytes()[3:]
        file.write_bytes(first + bytes([rest[0] ^ 0x80]) + rest[1:] + bytes(9) + b'\n{"iteration": ')
    config['train_cfg']['max_epochs'] = 2
    with caplog.at_level(logging.WARNING, 'dsanet'):
        train(config, tmp_path, resume='auto')
    for file in files:
        assert sum(f'{file}: 1, ' in message for message in caplog.messages) == 1
    assert [line['iteration'] for line in read_json_lines(files[0]) if 'train/time' in line] == [2, 3, 4]


def test_exploding_weights_end_the_run(data: Path, tmp_path: Path) -> None:
    train_cfg = {'clip_grad_norm': None, 'max_nonfinite': 0}
    config = make_config(data, optimizer={'lr': 1e30}, schedule={'warmup_epochs': 0}, train_cfg=train_cfg)
    config.pop('val_dataloader')
    with pytest.raises(RunError, match=r'train_cfg\.max_nonfinite=0'):
        train(config, tmp_path)


@pytest.mark.parametrize(('number', 'status', 'iteration'), [(signal.SIGTERM, 143, 2), (signal.SIGINT, 130, 3)])
def test_signal_ends_run_with_a_checkpoint(
    data: Path, in_small_steps: Path, tmp_path: Path, number: int, status: int, iteration: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    original = Stepper.backward

    def send(self: Stepper, batches: list, current: int) -> dict:
        if current == iteration:
            os.kill(os.getpid(), number)
        return original(self, batches, current)

    config = small_steps(data, checkpoint_interval=None)
    with monkeypatch.context() as patch:
        patch.setattr(Stepper, 'backward', send)
        with pytest.raises(Stopped) as stopped:
            train(config, tmp_path)
    name = 'epoch_0_iter_3.pth' if iteration == 2 else 'epoch_1.pth'
    assert (stopped.value.number, stopped.value.exit_status) == (number, status)
    assert str(tmp_path / name) in str(stopped.value)
    assert [f.name for f in tmp_path.glob('*.pth')] == [name]
    assert signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)
    train(config, tmp_path, resume='auto')
    assert_same_run(*(read_checkpoint(d / 'epoch_2.pth') for d in (in_small_steps, tmp_path)))


def test_signal_interrupts_validation_until_resume(
    data: Path, in_small_steps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send(*_args: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail('the signal did not interrupt the validation')

    with monkeypatch.context() as patch:
        patch.setattr(trainer_module, 'validate', send)
        with pytest.raises(Stopped, match=re.escape(str(tmp_path / 'epoch_1.pth'))):
            train(small_steps(data), tmp_path)
    assert not read_checkpoint(tmp_path / 'epoch_1.pth')['validated']
    train(small_steps(data), tmp_path, resume='auto')
    assert read_curves(tmp_path) == read_curves(in_small_steps)


@pytest.mark.parametrize(
    ('failing', 'last'), [('epoch_0_iter_2.pth', 'epoch_0_iter_1.pth'), ('best.pth', 'epoch_1.pth')]
)
def test_write_error_keeps_the_last_checkpoint(
    data: Path, in_small_steps: Path, tmp_path: Path, failing: str, last: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = os.fsync

    def fail(number: int) -> None:
        if failing in os.readlink(f'/proc/self/fd/{number}'):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(number)

    with monkeypatch.context() as patch:
        patch.setattr(os, 'fsync', fail)
        with pytest.raises(RunError, match=rf'{failing}: {os.strerror(errno.ENOSPC)}.*{last}'):
            train(small_steps(data), tmp_path)
    assert [f.name for f in tmp_path.glob('*.pth')] == [last]
    train(small_steps(data), tmp_path, resume='auto')
    assert_same_run(*(read_checkpoint(d / 'epoch_2.pth') for d in (in_small_steps, tmp_path)))


# -- on a GPU ----------------------------------------------------------------------------------------------------------


@pytest.mark.needs_gpu
def test_deterministic_training_on_gpu_is_reproducible(data: Path, tmp_path: Path) -> None:
    config = make_config(data, runtime={'deterministic': True}, train_cfg={'max_epochs': 1})
    states = []
    for name in 'ab':
        (tmp_path / name).mkdir()
        trainer = Trainer(config, tmp_path / name, torch.device('cuda', 0))
        trainer.prepare(check_data=False)
        trainer.train()
        states.append(trainer.model.state_dict())
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])


@pytest.mark.needs_gpu
@pytest.mark.parametrize(
    'changes', [{'runtime': {'amp': 'fp16'}}, {'runtime': {'amp': 'bf16'}}, {'train_cfg': {'sync_bn': True}}]
)
def test_gpu_training_stays_close_to_cpu(
    data: Path, tmp_path: Path, changes: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A scale that does not overflow, so that no step is skipped.
    monkeypatch.setattr(torch.amp, 'GradScaler', functools.partial(torch.amp.GradScaler, init_scale=2.0**10))
    lines = []
    for name, device, options in (('cpu', DEVICE, {}), ('gpu', torch.device('cuda', 0), changes)):
        config = make_config(data, **{**options, 'train_cfg': {'max_epochs': 2, **options.get('train_cfg', {})}})
        config['model']['cls_head']['dropout'] = 0.0  # the GPU draws other random numbers
        config.pop('val_dataloader')
        (tmp_path / name).mkdir()
        trainer = Trainer(config, tmp_path / name, device)
        trainer.prepare(check_data=False)
        trainer.train()
        lines.append(read_curves(tmp_path / name))
    # The last iteration follows three steps. In mixed precision on the CPU its loss is off by up to 0.001 and its
    # gradient by up to 0.12; without the steps the loss would be off by 0.03.
    for iteration, name, tolerance in [
        (0, 'train/loss', 0.01),
        (0, 'train/grad_norm', 0.05),
        (3, 'train/loss', 0.01),
        (3, 'train/grad_norm', 0.2),
    ]:
        exact, other = (curves[iteration][name] for curves in lines)
        assert exact == pytest.approx(other, rel=tolerance)
