"""Damaged and foreign files, given to the commands: one line each, and no code from them runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.commands.conftest import Run
from tests.faults.conftest import ROOT

pytestmark = pytest.mark.faults


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple:
        return os.system, (self.command,)


def test_bad_checkpoints_are_one_line_errors(run: Run, config: Path, straight: Path, tmp_path: Path) -> None:
    good = (straight / 'best.pth').read_bytes()
    files = {
        'empty': b'',
        'truncated': good[: len(good) // 2],
        'flipped': good[:5000] + bytes([good[5000] ^ 8]) + good[5001:],
        'foreign': b'<!DOCTYPE html><title>404</title>',
    }
    for name, content in files.items():
        (tmp_path / f'{name}.pth').write_bytes(content)
    torch.save({'state_dict': Payload(f'touch {tmp_path}/it_ran')}, tmp_path / 'hostile.pth')
    torch.save({'state_dict': {'backbone.conv1.weight': torch.zeros(3)}}, tmp_path / 'shape.pth')
    tokens = {name: [f'{name}.pth'] for name in files} | {
        'hostile': ['hostile.pth', 'system', '--allow-pickle'],
        'shape': ['(3,)', '(4, 3, 1, 7, 7)'],
    }
    for name, parts in tokens.items():
        tool = [sys.executable, 'tools/test_recognizer.py', str(config), str(tmp_path / f'{name}.pth')]
        done = subprocess.run(tool, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 2, done.stderr
        assert 'Traceback' not in done.stderr
        error = done.stderr.splitlines()[-1]
        assert error.startswith('error: ')
        assert all(part in error for part in parts), error
    assert not (tmp_path / 'it_ran').exists()


def test_other_config_names_the_different_keys(config: Path, straight: Path, tmp_path: Path) -> None:
    options = ['--work-dir', str(tmp_path), '--resume', str(straight / 'epoch_4.pth'), '--no-check']
    tool = [sys.executable, 'tools/train_recognizer.py', str(config), *options]
    override = ['--cfg-options', 'model.backbone.base_channels=8', 'model.cls_head.in_channels=64']
    done = subprocess.run([*tool, *override], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert 'Traceback' not in done.stderr
    error = done.stderr.splitlines()[-1]
    for part in ('backbone.conv1.weight', '(4, 3, 1, 7, 7)', '(8, 3, 1, 7, 7)'):
        assert part in error
    assert re.search(r'model.backbone.base_channels \D*4\D+8\b.*model.cls_head.in_channels \D*32\D+64\b', error)
