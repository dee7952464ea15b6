import logging
from pathlib import Path
from typing import Any

import pytest

from dsanet import commands
from dsanet.inference.sharing.publishing import publish
from dsanet.inference.sharing.run_facts import find_run_facts
from dsanet.utils.checkpoint_io import read_checkpoint

FACTS = {
    'train_data': 'ordered/train.txt',
    'val_data': 'ordered/val.txt',
    'epoch': 2,
    'metrics': {'top1': 62.5, 'loss': 1.25},
}


def test_facts_are_those_of_the_run(content: dict[str, Any]) -> None:
    assert find_run_facts(content) == FACTS
    assert find_run_facts({'run': FACTS}) == FACTS
    assert find_run_facts({'run': FACTS}, with_metrics=False).keys() == {'train_data', 'val_data'}
    assert find_run_facts({**content, 'epoch': 3}).keys() == {'train_data', 'val_data'}


@pytest.mark.parametrize('run', [3, {'epoch': 'x', 'metrics': {'top1': 1}}, {'val_data': 5, 'epoch': 1, 'metrics': 7}])
def test_damaged_facts_are_skipped(run: Any) -> None:
    assert find_run_facts({'run': run}) == {}


def test_converted_model_keeps_its_card(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.getLogger('dsanet')
    for key, value in {'handlers': [], 'propagate': True, 'level': logger.level}.items():
        monkeypatch.setattr(logger, key, value)
    publish(checkpoint, tmp_path / 'm')
    for source, name in ((checkpoint, 'a.pth'), (tmp_path / 'm/model.safetensors', 'b.safetensors')):
        assert commands.main(['convert', str(source), str(tmp_path / name)]) == 0
        publish(tmp_path / name, tmp_path / name[0] / 'm')
        assert (tmp_path / name[0] / 'm/README.md').read_text() == (tmp_path / 'm/README.md').read_text()
    assert commands.main(['convert', str(checkpoint), str(tmp_path / 'half.pth'), '--half']) == 0
    assert read_checkpoint(tmp_path / 'half.pth')['run'].keys() == {'train_data', 'val_data'}
