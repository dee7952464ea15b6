"""Videos, a recognizer with random weights, and a checkpoint as a run writes it."""

from pathlib import Path
from typing import Any

import pytest
import torch

from dsanet.config.registry import MODELS, build
from dsanet.data_tools.ordered_actions import CLASSES, make_dataset
from dsanet.inference.recognizer import Recognizer
from dsanet.utils.checkpoint_io import save_atomically
from tests.engine.conftest import make_config
from tests.make_recognizer import make_recognizer, write_some_videos


@pytest.fixture(scope='session')
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('some') / 'videos'
    write_some_videos(root)
    return root


@pytest.fixture(scope='session')
def recognizer() -> Recognizer:
    return make_recognizer()


@pytest.fixture(scope='session')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('data') / 'ordered'
    make_dataset(root, num_videos=16, seed=0, val_fraction=0.5, size=32)
    return root


@pytest.fixture(scope='session')
def content(data: Path) -> dict[str, Any]:
    """Return the content of a checkpoint with averaged weights that differ from the others."""
    config = make_config(data)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model, average = (build(config['model'], MODELS) for _ in range(2))
        torch.nn.init.normal_(average.cls_head.fc_cls.weight)
    return {
        'state_dict': model.state_dict(),
        'ema_state_dict': average.state_dict(),
        'optimizer': {'state': {0: torch.ones(1000)}},
        'epoch': 2,
        'iteration': 0,
        'best': {'epoch': 2, 'top1': 62.5, 'loss': 1.25},
        'class_names': list(CLASSES),
        'config': config,
    }


@pytest.fixture
def checkpoint(content: dict[str, Any], tmp_path: Path) -> Path:
    save_atomically(content, tmp_path / 'best.pth')
    return tmp_path / 'best.pth'
