"""Uploads and downloads against a fake hub; each test runs in one process, which reads HF_ENDPOINT when it starts."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fake_hub import TOKEN, FakeHub, serve_hub

Run = Callable[..., list[Any]]

SCRIPT = """
import json, pathlib
from dsanet.inference.sharing import hub

def call(name, *arguments):
    try:
        print(json.dumps(str(getattr(hub, name)(*arguments))))
    except Exception as error:
        print(json.dumps([type(error).__name__, str(error)]))

"""


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with serve_hub() as hub:
        yield hub


@pytest.fixture
def run(hub: FakeHub, tmp_path: Path) -> Run:
    def run(code: str, **environment: str) -> list[Any]:
        """Run code in a new process, and return the results of its calls."""
        variables = {
            'HF_ENDPOINT': hub.url,
            'HF_HOME': str(tmp_path / 'hf'),
            'HF_TOKEN': TOKEN,
            'HF_HUB_DISABLE_XET': '1',
            'HF_HUB_DISABLE_TELEMETRY': '1',
        }
        done = subprocess.run(
            [sys.executable, '-c', SCRIPT + code],
            env={**os.environ, **variables, **environment},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


def test_uploaded_folder_is_downloaded_again(run: Run, hub: FakeHub, tmp_path: Path) -> None:
    folder = tmp_path / 'model'
    folder.mkdir()
    files = {'model.safetensors': bytes(range(256)) * 40, 'config.json': b'{}', 'README.md': b'# x\n'}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    upload = f'call("check_login")\ncall("upload_folder", pathlib.Path({str(folder)!r}), "user/demo")\n'
    download = 'call("download_file", "user/demo", "model.safetensors")\ncall("download_file", "user/demo", "x.bin")\n'
    _, url, file, missing = run(upload + download)
    assert url == f'{hub.url}/user/demo'
    assert hub.repos == {'user/demo': files}
    assert Path(file).read_bytes() == files['model.safetensors']
    assert Path(file).parent.name == hub.commit_of('user/demo')
    assert missing == 'None'
    hub.requests.clear()
    assert run(download.splitlines()[0], HF_HUB_OFFLINE='1') == [file], 'from the cache'
    assert not hub.requests


def test_hub_errors_are_one_line(run: Run, hub: FakeHub) -> None:
    hub.repos['user/demo'] = {}
    code = '\n'.join(
        [
            'import os',
            'call("download_file", "user/none", "x")',
            'call("download_file", "user/demo", "x", "v2")',
            *(f'os.environ["HF_TOKEN"] = {token!r}\ncall("check_login")' for token in ('', 'wrong')),
        ]
    )
    found = [*run(code), *run('call("download_file", "user/demo", "x")', HF_HUB_OFFLINE='1')]
    assert [kind for kind, _ in found] == [
        *('FileNotFoundError', 'FileNotFoundError', 'ValueError', 'MachineError', 'MachineError')
    ]
    assert [name in text for name, (_, text) in zip(('user/none', 'user/demo@v2'), found, strict=False)] == [True, True]
    assert not any('\n' in text for _, text in found)


def test_unreachable_server_is_reported_at_once(run: Run, hub: FakeHub) -> None:
    hub.repos['user/demo'] = {'a': b'1'}
    (file,) = run('call("download_file", "user/demo", "a")')
    calls = [f'call("download_file", "user/{name}", "a")' for name in ('demo', 'none')]
    lines = ['import time', 'start = time.monotonic()', *calls, 'print(time.monotonic() - start)']
    cached, (kind, text), seconds = run('\n'.join(lines), HF_ENDPOINT='http://127.0.0.1:9')
    assert cached == file, 'from the cache'
    assert kind == 'MachineError'
    assert '127.0.0.1:9' in text
    assert seconds < 10, 'a retry waits up to 8 s'


def test_failed_upload_names_the_folder_to_retry(run: Run, hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / 'model').mkdir()
    hub.is_down = True
    ((kind, text),) = run(f'call("upload_folder", pathlib.Path({str(tmp_path / "model")!r}), "user/demo")')
    assert kind == 'MachineError'
    assert f'hf upload user/demo {tmp_path / "model"}' in text
    assert '\n' not in text


def test_missing_package_is_named(run: Run) -> None:
    code = 'import sys\nsys.modules["huggingface_hub"] = None\ncall("check_repo", "user/demo", "--push")'
    ((kind, text),) = run(code)
    assert kind == 'ValueError'
    assert 'pip install huggingface_hub' in text
