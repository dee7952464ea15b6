"""docs/training.md knows every option of a run, and none that does not exist."""

import dataclasses
import re
from pathlib import Path

import pytest

from dsanet import commands
from dsanet.config.schema import RuntimeCfg, TrainCfg

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / 'docs' / 'training.md').read_text()


@pytest.mark.parametrize(('section', 'cls'), [('train_cfg', TrainCfg), ('runtime', RuntimeCfg)])
def test_options_of_a_run_are_those_of_the_page(section: str, cls: type) -> None:
    fields = {field.name for field in dataclasses.fields(cls)}
    assert set(re.findall(rf'{section}\.(\w+)', PAGE)) == fields


def test_flags_of_the_page_exist_and_readme_has_them_all(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        commands.main(['train', '--help'])
    text = capsys.readouterr().out
    flags = set(re.findall(r'(--[a-z-]+)', text)) - {'--help'}
    table = (ROOT / 'README.md').read_text().split('## Train', 1)[1].split('## Test', 1)[0]
    assert set(re.findall(r'(--[a-z][a-z-]+)', table)) == flags
    tools = {'--iterations'}
    assert set(re.findall(r'(--[a-z][a-z-]+)', PAGE)) - tools <= flags
