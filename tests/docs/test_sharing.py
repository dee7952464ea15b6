"""All commands of docs/sharing.md, in their order, against a hub on this machine."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dsanet.inference.sharing.publishing import FILES
from tests.docs.pages import PAGES, ROOT, code_blocks
from tests.docs.test_commands import options_of
from tests.fake_hub import TOKEN, serve_hub

PAGE = PAGES['docs/sharing.md']


def test_page_has_options_and_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert options_of('publish', capsys) - set(re.findall(r'--[a-z][a-z-]*', PAGE)) == {
        *('--help', '--allow-pickle', '--import')
    }
    assert re.findall(r'^\| `([\w.]+)` \|', PAGE, re.M)[:3] == list(FILES)
    outside = re.sub(r'^```bash\n.*?^```$', '', PAGE, flags=re.M | re.S)
    assert not re.search(r'^\s*dsanet ', outside, flags=re.M), 'the next test does not run it'


@pytest.mark.sweep
def test_all_commands_of_the_page_work(tmp_path: Path) -> None:
    (tmp_path / 'pretrained').mkdir()
    shutil.copy(ROOT / 'pretrained/dsanet_ordered_actions.safetensors', tmp_path / 'pretrained')
    with serve_hub() as hub:
        environment = {
            **os.environ,
            'PATH': f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}',
            'OMP_NUM_THREADS': '1',
            'HF_ENDPOINT': hub.url,
            'HF_HOME': str(tmp_path / 'hf'),
            'HF_TOKEN': TOKEN,
            'HF_HUB_DISABLE_XET': '1',
        }
        outputs = []
        for text in code_blocks(PAGE, 'bash'):
            command = ['bash', '-e', '-c', text]
            done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f'{text}\n{done.stdout}\n{done.stderr}'
            outputs.append(done.stdout)
        assert hub.repos.keys() == {'USER/NAME'}
        assert {*hub.repos['USER/NAME']} == {*FILES}
    assert [text.count('top1 100.00') for text in outputs if ' samples  top1 ' in text] == [1, 1]
    assert json.loads((tmp_path / 'my-model/config.json').read_text())['num_classes'] == 8
    assert (tmp_path / 'shared.safetensors').stat().st_size < 1_000_000
