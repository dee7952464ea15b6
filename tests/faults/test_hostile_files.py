"""Files that are not what they should be, given to the commands: a sentence each, and no code of theirs runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.commands.conftest import Run
from tests.faults.conftest import ROOT, Record

pytestmark = pytest.mark.faults


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple:
        return os.system, (self.command,)


def test_wrong_checkpoints_are_sentences(
    run: Run, config: Path, straight: Path, tmp_path: Path, record_fault: Record
) -> None:
    good = (straight / 'best.pth').read_bytes()
    files = {
        'empty': (b'', 'cannot be read as a checkpoint of tensors and plain types'),
        'truncated': (good[: len(good) // 2], 'cannot be read as a checkpoint of tensors and plain types'),
        'flipped': (good[:5000] + bytes([good[5000] ^ 8]) + good[5001:], 'in it is damaged'),
        'foreign': (b'<!DOCTYPE html><title>404</title>', 'cannot be read as a checkpoint of tensors and plain types'),
    }
    for name, (content, _) in files.items():
        (tmp_path / f'{name}.pth').write_bytes(content)
    torch.save({'state_dict': Payload(f'touch {tmp_path}/it_ran')}, tmp_path / 'hostile.pth')
    torch.save({'state_dict': {'backbone.conv1.weight': torch.zeros(3)}}, tmp_path / 'shape.pth')
    texts = {name: text for name, (_, text) in files.items()} | {
        'hostile': 'reading that runs code from the file',
        'shape': 'has shape (3,), the model needs (4, 3, 1, 7, 7)',
    }
    for name, text in texts.items():
        tool = [sys.executable, 'tools/test_recognizer.py', str(config), str(tmp_path / f'{name}.pth')]
        done = subprocess.run(tool, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 2, done.stderr
        assert 'Traceback' not in done.stderr
        error = done.stderr.splitlines()[-1]
        assert error.startswith('error: ')
        assert text in error, error
    assert not (tmp_path / 'it_ran').exists()
    record_fault('wrong checkpoint', len(texts), ', '.join(texts))


def test_run_of_another_config_says_which_keys_differ(config: Path, straight: Path, tmp_path: Path) -> None:
    options = ['--work-dir', str(tmp_path), '--resume', str(straight / 'epoch_4.pth'), '--no-check']
    tool = [sys.executable, 'tools/train_recognizer.py', str(config), *options]
    override = ['--cfg-options', 'model.backbone.base_channels=8', 'model.cls_head.in_channels=64']
    done = subprocess.run([*tool, *override], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert 'Traceback' not in done.stderr
    assert 'backbone.conv1.weight has shape (4, 3, 1, 7, 7) instead of (8, 3, 1, 7, 7)' in done.stderr
    assert 'model.backbone.base_channels was 4 and is 8; model.cls_head.in_channels was 32 and is 64' in done.stderr
