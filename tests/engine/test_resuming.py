from pathlib import Path

import pytest
import torch

from codes.engine.resuming import check_is_of_a_run, describe_misfit, find_changes

CONFIG = {'model': {'a': 1, 'list': [1, {'b': 2}], 'module_cfg': {'type': 'DSA'}}, 'optimizer': {'lr': 0.1}}
CONTENT = {'config': CONFIG, 'iterations_per_epoch': 5, 'world_size': 2}


def test_equal_runs_have_no_changes() -> None:
    assert find_changes(CONTENT, CONFIG, 5, 2) == []


def test_changes_are_named_as_deep_as_they_can_be() -> None:
    config = {
        'model': {'a': 1, 'list': [1, {'b': 3}], 'module_cfg': None, 'new': 'x'},
        'optimizer': {'lr': 0.1},
        'train_cfg': {'max_epochs': 7},
        'metrics': ['not told: they change no weight'],
    }
    assert find_changes(CONTENT, config, 4, 2) == [
        'iterations_per_epoch was 5 and is 4',
        'model.list.1.b was 2 and is 3',
        "model.module_cfg was {'type': 'DSA'} and is None",
        'model.new was None and is x',
        'train_cfg.max_epochs was None and is 7',
    ]
    assert find_changes(CONTENT, {**CONFIG, 'optimizer': {'lr': [1, 2]}}, 5, 2) == [
        'optimizer.lr was 0.1 and is [1, 2]'
    ]


def test_weights_alone_are_no_run() -> None:
    with pytest.raises(ValueError, match=r'x.pth holds weights, but not a run to resume \(no optimizer, scaler, '):
        check_is_of_a_run(Path('x.pth'), {'state_dict': {}})


def test_misfit_is_told_by_weights_shapes_and_config() -> None:
    target = {'a': torch.zeros(2), 'b': torch.zeros(3), 'c': torch.zeros(1)}
    source = {'a': torch.zeros(2), 'b': torch.zeros(4), 'd': torch.zeros(1)}
    changes = ['model.x was 1 and is 2', 'schedule.y was 1 and is 2']
    assert describe_misfit({'state_dict': source}, target, changes, ValueError('many\nlines')) == (
        '1 keys missing (c); 1 keys unexpected (d); b has shape (4,) instead of (3,); model.x was 1 and is 2'
    )
    assert describe_misfit({'state_dict': target}, target, [], ValueError('many\nlines')) == 'many'
    assert describe_misfit({'state_dict': 3}, target, [], KeyError()) == 'KeyError'
