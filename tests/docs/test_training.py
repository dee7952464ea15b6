"""docs/training.md and docs/resuming.md have all options of a run, and no others."""

import dataclasses
import re

import pytest

from dsanet.config.schema import RuntimeCfg, TrainCfg
from tests.docs.pages import PAGES
from tests.docs.test_commands import options_of

PAGE = PAGES['docs/training.md']


@pytest.mark.parametrize(('section', 'cls'), [('train_cfg', TrainCfg), ('runtime', RuntimeCfg)])
def test_pages_have_all_fields_of_a_section(section: str, cls: type) -> None:
    fields = {field.name for field in dataclasses.fields(cls)}
    text = PAGE + PAGES['docs/resuming.md']
    named = set(re.findall(rf'{section}\.(\w+)', text)) | set(re.findall(rf'^{section} = dict\((\w+)', text, re.M))
    assert named == fields


def test_table_has_all_options(capsys: pytest.CaptureFixture[str]) -> None:
    table = re.search(r'^\| option \| meaning \|\n(?:\|.*\n)+', PAGE, re.M)
    assert table is not None
    assert set(re.findall(r'(--[a-z][a-z-]+)', table[0])) == options_of('train', capsys) - {'--help'}
