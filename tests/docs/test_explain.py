"""The commands of docs/dsa_kernels.md and docs/order.md, run on a small copy of their data."""

import json
import re
import shlex
from pathlib import Path

import pytest

from dsanet import commands
from dsanet.config.loading import load_config
from dsanet.config.registry import MODELS, build
from dsanet.data_tools.ordered_actions import CLASSES, make_dataset
from dsanet.inference.recognizer import Recognizer
from tests.docs.pages import PAGES
from tests.make_recognizer import save_recognizer


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with two random models and 16 videos where ``dsanet demo`` writes them."""
    monkeypatch.chdir(tmp_path)
    make_dataset(tmp_path / 'data/ordered_actions', num_videos=16, seed=0, val_fraction=0.5, size=40)
    for name in ('dsanet', 'i3d'):
        config = load_config(f'demo/{name}_ordered_actions', ['test_dataloader.num_workers=0'])
        file = tmp_path / f'work_dirs/demo/{name}_seed0/epoch_16.pth'
        file.parent.mkdir(parents=True)
        save_recognizer(Recognizer(build(config['model'], MODELS), config, CLASSES, 'cpu'), file)
    return tmp_path


@pytest.mark.parametrize(('page', 'number'), [('docs/dsa_kernels.md', 2), ('docs/order.md', 1)])
def test_commands_of_the_page_run(page: str, number: int, folder: Path) -> None:
    calls = re.findall(r'^    dsanet (.*)$', PAGES[page], re.M)
    assert len(calls) == number
    for call in calls:
        argv = [*shlex.split(call), '--cfg-options', 'test_dataloader.num_workers=0']
        assert not commands.main(argv), call
    if number == 2:
        assert {'dsa_kernels.png', 'videos.png', 'kernels.npz'} <= {file.name for file in folder.iterdir()}
    else:
        assert json.loads((folder / 'order.json').read_text())['control']['num_videos'] == 8
