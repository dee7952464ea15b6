import logging
import math
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from dsanet.datasets.records import VideoRecord
from dsanet.engine import resuming
from dsanet.engine.checkpointing import TrainState, list_checkpoints
from dsanet.engine.resuming import (
    adapt_progress,
    describe_mismatch,
    find_changes,
    hash_inputs,
    hash_records,
    is_validation_due,
)
from dsanet.engine.trainer import Trainer
from dsanet.utils.checkpoint_io import read_checkpoint, save_atomically
from dsanet.utils.json_lines import read_json_lines
from tests.engine.conftest import DEVICE, EMA, make_config, read_curves, small_steps, train, train_until
from tests.engine.test_checkpointing import CONFIG, RUN

VAL = resuming.VAL_DATA


def test_changes_have_full_paths_and_both_values() -> None:
    assert find_changes(RUN, CONFIG, 5, 2) == []
    config = {
        'model': {'a': 1, 'list': [1, {'b': 3}], 'module_cfg': None, 'new': 'x'},
        'optimizer': {'lr': 0.1},
        'train_cfg': {'max_epochs': 7},
        'metrics': ['ignored, because they change no weight'],
    }
    expected = [
        ('iterations_per_epoch', '5', '4'),
        ('model.list.1.b', '2', '3'),
        ('model.module_cfg', "{'type': 'DSA'}", 'None'),
        ('model.new', 'None', 'x'),
        ('train_cfg.max_epochs', 'None', '7'),
    ]
    changes = find_changes(RUN, config, 4, 2)
    assert len(changes) == len(expected)
    for text, (key, before, after) in zip(changes, expected, strict=True):
        assert text.startswith(f'{key} ')
        assert before in text
        assert text.endswith(after)


def test_mismatch_names_weights_shapes_and_config() -> None:
    target = {'a': torch.zeros(2), 'b': torch.zeros(3), 'c': torch.zeros(1)}
    source = {'a': torch.zeros(2), 'b': torch.zeros(4), 'd': torch.zeros(1)}
    changes = ['model.x was 1 and is 2', 'schedule.y was 1 and is 2']
    text = describe_mismatch({'state_dict': source}, target, changes, ValueError('many\nlines'))
    for token in ('(c)', '(d)', 'b ', '(4,)', '(3,)', changes[0]):
        assert token in text
    assert changes[1] not in text  # a schedule does not change weights
    assert describe_mismatch({'state_dict': target}, target, [], ValueError('many\nlines')) == 'many'
    assert describe_mismatch({'state_dict': target}, target, [], KeyError()) == 'KeyError'


# -- content of lists and weights --------------------------------------------------------------------------------------


def dataset_of(*paths: str, root: str | None = None, labels: tuple[int, ...] = (0,)) -> SimpleNamespace:
    records = [VideoRecord(f'{root}/{path}' if root else path, labels, 'x.txt', i) for i, path in enumerate(paths)]
    return SimpleNamespace(records=records, data_root=root)


def test_order_of_videos_matters_only_in_training() -> None:
    loaders = [SimpleNamespace(dataset=dataset_of(*paths)) for paths in ('ab', 'ba')]
    one, other = (hash_inputs({}, loader, loader, None) for loader in loaders)
    assert one[VAL] == other[VAL]
    assert one[resuming.TRAIN_DATA] != other[resuming.TRAIN_DATA]


def test_hash_of_records_ignores_data_root() -> None:
    reference = hash_records(dataset_of('a', 'b'))
    assert (
        hash_records(dataset_of('a', 'b', root='/data')) == hash_records(dataset_of('a', 'b', root='/new')) == reference
    )
    assert hash_records(dataset_of('/scratch/1/a', '/scratch/1/b')) == reference
    others = [dataset_of('b', 'a'), dataset_of('a'), dataset_of('a', 'b', labels=(1,)), dataset_of('a', '\udcff')]
    mixed = SimpleNamespace(datasets=[dataset_of('a'), dataset_of('b')])
    assert len({reference, *map(hash_records, [*others, mixed])}) == 6
    assert hash_records(dataset_of('b', 'a'), ordered=False) == hash_records(dataset_of('a', 'b'), ordered=False)


def test_weights_are_hashed_by_content(tmp_path: Path) -> None:
    loader = SimpleNamespace(dataset=dataset_of('a'))
    found = []
    for content in (b'one', b'two', b'one'):
        (tmp_path / 'x.pth').write_bytes(content)
        config = {'model': {'backbone': {'pretrained': str(tmp_path / 'x.pth')}}}
        found.append(hash_inputs(config, loader, loader, str(tmp_path / 'x.pth')))
    assert found[0] == found[2]
    assert {name for name in found[0] if found[0][name] != found[1][name]} == {
        'the content of the model.backbone.pretrained file',
        'the content of the --load-from file',
    }
    assert list(hash_inputs({'model': {}}, loader, None, 'nowhere.pth')) == [resuming.TRAIN_DATA]


@pytest.mark.parametrize('changed', ['train', 'val', 'pretrained', 'nothing'])
def test_resume_names_changed_files(
    data: Path, straight: Path, tmp_path: Path, changed: str, caplog: pytest.LogCaptureFixture
) -> None:
    weights = tmp_path / 'x.pth'
    save_atomically({'state_dict': read_checkpoint(straight / 'epoch_3.pth')['state_dict']}, weights)
    config = make_config(data, train_cfg={'max_epochs': 1, 'clip_grad_norm': 5})
    config['model']['backbone'] = {**config['model']['backbone'], 'pretrained': str(weights)}
    for name in ('train', 'val'):
        (tmp_path / f'{name}.txt').write_text((data / f'{name}.txt').read_text())
        config[f'{name}_dataloader']['dataset']['list_file'] = str(tmp_path / f'{name}.txt')
    first = train(config, tmp_path / 'run')
    if changed == 'pretrained':
        weights.write_bytes(b'other')
    elif changed != 'nothing':
        lines = [line.rsplit(maxsplit=1) for line in (tmp_path / f'{changed}.txt').read_text().splitlines()]
        (tmp_path / f'{changed}.txt').write_text('# comment\n' + ''.join(f'{p} {(int(k) + 3) % 8}\n' for p, k in lines))
    trainer = Trainer(config, tmp_path / 'run', DEVICE)
    with caplog.at_level(logging.WARNING, 'dsanet'):
        trainer.prepare('auto', check_data=False)
    expected = {'train': resuming.TRAIN_DATA, 'val': VAL, 'pretrained': 'model.backbone.pretrained', 'nothing': ''}
    assert len(caplog.messages) == {'nothing': 0, 'val': 2}.get(changed, 1)
    assert expected[changed] in caplog.text
    assert trainer.state.best == (None if changed == 'val' else first.state.best)


# -- progress ----------------------------------------------------------------------------------------------------------

BEST = {'epoch': 2, 'top1': 50.0, 'mean_class_accuracy': 40.0, 'loss': 1.0}


def run_of(save_best: str = 'top1', val_interval: int = 2, max_epochs: int = 9, **sections: object) -> dict:
    cfg = {'max_epochs': max_epochs, 'val_interval': val_interval}
    return {'val_dataloader': {}, 'train_cfg': cfg, 'runtime': {'save_best': save_best}, **sections}


@pytest.mark.parametrize(
    ('save_best', 'inputs', 'best', 'num_worse', 'token'),
    [
        ('top1', {VAL: 'a'}, BEST, 1, None),
        ('top1', {}, BEST, 1, None),  # no validation in this run
        ('mean_class_accuracy', {VAL: 'a'}, BEST, 0, 'mean_class_accuracy.* 2 .* 40'),
        ('top5', {VAL: 'a'}, None, 0, 'top5.*epoch 2, top1 50'),
        ('top1', {VAL: 'b'}, None, 0, 'validation data.*epoch 2'),
    ],
)
def test_best_epoch_under_changed_config(
    save_best: str, inputs: dict, best: dict | None, num_worse: int, token: str | None
) -> None:
    state = TrainState(5, 4)
    content = {
        **TrainState(5, 4, epoch=4, best=BEST, num_worse=1).state_dict(),
        'config': run_of(),
        'inputs': {VAL: 'a'},
    }
    state.load_state_dict(content)
    texts = adapt_progress(state, content, run_of(save_best), inputs)
    assert (state.best, state.num_worse, len(texts)) == (best, num_worse, token is not None)
    assert token is None or re.search(token, texts[0])


def test_validation_interval_and_last_epoch() -> None:
    config = run_of(val_interval=3, max_epochs=5)
    assert [epoch for epoch in range(6) if is_validation_due(epoch, config)] == [3, 5]
    config.pop('val_dataloader')
    assert not is_validation_due(3, config)
    assert is_validation_due(1, {'val_dataloader': {}, 'train_cfg': {'max_epochs': 5}})  # the default interval


@pytest.mark.parametrize(
    ('now', 'validated'),
    [
        (run_of(), True),  # neither run validates epoch 3
        (run_of(val_interval=1), False),
        (run_of(max_epochs=3), False),  # now the last epoch
        (run_of(val_interval=4), True),
    ],
)
def test_completed_epoch_that_becomes_due(now: dict, validated: bool) -> None:
    for iteration in (0, 2):
        state = TrainState(5, 4)
        content = {**TrainState(5, 4, epoch=3, iteration=iteration).state_dict(), 'config': run_of()}
        state.load_state_dict(content)
        texts = adapt_progress(state, content, now, {})
        assert (state.validated, bool(texts)) == (validated or iteration > 0, not (validated or iteration > 0))


# -- resumed runs ------------------------------------------------------------------------------------------------------

ADAMW = {'type': 'AdamW', 'lr': 0.001}


@pytest.mark.parametrize(
    'changes',
    [
        {'optimizer': ADAMW},
        {'optimizer': {'nesterov': True}},
        {'train_cfg': EMA},
        {'train_cfg': {'accumulate': 2}},
        {'train_cfg': {'max_epochs': 2}},
        {'train_cfg': {'max_epochs': 9, 'patience': 1}},
        {'runtime': {'amp': 'fp16'}},
        {'runtime': {'save_best': 'mean_class_accuracy'}, 'metrics': [{'type': 'MeanClassAccuracy'}]},
        {'metrics': [{'type': 'Accuracy', 'topk': (1,)}]},
    ],
    ids=str,
)
def test_changed_config_continues(data: Path, straight: Path, tmp_path: Path, changes: dict) -> None:
    config = make_config(data)
    for name, value in changes.items():
        config[name] = value if name == 'metrics' or 'type' in value else {**config[name], **value}
    epoch = 3 if 'patience' in config['train_cfg'] or config['train_cfg']['max_epochs'] == 2 else 4
    shutil.copy(straight / 'epoch_3.pth', tmp_path)
    trainer = train(config, tmp_path, resume='auto')
    assert trainer.state.epoch == epoch
    assert trainer.state.best is not None
    assert config.get('runtime', {}).get('save_best', 'top1') in trainer.state.best
    lines = read_json_lines(tmp_path / 'scalars.jsonl')
    assert all(math.isfinite(value) for line in lines for value in line.values())
    trainer = train(config, tmp_path, resume='auto')  # what it wrote is resumed, too
    assert trainer.state.resumed_from == (epoch, 0)


def test_average_and_scaler_can_be_removed(data: Path, averaged: Path, tmp_path: Path) -> None:
    content = read_checkpoint(averaged / 'epoch_3.pth')
    scaler = torch.amp.GradScaler('cpu', init_scale=8.0, enabled=True)
    save_atomically({**content, 'scaler': scaler.state_dict()}, tmp_path / 'epoch_3.pth')
    trainer = train(make_config(data), tmp_path, resume='auto')
    assert 'ema_state_dict' not in read_checkpoint(tmp_path / 'epoch_4.pth')
    assert trainer.state.epoch == 4


@pytest.mark.parametrize(('before', 'after', 'died', 'resumed'), [(2, 4, 5, 2), (4, 2, 2, 4)])
def test_curves_and_checkpoints_survive_other_batch_sizes(
    data: Path, tmp_path: Path, before: int, after: int, died: int, resumed: int
) -> None:
    config = make_config(data, train_cfg={'max_epochs': 1}, runtime={'checkpoint_interval': 1})
    config['train_dataloader'] |= {'batch_size': before, 'repeat': 2}  # 16 videos in an epoch
    config.pop('val_dataloader')
    train_until(config, tmp_path, died)
    config['train_dataloader']['batch_size'] = after
    train_until(config, tmp_path, resumed + 1, resume='auto')
    assert list_checkpoints(tmp_path)[0][0] == (0, resumed + 1)  # although the earlier ones may have larger numbers
    trainer = train(config, tmp_path, resume='auto')
    assert trainer.state.resumed_from == (0, resumed + 1)
    number = died + 16 // after - resumed
    assert [line['iteration'] for line in read_curves(tmp_path)] == list(range(1, number + 1))
    assert trainer.state.num_logged == number


def test_same_iterations_of_smaller_batches_skip_nothing(data: Path, tmp_path: Path) -> None:
    config = small_steps(data)
    config['train_dataloader']['batch_size'] = 3  # 2 iterations of 3 videos, of 8
    train_until(config, tmp_path, 1)
    config['train_dataloader']['batch_size'] = 4  # 2 iterations of 4 videos
    trainer = Trainer(config, tmp_path, DEVICE)
    trainer.prepare('auto', check_data=False)
    assert (trainer.state.iterations_per_epoch, trainer.state.iteration) == (2, 0)
