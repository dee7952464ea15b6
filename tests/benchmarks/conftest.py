"""Short measurements: small references, one call per repeat."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from dsanet.benchmarks import data, measuring, models, peers
from dsanet.data_tools.ordered_actions import make_dataset
from tests.engine.conftest import make_config


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the references small, and repeats a single call, and keep garbage."""
    monkeypatch.setattr(measuring, 'MIN_REPEAT_S', 0)
    monkeypatch.setattr(measuring, 'free_memory', lambda: None)  # slow in a process with many objects
    monkeypatch.setattr(data, 'free_memory', lambda: None)
    small: Callable[..., object] = partial(measuring.reference_functions, size=32)
    rates: Callable[..., object] = partial(measuring.add_rates, size=32)
    for module in (models, peers):
        monkeypatch.setattr(module, 'reference_functions', small)
        monkeypatch.setattr(module, 'add_rates', rates)


@pytest.fixture(scope='session')
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight videos for training and eight for validation."""
    root = tmp_path_factory.mktemp('benchmarks') / 'ordered'
    make_dataset(root, num_videos=16, seed=0, val_fraction=0.5, size=32)
    return root


@pytest.fixture
def config(videos: Path) -> dict:
    """A tiny model with DSA, and one data worker."""
    return make_config(videos, num_workers=1)


CPU = torch.device('cpu')
