"""A small dataset and small runs on it, shared by the tests of the engine."""

from pathlib import Path
from typing import Any

import pytest
import torch

from dsanet.config.loading import check_config
from dsanet.data_tools.ordered_actions import make_dataset
from dsanet.engine.train_step import Stepper
from dsanet.engine.trainer import Trainer
from dsanet.utils.json_lines import read_json_lines

DEVICE = torch.device('cpu')
EMA = {'max_epochs': 4, 'clip_grad_norm': 5, 'ema_decay': 0.9}


@pytest.fixture(scope='session')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real dataset of eight tiny videos for training and seven for validation: no batch size divides both."""
    root = tmp_path_factory.mktemp('data')
    make_dataset(root / 'ordered', num_videos=16, seed=0, val_fraction=0.5, size=32)
    lines = (root / 'ordered' / 'val.txt').read_text().splitlines()
    (root / 'ordered' / 'val.txt').write_text('\n'.join(lines[:7]) + '\n')
    return root / 'ordered'


def make_config(data: Path, num_workers: int = 0, **changes: dict) -> dict:
    """Return a config with random offsets, crops, flips, colors and dropout; two iterations per epoch."""

    def loader(name: str, augment: list[dict], **sample: object) -> dict:
        pipeline = [
            {'type': 'OpenVideo'},
            {'type': 'SampleSnippets', 'num_snippets': 2, 'frames_per_snippet': 2, **sample},
            {'type': 'DecodeVideo'},
            *augment,
            {'type': 'PackInputs'},
        ]
        dataset = {'type': 'VideoDataset', 'list_file': str(data / f'{name}.txt'), 'data_root': str(data)}
        return {'batch_size': 4, 'num_workers': num_workers, 'dataset': {**dataset, 'pipeline': pipeline}}

    augment = [{'type': 'RandomResizedCrop', 'size': 16}, {'type': 'Flip'}, {'type': 'ColorJitter', 'brightness': 0.4}]
    config = {
        'model': {
            'type': 'Recognizer3D',
            'backbone': {'type': 'ResNet_I3D', 'depth': 10, 'base_channels': 4},
            'cls_head': {'type': 'I3DClsHead', 'num_classes': 8, 'in_channels': 32, 'dropout': 0.5},
            'module_cfg': {'type': 'DSA', 'num_snippets': 2, 'blocks': (0, 1, 0, 0)},
        },
        'train_dataloader': loader('train', augment, random=True),
        'val_dataloader': loader('val', [{'type': 'CenterCrop', 'size': 16}]),
        'test_dataloader': loader('val', [{'type': 'CenterCrop', 'size': 16}], num_groups=2),
        'metrics': [{'type': 'Accuracy'}],
        'optimizer': {'type': 'SGD', 'lr': 0.05, 'momentum': 0.9, 'weight_decay': 1e-4},
        'schedule': {'type': 'CosineSchedule', 'warmup_epochs': 1},
        'train_cfg': {'max_epochs': 4, 'clip_grad_norm': 5},
        'runtime': {'log_interval': 1},
    }
    for section, values in changes.items():
        config[section] = {**config[section], **values}
    check_config(config)
    return config


def small_steps(data: Path, num_workers: int = 0, **runtime: object) -> dict:
    """Return a config of two epochs of four iterations, with averaged weights and a checkpoint per iteration."""
    config = make_config(data, num_workers, train_cfg={'max_epochs': 2, 'ema_decay': 0.9})
    config['train_dataloader']['batch_size'] = 2
    config['runtime'] = {'log_interval': 3, 'checkpoint_interval': 1, **runtime}
    return config


def train(config: dict, work_dir: Path, profile: int = 0, **options: Any) -> Trainer:
    work_dir.mkdir(exist_ok=True)
    trainer = Trainer(config, work_dir, DEVICE)
    trainer.prepare(check_data=False, **options)
    trainer.train(profile)
    return trainer


def train_until(config: dict, work_dir: Path, iteration: int, **options: Any) -> None:
    """Train, and die in an iteration, counted from 0."""
    original = Stepper.backward

    def die(self: Stepper, batches: list, number: int) -> dict:
        if number == iteration:
            raise KeyboardInterrupt
        return original(self, batches, number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stepper, 'backward', die)
        with pytest.raises(KeyboardInterrupt):
            train(config, work_dir, **options)
    torch.manual_seed(12345)  # the resumed run must not depend on the global generator


def assert_same_run(one: dict, two: dict) -> None:
    """Compare two checkpoints bit by bit."""
    for part in ('state_dict', 'ema_state_dict', 'optimizer'):
        left, right = (torch.utils._pytree.tree_leaves(c.get(part, {})) for c in (one, two))
        assert len(left) == len(right)
        for a, b in zip(left, right, strict=True):
            assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
    assert one['best'] == two['best']


def read_curves(work_dir: Path) -> list[dict]:
    """Return the lines of the curves without times and memory."""
    drop = ('data_time', 'time', 'memory')
    lines = read_json_lines(work_dir / 'scalars.jsonl')
    return [{k: v for k, v in line.items() if k.split('/')[-1] not in drop} for line in lines]


@pytest.fixture(scope='session')
def straight(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work dir of four uninterrupted epochs."""
    work_dir = tmp_path_factory.mktemp('straight')
    train(make_config(data), work_dir)
    return work_dir


@pytest.fixture(scope='session')
def averaged(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work dir of the same four epochs with averaged weights."""
    work_dir = tmp_path_factory.mktemp('averaged')
    train(make_config(data, train_cfg=EMA), work_dir)
    return work_dir


@pytest.fixture(scope='session')
def in_small_steps(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work dir of an uninterrupted run of ``small_steps``."""
    work_dir = tmp_path_factory.mktemp('small_steps')
    train(small_steps(data), work_dir)
    return work_dir
