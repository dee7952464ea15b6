"""A small dataset and a small run on it, for the tests of the engine."""

from pathlib import Path

import pytest

from dsanet.config.loading import check_config
from dsanet.data_tools.ordered_actions import make_dataset


@pytest.fixture(scope='session')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real dataset of eight tiny videos to train on and seven to validate on: no batch size divides both."""
    root = tmp_path_factory.mktemp('data')
    make_dataset(root / 'ordered', num_videos=16, seed=0, val_fraction=0.5, size=32)
    lines = (root / 'ordered' / 'val.txt').read_text().splitlines()
    (root / 'ordered' / 'val.txt').write_text('\n'.join(lines[:7]) + '\n')
    return root / 'ordered'


def make_config(data: Path, num_workers: int = 0, **changes: dict) -> dict:
    """A run with everything random that there is: offsets, crops, flips, colors, dropout."""

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
