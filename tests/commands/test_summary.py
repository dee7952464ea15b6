import json

import pytest

from dsanet import commands
from tests.commands.conftest import ROOT


def test_summary_as_json_or_table(capsys: pytest.CaptureFixture[str]) -> None:
    command = ['summary', str(ROOT / 'configs/demo/dsanet_ordered_actions.py')]
    assert commands.main([*command, '--json', '--input-shape', '4', '2', '64', '48']) == 0
    summary = json.loads(capsys.readouterr().out)
    assert {'params', 'gmacs', 'stages'} <= summary.keys()
    assert summary['input_shape'] == [1, 1, 4, 3, 2, 64, 48]
    assert commands.main(command) == 0
    assert f' {summary["params"]:,} ' in capsys.readouterr().out
