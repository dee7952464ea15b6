"""docs/training.md knows every option of a run, and none that does not exist."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dsanet.config.schema import RuntimeCfg, TrainCfg

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / 'docs' / 'training.md').read_text()


@pytest.mark.parametrize(('section', 'cls'), [('train_cfg', TrainCfg), ('runtime', RuntimeCfg)])
def test_options_of_a_run_are_those_of_the_page(section: str, cls: type) -> None:
    fields = {field.name for field in dataclasses.fields(cls)}
    assert set(re.findall(rf'{section}\.(\w+)', PAGE)) == fields


def test_flags_of_the_page_exist_and_readme_has_them_all() -> None:
    command = [sys.executable, 'tools/train_recognizer.py', '--help']
    text = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    flags = set(re.findall(r'(--[a-z-]+)', text)) - {'--help'}
    table = (ROOT / 'README.md').read_text().split('## Train', 1)[1].split('## Test', 1)[0]
    assert set(re.findall(r'(--[a-z][a-z-]+)', table)) == flags
    tools = {'--iterations'}
    assert set(re.findall(r'(--[a-z][a-z-]+)', PAGE)) - tools <= flags
