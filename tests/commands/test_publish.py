import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dsanet import commands
from dsanet.config.loading import load_config
from dsanet.config.registry import MODELS, build
from dsanet.data_tools.ordered_actions import CLASSES
from dsanet.inference.sharing import hub
from dsanet.utils.checkpoint_io import read_checkpoint, save_atomically
from tests.fake_hub import TOKEN, serve_hub

Publish = Callable[..., tuple[int, str, str]]


@pytest.fixture
def publish(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Publish:
    """Run the command in this process, and return its status and output; restore the logger afterwards."""
    logger = logging.getLogger('dsanet')
    for name, value in {'handlers': [], 'propagate': True, 'level': logger.level}.items():
        monkeypatch.setattr(logger, name, value)

    def publish(*arguments: object) -> tuple[int, str, str]:
        status = 0
        try:
            commands.main(['publish', *map(str, arguments)])
        except SystemExit as error:
            status = error.code
        return status, *capsys.readouterr()

    return publish


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    loaded = load_config('demo/i3d_ordered_actions')
    content = {
        'state_dict': build(loaded['model'], MODELS).state_dict(),
        'class_names': list(CLASSES),
        'config': loaded,
        'optimizer': {},
    }
    save_atomically(content, tmp_path / 'best.pth')
    return tmp_path / 'best.pth'


def test_folder_is_written_and_not_uploaded(
    publish: Publish, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, '_import', lambda: pytest.fail('nothing leaves the machine unless asked'))
    status, out, err = publish(checkpoint, tmp_path / 'new/model', '--license', 'apache-2.0')
    assert (status, err) == (0, '')
    assert f'local-dir:{tmp_path / "new/model"}' in out
    written = read_checkpoint(tmp_path / 'new/model/model.safetensors')
    assert written.keys() == {'state_dict', 'class_names', 'config', 'run'}
    assert written['run'].keys() == {'train_data', 'val_data'}
    assert 'license: "apache-2.0"\n' in (tmp_path / 'new/model/README.md').read_text()


def test_errors_are_one_line_and_write_nothing(publish: Publish, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / 'used').mkdir()
    (tmp_path / 'used/mine.txt').touch()
    (tmp_path / 'damaged.pth').write_bytes(checkpoint.read_bytes()[:5000])
    cases = [
        ((tmp_path / 'none.pth', tmp_path / 'out'), 'none.pth'),
        ((tmp_path / 'damaged.pth', tmp_path / 'out'), 'damaged.pth'),
        ((checkpoint, tmp_path / 'used'), 'mine.txt'),
        ((checkpoint, checkpoint / 'out'), 'best.pth is not a folder'),
        ((checkpoint, tmp_path / 'out', '--config', 'demo/trn_ordered_actions'), 'best.pth'),
        ((checkpoint, tmp_path / 'out', '--push', 'name'), 'USER/NAME'),
    ]
    before = sorted(tmp_path.rglob('*'))
    for arguments, text in cases:
        status, _, err = publish(*arguments)
        assert status == 2
        assert re.fullmatch(rf'error: .*{text}.*\n', err), err
    assert sorted(tmp_path.rglob('*')) == before


def test_login_is_checked_before_writing(
    publish: Publish, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, 'check_login', lambda: (_ for _ in ()).throw(ValueError('no login')))
    assert publish(checkpoint, tmp_path / 'out', '--push', 'user/demo')[0] == 2
    assert not (tmp_path / 'out').exists()


@pytest.mark.sweep
def test_pushed_model_is_used_from_the_hub(checkpoint: Path, tmp_path: Path) -> None:
    with serve_hub() as server:
        environment = {
            **os.environ,
            'HF_ENDPOINT': server.url,
            'HF_HOME': str(tmp_path / 'hf'),
            'HF_TOKEN': TOKEN,
            'HF_HUB_DISABLE_XET': '1',
        }

        def run(*arguments: object) -> subprocess.CompletedProcess:
            command = [sys.executable, '-m', 'dsanet', *map(str, arguments)]
            return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)

        done = run('publish', checkpoint, 'out', '--push', 'user/demo')
        assert done.returncode == 0, done.stderr
        assert server.repos['user/demo'] == {file.name: file.read_bytes() for file in (tmp_path / 'out').iterdir()}
        assert 'hf-hub:user/demo' in done.stdout
        for source, target in ((checkpoint, 'a.safetensors'), ('hf-hub:user/demo', 'b.safetensors')):
            done = run('convert', source, target)
            assert done.returncode == 0, done.stderr
    assert (tmp_path / 'a.safetensors').read_bytes() == (tmp_path / 'b.safetensors').read_bytes()
